"""``VideoPipeline``: an image pipeline of diffusers, called for videos.

Legend of shapes: P prompts, B videos, F frames.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from types import NoneType
from typing import Any

import torch
from torch import nn

from latentshift.diffusion.schedulers import check_sampling
from latentshift.frame_context import check_count, default_frames
from latentshift.image_pipelines.arguments import VideoCall, read_call
from latentshift.image_pipelines.callbacks import with_watched_callbacks
from latentshift.image_pipelines.ip_adapter import pictures_of_frames
from latentshift.image_pipelines.output import VideoPipelineOutput, blacken, finite_when_decoded, regroup, stack
from latentshift.image_pipelines.parts import (
    as_modules,
    check_conditions,
    check_pipeline,
    check_trained_shift,
    install_where_missing,
    read_noise_share,
)
from latentshift.image_pipelines.shared_noise import frames_share_noise
from latentshift.image_pipelines.stock import check_guider, check_tested, make_pictures
from latentshift.models.adapters.joint_projections import check_adapters_act
from latentshift.models.call.exclusive import one_call_at_a_time
from latentshift.models.decoded_frames import check_finite
from latentshift.settings import ShiftConfig, check_output_type
from latentshift.shift import remove
from latentshift.user_input.argument_types import checked_types


class VideoPipeline:
    """A stock image pipeline that makes videos; see :func:`video`.

    Attributes:
        pipe: the image pipeline. Schedulers, LoRAs, IP-Adapters and offloading are set there, at any time.
        num_frames: F of a call that does not say.
        noise_share: a ≥ 0 of the noise that frames share.
    """

    own_pipeline_hint = (  # for the refusal of concurrent calls
        "give each thread a pipeline of the same parts with a copy of the scheduler, and wrap each of them"
    )
    __slots__ = ("_also", "_installed", "noise_share", "num_frames", "pipe")

    def __init__(
        self,
        pipe: Any,
        num_frames: int = 16,
        *,
        shift: ShiftConfig | None = None,
        noise_share: float | None = None,
        also: nn.Module | Sequence[nn.Module] = (),
        untested: bool = False,
    ) -> None:
        check_count(num_frames)
        check_pipeline(pipe)
        if not untested:
            check_tested(pipe)
        self.pipe = pipe
        self.num_frames = num_frames
        self.noise_share = read_noise_share(pipe, noise_share)
        self._also = as_modules(also)
        self._installed = install_where_missing(pipe, shift, self._also)

    @property
    def scheduler(self) -> Any:
        """The image pipeline's; set it there."""
        return self.pipe.scheduler

    def remove(self) -> None:
        """Remove the shift where this object installed it, which gives the image pipeline back bit for bit."""
        while self._installed:
            remove(self._installed.pop())

    @checked_types
    @one_call_at_a_time
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        *,
        num_frames: int | None = None,
        num_videos_per_prompt: int = 1,
        videos_per_call: int | None = None,
        decode_frame_by_frame: bool = True,
        output_type: str = "pil",
        return_dict: bool = True,
        **arguments: Any,
    ) -> VideoPipelineOutput | tuple[Any, ...]:
        """Generate videos, or images with ``num_frames=1``.

        Videos are ordered by prompt; each depends on its own prompt, pictures and generator alone.

        Args:
            prompt: a sentence or a list of P; None if ``prompt_embeds`` are given.
            num_frames: F ≥ 1; None: :attr:`num_frames`.
            num_videos_per_prompt: B = P times this.
            videos_per_call: how many videos the image pipeline makes at a time; None: one on the CPU, where each is
                then bit for bit the video made alone, elsewhere all. Callbacks see those of one call, with frames
                folded into the batch.
            decode_frame_by_frame: the autoencoder takes one frame at a time; False: all of a call, which is as the
                image pipeline has it, and takes more memory.
            output_type: ``"pil"``, ``"np"``, ``"pt"`` or ``"latent"``.
            return_dict: False returns a plain tuple.
            **arguments: of the image pipeline, by its names. A picture (``image``, ``mask_image``, ``control_image``,
                ``ip_adapter_image``) is one picture, a clip of F, or P of either; with several ControlNets or adapters,
                a list of that for each. ``generator``: one, or one for each video (see
                :func:`latentshift.diffusion.sampling.video_generators`). ``latents``: independent noise,
                (B, F, C, h, w).
                ``negative_prompt`` and embeddings: one a prompt. The rest is as in the image pipeline.

        Raises:
            ValueError: for an argument that does not fit; the message names it. Or if a callback replaces the U-Net.
            NotFiniteError: if the model's output is not finite.
            RuntimeError: if another call of this pipeline, or of one with the same scheduler, is running.
        """
        pipe = self.pipe
        num_frames = self.num_frames if num_frames is None else num_frames
        check_count(num_frames)
        check_output_type(output_type)
        if output_type == "latent" and _is_ldm(pipe):
            raise ValueError(f"{type(pipe).__name__} decodes its latents in every case: take another output_type")
        _check_scheduler(pipe, num_frames, self.noise_share)
        check_conditions(pipe)
        check_trained_shift(pipe, self._also)
        check_guider(pipe)
        check_adapters_act(pipe.unet)
        call = read_call(pipe, {"prompt": prompt, **arguments}, num_frames, num_videos_per_prompt)
        device = torch.device(pipe._execution_device)
        if videos_per_call is None:
            videos_per_call = 1 if device.type == "cpu" else call.num_videos
        check_count(videos_per_call, "videos_per_call")
        videos: list[Any] = []
        flagged: list[bool] | None = None
        for start in range(0, call.num_videos, videos_per_call):
            made, unsafe = self._make(call, slice(start, start + videos_per_call), output_type, decode_frame_by_frame)
            videos += made
            flagged = unsafe if flagged is None else flagged + (unsafe or [])
            if getattr(pipe, "_interrupt", False):  # a callback wants no more
                break
        frames = stack(videos)
        return VideoPipelineOutput(frames, flagged) if return_dict else (frames, flagged)

    def _make(
        self, call: VideoCall, which: slice, output_type: str, decode_frame_by_frame: bool
    ) -> tuple[list[Any], list[bool] | None]:
        """Some videos of a call, by one call of the image pipeline; and which of them the safety checker flagged."""
        pipe, num_frames = self.pipe, call.num_frames
        options = call.of(which)
        wanted = len(options["generator"])
        with ExitStack() as entered:
            for module in (pipe.unet, *self._also):
                entered.enter_context(default_frames(module, num_frames, wanted // num_frames))
            if decode_frame_by_frame:
                entered.enter_context(_one_at_a_time(_autoencoder(pipe)))
            entered.enter_context(finite_when_decoded(_autoencoder(pipe)))
            entered.enter_context(_seeded_steps(pipe, options["generator"]))
            if call.ip_adapter is not None:
                name, of_videos = call.ip_adapter
                frames = [frame for video in of_videos[which] for frame in video]
                options |= entered.enter_context(pictures_of_frames(pipe, name, frames))
            options = entered.enter_context(frames_share_noise(pipe, options, num_frames, self.noise_share))
            options = with_watched_callbacks(pipe, options)
            pictures, unsafe = make_pictures(pipe, options, output_type)
        if output_type == "latent":
            check_finite(pictures, "U-Net")
        if len(pictures) != wanted:
            raise ValueError(f"{type(pipe).__name__} made {len(pictures)} pictures where {wanted} frames are asked for")
        videos = regroup(pictures, num_frames)
        if unsafe is None:
            return videos, None
        flagged = [any(each) for each in regroup(unsafe, num_frames)]
        return [blacken(video) if bad else video for video, bad in zip(videos, flagged, strict=True)], flagged


@checked_types
def video(
    pipe: Any,
    num_frames: int = 16,
    *,
    shift: ShiftConfig | dict[str, Any] | None = None,
    noise_share: float | None = None,
    also: nn.Module | Sequence[nn.Module] = (),
    untested: bool = False,
) -> VideoPipeline:
    """Make a stock image pipeline of diffusers a video pipeline: ``video(pipe, 16)("a red star").frames[0]``.

    The shift is installed on the pipeline's U-Net, in place and without new weights, unless it is there already. The
    pipeline itself goes on making images, single frames to the shift. How many frames a call has is kept for that call
    and thread alone.

    Args:
        pipe: one of those in the table of docs/pipelines.md, with a U-Net of SD 1.x, SD 2.x, SDXL or LDM.
        num_frames: F ≥ 1 of a call that does not say.
        shift: the shift's settings; None: those of the U-Net, or those that the model was saved with, or the paper's.
        noise_share: a ≥ 0 of the noise that frames share (:mod:`latentshift.diffusion.shared_noise`); None: that of the
            saved model, or 0.
        also: another module in which frames shall meet, or several, ``[pipe.controlnet]``; by default a ControlNet
            works frame by frame, and one that was trained with the shift has to be named here.
        untested: take a pipeline that is not in that table, too; it may order frames in a way of its own.

    Raises:
        ValueError: if the pipeline is not in the table, has no such U-Net or a ControlNet or adapter of another base;
            if ``also`` has what the shift can't be installed on; or if ``noise_share`` is no number in its range. The
            pipeline is left as it was.
    """
    config = ShiftConfig.from_dict(shift) if isinstance(shift, dict) else shift
    if not isinstance(config, (ShiftConfig, NoneType)):
        raise ValueError(f"shift must be a ShiftConfig, or a dict of its settings, not a {type(config).__name__}")
    return VideoPipeline(pipe, num_frames, shift=config, noise_share=noise_share, also=also, untested=untested)


def _check_scheduler(pipe: Any, num_frames: int, noise_share: float) -> None:
    scheduler = pipe.scheduler
    check_sampling(scheduler, noise_share if num_frames > 1 else 0.0)
    if _is_ldm(pipe) and float(scheduler.init_noise_sigma) != 1:  # it never calls scale_model_input
        raise ValueError(
            f"{type(pipe).__name__} does not scale its latents as {type(scheduler).__name__} needs it: take a DDPM, "
            "DDIM, PNDM or DPM++ scheduler, or LatentShiftPipeline"
        )
    if num_frames > 1 and getattr(scheduler.config, "thresholding", False):
        raise ValueError(
            "the scheduler's thresholding is not for videos: in an image pipeline it would limit each frame by itself; "
            "set thresholding to false in its configuration"
        )


def _is_ldm(pipe: Any) -> bool:
    return any(base.__name__ == "LDMTextToImagePipeline" for base in type(pipe).__mro__)


def _autoencoder(pipe: Any) -> Any:
    return getattr(pipe, "vae", None) or getattr(pipe, "vqvae", None)


_slicing: dict[int, tuple[int, bool]] = {}  # id of an autoencoder -> calls that hold it sliced, and what it was before
_lock = threading.Lock()


@contextmanager
def _one_at_a_time(vae: Any) -> Iterator[None]:
    """Let the autoencoder take one picture at a time; it may be shared with calls in other threads."""
    if not hasattr(vae, "use_slicing"):
        yield
        return
    with _lock:
        count, before = _slicing.get(id(vae), (0, vae.use_slicing))
        _slicing[id(vae)] = count + 1, before
        vae.use_slicing = True
    try:
        yield
    finally:
        with _lock:
            count, before = _slicing.pop(id(vae))
            if count > 1:
                _slicing[id(vae)] = count - 1, before
            else:
                vae.use_slicing = before


@contextmanager
def _seeded_steps(pipe: Any, generators: list[torch.Generator]) -> Iterator[None]:
    """Give the scheduler the videos' generators where the pipeline does not: LDM's leaves noise to the global one."""

    scheduler = pipe.scheduler
    if not _is_ldm(pipe) or "generator" not in inspect.signature(scheduler.step).parameters:
        yield
        return
    step = scheduler.step

    @wraps(step)
    def seeded(*args: Any, **kwargs: Any) -> Any:
        return step(*args, **{"generator": generators, **kwargs})

    scheduler.step = seeded
    try:
        yield
    finally:
        del scheduler.step
