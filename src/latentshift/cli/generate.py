"""``latentshift generate``: video files from prompts."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from latentshift import __version__
from latentshift.cli import fewer_operations_option
from latentshift.cli.models import default_steps, load_sampling_pipeline
from latentshift.cli.output_files import check_inputs_kept, output_files, write_contact_sheet
from latentshift.cli.prompts_file import REMEDY, read_prompts
from latentshift.cli.ranks import DEFAULT_TIMEOUT, Ranks
from latentshift.cli.shared_options import DEVICE, DTYPE, GUIDANCE
from latentshift.cli.size_option import parse_size
from latentshift.error_text import printable
from latentshift.model_paths import BUNDLED, read_frame_rate, read_video_size
from latentshift.progress import is_shown, set_quiet, status
from latentshift.settings import STEPS, VIDEO_STRENGTH
from latentshift.unicode_text import check_unicode

if TYPE_CHECKING:
    import numpy as np

    from latentshift.export.exported_pipeline import ExportedPipeline
    from latentshift.pipeline import LatentShiftPipeline

_TORCH = "torch"
_MAX_PATH = 4096


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
        None, "--steps", help=f"Sampling steps. Default: the model's, with --sampler {STEPS}."
    ),
    guidance: float | None = GUIDANCE,
    guidance_interval: str | None = fewer_operations_option.INTERVAL,
    negative: str | None = typer.Option(None, "--negative", help="Negative prompt: what to avoid."),
    sampler: str | None = typer.Option(
        None, "--sampler", help="ddpm, ddim, dpm++, euler, euler-a, heun or unipc. Default: the model's."
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
        _TORCH,
        "--runtime",
        help="torch; or onnx, openvino or aot, for which --model is a folder that latentshift export wrote.",
    ),
) -> None:
    """Generate videos or images from prompts.

    torchrun --nproc-per-node=N -m latentshift generate … splits the frames of each video over N processes.
    """
    import numpy as np

    from latentshift.cli.extension_option import read_extension
    from latentshift.cli.keyframe_option import parse_keyframe, read_keyframe_options
    from latentshift.cli.lost_text import warn_of_lost_text
    from latentshift.cli.preflight import check_adapters, check_frame_count, check_generation
    from latentshift.cli.prompt_at_option import read_prompts_at
    from latentshift.cli.sample_video import sample_video
    from latentshift.cli.speed_option import print_acceleration
    from latentshift.cli.terminal_preview import PreviewFrames, can_preview, draw_frames
    from latentshift.cli.video_option import read_video_option
    from latentshift.video import DEFAULT_FPS, check_output, write_chunks

    ranks = Ranks(rank_timeout, guidance_parallel=guidance_parallel)
    if not ranks.is_first:
        set_quiet(True)
    # Check all inputs before the minutes of work.
    sentences = read_prompts(prompts or [], prompts_file)
    check_unicode(negative or "", "--negative", REMEDY)
    if negative and guidance == 1:
        raise ValueError("--negative has no effect without guidance, with --guidance 1: leave one of them out")
    width, height = parse_size(size)
    fewer = fewer_operations_option.read_fewer_operations(guidance_interval, deep_cache, deep_cache_branch, speed)
    if frames is not None:
        check_frame_count(frames)
    if loop and frames == 1:
        raise ValueError("--loop is for videos, and --frames 1 makes an image")
    if seed is not None and not 0 <= seed < 2**63 - len(sentences):
        raise ValueError(f"--seed must be 0 or more and leave room below 2^63 for every video, not {seed}")
    first_seed = _random_seed() if seed is None else seed
    several = len(sentences) > 1 or prompts_file is not None
    targets = output_files(sentences, output, suffix, first_seed, several=several, single_frame=frames == 1)
    still = contact_sheet is not None and contact_sheet.suffix.lower() == ".png"

    def check_files(frames: int, fps: float) -> None:
        if not ranks.is_first:
            return
        for target in targets:
            check_output(target, frames, fps=fps)
        if contact_sheet is not None:
            check_output(contact_sheet, 1 if still else frames, fps=fps)

    if contact_sheet is not None and contact_sheet.absolute() in [target.absolute() for target in targets]:
        raise ValueError(f"--contact-sheet and the video can't both be written to {contact_sheet}")
    pictures = {f"--keyframe {each}": parse_keyframe(each).path for each in keyframe or []}
    named = {"--video": video, "--prompts-file": prompts_file}
    inputs = pictures | {option: path for option, path in named.items() if path is not None}
    check_inputs_kept([*targets, *([] if contact_sheet is None else [contact_sheet])], inputs)
    source = read_video_option(video, video_start, strength, steps)
    extension = read_extension(extend, overlap, loop=loop, frames=frames)
    # As far as possible before a large model is loaded.
    check_files(frames or 1, DEFAULT_FPS if fps is None else fps)
    requested_size = {"frames": frames, "height": height, "width": width}
    loras = lora or []
    pipeline: LatentShiftPipeline | ExportedPipeline
    if runtime == _TORCH:
        folder = check_generation(
            model,
            device,
            dtype,
            sampler,
            steps,
            guidance,
            variant=variant,
            frame_chunk=frame_chunk,
            **requested_size,
            extension=extension,
            speed=speed,
        )
        refused = {"--extend": extend, "--deep-cache": deep_cache}
        ranks.check(folder, frames, guidance=guidance, device=device, refused=refused)
        own_frames = None if folder is None else read_video_size(folder)[0]
        prompts_at = read_prompts_at(prompt_at or [], sentences, frames or own_frames, extend=extend)
        first_call = read_keyframe_options(keyframe or [], folder, **requested_size)
        if source is not None and folder is not None:
            of_model = (*read_video_size(folder), read_frame_rate(folder))
            first_call |= source.read_for(of_model, fps=fps, **requested_size)
        check_adapters(loras, delta, model, variant)
        first_seed = ranks.start(first_seed)
        pipeline = load_sampling_pipeline(model, ranks.device(device), dtype, sampler, loop, loras, delta, variant)
        if source is not None and "video" not in first_call:  # of a model whose settings are known only now
            of_model = pipeline.config.num_frames, pipeline.sample_size, pipeline.config.fps
            first_call |= source.read_for(of_model, fps=fps, **requested_size)
        ranks.split(pipeline)
    else:
        from latentshift.cli.exported import check_exported_generation, open_export

        others = {"--lora": lora or None, "--delta": delta, "--variant": variant, "--frame-chunk": frame_chunk}
        others |= {"--keyframe": keyframe or None, "--extend": extend, "--speed": speed, "--video": video}
        others |= {"--guidance-interval": guidance_interval, "--deep-cache": deep_cache}
        others["--prompt-at"] = prompt_at or None
        first_call, prompts_at = {}, {}
        ranks.check(None, frames, guidance=guidance, device=device, refused={"--runtime": runtime})
        check_exported_generation(
            model, runtime, device, dtype, sampler, steps, guidance, loop=loop, others=others, **requested_size
        )
        pipeline = open_export(model, runtime, dtype, sampler)
    frames = pipeline.config.num_frames if frames is None else frames
    steps = default_steps(sampler, pipeline.config.num_inference_steps) if steps is None else steps
    rate = float(pipeline.config.fps) if fps is None else fps
    total = extension.total(frames)
    check_files(total, rate)
    if extension.count:
        from latentshift.models.extension import check_extendable

        check_extendable(pipeline)
    if ranks.is_first:
        warn_of_lost_text(pipeline, [*sentences, *prompts_at.values(), *([negative] if negative else [])])
    scale = guidance if guidance is not None else float(pipeline.config.guidance_scale)
    if speed is not None and ranks.is_first:
        videos = len(sentences) * (1 + extension.count)
        sizes = {"frames": frames, "height": height, "width": width, "frame_chunk": frame_chunk}
        sizes |= {"deep_cache_interval": deep_cache}
        chosen = print_acceleration(pipeline, speed, videos=videos, steps=steps, guidance_scale=scale, **sizes)
        fewer = chosen if speed == "fast" else fewer
    sheet: list[np.ndarray] = []
    for number, (sentence, target) in enumerate(zip(sentences, targets, strict=True)):
        which = f"video {number + 1} of {len(sentences)}: " if several else ""
        pipeline.set_progress_bar_config(disable=not is_shown(), leave=False, desc=f"{which}sampling")
        latents = sample_video(
            pipeline,
            {0: sentence, **prompts_at} if prompts_at else sentence,
            first_seed + number,
            extension,
            {"height": height, "width": width, **first_call},
            negative_prompt=negative,
            num_frames=frames,
            num_inference_steps=steps,
            guidance_scale=scale,
            **({} if frame_chunk is None else {"frame_chunk": frame_chunk}),
            **fewer.arguments(),
        )
        settings = {
            "prompt_at": {str(frame): text for frame, text in prompts_at.items()} or None,
            "negative_prompt": negative,
            "model": model,
            "variant": variant,
            "lora": loras or None,
            "delta": None if delta is None else str(delta),
            "frames": frames,
            "size": "x".join(str(side * pipeline.vae_scale_factor) for side in reversed(latents.shape[-2:])),
            "steps": steps,
            "guidance": scale,
            "sampler": type(pipeline.scheduler).__name__,
            "keyframes": keyframe or None,
            "video": None if video is None else str(video),
            "video_start": video_start,
            "strength": None if source is None else source.strength,
            "extend": extend,
            "overlap": extension.overlap_of(frames),
            "loop": loop,
            "frame_chunk": frame_chunk,
            "fps": rate,
            "speed": speed,
            **fewer_operations_option.metadata_of(fewer),
            "runtime": runtime,
            "processes": ranks.count,
            "device": str(pipeline.device),
            "dtype": str(pipeline.dtype).removeprefix("torch."),
            "latentshift": __version__,
        }
        own = {"prompt": sentence, "seed": first_seed + number}
        with status(f"{which}decoding and writing"):
            kept = PreviewFrames(total)
            own_chunks = pipeline.decode_clip(latents, frame_chunk)
            chunks: Iterable[np.ndarray] = kept.watch(ranks.in_order(pipeline, own_chunks))
            if not ranks.is_first:
                deque(chunks, maxlen=0)
                continue
            if contact_sheet is not None:
                chunks = list(chunks)
                sheet.append(np.concatenate(chunks))
            write_chunks(target, chunks, total, fps=rate, metadata={**own, **settings}, loop=True)
        if preview if preview is not None else can_preview(sys.stderr):
            print(draw_frames(kept.frames), file=sys.stderr)
        print(f"{printable(target, _MAX_PATH)}  (seed {first_seed + number})")
    ranks.finish(pipeline)
    if contact_sheet is not None and ranks.is_first:
        all_of = {"prompts": sentences, "seeds": [first_seed + number for number in range(len(sheet))]}
        write_contact_sheet(contact_sheet, sheet, sentences, rate, {**all_of, **settings})
        print(printable(contact_sheet, _MAX_PATH))


def _random_seed() -> int:
    import secrets

    return secrets.randbelow(2**31)
