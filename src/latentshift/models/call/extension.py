"""Longer clips: a video goes on from its last frames, which the next call knows beforehand.

The overlap stays in latent space: no frame is decoded and encoded again. Legend of shapes: B videos, F frames of a
call, K frames of overlap, N extensions, C channels, h × w latent pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from latentshift.diffusion.sampling import video_generators
from latentshift.models.call.keyframes import check_known_frames
from latentshift.settings import check_extension, check_output_type, default_chunk
from latentshift.user_input.argument_types import checked_types

_OWN = (
    *("num_frames", "height", "width", "latents", "video", "strength"),
    *("output_type", "return_dict", "keyframes", "keyframe_strength"),
)


def check_extendable(pipe: Any) -> None:
    """Refuse a ``LatentShiftPipeline`` whose videos can't go on, before the first of them is made.

    Raises:
        ValueError: for circular padding, frames that do not see each other, or a scheduler that clips.
    """
    if (pipe.config.shift or {}).get("padding") == "circular":
        raise ValueError("a video with circular padding is a loop: its end goes on with its beginning")
    check_known_frames(pipe)


def iter_extensions(
    pipe: Any, clip: Tensor, *prompt: Any, num_extensions: int, overlap: int, num_frames: int, **arguments: Any
) -> Iterator[Tensor]:
    """The new latents (B, F - K, C, h, w) of each extension, as soon as it is made.

    Args:
        pipe: a ``LatentShiftPipeline``.
        clip: (B, …, C, h, w), scaled, as a call with ``output_type="latent"`` returns them; its last K frames count.
        *prompt: of the call.
        num_extensions: N.
        overlap: K.
        num_frames: F.
        **arguments: of the call.

    Raises:
        ValueError: for arguments that :meth:`ExtensionMixin.extend` refuses, when the first is asked for.
    """
    check_extension(num_extensions, overlap, num_frames)
    check_extendable(pipe)
    if taken := sorted(set(arguments) & set(_OWN)):
        raise ValueError(f"extend has no {', '.join(taken)}: the clip decides them")
    if pipe.frame_ranks is not None:
        raise ValueError("a clip is extended by one process: call disable_frame_parallel, or make one longer video")
    if not isinstance(clip, Tensor):
        kind = type(clip).__name__
        raise ValueError(f'extend goes on from latents, as output_type="latent" gives them, not a {kind}')
    if clip.ndim != 5 or clip.shape[1] < overlap or clip.shape[2] != pipe.unet.config.in_channels:
        raise ValueError(
            f"extend goes on from latents (B, F, {pipe.unet.config.in_channels}, h, w) of {overlap} frames or more, as "
            f'output_type="latent" gives them, not {tuple(clip.shape)}'
        )
    if not clip.isfinite().all():
        raise ValueError("the clip to go on from has values that are not finite")
    side = pipe.vae_scale_factor
    size = {"height": clip.shape[-2] * side, "width": clip.shape[-1] * side}
    # The same generators for all extensions, each of which so has noise of its own.
    arguments["generator"] = video_generators(arguments.get("generator"), len(clip))
    last = clip[:, -overlap:]
    for _ in range(num_extensions):
        known = {frame: list(last[:, frame]) for frame in range(overlap)}
        call = {**arguments, **size, "num_frames": num_frames, "keyframes": known}
        made = pipe(*prompt, **call, output_type="latent", return_dict=False)[0]
        last = made[:, -overlap:]
        yield made[:, overlap:]
        if pipe.interrupt:
            return


class ExtensionMixin:
    """:meth:`extend`, for a pipeline."""

    @torch.no_grad()
    @checked_types
    def extend(
        self,
        clip: Tensor,
        prompt: Any = None,
        *,
        num_extensions: int = 1,
        overlap: int | None = None,
        num_frames: int | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        decode_chunk_size: int | None = None,
        **arguments: Any,
    ) -> Any:
        """Go on with videos: N times F - K new frames, of which each call knows the K before them.

        Args:
            clip: (B, F₀, C, h, w), F₀ ≥ K: latents as a call with ``output_type="latent"`` returns them.
            prompt: as for a call, with as many videos as the clip has.
            num_extensions: N ≥ 1.
            overlap: K, 1 … F - 1; None: F / 2.
            num_frames: F of each call; None: the model's default.
            output_type: as for a call.
            return_dict: as for a call.
            decode_chunk_size: as for a call.
            **arguments: of each call, but those that the clip decides. One ``generator``, or one for each video, serves
                all of them in turn.

        Returns:
            As a call, of F₀ + N (F - K) frames, those of the clip first; fewer if a callback interrupts.

        Raises:
            ValueError: for latents of another shape, an overlap outside of its range, a number of extensions below 1,
                circular padding, arguments that the clip decides, or what a call refuses.
        """
        pipe: Any = self
        num_frames = pipe.config.num_frames if num_frames is None else num_frames
        overlap = max(1, num_frames // 2) if overlap is None else overlap
        check_output_type(output_type)
        more = iter_extensions(
            pipe, clip, prompt, num_extensions=num_extensions, overlap=overlap, num_frames=num_frames, **arguments
        )
        made = list(more)
        whole = torch.cat([clip.to(pipe._execution_device), *made], dim=1)
        chunk = decode_chunk_size or default_chunk(whole.shape[1], whole[0, 0, 0].numel())
        return pipe._finish(whole, output_type, chunk, return_dict=return_dict)
