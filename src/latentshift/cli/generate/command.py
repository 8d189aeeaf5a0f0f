"""``latentshift generate``: video files from prompts. Its options; then the checks, and the run."""

from __future__ import annotations

from pathlib import Path

import typer

from latentshift.cli import fewer_operations_option
from latentshift.cli.generate.options import TORCH, GenerateOptions
from latentshift.cli.ranks import DEFAULT_TIMEOUT, Ranks
from latentshift.cli.shared_options import DEVICE, DTYPE, GUIDANCE
from latentshift.models.storage.model_paths import BUNDLED
from latentshift.progress import set_quiet
from latentshift.settings import STEPS, VIDEO_STRENGTH


def generate(
    prompts: list[str] | None = typer.Argument(None, help="Prompts; each gives one video."),
    prompts_file: Path | None = typer.Option(None, "--prompts-file", help="A text file with one prompt per line."),
    output: Path | None = typer.Option(
        None,
        "--output",
        "-o",
        help="For one video: .mp4, .gif, .webp, .png (one frame), or no suffix for a folder of frames. For several: a "
        "folder. Default: outputs/.",
    ),
    suffix: str | None = typer.Option(
        None,
        "--suffix",
        help="File type for several videos: .mp4, .gif, .webp, .png. Default: .mp4.",
    ),
    contact_sheet: Path | None = typer.Option(
        None,
        "--contact-sheet",
        help="Also write all videos into one file: .png in rows, or .gif, .webp, .mp4 side by side.",
    ),
    model: str = typer.Option(BUNDLED, "--model", help="The bundled model, a folder, or a hub id."),
    variant: str | None = typer.Option(
        None, "--variant", help="Variant of the weight files, e.g. fp16 for model.fp16.safetensors. Default: none."
    ),
    lora: list[str] | None = typer.Option(
        None,
        "--lora",
        metavar="FILE[:WEIGHT]",
        help="A LoRA for this model: of latentshift's training, or with the names of diffusers, peft or kohya. May be "
        "given several times.",
    ),
    delta: Path | None = typer.Option(
        None, "--delta", help="A file with the difference of all weights from training, for the same model."
    ),
    frames: int | None = typer.Option(
        None, "--frames", help="Number of frames; 1 makes an image. Default: the model's."
    ),
    steps: int | None = typer.Option(
        None, "--steps", help=f"Sampling steps. Default: the model's, with --sampler {STEPS}, with lcm and tcd 4."
    ),
    guidance: float | None = GUIDANCE,
    guidance_interval: str | None = fewer_operations_option.INTERVAL,
    negative: str | None = typer.Option(None, "--negative", help="Negative prompt: what to avoid."),
    sampler: str | None = typer.Option(
        None,
        "--sampler",
        help="ddpm, ddim, dpm++, euler, euler-a, heun or unipc; lcm or tcd with a --lora that was distilled for it. "
        "Default: the model's.",
    ),
    seed: int | None = typer.Option(
        None, "--seed", help="Seed of the first video; video k uses seed + k. Default: random."
    ),
    fps: float | None = typer.Option(None, "--fps", help="Frames per second of the file. Default: the model's."),
    size: str | None = typer.Option(None, "--size", help="Size in pixels, e.g. 64 or 96x64 (width x height)."),
    prompt_at: list[str] | None = typer.Option(
        None,
        "--prompt-at",
        metavar="FRAME=PROMPT",
        help='Change the prompt over the video, which mixes them in the frames between, as 8="a blue star"; -1 is the '
        "last frame. May be given several times.",
    ),
    keyframe: list[str] | None = typer.Option(
        None,
        "--keyframe",
        metavar="PATH:FRAME[:STRENGTH]",
        help="A picture that a frame is to show, of the frames' size; -1 is the last frame. STRENGTH: share of the "
        "steps, 0 to 1. May be given several times.",
    ),
    video: Path | None = typer.Option(
        None,
        "--video",
        metavar="CLIP",
        help="Change this clip instead of starting from noise: a video, a folder of frames, or a picture.",
    ),
    strength: float | None = typer.Option(
        None,
        "--strength",
        help=f"How much of --video is changed: the share of the steps, 0 to 1. Default: {VIDEO_STRENGTH}.",
    ),
    video_start: float | None = typer.Option(
        None, "--video-start", metavar="SECONDS", help="Where in --video to begin. Default: its beginning."
    ),
    extend: int | None = typer.Option(
        None, "--extend", metavar="N", help="Go on with the video N times, in latent space, from its last frames."
    ),
    overlap: int | None = typer.Option(
        None,
        "--overlap",
        metavar="K",
        help="Frames that an extension begins with, those the video ends with: it adds the others. Default: half.",
    ),
    loop: bool = typer.Option(False, "--loop", help="Make a video that loops (circular padding)."),
    frame_chunk: int | None = typer.Option(
        None,
        "--frame-chunk",
        help="Frames in one call of the U-Net: less memory, the same video. Default: all, and 8 or 16 of more than 64.",
    ),
    offload_skips: bool = typer.Option(
        False,
        "--offload-skips",
        help="Keep skip connections of such chunks in CPU memory: less memory of the GPU, slower, the same video.",
    ),
    preview: bool | None = typer.Option(
        None,
        "--preview/--no-preview",
        help="Draw four frames of each video in the terminal. Default: where it has 24-bit colours (COLORTERM).",
        show_default=False,
    ),
    guidance_parallel: bool = typer.Option(
        False,
        "--guidance-parallel",
        help="Of several processes, half predict for the prompt and half for what to avoid.",
    ),
    rank_timeout: float = typer.Option(
        DEFAULT_TIMEOUT, "--rank-timeout", help="Seconds that one of several processes waits for another."
    ),
    speed: str | None = typer.Option(
        None,
        "--speed",
        help="exact: as fast as is known with the same numbers but for rounding, and what was done for it is printed; "
        "fast: fewer operations, where they are known to lose nearly nothing. Default: nothing is tried.",
    ),
    deep_cache: int | None = fewer_operations_option.DEEP_CACHE,
    deep_cache_branch: int = fewer_operations_option.BRANCH,
    device: str = DEVICE,
    dtype: str = DTYPE,
    runtime: str = typer.Option(
        TORCH,
        "--runtime",
        help="torch; or onnx, openvino or aot, for which --model is a folder that latentshift export wrote.",
    ),
) -> None:
    """Generate videos or images from prompts.

    torchrun --nproc-per-node=N -m latentshift generate … splits the frames of each video over N processes.
    """
    options = GenerateOptions(**locals())
    from latentshift.cli.generate.checks import check_generate

    ranks = Ranks(rank_timeout, guidance_parallel=guidance_parallel)
    if not ranks.is_first:
        set_quiet(True)
    plan = check_generate(options, ranks)
    from latentshift.cli.generate.run import run_generate  # only now: heavy imports

    run_generate(options, plan, ranks)
