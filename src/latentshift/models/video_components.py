"""What a video pipeline is made of: its components and settings, the temporal method, and text encoders as one.

Knows nothing of a call, nor of how components are loaded and saved.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from latentshift.diffusion.schedulers import check_linear
from latentshift.imports.renamed import warn_renamed
from latentshift.models.autoencoder import decode_videos
from latentshift.models.conditioning.prompts import Prompts
from latentshift.models.conditioning.text import TextEncoders, check_token_ids
from latentshift.models.decoded_frames import check_finite
from latentshift.models.denoiser import share_text, wants_sizes
from latentshift.models.latent_vdm import TemporalAttention, attention_of, install_attention, remove_attention
from latentshift.models.storage.base_settings import check_components
from latentshift.models.storage.model_config import check_pipeline_settings
from latentshift.settings import METHODS, STEPS, ShiftConfig, method_name
from latentshift.shift import install, remove, shift_of


class VideoComponents(DiffusionPipeline):
    """Components of ``LatentShiftPipeline``, and its settings, some of which change between calls."""

    model_cpu_offload_seq = "text_encoder->text_encoder_2->image_encoder->unet->vae"
    _optional_components = [  # noqa: RUF012  (as diffusers declares it)
        *("text_encoder_2", "tokenizer_2", "temporal", "image_encoder", "feature_extractor")
    ]
    _exclude_from_cpu_offload = ["temporal"]  # noqa: RUF012  (its layers are called individually by the U-Net)

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
        """Put a pipeline together; ``from_pretrained`` and its like do that with what they load.

        Args:
            vae: the frame-wise autoencoder.
            text_encoder: LDM-BERT (the paper's) or CLIP.
            tokenizer: of the text encoder.
            text_encoder_2: SDXL's second one, a CLIP with projection.
            tokenizer_2: of the second text encoder.
            unet: a stock U-Net; the shift is installed on it here.
            scheduler: a diffusers scheduler (:data:`latentshift.diffusion.schedulers.KNOWN_SCHEDULERS`);
                ``from_pretrained`` of an image pipeline gives it the paper's DDPM.
            temporal: layers of the paper's baseline, Latent-VDM, also installed on the U-Net; usually with
                ``shift=None``.
            image_encoder: a CLIP for IP-Adapters' pictures (:meth:`load_ip_adapter` loads one).
            feature_extractor: its image processor.
            shift: settings of the temporal shift, :class:`latentshift.settings.ShiftConfig` as a dict, the paper's by
                default; None for no shift: without temporal layers, frames are then independent images.
            num_frames: default number of frames of a video.
            fps: frame rate that the model was trained at, used when writing videos.
            guidance_scale: default scale of classifier-free guidance; 7.5 in the paper (Table 6).
            num_inference_steps: default number of steps, chosen with the scheduler; 100 of DDPM in the paper
                (Table 6).
            noise_share: a ≥ 0 of the noise that frames share (:mod:`latentshift.diffusion.shared_noise`), as the model
                was trained; 0, the paper's: each frame has its own.
            force_zeros_for_empty_prompt: use all zeros instead of the empty sentence's embedding if there is no
                negative prompt, as SDXL was trained.

        Raises:
            ValueError: for a component with an unsupported setting (:mod:`latentshift.models.storage.base_settings`).
        """
        super().__init__()
        encoders = {"text_encoder": text_encoder, "text_encoder_2": text_encoder_2}
        tokenizers = {"tokenizer": tokenizer, "tokenizer_2": tokenizer_2}
        settings = {
            "num_frames": num_frames,
            "fps": fps,
            "guidance_scale": guidance_scale,
            "num_inference_steps": num_inference_steps,
            "force_zeros_for_empty_prompt": force_zeros_for_empty_prompt,
        }
        check_components({"vae": vae, "unet": unet, "scheduler": scheduler, **encoders})
        check_pipeline_settings(**settings, noise_share=noise_share, shift=shift)
        check_linear(scheduler, noise_share)
        for (name, each), encoder in zip(tokenizers.items(), encoders.values(), strict=True):
            if each is not None and encoder is not None:
                check_token_ids(each, encoder, name)
        self.register_modules(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler)
        self.register_modules(text_encoder_2=text_encoder_2, tokenizer_2=tokenizer_2)
        self.register_modules(image_encoder=image_encoder, feature_extractor=feature_extractor)
        self.register_to_config(**settings)
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

    @torch.no_grad()
    def encode_prompt(
        self, prompt: str | list[str], negative_prompt: str | list[str] | None = None, *, clip_skip: int | None = None
    ) -> tuple[Tensor, ...]:
        """Encode sentences once for several calls, or to change the embeddings.

        Args:
            prompt: a sentence or a list of P.
            negative_prompt: what to avoid, one for all or one each; None: as in a call.
            clip_skip: as in a call.

        Returns:
            ``prompt_embeds`` (P, L, D) and ``negative_prompt_embeds`` of a call, and of SDXL ``pooled_prompt_embeds``
            (P, W) and ``negative_pooled_prompt_embeds``: in the order of diffusers' pipelines.

        Raises:
            ValueError: for what is no sentence, or a ``clip_skip`` that the text encoder does not have.
        """
        prompts = Prompts.of(prompt, negative_prompt)
        if prompts.change:
            raise ValueError("encode_prompt takes sentences: give those that change over frames to the call")
        made = prompts.encode(self.text_encoders, self._execution_device, clip_skip, 1.0)
        tokens, pooled = (tuple(getattr(each, name) for each in made) for name in ("tokens", "pooled"))
        return tokens if None in pooled else (*tokens, *pooled)

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

    def decode(self, latents: Tensor, decode_chunk_size: int | None = None) -> Tensor:
        """Decode scaled latents (B, F, C, h, w) to frames (B, F, 3, H, W) in [-1, 1], one video at a time.

        Raises:
            NotFiniteError: if the autoencoder's output is not finite.
        """
        upcast = wants_sizes(self.unet) and self.vae.config.force_upcast  # SDXL's
        frames = decode_videos(self.vae, latents, decode_chunk_size, upcast=upcast)
        check_finite(frames, "autoencoder")  # after clamping, infinite values would look white
        return frames.clamp(-1, 1)
