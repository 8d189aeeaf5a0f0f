"""The U-Net and the autoencoder of a model, as a benchmark on the CPU calls them: steps, decoding, training steps."""

from __future__ import annotations

from copy import copy

import torch
from torch import Tensor

from latentshift.diffusion.condition import TextCondition
from latentshift.models.autoencoder import decode_videos
from latentshift.models.compiled_calls import CompiledCalls
from latentshift.models.conditioning.text_projection import project_text_once
from latentshift.models.denoiser import compile_for_training, denoise, wants_sizes
from latentshift.models.precision import fast_dtype
from latentshift.models.storage.shared_weights import share_weights
from latentshift.pipeline import LatentShiftPipeline
from latentshift.shift import remove, shift_of


class ModelParts:
    """The U-Net and the autoencoder of a model, on latents and a text of random numbers."""

    def __init__(self, pipeline: LatentShiftPipeline, memory_format: torch.memory_format | None = None) -> None:
        if wants_sizes(pipeline.unet):
            raise ValueError("bench speed measures models with one text embedding, and SDXL's takes a pooled one too")
        self._unet, self._vae = pipeline.unet, pipeline.vae
        if memory_format is not None:
            self._unet.to(memory_format=memory_format)
            self._vae.to(memory_format=memory_format)
        generator = torch.Generator().manual_seed(0)
        side, channels = pipeline.unet.config.sample_size, pipeline.unet.config.in_channels
        shape = (2, pipeline.config.num_frames, channels, side, side)
        self._latents = torch.randn(shape, generator=generator).to(pipeline.dtype)
        encoders = pipeline.text_encoders
        tokens = torch.randn(2, encoders.length, encoders.width, generator=generator)
        self._text = TextCondition(tokens.to(pipeline.dtype))

    @property
    def has_shift(self) -> bool:
        """Whether the U-Net shifts."""
        return shift_of(self._unet) is not None

    def shared(self) -> ModelParts:
        """The same, with a U-Net of its own that has the same weights, and is not compiled."""
        other = copy(self)
        other._unet = share_weights(self._unet)
        return other

    def without_shift(self) -> ModelParts:
        """The same, and the same weights, without the shift."""
        other = self.shared()
        remove(other._unet)
        return other

    def compile(self, backend: str = "inductor") -> None:
        """Compile the U-Net for its step with as many threads as there are now, as ``pipe.accelerate`` does."""
        calls = CompiledCalls(self._unet, freeze=True, backend=backend)
        self._unet._compiled_call_impl = calls
        with calls.trial(compiling=True) as trial:
            self.pass_()
        calls.kinds |= trial.kinds

    def compile_training(self) -> None:
        """Compile the U-Net for its training step, as the recipe setting ``compile`` does."""
        compile_for_training(self._unet)

    def pass_(self) -> Tensor:
        """The U-Net's pass of a step with guidance."""
        return denoise(self._unet, self._latents, torch.tensor(500), self._text, 1.0)

    def step(self) -> Tensor:
        """The same, with the text's keys and values projected anew."""
        with project_text_once():
            return self.pass_()

    def train(self) -> None:
        """A forward and backward pass, in the dtype that is fast here, without an optimizer."""
        dtype = fast_dtype("cpu")
        with torch.enable_grad(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = self.pass_().float().square().mean()
        loss.backward()
        self._unet.zero_grad(set_to_none=True)

    def decode(self) -> Tensor:
        """One video."""
        return decode_videos(self._vae, self._latents[:1])
