"""``latentshift info``: parameters and settings of a model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from latentshift.cli.shared_options import DTYPE
from latentshift.models.storage.model_paths import BUNDLED, DATA_SETTINGS, resolve_model
from latentshift.settings import ShiftConfig, check_chunk, check_skip_offload, default_chunk
from latentshift.user_input.error_text import printable


def info(
    model: str = typer.Argument(BUNDLED, help="The bundled model, a folder, or a hub id."),
    variant: str | None = typer.Option(
        None, "--variant", help="Variant of the weight files, e.g. fp16 for model.fp16.safetensors. Default: none."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    frames: int | None = typer.Option(
        None,
        "--frames",
        help="Also estimate the memory of a pass over so many frames, which can take a minute.",
    ),
    frame_chunk: int | None = typer.Option(
        None, "--frame-chunk", help="Frames in one call of the U-Net, of that video. Default: as for generate."
    ),
    offload_skips: bool = typer.Option(
        False, "--offload-skips", help="Keep skip connections of chunks in CPU memory, for that video on a GPU."
    ),
    dtype: str = DTYPE,
) -> None:
    """Show what a model is: parameters by component, family, frames, prediction type, a small vocabulary's words."""
    from latentshift.cli.preflight import check_model_files

    check_model_files(model, variant)
    _check_pass(frames, frame_chunk, dtype, offload_skips=offload_skips)
    from latentshift.cli.models import load_pipeline
    from latentshift.models.conditioning.text import vocabulary_words
    from latentshift.models.storage.families import family_of

    pipeline = load_pipeline(model, variant=variant)
    parts = {"unet": pipeline.unet, "autoencoder": pipeline.vae, "text_encoder": pipeline.text_encoders}
    counts = {name: sum(parameter.numel() for parameter in part.parameters()) for name, part in parts.items()}
    temporal, shift = pipeline.temporal_parameters, pipeline.config.shift
    if pipeline.temporal is None:
        counts["unet"] -= temporal
    facts: dict[str, Any] = {
        "model": model,
        "family": family_of(pipeline.text_encoders.encoders, pipeline.scheduler.config.prediction_type),
        "parameters": {**counts, "temporal": temporal, "total": sum(counts.values()) + temporal},
        "num_frames": pipeline.config.num_frames,
        "fps": pipeline.config.fps,
        "size": pipeline.sample_size,
        "guidance_scale": pipeline.config.guidance_scale,
        "sampler": type(pipeline.scheduler).__name__,
        "num_inference_steps": pipeline.config.num_inference_steps,
        "method": pipeline.method,
        "shift": None if shift is None else asdict(ShiftConfig.from_dict(shift)),
        "noise_share": pipeline.config.noise_share,
        "prediction_type": pipeline.scheduler.config.prediction_type,
        "vocabulary": vocabulary_words(pipeline.tokenizer),
    }
    data_settings = Path(resolve_model(model), DATA_SETTINGS)
    if data_settings.is_file():
        facts["data_settings_sha256"] = hashlib.sha256(data_settings.read_bytes()).hexdigest()
    if frames is not None:
        facts["memory"] = _pass_facts(pipeline, model, frames, frame_chunk, dtype, offload_skips=offload_skips)
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    width = max(map(len, facts)) + 2
    for key, value in facts.items():
        if key == "parameters":
            print("parameters")
            for name, count in value.items():
                print(f"  {name:14}{count:>15,}")
        elif key == "memory":
            print(f"memory of a guided pass over {value['frames']:,} frames in chunks of {value['frame_chunk']}")
            for name, what in (("unet", "the U-Net's weights"), ("pass", "beside them, at its peak")):
                print(f"  {what:25}{value[f'{name}_bytes'] / 2**30:8.2f} GiB  {value['dtype']}")
        elif key == "vocabulary":
            print(f"{key:{width}}{printable(' '.join(value), 20_000) if value else 'not listed'}")
        elif isinstance(value, dict):
            print(f"{key:{width}}{', '.join(f'{name} {each}' for name, each in value.items())}")
        else:
            print(f"{key:{width}}{printable(value)}")


def _check_pass(frames: int | None, frame_chunk: int | None, dtype: str, *, offload_skips: bool) -> None:
    from latentshift.cli.preflight import check_dtype_name, check_frame_count

    check_dtype_name(dtype)
    if frames is None:
        if frame_chunk is not None or offload_skips:
            raise ValueError("--frame-chunk and --offload-skips are of a video whose memory is estimated: add --frames")
        return
    check_frame_count(frames)
    chunk = default_chunk(frames, 1) if frame_chunk is None else frame_chunk
    check_chunk(chunk, frames, "--frame-chunk")
    if offload_skips:
        check_skip_offload("cuda", chunk, frames, "--offload-skips")


def _pass_facts(
    pipeline: Any, model: str, frames: int, frame_chunk: int | None, dtype: str, *, offload_skips: bool
) -> dict[str, Any]:
    """Bytes of a pass, as expected from configurations."""
    if pipeline.config.shift is None:
        raise ValueError("--frames is for models with the temporal shift, and this one has none: leave it out")
    from latentshift.cli.models import load_dtype, pick_device
    from latentshift.memory.long_video import pass_memory

    chosen = load_dtype(dtype, pick_device("auto"))
    chunk = frame_chunk or default_chunk(frames, pipeline.unet.config.sample_size**2)
    padding = ShiftConfig.from_dict(pipeline.config.shift).padding
    expected = pass_memory(model, frames, chunk, padding, chosen, offload_skips=offload_skips)
    weights = sum(parameter.numel() for parameter in pipeline.unet.parameters()) * chosen.itemsize
    return {
        "frames": frames,
        "frame_chunk": chunk,
        "offload_skips": offload_skips,
        "dtype": str(chosen).removeprefix("torch."),
        "unet_bytes": weights,
        "pass_bytes": expected,
    }
