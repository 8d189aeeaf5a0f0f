"""Text to video, or to an image, as a diffusers pipeline: ``LatentShiftPipeline``.

Legend of shapes: P prompts, B videos, F frames, C latent channels, h × w latent pixels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from latentshift.diffusion.fewer_operations import FewerOperations, check_guidance_interval
from latentshift.diffusion.guidance import check_rescale
from latentshift.diffusion.sampling import sample, video_generators
from latentshift.diffusion.schedulers import check_eta, set_timesteps
from latentshift.frame_parallel.pipeline import FrameParallelMixin
from latentshift.models.acceleration import AccelerateMixin
from latentshift.models.adapters.ip_adapter import read_adapter_pictures, with_pictures
from latentshift.models.adapters.joint_projections import check_adapters_act
from latentshift.models.adapters.loaders import LoaderMixin
from latentshift.models.call.arguments import (
    check_sampling_arguments,
    read_decode_chunk,
    read_noise,
    whole_numbers,
)
from latentshift.models.call.exclusive import one_call_at_a_time
from latentshift.models.call.extension import ExtensionMixin
from latentshift.models.call.guided_denoiser import guided_denoiser
from latentshift.models.call.keyframes import read_keyframes
from latentshift.models.call.sampling_start import start_sampling
from latentshift.models.call.source_video import read_source_video, source_length
from latentshift.models.call.step_end_callback import StepEndCallback
from latentshift.models.conditioning.image_sizes import read_image_sizes
from latentshift.models.conditioning.prompts import Prompts, scaled_lora
from latentshift.models.conditioning.text_projection import project_text_once
from latentshift.models.decoded_frames import FrameDecoder
from latentshift.models.decoded_frames import LatentShiftPipelineOutput as LatentShiftPipelineOutput
from latentshift.models.decoded_frames import NotFiniteError as NotFiniteError
from latentshift.models.deep_cache import open_deep_cache
from latentshift.models.denoiser import (
    check_frame_chunk,
    default_frame_chunk,
    denoise,
    is_guidance_distilled,
)
from latentshift.models.skip_offload import offloaded_skips
from latentshift.models.storage.model_paths import resolve_model
from latentshift.models.storage.pretrained import PretrainedPipeline
from latentshift.progress import status
from latentshift.settings import check_frame_size, check_skip_offload
from latentshift.user_input.argument_types import checked_types

if TYPE_CHECKING:
    from latentshift.frame_parallel.share import FrameShare


class LatentShiftPipeline(
    PretrainedPipeline, LoaderMixin, ExtensionMixin, AccelerateMixin, FrameParallelMixin, FrameDecoder
):
    """Text-to-video generation with an image latent diffusion model and the temporal shift (Latent-Shift, Sec. 3.3).

    Its components and settings are those of :class:`latentshift.models.video_components.VideoComponents`.
    """

    _callback_tensor_inputs = ["latents"]  # noqa: RUF012  (as diffusers declares it)
    _num_timesteps = 0
    _interrupt = False

    @property
    def num_timesteps(self) -> int:
        """Number of steps of the current or last call; for callbacks."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Whether the current call stops denoising: a callback sets ``pipeline._interrupt = True``, as in diffusers.

        The latents so far are decoded and returned. The next call resets it.
        """
        return self._interrupt

    @torch.no_grad()
    @checked_types
    @one_call_at_a_time
    def __call__(
        self,
        prompt: str | Mapping[int, str] | Sequence[str | Mapping[int, str]] | None = None,
        *,
        negative_prompt: str | Mapping[int, str] | Sequence[str | Mapping[int, str] | None] | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        pooled_prompt_embeds: Tensor | None = None,
        negative_pooled_prompt_embeds: Tensor | None = None,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        timesteps: Sequence[int] | np.ndarray | None = None,
        sigmas: Sequence[float] | np.ndarray | None = None,
        guidance_scale: float | None = None,
        guidance_rescale: float = 0.0,
        guidance_interval: tuple[float, float] | None = None,
        num_videos_per_prompt: int = 1,
        clip_skip: int | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        ip_adapter_image: Any | None = None,
        ip_adapter_image_embeds: list[Any] | None = None,
        keyframes: Mapping[int, Any] | None = None,
        keyframe_strength: float | Mapping[int, float] = 1.0,
        keyframe_input: str = "clean",
        video: Any | None = None,
        strength: float | None = None,
        eta: float = 0.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        original_size: tuple[int, int] | None = None,
        crops_coords_top_left: tuple[int, int] | None = None,
        target_size: tuple[int, int] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[[Any, int, Any, dict[str, Tensor]], dict[str, Tensor]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        decode_chunk_size: int | None = None,
        frame_chunk: int | None = None,
        offload_skips: bool = False,
        deep_cache_interval: int | None = None,
        deep_cache_branch: int = 0,
    ) -> LatentShiftPipelineOutput | tuple[Any]:
        """Generate videos, or images with ``num_frames=1``.

        Videos are ordered by prompt; each depends on its own prompt and generator alone. On the CPU in float32 it
        equals the video generated on its own bit for bit, elsewhere within rounding.

        Args:
            prompt: a sentence or a list of P; None if ``prompt_embeds`` are given. In place of a sentence, a dict
                frame -> sentence changes it over the video, negative frames from the end: embeddings are mixed linearly
                in the frames between (docs/more-than-text.md).
            negative_prompt: what to avoid, likewise; one for all, or one for each prompt. None: the empty sentence, or
                zeros with ``force_zeros_for_empty_prompt``. Refused with guidance off, where it would have no effect.
            prompt_embeds: (P, L, D) of the text encoders, in place of ``prompt``; or (P, F, L, D), of each frame.
            negative_prompt_embeds: likewise, in place of ``negative_prompt``; with guidance both have the same L.
            pooled_prompt_embeds: SDXL's (P, W) or (P, F, W), with ``prompt_embeds``.
            negative_pooled_prompt_embeds: likewise, with ``negative_prompt_embeds``.
            num_frames: F ≥ 1; None: those of ``video`` if it is a clip, or the model's default.
            height: of the frames in pixels, a multiple of :attr:`vae_scale_factor`; None: the model's default.
            width: of the frames, likewise.
            num_inference_steps: steps of the sampler, 1 … T; None: the model's default.
            timesteps: descending, 0 … T-1, for schedulers that take them, in place of ``num_inference_steps``.
            sigmas: descending, likewise; as the scheduler takes them, Euler's with a 0 at the end.
            guidance_scale: s ≥ 0 of classifier-free guidance; 1 turns it off, 0 follows the negative prompt
                alone. None: the model's default, 7.5 in the paper. A guidance-distilled U-Net (``time_cond_proj_dim``)
                takes it as an input instead, and no negative prompt.
            guidance_rescale: φ in [0, 1] (Lin et al. 2024, Sec. 3.4): how far guidance is scaled back to the standard
                deviation of the prediction for the prompt, over all frames of a video.
            guidance_interval: (low, high): guidance at timesteps low ≤ t ≤ high alone (Kynkäänniemi et al. 2024), and
                half of the work at the others; None: at all.
            num_videos_per_prompt: B = P times this.
            clip_skip: layers of CLIP that are left out at its end, for ``prompt`` alone, as in image pipelines.
            cross_attention_kwargs: for the attention processors; ``{"scale": s}`` scales the LoRAs of the U-Net and the
                text encoders.
            ip_adapter_image: PIL images for the loaded IP-Adapters: one picture for all frames, a clip of F, or P of
                either; with several adapters, a list of that for each.
            ip_adapter_image_embeds: for each adapter (2, n, d), of what to avoid and the picture, or with frames
                (F, 2, n, d) or (P, F, 2, n, d); without guidance 1 in place of 2.
            keyframes: number of a frame, negative from the end -> what it is to show: a picture of the frames' size (a
                PIL image, an array (H, W, 3) in [0, 1] or a tensor (3, H, W)), latents (C, h, w) as
                ``output_type="latent"`` returns them; or a list of P or B of either, one a prompt or one a video
                (docs/keyframes.md).
            keyframe_strength: in [0, 1], the share of the steps, from the first on, in which keyframes are held: 1 for
                their very latents in the result; one for all, or frame -> strength.
            keyframe_input: how the U-Net sees keyframes: ``"clean"``, at a timestep of their own, 0; or ``"noisy"``, as
                noisy as the other frames.
            video: to start from in place of noise: a clip of F pictures, one picture for all frames, or P of either, as
                PIL images, arrays (F, H, W, 3) in [0, 1] or tensors (F, 3, H, W); or latents (P, F, C, h, w). Pictures
                of another size are resized to cover the frame, and cropped about the centre.
            strength: in [0, 1], the share of the steps that change the video, which are the last int(n · strength) of
                n: 0 gives it back through the autoencoder, and 1 keeps next to nothing of it; None: 0.8.
            eta: DDIM's η in [0, 1], for schedulers that have it; refused by others unless it is 0.
            generator: one, or one for each video (see :func:`latentshift.diffusion.sampling.video_generators`).
            latents: independent standard normal noise (B, F, C, h, w) to start from, which is mixed between frames if
                they share noise; None: drawn from the generators.
            original_size: SDXL's condition on the original height and width in pixels; None: those of the frames.
            crops_coords_top_left: SDXL's condition on the crop's (top, left) in pixels; None: (0, 0).
            target_size: SDXL's condition on the target height and width in pixels; None: those of the frames.
            output_type: ``"pil"``, ``"np"``, ``"pt"`` or ``"latent"``.
            return_dict: False returns a plain tuple.
            callback_on_step_end: ``f(pipeline, step, timestep, {"latents": …})``, or one of diffusers' callbacks; a
                returned dict replaces them. Also where frames share noise these are the frames' latents.
                ``pipeline._interrupt = True`` stops denoising.
            callback_on_step_end_tensor_inputs: names of tensors for the callback; only ``"latents"`` is available.
            decode_chunk_size: frames decoded at a time; None: as ``frame_chunk``, or as its default.
            frame_chunk: frames of a video that are in one call of the U-Net, 1 … F. Results are the same but for
                rounding, and memory does not grow with F (docs/memory.md). None: see
                :func:`latentshift.models.denoiser.default_frame_chunk`.
            offload_skips: whether skip connections of chunks of frames wait in CPU memory, which is slower and takes
                less of the accelerator's (docs/memory.md); refused where it has no effect.
            deep_cache_interval: N ≥ 2: the whole U-Net in every N-th step alone, and deep features from there in the
                others (DeepCache, Ma et al. 2024), which are other videos (docs/speed.md); None: in all steps.
            deep_cache_branch: how much of the U-Net is called in the others: b layers of its first level and b + 1 of
                its last, 0 … the number of layers of a level.

        Raises:
            ValueError: for an invalid argument; the message names it. Or if a callback replaces the U-Net.
            NotFiniteError: if the model's output is not finite.
            RuntimeError: if another call of this pipeline, or of one with the same scheduler, is running.
        """
        # 1. Check the arguments and fill in defaults
        self._interrupt = False
        embeds = prompt_embeds, pooled_prompt_embeds, negative_prompt_embeds, negative_pooled_prompt_embeds
        prompts = Prompts.of(prompt, negative_prompt, *embeds)
        if num_frames is None:
            num_frames = source_length(video, len(prompts), self.unet.config.in_channels)
        num_frames, height, width, num_inference_steps, num_videos_per_prompt = whole_numbers(
            num_frames=self.config.num_frames if num_frames is None else num_frames,
            height=self.sample_size if height is None else height,
            width=self.sample_size if width is None else width,
            num_inference_steps=self.config.num_inference_steps if num_inference_steps is None else num_inference_steps,
            num_videos_per_prompt=num_videos_per_prompt,
        )
        guidance_scale = self.config.guidance_scale if guidance_scale is None else guidance_scale
        self.check_inputs(
            num_frames, height, width, num_inference_steps, guidance_scale, num_videos_per_prompt, output_type
        )
        scale = self.vae_scale_factor
        shape = (num_frames, self.unet.config.in_channels, height // scale, width // scale)
        latent_pixels = shape[-2] * shape[-1]
        prompts = prompts.for_frames(num_frames, loop=(self.config.shift or {}).get("padding") == "circular")
        distilled = is_guidance_distilled(self.unet)
        guided = guidance_scale != 1.0 and not distilled
        prompts.check_negative(guidance_scale, distilled=distilled)
        check_rescale(guidance_rescale, guidance_scale if guided else 1.0)
        check_eta(self.scheduler, eta)
        check_adapters_act(self.unet)  # a pipeline of the same parts may have fused them
        self.restore_lora_scales()
        given = {"ip_adapter_image": ip_adapter_image, "ip_adapter_image_embeds": ip_adapter_image_embeds}
        pictures = read_adapter_pictures(self, given, len(prompts), num_frames)
        counts = len(prompts), num_videos_per_prompt, num_frames
        keys = read_keyframes(self, keyframes, keyframe_strength, keyframe_input, *counts, height, width)
        source = read_source_video(self, video, strength, *counts, height, width)
        attention = dict(cross_attention_kwargs or {})
        lora_scale = float(attention.pop("scale", 1.0))
        decode_chunk_size = read_decode_chunk(decode_chunk_size, frame_chunk, num_frames, latent_pixels)
        sdxl_sizes = (original_size, crops_coords_top_left, target_size)
        facts = {
            "prompts": [*vars(prompts).values(), clip_skip, sdxl_sizes],
            "attention": [cross_attention_kwargs, pictures],
        }
        share = self._frame_share(
            num_frames, latent_pixels, frame_chunk, guidance_scale, guidance_rescale, guidance_interval, facts
        )
        if frame_chunk is None:
            frame_chunk = default_frame_chunk(self.unet, num_frames, latent_pixels)
        check_frame_chunk(self.unet, frame_chunk, num_frames)
        if offload_skips:
            of_this_process = (frame_chunk, num_frames) if share is None else share.frames_in_calls
            check_skip_offload(self._execution_device.type, *of_this_process)
        fewer = FewerOperations(guidance_interval, deep_cache_interval, deep_cache_branch)
        deep_cache = open_deep_cache(self, fewer, guided=guided)
        step_end = StepEndCallback(
            self, callback_on_step_end, callback_on_step_end_tensor_inputs, self._callback_tensor_inputs
        )
        sizes = read_image_sizes(self.unet, *sdxl_sizes, height, width)
        device = self._execution_device

        # 2. Encode each sentence once
        conditions = prompts.encode(self.text_encoders, device, clip_skip, lora_scale, guided=guided)
        if pictures is not None:
            conditions = with_pictures(self, *conditions, *pictures, device, guided=guided)
        text, negative = (
            each.to(device, self.unet.dtype).repeat(num_videos_per_prompt).with_sizes(sizes) for each in conditions
        )

        # 3. Initial noise, one random stream for each video, or a video with noise on it
        generators = video_generators(generator, len(prompts) * num_videos_per_prompt)
        noise = read_noise(latents, shape, generators, device)
        set_timesteps(self.scheduler, num_inference_steps, timesteps, sigmas, device)
        start = start_sampling(self, noise, keys, source, decode_chunk_size, device)
        self._num_timesteps = len(start.timesteps)
        check_guidance_interval(fewer.guidance_interval, start.timesteps.tolist())

        # 4. Denoise
        denoise_frames, sample_frames = (denoise, sample) if share is None else (share.denoise, share.sample)
        denoiser = guided_denoiser(
            self.unet,
            text,
            negative,
            guidance_scale,
            device,
            rescale=guidance_rescale,
            interval=fewer.guidance_interval,
            frame_chunk=frame_chunk,
            cross_attention_kwargs=attention,
            deep_cache=deep_cache,
            denoise_frames=denoise_frames,
        )
        with (
            nullcontext() if deep_cache is None else deep_cache.active(),
            offloaded_skips(self.unet) if offload_skips else nullcontext(),
            self.progress_bar(total=self._num_timesteps) as bar,
            scaled_lora(self.unet, lora_scale),
            project_text_once(),
        ):

            def on_step(step: int, timestep: Tensor, latents: Tensor) -> Tensor:
                bar.update()
                return step_end(step, timestep, latents)

            latents = sample_frames(
                denoiser,
                self.scheduler,
                start.latents,
                generators,
                eta=eta,
                noise_share=self.config.noise_share,
                known=start.known,
                first_step=start.first_step,
                on_step=on_step,
                stop=lambda: self.interrupt,
            )

        # 5. Decode
        return self._finish(latents, output_type, decode_chunk_size, share, return_dict=return_dict)

    def check_inputs(
        self,
        num_frames: int,
        height: int,
        width: int,
        num_inference_steps: int,
        guidance_scale: float,
        num_videos_per_prompt: int,
        output_type: str,
    ) -> None:
        """Raise a ValueError for invalid arguments of a call, apart from its prompts."""
        if num_videos_per_prompt < 1:
            raise ValueError(f"num_videos_per_prompt must be 1 or more, not {num_videos_per_prompt}")
        check_sampling_arguments(
            self.scheduler, self.config.noise_share, num_frames, num_inference_steps, guidance_scale, output_type
        )
        check_frame_size(height, width, self.vae_scale_factor, len(self.unet.config.block_out_channels))

    def _finish(
        self,
        latents: Tensor,
        output_type: str,
        decode_chunk_size: int | None,
        share: FrameShare | None = None,
        *,
        return_dict: bool,
    ) -> LatentShiftPipelineOutput | tuple[Any]:
        watched = not getattr(self, "_progress_bar_config", {}).get("disable", False)
        with status("decoding", shown=watched and output_type != "latent"):
            frames = self._gathered(self._frames_of(latents, output_type, decode_chunk_size), share)
        self.maybe_free_model_hooks()
        return LatentShiftPipelineOutput(frames=frames) if return_dict else (frames,)


def open_pipeline(model: str, **kwargs: Any) -> LatentShiftPipeline:
    """Load a pipeline by the name a user gives; any failure becomes one sentence.

    Args:
        model: as for :func:`latentshift.models.storage.model_paths.resolve_model`: ``bundled``, a folder, a run, or a
            hub id.
        **kwargs: as for :meth:`LatentShiftPipeline.from_pretrained`.

    Raises:
        ValueError: if it can't be loaded.
    """
    from latentshift.models.storage.load_pipeline import errors_as_one_sentence

    path = resolve_model(model)
    if Path(path).is_dir():
        kwargs.setdefault("local_files_only", True)
    with errors_as_one_sentence(model, path):
        return LatentShiftPipeline.from_pretrained(path, **kwargs)
