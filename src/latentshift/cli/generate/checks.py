"""The checks of ``latentshift generate`` before heavy imports: its options are read, and mistakes refused at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentshift.cli.extension_option import ExtensionOption, read_extension
from latentshift.cli.fewer_operations_option import read_fewer_operations
from latentshift.cli.generate.keyframe_option import parse_keyframe, read_keyframe_options
from latentshift.cli.generate.options import TORCH, GenerateOptions
from latentshift.cli.generate.output_files import check_inputs_kept, output_files
from latentshift.cli.generate.prompt_at_option import read_prompts_at
from latentshift.cli.generate.video_option import VideoOption, read_video_option
from latentshift.cli.preflight import check_adapters, check_frame_count, check_generation
from latentshift.cli.prompts_file import REMEDY, read_prompts
from latentshift.cli.ranks import Ranks
from latentshift.cli.size_option import parse_size
from latentshift.diffusion.fewer_operations import FewerOperations
from latentshift.diffusion.sampler_names import DISTILLED_SAMPLERS
from latentshift.models.storage.model_paths import read_frame_rate, read_video_size
from latentshift.settings import check_skip_offload, default_chunk
from latentshift.user_input.unicode_text import check_unicode
from latentshift.video import DEFAULT_FPS, check_output


@dataclass(frozen=True)
class GeneratePlan:
    """What is to be made, as far as it is known without the model.

    Attributes:
        sentences: the prompts.
        targets: a file, or a folder of frames, for each.
        several: whether there are several videos, or a file of prompts.
        seed: of the first video.
        size: ``frames``, ``height`` and ``width`` that were asked for, in frames and pixels; None: the model's.
        fewer: operations, of a sampling.
        extension: how far videos go on.
        source: a clip to start from; None: noise.
        prompts_at: frame -> prompt, of those behind the first.
        first_call: arguments of the first call of each video alone: keyframes, and the clip where it could be read.
    """

    sentences: list[str]
    targets: list[Path]
    several: bool
    seed: int
    size: dict[str, int | None]
    fewer: FewerOperations
    extension: ExtensionOption
    source: VideoOption | None
    prompts_at: dict[int, str]
    first_call: dict[str, Any]


def check_generate(options: GenerateOptions, ranks: Ranks) -> GeneratePlan:
    """Read the options, and refuse what can't be made as far as that shows without loading the model.

    Args:
        options: of the command.
        ranks: the processes that run it, of which the first looks at the files to be written.

    Raises:
        ValueError: for the first mistake.
    """
    sentences = read_prompts(options.prompts or [], options.prompts_file)
    check_unicode(options.negative or "", "--negative", REMEDY)
    if options.negative and options.guidance == 1:
        raise ValueError("--negative has no effect without guidance, with --guidance 1: leave one of them out")
    if options.negative and options.guidance is None and options.sampler in DISTILLED_SAMPLERS:
        raise ValueError(
            f"--negative has no effect without guidance: --sampler {options.sampler} needs --guidance for it"
        )
    width, height = parse_size(options.size)
    fewer = read_fewer_operations(
        options.guidance_interval, options.deep_cache, options.deep_cache_branch, options.speed
    )
    frames, seed = options.frames, options.seed
    if frames is not None:
        check_frame_count(frames)
    if options.loop and frames == 1:
        raise ValueError("--loop is for videos, and --frames 1 makes an image")
    if seed is not None and not 0 <= seed < 2**63 - len(sentences):
        raise ValueError(f"--seed must be 0 or more and leave room below 2^63 for every video, not {seed}")
    seed = _random_seed() if seed is None else seed
    several = len(sentences) > 1 or options.prompts_file is not None
    targets = output_files(sentences, options.output, options.suffix, seed, several=several, single_frame=frames == 1)
    _check_different_files(options, targets)
    source = read_video_option(options.video, options.video_start, options.strength, options.steps)
    extension = read_extension(options.extend, options.overlap, loop=options.loop, frames=frames)
    if ranks.is_first:
        check_writable_files(options, targets, frames or 1, DEFAULT_FPS if options.fps is None else options.fps)
    size = {"frames": frames, "height": height, "width": width}
    first_call: dict[str, Any] = {}
    prompts_at: dict[int, str] = {}
    if options.runtime == TORCH:
        first_call, prompts_at = _check_for_torch(options, ranks, sentences, size, extension, source)
    else:
        _check_for_export(options, ranks, size)
    return GeneratePlan(sentences, targets, several, seed, size, fewer, extension, source, prompts_at, first_call)


def check_writable_files(options: GenerateOptions, targets: Sequence[Path], frames: int, fps: float) -> None:
    """Refuse files that videos can't be written to.

    Args:
        options: of the command.
        targets: of the videos.
        frames: of each, as far as that is known.
        fps: of each, likewise.

    Raises:
        ValueError: for the first.
    """
    for target in targets:
        check_output(target, frames, fps=fps)
    sheet = options.contact_sheet
    if sheet is not None:
        check_output(sheet, 1 if sheet.suffix.lower() == ".png" else frames, fps=fps)


def _check_different_files(options: GenerateOptions, targets: list[Path]) -> None:
    """Refuse to write over what is read, or two things into one file."""
    sheet = options.contact_sheet
    if sheet is not None and sheet.absolute() in [target.absolute() for target in targets]:
        raise ValueError(f"--contact-sheet and the video can't both be written to {sheet}")
    pictures = {f"--keyframe {each}": parse_keyframe(each).path for each in options.keyframe or []}
    named = {"--video": options.video, "--prompts-file": options.prompts_file}
    inputs = pictures | {option: path for option, path in named.items() if path is not None}
    check_inputs_kept([*targets, *([] if sheet is None else [sheet])], inputs)


def _check_for_torch(
    options: GenerateOptions,
    ranks: Ranks,
    sentences: list[str],
    size: dict[str, int | None],
    extension: ExtensionOption,
    source: VideoOption | None,
) -> tuple[dict[str, Any], dict[int, str]]:
    """What the model's folder says about the options; the arguments of the first call, and ``prompts_at``."""
    frames = options.frames
    folder = check_generation(
        options.model,
        options.device,
        options.dtype,
        options.sampler,
        options.steps,
        options.guidance,
        variant=options.variant,
        frame_chunk=options.frame_chunk,
        **size,
        extension=extension,
        speed=options.speed,
        adapted=bool(options.lora) or options.delta is not None,
    )
    refused = {"--extend": options.extend, "--deep-cache": options.deep_cache}
    ranks.check(folder, frames, guidance=options.guidance, device=options.device, refused=refused)
    own_frames = None if folder is None else read_video_size(folder)[0]
    if options.offload_skips and ranks.count == 1 and (of_a_call := frames or own_frames) is not None:
        chunk = options.frame_chunk or default_chunk(of_a_call, 1)  # whose size does not matter here
        check_skip_offload(options.device, chunk, of_a_call, "--offload-skips")
    prompts_at = read_prompts_at(options.prompt_at or [], sentences, frames or own_frames, extend=options.extend)
    first_call = read_keyframe_options(options.keyframe or [], folder, **size)
    if source is not None and folder is not None:
        of_model = (*read_video_size(folder), read_frame_rate(folder))
        first_call |= source.read_for(of_model, fps=options.fps, **size)
    check_adapters(options.lora or [], options.delta, options.model, options.variant)
    return first_call, prompts_at


def _check_for_export(options: GenerateOptions, ranks: Ranks, size: dict[str, int | None]) -> None:
    from latentshift.cli.exported import check_exported_generation

    others = {
        "--lora": options.lora or None,
        "--delta": options.delta,
        "--variant": options.variant,
        "--frame-chunk": options.frame_chunk,
        "--offload-skips": options.offload_skips or None,
        "--keyframe": options.keyframe or None,
        "--extend": options.extend,
        "--speed": options.speed,
        "--video": options.video,
        "--guidance-interval": options.guidance_interval,
        "--deep-cache": options.deep_cache,
        "--prompt-at": options.prompt_at or None,
    }
    refused = {"--runtime": options.runtime}
    ranks.check(None, options.frames, guidance=options.guidance, device=options.device, refused=refused)
    check_exported_generation(
        options.model,
        options.runtime,
        options.device,
        options.dtype,
        options.sampler,
        options.steps,
        options.guidance,
        loop=options.loop,
        others=others,
        **size,
    )


def _random_seed() -> int:
    import secrets

    return secrets.randbelow(2**31)
