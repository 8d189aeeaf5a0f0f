"""``latentshift generate`` after its checks: the model is loaded, and each video is sampled, decoded and written."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from latentshift import __version__
from latentshift.cli.fewer_operations_option import metadata_of
from latentshift.cli.generate.checks import GeneratePlan, check_writable_files
from latentshift.cli.generate.lost_text import warn_of_lost_text
from latentshift.cli.generate.options import TORCH, GenerateOptions
from latentshift.cli.generate.output_files import write_contact_sheet
from latentshift.cli.generate.sample_video import sample_video
from latentshift.cli.generate.speed_option import print_acceleration
from latentshift.cli.generate.terminal_preview import PreviewFrames, can_preview, draw_frames
from latentshift.cli.models import load_sampling_pipeline
from latentshift.cli.ranks import Ranks
from latentshift.diffusion.fewer_operations import FewerOperations
from latentshift.diffusion.sampler_names import default_guidance, default_steps
from latentshift.progress import is_shown, status
from latentshift.user_input.error_text import printable
from latentshift.video import write_chunks

if TYPE_CHECKING:
    from torch import Tensor

    from latentshift.export.exported_pipeline import ExportedPipeline
    from latentshift.pipeline import LatentShiftPipeline

_MAX_PATH = 4096


@dataclass(frozen=True)
class _Work:
    """How each video is made, with the model's values where the options name none.

    Attributes:
        seed: of the first video.
        frames: of a call.
        total: frames of a video, with its extensions.
        steps: of the sampler.
        guidance: the scale.
        fps: of the files.
        fewer: operations, of a sampling.
        first_call: arguments of the first call of each video alone.
    """

    seed: int
    frames: int
    total: int
    steps: int
    guidance: float
    fps: float
    fewer: FewerOperations
    first_call: Mapping[str, Any]


def run_generate(options: GenerateOptions, plan: GeneratePlan, ranks: Ranks) -> None:
    """Make the videos of a plan.

    Args:
        options: of the command.
        plan: what its checks made of them.
        ranks: the processes that run it; the first writes and prints.

    Raises:
        ValueError: for what shows only now that the model is loaded.
    """
    seed = ranks.start(plan.seed)
    pipeline: Any = _open_model(options, ranks)
    first_call = plan.first_call
    if plan.source is not None and "video" not in first_call:  # of a model whose settings are known only now
        of_model = pipeline.config.num_frames, pipeline.sample_size, pipeline.config.fps
        first_call = first_call | plan.source.read_for(of_model, fps=options.fps, **plan.size)
    ranks.split(pipeline)
    work = _read_work(options, plan, ranks, pipeline, seed, first_call)
    sheet: list[np.ndarray] = []
    for number, (sentence, target) in enumerate(zip(plan.sentences, plan.targets, strict=True)):
        which = f"video {number + 1} of {len(plan.sentences)}: " if plan.several else ""
        pipeline.set_progress_bar_config(disable=not is_shown(), leave=False, desc=f"{which}sampling")
        latents = _sample(options, plan, work, pipeline, sentence, work.seed + number)
        settings = _metadata(options, plan, work, ranks, pipeline, latents)
        own = {"prompt": sentence, "seed": work.seed + number}
        with status(f"{which}decoding and writing"):
            kept = PreviewFrames(work.total)
            own_chunks = pipeline.decode_clip(latents, options.frame_chunk)
            chunks: Iterable[np.ndarray] = kept.watch(ranks.in_order(pipeline, own_chunks))
            if not ranks.is_first:
                deque(chunks, maxlen=0)
                continue
            if options.contact_sheet is not None:
                chunks = list(chunks)
                sheet.append(np.concatenate(chunks))
            write_chunks(target, chunks, work.total, fps=work.fps, metadata={**own, **settings}, loop=True)
        if options.preview if options.preview is not None else can_preview(sys.stderr):
            print(draw_frames(kept.frames), file=sys.stderr)
        print(f"{printable(target, _MAX_PATH)}  (seed {work.seed + number})")
    ranks.finish(pipeline)
    if options.contact_sheet is not None and ranks.is_first:
        all_of = {"prompts": plan.sentences, "seeds": [work.seed + number for number in range(len(sheet))]}
        write_contact_sheet(options.contact_sheet, sheet, plan.sentences, work.fps, {**all_of, **settings})
        print(printable(options.contact_sheet, _MAX_PATH))


def _open_model(options: GenerateOptions, ranks: Ranks) -> LatentShiftPipeline | ExportedPipeline:
    if options.runtime != TORCH:
        from latentshift.cli.exported import open_export

        return open_export(options.model, options.runtime, options.dtype, options.sampler)
    return load_sampling_pipeline(
        options.model,
        ranks.device(options.device),
        options.dtype,
        options.sampler,
        options.loop,
        options.lora or [],
        options.delta,
        options.variant,
    )


def _read_work(
    options: GenerateOptions,
    plan: GeneratePlan,
    ranks: Ranks,
    pipeline: LatentShiftPipeline | ExportedPipeline,
    seed: int,
    first_call: Mapping[str, Any],
) -> _Work:
    """Fill in the model's values, check what depends on them, and accelerate the pipeline if that is asked for."""
    config, extension = pipeline.config, plan.extension
    frames = config.num_frames if options.frames is None else options.frames
    steps = default_steps(options.sampler, config.num_inference_steps) if options.steps is None else options.steps
    fps = float(config.fps) if options.fps is None else options.fps
    total = extension.total(frames)
    if ranks.is_first:
        check_writable_files(options, plan.targets, total, fps)
    if extension.count:
        from latentshift.models.call.extension import check_extendable

        check_extendable(pipeline)
    if ranks.is_first:
        avoided = [options.negative] if options.negative else []
        warn_of_lost_text(pipeline, [*plan.sentences, *plan.prompts_at.values(), *avoided])
    guidance = options.guidance
    guidance = default_guidance(options.sampler, float(config.guidance_scale)) if guidance is None else guidance
    fewer = plan.fewer
    if options.speed is not None and ranks.is_first:
        chosen = print_acceleration(
            pipeline,
            options.speed,
            videos=len(plan.sentences) * (1 + extension.count),
            steps=steps,
            guidance_scale=guidance,
            **{**plan.size, "frames": frames},
            frame_chunk=options.frame_chunk,
            deep_cache_interval=options.deep_cache,
        )
        fewer = chosen if options.speed == "fast" else fewer
    return _Work(seed, frames, total, steps, guidance, fps, fewer, first_call)


def _sample(
    options: GenerateOptions,
    plan: GeneratePlan,
    work: _Work,
    pipeline: LatentShiftPipeline | ExportedPipeline,
    sentence: str,
    seed: int,
) -> Tensor:
    """The latents (F, C, h, w) of one video."""
    return sample_video(
        pipeline,
        {0: sentence, **plan.prompts_at} if plan.prompts_at else sentence,
        seed,
        plan.extension,
        {"height": plan.size["height"], "width": plan.size["width"], **work.first_call},
        negative_prompt=options.negative,
        num_frames=work.frames,
        num_inference_steps=work.steps,
        guidance_scale=work.guidance,
        **({} if options.frame_chunk is None else {"frame_chunk": options.frame_chunk}),
        **({"offload_skips": True} if options.offload_skips else {}),
        **work.fewer.arguments(),
    )


def _metadata(
    options: GenerateOptions,
    plan: GeneratePlan,
    work: _Work,
    ranks: Ranks,
    pipeline: LatentShiftPipeline | ExportedPipeline,
    latents: Tensor,
) -> dict[str, Any]:
    """What the files say of all videos: how to make them again."""
    return {
        "prompt_at": {str(frame): text for frame, text in plan.prompts_at.items()} or None,
        "negative_prompt": options.negative,
        "model": options.model,
        "variant": options.variant,
        "lora": options.lora or None,
        "delta": None if options.delta is None else str(options.delta),
        "frames": work.frames,
        "size": "x".join(str(side * pipeline.vae_scale_factor) for side in reversed(latents.shape[-2:])),
        "steps": work.steps,
        "guidance": work.guidance,
        "sampler": type(pipeline.scheduler).__name__,
        "keyframes": options.keyframe or None,
        "video": None if options.video is None else str(options.video),
        "video_start": options.video_start,
        "strength": None if plan.source is None else plan.source.strength,
        "extend": options.extend,
        "overlap": plan.extension.overlap_of(work.frames),
        "loop": options.loop,
        "frame_chunk": options.frame_chunk,
        "fps": work.fps,
        "speed": options.speed,
        **metadata_of(work.fewer),
        "runtime": options.runtime,
        "processes": ranks.count,
        "device": str(pipeline.device),
        "dtype": str(pipeline.dtype).removeprefix("torch."),
        "latentshift": __version__,
    }
