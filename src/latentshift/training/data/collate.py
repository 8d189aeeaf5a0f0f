"""Samples into a training batch: noise, timesteps and dropped captions are drawn here, and nowhere else.

Legend of shapes: B clips, F frames, C latent channels, h × w latent pixels, L tokens, D width of the text encoders.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from diffusers import AutoencoderKL

from latentshift.data.loader import Batch
from latentshift.data.sample_order import rng_for
from latentshift.diffusion.condition import TextCondition
from latentshift.models.autoencoder import sample_moments
from latentshift.models.conditioning.text import TextEncoders
from latentshift.models.encoders import frame_encoder
from latentshift.training.losses import LatentBatch


class Collator:
    """Turns the samples of a step into latents, noise, timesteps and text.

    The draws of a sample are a function of (seed, its place in the order of the data) alone: not of the batch, the
    process or the point at which a run was resumed.

    Args:
        autoencoder: of the model; it encodes clips that are not encoded yet.
        text_encoders: the model's text encoders; their tokenizers are used.
        timesteps: T of the noise schedule.
        seed: of all draws.
        text_encoded: whether the samples bring embeddings of their captions.
        device: where clips are encoded.
        dtype: autocast's, of encoding.
        known_share: the probability that some frames of a clip are known.
        condition: uint8 frames (F, S, S, 3) -> a ControlNet's pictures of the same shape; None: there is no ControlNet.
            All samples bring frames then.
    """

    def __init__(
        self,
        autoencoder: AutoencoderKL,
        text_encoders: TextEncoders,
        *,
        timesteps: int,
        seed: int,
        text_encoded: bool,
        device: torch.device,
        dtype: torch.dtype,
        known_share: float = 0.0,
        condition: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self.autoencoder = autoencoder
        self.text_encoders = text_encoders
        self.timesteps = timesteps
        self.seed = seed
        self.text_encoded = text_encoded
        self.device = device
        self.dtype = dtype
        self.known_share = known_share
        self.condition = condition

    def __call__(self, batch: Batch, caption_dropout: float = 0.0) -> LatentBatch:
        """A batch on the CPU.

        Args:
            batch: uint8 frames (F, S, S, 3), or float16 moments (F, 2C, h, w), with captions.
            caption_dropout: the probability that a caption is replaced by the empty one, for guidance.
        """
        moments, noises, timesteps, dropped, known = [], [], [], [], []
        for sample, place in zip(batch.samples, batch.places, strict=True):
            is_encoded = sample.content.dtype == np.float16
            moments.append(sample.content.astype(np.float32) if is_encoded else self._encode(sample.content))
            frames, channels, height, width = moments[-1].shape
            rng = rng_for(self.seed, *place)
            # The posterior's noise and the diffusion noise, the timestep, the dropping of the caption, and which frames
            # are known: in this order.
            noises.append(rng.standard_normal((2, frames, channels // 2, height, width), dtype=np.float32))
            timesteps.append(int(rng.integers(self.timesteps)))
            dropped.append(rng.random() < caption_dropout)
            known.append(draw_known(rng, frames) if rng.random() < self.known_share else np.zeros(frames, bool))
        noise = torch.from_numpy(np.stack(noises))
        samples = list(zip(batch.samples, dropped, strict=True))
        text = token_ids = None
        if self.text_encoded:
            chosen = [sample.empty if drop else sample.text for sample, drop in samples]
            text = TextCondition.from_embeddings([each for each in chosen if each is not None])
        else:
            token_ids = self.text_encoders.tokenize(["" if drop else sample.caption for sample, drop in samples])
        return LatentBatch(
            latents=sample_moments(self.autoencoder, torch.from_numpy(np.stack(moments)), noise[:, 0]),
            noise=noise[:, 1],
            timesteps=torch.tensor(timesteps),
            token_ids=token_ids,
            text=text,
            condition=None if self.condition is None else self._conditions(self.condition, batch),
            names=lambda: [each.name for each in batch.requests],
            known=torch.from_numpy(np.stack(known)) if self.known_share > 0 and frames > 1 else None,
        )

    def _conditions(self, condition: Callable[[np.ndarray], np.ndarray], batch: Batch) -> torch.Tensor:
        pictures = np.stack([condition(sample.content) for sample in batch.samples])
        return torch.from_numpy(pictures).movedim(-1, 2).float() / 255

    @cached_property
    def _encode(self) -> Callable[[np.ndarray], np.ndarray]:
        return frame_encoder(self.autoencoder, self.device, self.dtype)


def draw_known(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """Which frames of a clip are known, bool (F,), one at least and never all.

    With equal chances: the first few, up to half of them, as for what goes on from a picture or a clip; both ends; or
    one to three anywhere.
    """
    known = np.zeros(num_frames, bool)
    if num_frames < 2:
        return known
    kind = rng.integers(3)
    if kind == 0:
        known[: rng.integers(1, num_frames // 2 + 1)] = True
    elif kind == 1 and num_frames > 2:
        known[[0, -1]] = True
    else:
        known[rng.permutation(num_frames)[: rng.integers(1, min(3, num_frames - 1) + 1)]] = True
    return known
