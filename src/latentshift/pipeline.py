"""Text to video, or to an image, as a diffusers pipeline: ``LatentShiftPipeline``.

Legend of shapes: P prompts, B videos, F frames, C latent channels, h × w latent pixels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.utils import BaseOutput
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from latentshift.diffusion.fewer_operations import FewerOperations, check_guidance_interval
from latentshift.diffusion.guidance import check_rescale, with_guidance
from latentshift.diffusion.samplers import check_eta, check_linear, check_sampling, check_scheduler, set_timesteps
from latentshift.diffusion.sampling import initial_noise, sample, video_generators
from latentshift.exclusive import one_call_at_a_time
from latentshift.frame_parallel.pipeline import FrameParallelMixin
from latentshift.model_paths import resolve_model
from latentshift.models.acceleration import AccelerateMixin
from latentshift.models.adapters.ip_adapter import adapter_layers, read_adapter_pictures, with_pictures
from latentshift.models.adapters.loaders import LoaderMixin
from latentshift.models.autoencoder import decode_videos
from latentshift.models.conditioning.prompts import Prompts, scaled_lora
from latentshift.models.conditioning.text import TextEncoders, check_token_ids
from latentshift.models.conditioning.text_projection import drop_projected_text, project_text_once
from latentshift.models.decoded_frames import FrameDecoder, check_finite
from latentshift.models.decoded_frames import NotFiniteError as NotFiniteError
from latentshift.models.deep_cache import open_deep_cache
from latentshift.models.denoiser import (
    check_frame_chunk,
    default_frame_chunk,
    denoise,
    is_guidance_distilled,
    share_text,
    wants_sizes,
)
from latentshift.models.extension import ExtensionMixin
from latentshift.models.keyframes import read_keyframes
from latentshift.models.latent_vdm import TemporalAttention, attention_of, install_attention, remove_attention
from latentshift.models.source_video import read_source_video, source_length
from latentshift.models.storage.base_settings import check_components
from latentshift.models.storage.model_config import check_pipeline_settings
from latentshift.models.storage.pretrained import PretrainedPipeline
from latentshift.progress import status
from latentshift.renamed import warn_renamed
from latentshift.settings import (
    METHODS,
    STEPS,
    ShiftConfig,
    check_frame_size,
    check_guidance,
    check_output_type,
    check_steps,
    default_chunk,
    method_name,
)
from latentshift.shift import install, remove, shift_of

if TYPE_CHECKING:
    from latentshift.frame_parallel.share import FrameShare


@dataclass
class LatentShiftPipelineOutput(BaseOutput):
    """The output of the pipeline.

    Attributes:
        frames: by ``output_type``: ``"pil"`` a list of B lists of F images; ``"np"`` (B, F, H, W, 3) float32 in [0, 1];
            ``"pt"`` (B, F, 3, H, W) in [0, 1]; ``"latent"`` (B, F, C, h, w) float32, scaled.
    """

    frames: Any


class LatentShiftPipeline(
    PretrainedPipeline, LoaderMixin, ExtensionMixin, AccelerateMixin, FrameParallelMixin, FrameDecoder
):
    """Text-to-video generation with an image latent diffusion model and the temporal shift (Latent-Shift, Sec. 3.3).

    Args:
        vae: the frame-wise autoencoder.
        text_encoder: LDM-BERT (the paper's) or CLIP.
        tokenizer: of the text encoder.
        text_encoder_2: SDXL's second one, a CLIP with projection.
        tokenizer_2: of the second text encoder.
        unet: a stock U-Net; the shift is installed on it here.
        scheduler: a diffusers scheduler (:data:`latentshift.diffusion.samplers.KNOWN_SCHEDULERS`); ``from_pretrained``
            of an image pipeline gives it the paper's DDPM.
        temporal: layers of the paper's baseline, Latent-VDM, also installed on the U-Net; usually with
            ``shift=None``.
        image_encoder: a CLIP for IP-Adapters' pictures (:meth:`load_ip_adapter` loads one).
        feature_extractor: its image processor.
        shift: settings of the temporal shift, :class:`latentshift.settings.ShiftConfig` as a dict, the paper's by
            default; None for no shift: without temporal layers, frames are then independent images.
        num_frames: default number of frames of a video.
        fps: frame rate that the model was trained at, used when writing videos.
        guidance_scale: default scale of classifier-free guidance; 7.5 in the paper (Table 6).
        num_inference_steps: default number of steps, chosen with the scheduler; 100 of DDPM in the paper (Table 6).
        noise_share: a ≥ 0 of the noise that frames share (:mod:`latentshift.diffusion.shared_noise`), as the model was
            trained; 0, the paper's: each frame has its own.
        force_zeros_for_empty_prompt: use all zeros instead of the empty sentence's embedding if there is no negative
            prompt, as SDXL was trained.

    Raises:
        ValueError: for a component with an unsupported setting (:mod:`latentshift.models.storage.base_settings`).
    """

    model_cpu_offload_seq = "text_encoder->text_encoder_2->image_encoder->unet->vae"
    _optional_components = [  # noqa: RUF012  (as diffusers declares it)
        *("text_encoder_2", "tokenizer_2", "temporal", "image_encoder", "feature_extractor")
    ]
    _exclude_from_cpu_offload = ["temporal"]  # noqa: RUF012  (its layers are called individually by the U-Net)
    _callback_tensor_inputs = ["latents"]  # noqa: RUF012  (as diffusers declares it)
    _num_timesteps = 0
    _interrupt = False

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        unet: UNet2DConditionModel,
        scheduler: Any,
        text_encoder_2: nn.Module | None = None,
        tokenizer_2: PreTrainedTokenizerBase | None = None,
        temporal: TemporalAttention | None = None,
        image_encoder: Any | None = None,
        feature_extractor: Any | None = None,
        shift: dict[str, Any] | None = ShiftConfig().to_dict(),
        num_frames: int = 16,
        fps: int = 8,
        guidance_scale: float = 7.5,
        num_inference_steps: int = STEPS,
        noise_share: float = 0.0,
        force_zeros_for_empty_prompt: bool = False,
    ) -> None:
        super().__init__()
        encoders = {"text_encoder": text_encoder, "text_encoder_2": text_encoder_2}
        check_components({"vae": vae, "unet": unet, "scheduler": scheduler, **encoders})
        check_pipeline_settings(
            num_frames=num_frames,
            fps=fps,
            guidance_scale=guidance_scale,
            num_inference_steps=num_inference_steps,
            noise_share=noise_share,
            force_zeros_for_empty_prompt=force_zeros_for_empty_prompt,
            shift=shift,
        )
        check_linear(scheduler, noise_share)
        for name, each, encoder in (
            ("tokenizer", tokenizer, text_encoder),
            ("tokenizer_2", tokenizer_2, text_encoder_2),
        ):
            if each is not None and encoder is not None:
                check_token_ids(each, encoder, name)
        self.register_modules(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler)
        self.register_modules(text_encoder_2=text_encoder_2, tokenizer_2=tokenizer_2)
        self.register_modules(image_encoder=image_encoder, feature_extractor=feature_extractor)
        self.register_to_config(num_frames=num_frames, fps=fps, guidance_scale=guidance_scale)
        self.register_to_config(num_inference_steps=num_inference_steps)
        self.register_to_config(force_zeros_for_empty_prompt=force_zeros_for_empty_prompt)
        share_text(unet)
        self.set_temporal(temporal)
        self.set_shift(shift)
        self.set_noise_share(noise_share)

    @property
    def method(self) -> str:
        """The temporal method: one of ``METHODS``, or ``"latent-shift and latent-vdm"``."""
        return method_name(shift=self.config.shift is not None, attention=self.temporal is not None)

    @property
    def temporal_parameters(self) -> int:
        """The number of parameters added to the image model: none with the shift."""
        with torch.device("meta"):
            image_model = type(self.unet).from_config(self.unet.config)
        models = (self.unet, image_model, self.temporal)
        video, image, beside = (
            0 if each is None else sum(value.numel() for value in each.parameters()) for each in models
        )
        return video - image + beside

    def set_method(self, method: str) -> None:
        """Switch to the paper's method, its baseline, or independent frames.

        Existing shift settings and temporal layers are kept; otherwise the shift has the paper's settings, and temporal
        layers are new and untrained, and change nothing yet.

        Args:
            method: one of ``METHODS``.

        Raises:
            ValueError: for an unknown method, or if it can't be installed on the U-Net.
        """
        if method not in METHODS:
            raise ValueError(f"unknown method {method!r}: choose from {', '.join(METHODS)}")
        temporal = None
        if method == "latent-vdm":
            temporal = self.temporal or TemporalAttention.for_unet(self.unet)
        self.set_temporal(temporal)
        self.set_shift((self.config.shift or {}) if method == "latent-shift" else None)

    def set_temporal(self, temporal: TemporalAttention | None) -> None:
        """Replace the temporal layers, or remove them (None).

        Raises:
            ValueError: if the layers do not fit the U-Net; nothing is changed then.
        """
        installed = attention_of(self.unet)
        if installed is not None:
            remove_attention(self.unet)
        try:
            if temporal is not None:
                install_attention(self.unet, temporal)
        except ValueError:
            if installed is not None:
                install_attention(self.unet, installed)
            raise
        self.register_modules(temporal=temporal)

    def set_shift(self, shift: dict[str, Any] | None) -> None:
        """Install the temporal shift with new settings, or remove it (None); weights are not changed.

        Args:
            shift: fields of :class:`latentshift.settings.ShiftConfig`, e.g. ``{"padding": "circular"}`` for loops.

        Raises:
            ValueError: for invalid settings.
        """
        config = None if shift is None else ShiftConfig.from_dict(shift)
        installed = shift_of(self.unet)
        if installed is not None:
            remove(self.unet)
        try:
            if config is not None:
                install(self.unet, config)
        except ValueError:
            if installed is not None:
                install(self.unet, installed)
            raise
        self.register_to_config(shift=None if config is None else config.to_dict())

    def set_noise_share(self, noise_share: float) -> None:
        """Change how much of the noise frames share, from the next call on; weights are not changed.

        Args:
            noise_share: a ≥ 0: neighbouring frames' noise has the correlation a² / (1 + a²). A model is to be sampled
                as it was trained.

        Raises:
            ValueError: if it is negative or not finite, or the scheduler clips the predicted latents.
        """
        check_pipeline_settings(noise_share=noise_share)
        check_linear(self.scheduler, noise_share)
        self.register_to_config(noise_share=noise_share)

    @property
    def text_encoders(self) -> TextEncoders:
        """All text encoders and tokenizers as one module."""
        pairs = [(self.text_encoder, self.tokenizer), (self.text_encoder_2, self.tokenizer_2)]
        encoders, tokenizers = zip(*(pair for pair in pairs if pair[0] is not None), strict=True)
        return TextEncoders(encoders, tokenizers, zero_empty=self.config.force_zeros_for_empty_prompt)

    @property
    def sentences(self) -> TextEncoders:
        """The old name of ``text_encoders``."""
        warn_renamed("LatentShiftPipeline.sentences", "LatentShiftPipeline.text_encoders")
        return self.text_encoders

    @property
    def vae_scale_factor(self) -> int:
        """Downsampling factor of the autoencoder."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def sample_size(self) -> int:
        """Side of the frames, in pixels, that the U-Net was trained for."""
        return int(self.unet.config.sample_size * self.vae_scale_factor)

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
            deep_cache_interval: N ≥ 2: the whole U-Net in every N-th step alone, and deep features from there in the
                others (DeepCache, Ma et al. 2024), which are other videos (docs/speed.md); None: in all steps.
            deep_cache_branch: how much of the U-Net is called in the others: b layers of its first level and b + 1 of
                its last, 0 … the number of layers of a level.

        Raises:
            ValueError: for an invalid argument; the message names it.
            NotFiniteError: if the model's output is not finite.
            RuntimeError: if another call of this pipeline, or of one with the same scheduler, is running.
        """
        # 1. Check the inputs and fill in defaults
        self._interrupt = False
        prompts = Prompts.of(
            prompt,
            negative_prompt,
            prompt_embeds,
            pooled_prompt_embeds,
            negative_prompt_embeds,
            negative_pooled_prompt_embeds,
        )
        if num_frames is None:
            num_frames = source_length(video, len(prompts), self.unet.config.in_channels)
        num_frames = self.config.num_frames if num_frames is None else num_frames
        height = self.sample_size if height is None else height
        width = self.sample_size if width is None else width
        guidance_scale = self.config.guidance_scale if guidance_scale is None else guidance_scale
        num_inference_steps = self.config.num_inference_steps if num_inference_steps is None else num_inference_steps
        self.check_inputs(
            num_frames,
            height,
            width,
            num_inference_steps,
            guidance_scale,
            num_videos_per_prompt,
            output_type,
        )
        prompts = prompts.for_frames(num_frames, loop=(self.config.shift or {}).get("padding") == "circular")
        latent_pixels = (height // self.vae_scale_factor) * (width // self.vae_scale_factor)
        distilled = is_guidance_distilled(self.unet)
        guidance = 1.0 if distilled else guidance_scale
        prompts.check_negative(guidance_scale, distilled=distilled)
        check_rescale(guidance_rescale, guidance)
        check_eta(self.scheduler, eta)
        given = {"ip_adapter_image": ip_adapter_image, "ip_adapter_image_embeds": ip_adapter_image_embeds}
        pictures = read_adapter_pictures(self, given, len(prompts), num_frames)
        if pictures is None and adapter_layers(self.unet) is not None:
            raise ValueError("an IP-Adapter is loaded: give ip_adapter_image, or call unload_ip_adapter")
        counts = len(prompts), num_videos_per_prompt, num_frames
        keys = read_keyframes(self, keyframes, keyframe_strength, keyframe_input, *counts, height, width)
        source = read_source_video(self, video, strength, *counts, height, width)
        attention = dict(cross_attention_kwargs or {})
        lora_scale = float(attention.pop("scale", 1.0))
        if decode_chunk_size is None:
            decode_chunk_size = frame_chunk or default_chunk(num_frames, latent_pixels)
        elif decode_chunk_size < 1:
            raise ValueError(f"decode_chunk_size must be 1 or more, or None, not {decode_chunk_size}")
        sdxl_sizes = (original_size, crops_coords_top_left, target_size)
        share = self._frame_share(
            num_frames,
            latent_pixels,
            frame_chunk,
            guidance_scale,
            guidance_rescale,
            guidance_interval,
            {
                "prompts": [*vars(prompts).values(), clip_skip, sdxl_sizes],
                "attention": [cross_attention_kwargs, pictures],
            },
        )
        if frame_chunk is None:
            frame_chunk = default_frame_chunk(self.unet, num_frames, latent_pixels)
        check_frame_chunk(self.unet, frame_chunk, num_frames)
        fewer = FewerOperations(guidance_interval, deep_cache_interval, deep_cache_branch)
        deep_cache = open_deep_cache(self, fewer, guided=guidance != 1.0)
        if isinstance(callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        if unknown := sorted(set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs)):
            known = ", ".join(self._callback_tensor_inputs)
            raise ValueError(f"a callback can have the tensors {known}, not {', '.join(unknown)}")
        if any(each is not None for each in sdxl_sizes) and not wants_sizes(self.unet):
            raise ValueError(
                "original_size, crops_coords_top_left and target_size are for SDXL only; this model does not take them"
            )
        size = (height, width)
        sizes = (*(original_size or size), *(crops_coords_top_left or (0, 0)), *(target_size or size))
        count = len(prompts) * num_videos_per_prompt
        device = self._execution_device
        dtype = self.unet.dtype

        # 2. Encode each sentence once
        conditions = prompts.encode(self.text_encoders, device, clip_skip, lora_scale, guided=guidance != 1.0)
        if pictures is not None:
            conditions = with_pictures(self, *conditions, *pictures, device, guided=guidance != 1.0)
        text, negative = (each.to(device, dtype).repeat(num_videos_per_prompt).with_sizes(sizes) for each in conditions)

        # 3. Initial noise, one random stream for each video, or a video with noise on it
        generators = video_generators(generator, count)
        scale = self.vae_scale_factor
        shape = (num_frames, self.unet.config.in_channels, height // scale, width // scale)
        if latents is None:
            latents = initial_noise(shape, generators, device)
        elif tuple(latents.shape) != (count, *shape):
            raise ValueError(f"latents must have the shape {(count, *shape)}, not {tuple(latents.shape)}")
        set_timesteps(self.scheduler, num_inference_steps, timesteps, sigmas, device)
        latents = latents.to(device, torch.float32)
        known_frames = None if keys is None else keys.encode(self.vae, device)
        first_step = None
        if source is None:
            latents = latents * self.scheduler.init_noise_sigma
        else:
            latents, first_step = source.start(self, latents, known_frames, decode_chunk_size)
        self._num_timesteps = len(self.scheduler.timesteps) - (first_step or 0)
        if fewer.guidance_interval is not None:
            check_guidance_interval(fewer.guidance_interval, self.scheduler.timesteps[first_step or 0 :].tolist())

        # 4. Denoise. The sampler works in float32, so that the noise of a seed is the same whatever the U-Net's dtype.
        # On the CPU one video at a time: no slower there, and results do not depend on the batch
        denoise_frames, sample_frames = (denoise, sample) if share is None else (share.denoise, share.sample)
        denoiser = with_guidance(
            lambda noisy, timestep, context: denoise_frames(
                self.unet,
                noisy.to(dtype),
                timestep,
                context,
                guidance_scale,
                frame_chunk,
                attention,
                **({} if deep_cache is None else {"cached": deep_cache.of(context)}),
            ).float(),
            text,
            negative,
            guidance,
            videos_per_call=1 if device.type == "cpu" else None,
            rescale=guidance_rescale,
            interval=fewer.guidance_interval,
        )
        if deep_cache is not None:
            denoiser = deep_cache.each_step(denoiser)
        with (
            nullcontext() if deep_cache is None else deep_cache.active(),
            self.progress_bar(total=self._num_timesteps) as bar,
            scaled_lora(self.unet, lora_scale),
            project_text_once(),
        ):

            def on_step(step: int, timestep: Tensor, latents: Tensor) -> Tensor:
                bar.update()
                if callback_on_step_end is None:
                    return latents
                wanted = dict.fromkeys(callback_on_step_end_tensor_inputs, latents)
                replaced = callback_on_step_end(self, step, timestep, wanted) or {}
                drop_projected_text()
                return replaced.get("latents", latents)

            latents = sample_frames(
                denoiser,
                self.scheduler,
                latents,
                generators,
                eta=eta,
                noise_share=self.config.noise_share,
                known=known_frames,
                first_step=first_step,
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

    def decode(self, latents: Tensor, decode_chunk_size: int | None = None) -> Tensor:
        """Decode scaled latents (B, F, C, h, w) to frames (B, F, 3, H, W) in [-1, 1], one video at a time.

        Raises:
            NotFiniteError: if the autoencoder's output is not finite.
        """
        upcast = wants_sizes(self.unet) and self.vae.config.force_upcast  # SDXL's
        frames = decode_videos(self.vae, latents, decode_chunk_size, upcast=upcast)
        check_finite(frames, "autoencoder")  # after clamping, infinite values would look white
        return frames.clamp(-1, 1)

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
        model: as for :func:`latentshift.model_paths.resolve_model`: ``bundled``, a folder, a run, or a hub id.
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


def check_sampling_arguments(
    scheduler: Any,
    noise_share: float,
    num_frames: int,
    num_inference_steps: int,
    guidance_scale: float,
    output_type: str,
) -> None:
    """Raise a ValueError for arguments of a call that are wrong whatever runs the model, PyTorch or an export."""
    if num_frames < 1:
        raise ValueError(f"num_frames must be 1 or more, not {num_frames}")
    check_scheduler(type(scheduler).__name__, scheduler.config)
    check_sampling(scheduler, noise_share if num_frames > 1 else 0.0)
    check_steps(num_inference_steps, scheduler.config)
    check_guidance(guidance_scale)
    check_output_type(output_type)
