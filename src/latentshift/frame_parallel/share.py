"""A call's video on several processes: this one's frames, sampled as they would be among all of them.

Legend of shapes: B videos, F frames of a video and f of them here, C channels, h × w latent pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latentshift.diffusion.condition import TextCondition
from latentshift.diffusion.guidance import PromptedDenoiser
from latentshift.diffusion.known_frames import KnownFrames
from latentshift.diffusion.sampling import StepCallback, sample
from latentshift.diffusion.schedulers import effective_settings
from latentshift.diffusion.shared_noise import mix_noise
from latentshift.frame_parallel.ranks import FrameRanks
from latentshift.frame_parallel.split import split_frames
from latentshift.frame_parallel.whole_clip_noise import WholeClipNoise
from latentshift.models.denoiser import denoise, is_compiled, why_whole
from latentshift.models.latent_vdm import attention_of
from latentshift.settings import default_chunk
from latentshift.shift import shift_of


class FrameShare:
    """One call of a pipeline, of which this process has some frames.

    Args:
        ranks: of the pipeline.
        unet: of the pipeline.
        num_frames: F.
        latent_pixels: h · w.
        frame_chunk: of the call; None: two chunks, so that one works while the other's edges are on the way, and more
            where memory asks for it.
        guided: whether the call predicts for the prompts and for what to avoid.
        guidance_rescale: of the call.
        guidance_interval: of the call.
        facts: name -> what must be the same in all processes, beside what :meth:`sample` gets.

    Attributes:
        frames: this process's, of F.
        frame_chunk: f or fewer.

    Raises:
        ValueError: for fewer frames than parts, or a U-Net or call that can't be split.
    """

    def __init__(
        self,
        ranks: FrameRanks,
        unet: nn.Module,
        num_frames: int,
        latent_pixels: int,
        *,
        frame_chunk: int | None,
        guided: bool,
        guidance_rescale: float,
        guidance_interval: tuple[float, float] | None,
        facts: Mapping[str, Any],
    ) -> None:
        self.frames = split_frames(num_frames, ranks.parts)[ranks.part]
        self._ranks = ranks
        self._num_frames = num_frames
        self._facts = facts
        self._guidance_interval = guidance_interval
        self._halves: dict[int, tuple[TextCondition, TextCondition]] = {}
        if attention_of(unet) is not None:
            raise ValueError(
                "a video can't be split over processes with Latent-VDM: its temporal attention looks at all frames at "
                "once"
            )
        if is_compiled(unet):
            raise ValueError(
                "a video can't be split over processes with a compiled U-Net, which can't be interrupted where they "
                "hand over edges"
            )
        own = self.frames.stop - self.frames.start
        if frame_chunk is None:
            frame_chunk = own if why_whole(unet) else min(-(-own // 2), default_chunk(num_frames, latent_pixels))
        self.frame_chunk = min(frame_chunk, own)
        if ranks.half is not None and not guided:
            raise ValueError("guidance over processes needs a guidance scale other than 1, of a model that takes one")
        if guided and guidance_rescale > 0:
            raise ValueError(
                "a video can't be split over processes with guidance_rescale, which looks at all frames at once; set "
                "it to 0"
            )
        config = shift_of(unet)
        self._ends = ranks.ends(ring=config is not None and config.padding == "circular")

    @property
    def frames_in_calls(self) -> tuple[int, int]:
        """Frames in one call of the U-Net, and of all its calls in this process."""
        return self.frame_chunk, self.frames.stop - self.frames.start

    def denoise(
        self,
        unet: nn.Module,
        latents: Tensor,
        timesteps: Tensor,
        text: TextCondition,
        guidance_scale: float | Tensor | None = None,
        frame_chunk: int | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
    ) -> Tensor:
        """:func:`latentshift.models.denoiser.denoise` of this process's frames; with guidance over ranks, of its half.

        Args:
            unet: as there.
            latents: (B, f, C, h, w), with guidance over ranks those for what to avoid and then those for the prompts.
            timesteps: as there, one for all videos, or one for each of these frames.
            text: as there, with pictures of all F frames.
            guidance_scale: as there.
            frame_chunk: not used.
            cross_attention_kwargs: as there.
        """
        half = self._ranks.half
        if half is not None:
            latents, text = latents.chunk(2)[half], self._halves_of(text)[half]
        own = denoise(
            unet,
            latents,
            timesteps,
            text.of_some_frames(self.frames),
            guidance_scale,
            self.frame_chunk,
            cross_attention_kwargs,
            ends=self._ends,
        )
        if half is None:
            return own
        other = self._ranks.exchange_predictions(own)
        return torch.cat([other, own] if half else [own, other])

    def sample(
        self,
        denoiser: PromptedDenoiser,
        scheduler: Any,
        latents: Tensor,
        generators: Sequence[torch.Generator],
        *,
        eta: float = 0.0,
        noise_share: float = 0.0,
        known: KnownFrames | None = None,
        first_step: int | None = None,
        on_step: StepCallback | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Tensor:
        """:func:`latentshift.diffusion.sampling.sample` of this process's frames.

        Noise that frames share is mixed over all of them before it is split; steps are linear where there is any, so
        the scheduler can work on the latents themselves.

        Args:
            denoiser: as there, for this process's frames.
            scheduler: as there.
            latents: (B, F, C, h, w), as there: all frames.
            generators: as there; the same in all processes.
            eta: as there.
            noise_share: as there.
            known: as there, of all frames.
            first_step: as there.
            on_step: as there, with this process's frames.
            stop: as there, the same in all processes.

        Returns:
            (B, f, C, h, w).

        Raises:
            ValueError: if processes have been given something else, or for a scheduler that looks at whole videos.
        """
        if scheduler.config.get("thresholding"):
            raise ValueError(
                "a video can't be split over processes with the scheduler's thresholding, which looks at all frames at "
                "once; set it to false in the scheduler's configuration"
            )
        settings = sorted(effective_settings(scheduler).items())
        given = {
            "noise": [latents, *(each.get_state() for each in generators)],
            "sampler": [type(scheduler).__name__, settings, scheduler.timesteps, first_step, eta, noise_share],
            "known frames": None if known is None else [known.latents, list(known.strengths), known.clean],
        }
        self._ranks.check_agreement({**self._facts, **given})
        if known is not None:
            self._check_known(known)
            own = known.latents[:, self.frames], known.strengths[self.frames]
            known = replace(known, latents=own[0], strengths=own[1])
        return sample(
            denoiser,
            WholeClipNoise(scheduler, self.frames, self._num_frames, noise_share),
            mix_noise(latents, noise_share)[:, self.frames],
            generators,
            eta=eta,
            known=known,
            first_step=first_step,
            on_step=on_step,
            stop=stop,
        )

    def gather(self, frames: Any) -> Any:
        """The frames of all processes in the first one, in the form of these: an output of the pipeline; else None."""
        if isinstance(frames, Tensor):
            gathered = self._ranks.gather(frames, self._num_frames)
            return None if gathered is None else gathered.to(frames.device)
        if isinstance(frames, np.ndarray):
            gathered = self._ranks.gather(torch.from_numpy(frames), self._num_frames)
            return None if gathered is None else gathered.numpy()
        from PIL import Image

        own = torch.from_numpy(np.stack([[np.asarray(frame) for frame in video] for video in frames]))
        gathered = self._ranks.gather(own, self._num_frames)
        if gathered is None:
            return None
        return [[Image.fromarray(frame) for frame in video] for video in gathered.numpy()]

    def _check_known(self, known: KnownFrames) -> None:
        """Refuse a process that has known frames only, whose timesteps don't tell when there is guidance."""
        if self._guidance_interval is None or not known.clean:
            return
        for number, frames in enumerate(split_frames(self._num_frames, self._ranks.parts)):
            if all(strength > 0 for strength in known.strengths[frames]):
                raise ValueError(
                    f"guidance_interval can't be used where all frames of a process are keyframes, as those of part "
                    f"{number + 1} of {self._ranks.parts} are: start fewer processes, or leave it out"
                )

    def _halves_of(self, text: TextCondition) -> tuple[TextCondition, TextCondition]:
        # The very same tensors in each step, by which the projected text is kept.
        if id(text) not in self._halves:
            avoided, wanted = text.chunk(2)
            self._halves[id(text)] = avoided, wanted
        return self._halves[id(text)]
