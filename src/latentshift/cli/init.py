"""``latentshift init``: convert an image model to a latentshift pipeline, not yet trained on video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from latentshift.progress import status
from latentshift.settings import (
    FAMILIES,
    KEEP_IMAGE_NOISE_SHARE,
    MAX_FPS,
    METHODS,
    ShiftConfig,
    check_noise_share,
)
from latentshift.user_input.error_text import printable

if TYPE_CHECKING:
    from latentshift.pipeline import LatentShiftPipeline


def init(
    base: str | None = typer.Option(None, "--base", help="Folder or hub id of a stock image pipeline."),
    family: str | None = typer.Option(
        None, "--family", help="ldm, sd1, sd2, sd2-base or sdxl: the published model, from the hub."
    ),
    random_weights: bool = typer.Option(
        False, "--random-weights", help="With --family: random weights at full size, no download."
    ),
    output: Path = typer.Option(..., "--output", "-o", help="The new folder."),
    variant: str | None = typer.Option(
        None,
        "--variant",
        help="Variant of the base's weight files, e.g. fp16 for model.fp16.safetensors. Default: none.",
    ),
    lora: list[str] | None = typer.Option(
        None,
        "--lora",
        metavar="FILE[:WEIGHT]",
        help="A LoRA to merge, of latentshift's training on this or another model of the same architecture, which it "
        "turns into a video model; or any other. May be given several times.",
    ),
    delta: Path | None = typer.Option(
        None, "--delta", help="A file with the difference of all weights from training, to add."
    ),
    other_base: bool = typer.Option(
        False, "--other-base", help="Add the --delta though it was made of other weights, as of a sibling fine-tune."
    ),
    method: str | None = typer.Option(
        None,
        "--method",
        help="Temporal method: latent-shift, latent-vdm (the paper's baseline: temporal attention) or none. "
        "Default: the base's, or latent-shift.",
    ),
    fold: int | None = typer.Option(
        None,
        "--fold",
        help="1/fold of the channels come from each neighbouring frame; 2 or more. Default: the base's, or 3.",
    ),
    padding: str | None = typer.Option(
        None,
        "--padding",
        help="Beyond a video's ends: zeros (the paper's), circular (for loops) or replicate (the end frame, so that "
        "one frame, or equal frames, go through the image model unchanged). Default: the base's, or zeros.",
    ),
    direction: str | None = typer.Option(
        None,
        "--direction",
        help="first_from_past (the paper's), first_from_future, or past_only: nothing comes from the next frame. "
        "Default: the base's, or first_from_past.",
    ),
    place: str | None = typer.Option(
        None,
        "--place",
        help="What is shifted in a ResNet block: the input of conv1 (the paper's) or of conv2, or with block its own, "
        "so that the skip path carries it too. Default: the base's, or conv1.",
    ),
    blocks: str | None = typer.Option(
        None,
        "--blocks",
        help="Blocks that shift: all (the paper's), encoder (with the middle) or decoder. Default: the base's, or all.",
    ),
    noise_share: float | None = typer.Option(
        None,
        "--noise-share",
        help="How much of the noise frames share, 0 or more; 0: none (the paper's). Default: the base's, or 0.",
    ),
    keep_image: bool = typer.Option(
        False,
        "--keep-image",
        help="Keep what the image model draws: before any training a video is that image, nearly still. Sets --padding "
        f"replicate, and --noise-share {KEEP_IMAGE_NOISE_SHARE:g} unless it is given.",
    ),
    frames: int | None = typer.Option(None, "--frames", help="Frames per video. Default: the base's, or 16."),
    fps: int | None = typer.Option(None, "--fps", help="Frames per second. Default: the base's, or 8."),
    dtype: str = typer.Option("float32", "--dtype", help="Of the saved weights: float32, bfloat16 or float16."),
) -> None:
    """Install the temporal shift on an image model and save it, ready for fine-tuning on clips."""
    from latentshift.cli.preflight import check_adapters, check_frame_count, check_model_files, check_new_model
    from latentshift.files import atomic_write
    from latentshift.models.adapters.lora_file import is_own_lora, parse_lora

    loras = lora or []
    _check_base(base, family, variant, random_weights=random_weights, trained=bool(loras) or delta is not None)
    check_new_model(output, dtype)
    if frames is not None:
        check_frame_count(frames)
    if fps is not None and not 1 <= fps <= MAX_FPS:
        raise ValueError(f"--fps must be from 1 to {MAX_FPS:,}, not {fps:,}")
    if noise_share is not None:
        check_noise_share(noise_share, "--noise-share")
    if keep_image and padding not in (None, "replicate"):
        raise ValueError(f"--keep-image needs --padding replicate, not {padding}; leave one of them out")
    chosen = {"fold": fold, "padding": padding, "direction": direction, "place": place, "blocks": blocks}
    given = {name: value for name, value in chosen.items() if value is not None}
    _check_method(method, given)
    if other_base and delta is None:
        raise ValueError("--other-base is of --delta: name the file, or leave it out")
    if delta is not None or any(is_own_lora(parse_lora(each)[0]) for each in loras):
        settings = {**given, "method": method, "noise-share": noise_share, "keep-image": keep_image or None}
        if taken := [name for name, value in settings.items() if value is not None]:
            raise ValueError(f"--{taken[0]} has no effect: a LoRA or delta brings the settings it was trained with")
    if keep_image and noise_share is None:
        noise_share = KEEP_IMAGE_NOISE_SHARE
    if base is not None:
        folder = check_model_files(base, variant)
        if keep_image and folder is not None:
            _check_untrained(base, folder, noise_share)
        check_adapters(loras, delta, base, variant)
    from latentshift.cli.models import load_adapted, quiet_libraries

    quiet_libraries()
    import torch

    from latentshift.models.storage.families import FAMILIES as PUBLISHED
    from latentshift.models.storage.families import random_weights as build_family
    from latentshift.pipeline import LatentShiftPipeline

    if family is not None and random_weights:
        with status("initializing random weights"):
            pipeline = LatentShiftPipeline(**build_family(family)).to(getattr(torch, dtype))
    else:
        source = PUBLISHED[family].hub if family is not None else str(base)
        pipeline = load_adapted(source, "cpu", dtype, loras, delta, variant, other_base=other_base)
    _set_method(pipeline, method, given, base, keep_image=keep_image)
    if noise_share is not None:
        pipeline.set_noise_share(noise_share)
    timing = {"num_frames": frames, "fps": fps}
    pipeline.register_to_config(**{name: value for name, value in timing.items() if value is not None})
    with status("writing the model"), atomic_write(output) as temporary:
        pipeline.save_pretrained(temporary)
    print(printable(output, 4096))


def _check_base(
    base: str | None, family: str | None, variant: str | None, *, random_weights: bool, trained: bool
) -> None:
    """Refuse a base that is missing or named twice, and what random weights can't have.

    Args:
        trained: whether a LoRA or a delta is to be added.

    Raises:
        ValueError: for any of these, or an unknown family.
    """
    if (base is None) == (family is None):
        raise ValueError("give either --base FOLDER_OR_HUB_ID or --family")
    if family is not None and family not in FAMILIES:
        raise ValueError(f"unknown family {family!r}: choose from {', '.join(FAMILIES)}")
    if not random_weights:
        return
    if family is None:
        raise ValueError("--random-weights needs --family, which sets the size")
    if variant is not None:
        raise ValueError("--variant has no effect with --random-weights")
    if trained:
        raise ValueError("--lora and --delta change trained weights, and --random-weights has none")


def _check_untrained(base: str, folder: Path, noise_share: float | None) -> None:
    """Refuse ``--keep-image`` for a model that was trained on clips with another padding or noise.

    Args:
        base: as it was named.
        folder: of it.
        noise_share: that it is to have.

    Raises:
        ValueError: for such a model: the bundled one, or one with the file that training leaves.
    """
    from latentshift.models.storage.model_paths import DATA_SETTINGS, bundled_model, load_index

    index = load_index(folder)
    shift, saved_share = index.get("shift"), index.get("noise_share", 0)
    trained = folder.samefile(bundled_model()) or (folder / DATA_SETTINGS).is_file()
    kept = saved_share == noise_share and (shift is None or shift.get("padding") == "replicate")
    if trained and shift is not None and not kept:
        raise ValueError(
            f"{printable(base)} was trained on clips, with a padding or noise that --keep-image would change: name the "
            "image model that it was made of, or leave --keep-image out"
        )


def _check_method(method: str | None, shift: dict[str, Any]) -> None:
    """Refuse an unknown method, invalid settings of the shift, and settings without it.

    Raises:
        ValueError: for any of these.
    """
    ShiftConfig(**shift)
    if method is not None and method not in METHODS:
        raise ValueError(f"unknown method {method!r}: choose from {', '.join(METHODS)}")
    if shift and method not in (None, "latent-shift"):
        raise ValueError(f"--{next(iter(shift))} needs --method latent-shift, not {method}")


def _set_method(
    pipeline: LatentShiftPipeline, method: str | None, shift: dict[str, Any], base: str | None, *, keep_image: bool
) -> None:
    """Say how frames meet.

    Args:
        pipeline: that is made.
        method: that was asked for; None: the base's.
        shift: settings of the shift that were.
        base: for messages.
        keep_image: whether frames that are alike are to stay the image model's.

    Raises:
        ValueError: for settings of a shift that the base does not have.
    """
    if shift and method is None and pipeline.config.shift is None:
        raise ValueError(
            f"--{next(iter(shift))} needs the temporal shift, which {base} does not use ({pipeline.method}); add "
            "--method latent-shift, which replaces it, or leave the option out"
        )
    if method is not None:
        pipeline.set_method(method)
    if keep_image and pipeline.config.shift is not None:
        shift = {**shift, "padding": "replicate"}
    if shift:
        pipeline.set_shift({**(pipeline.config.shift or {}), **shift})
