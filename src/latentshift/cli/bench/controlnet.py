"""``latentshift bench controlnet``: whether videos follow the edges that a ControlNet is shown."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

from latentshift.cli.bench.common import JSON, report_rows
from latentshift.cli.shared_options import DEVICE, GUIDANCE
from latentshift.files import check_writable
from latentshift.models.storage.model_paths import BUNDLED


def controlnet(
    controlnets: list[Path] = typer.Argument(..., help="ControlNets, or runs of stage controlnet, of one model."),
    output: Path = typer.Option(Path("outputs/controlnet"), "--output", "-o", help="Folder of what was measured."),
    model: str = typer.Option(BUNDLED, "--model", help="Their base: bundled, a folder, a run, or a hub id."),
    videos: int | None = typer.Option(None, "--videos", min=1, help="Videos of each row. Default: 64; with --quick 2."),
    steps: int | None = typer.Option(None, "--steps", min=1, help="Sampling steps. Default: 25; with --quick 2."),
    guidance: float | None = GUIDANCE,
    scale: float = typer.Option(1.0, "--scale", min=0.0, help="How strongly a ControlNet acts."),
    seed: int = typer.Option(1, "--seed", min=0, help="Of the sprites whose edges are shown; recipes train on 0."),
    device: str = DEVICE,
    dtype: str = typer.Option("auto", "--dtype", help="auto, float32, bfloat16 or float16: of autocast."),
    quick: bool = typer.Option(False, "--quick", help="As little as shows that it works."),
    json_file: Path | None = JSON,
) -> None:
    """Whether videos follow the edges of sprites, with frames that meet in the ControlNet too, and without.

    The prompts ask for another colour and background than the clip of the edges has. Rows: without a ControlNet, and
    each of them frame by frame and with the shift, from the same noise. The same command resumes.
    """
    from latentshift.benchmarks.controlnet_settings import ControlNetSettings, find_controlnet
    from latentshift.cli.preflight import check_generation

    folders = tuple(find_controlnet(each) for each in controlnets)
    steps = steps or (2 if quick else 25)
    check_generation(model, device, dtype, None, steps, guidance)
    check_writable(output / "settings.json")

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.controlnet import bench_controlnet
        from latentshift.cli.models import load_dtype, pick_device

        picked = pick_device(device)
        settings = ControlNetSettings(
            controlnets=folders,
            model=model,
            videos=videos or (2 if quick else 64),
            steps=steps,
            guidance_scale=guidance,
            scale=scale,
            seed=seed,
            device=picked,
            dtype=str(load_dtype(dtype, picked)).removeprefix("torch."),
            output=output,
        )
        return bench_controlnet(settings)

    report_rows("controlnet", rows, json_file)
