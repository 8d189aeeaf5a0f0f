"""``bench captions``: how much a video model listens to its caption, by timestep.

Clips of the sprites world are noised to a timestep, and the U-Net predicts the clean latents once with their own
caption and once with one in which a word is exchanged, from the same noise. The gap is how much larger the squared
error is with the exchanged word (the comparison of the Diffusion Classifier, Li et al. 2023, Sec. 3): 0 for a model to
which the word means nothing. That a word acts does not tell that a sampled video is right.

Legend of shapes: N clips, F frames, C latent channels, h × w latent pixels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from latentshift.benchmarks.caption_exchange import check_exchange, check_frames, check_motions, exchange_word
from latentshift.benchmarks.report import Estimate, Result, mean_value, share_value
from latentshift.data.sample_order import rng_for
from latentshift.data.sprites import MOTIONS
from latentshift.diffusion.condition import TextCondition
from latentshift.diffusion.noise import add_noise, clean_prediction, hides_latents
from latentshift.diffusion.samplers import make_sampler
from latentshift.diffusion.shared_noise import mix_noise
from latentshift.evaluation.estimates import Mean, mean_of
from latentshift.evaluation.sprites.parts import part_named, world_of
from latentshift.models.autoencoder import encode_pictures
from latentshift.models.conditioning.text import unknown_words
from latentshift.models.decoded_frames import check_finite
from latentshift.models.denoiser import denoise
from latentshift.pipeline import LatentShiftPipeline
from latentshift.progress import progress_bar
from latentshift.video import to_unit

_STREAM = 0xCA97  # sets its noise apart from all other draws
_LEAST_VARIANCE = 1e-8  # of what differs between frames, relative to the latents': less is rounding
_BATCH = 4  # clips in one call of the U-Net


@dataclass(frozen=True)
class CaptionErrors:
    """Squared errors of the predicted clean latents at a timestep, relative to the variance of the latents.

    Attributes:
        own: float64 (N, 2), with the clips' own captions: of the latents relative to their variance over all clips,
            and of what differs between the frames of a clip relative to the variance of that; NaN if nothing differs,
            as in clips that all stand still.
        exchanged: the same with the other captions.
    """

    own: np.ndarray
    exchanged: np.ndarray

    @property
    def gap(self) -> np.ndarray:
        """How much larger the errors are with the other captions, (N, 2)."""
        return self.exchanged - self.own


def bench_captions(
    pipeline: LatentShiftPipeline, count: int, exchange: str = "motion", motions: Collection[str] = MOTIONS
) -> Iterator[Result]:
    """A row for each timestep; then the mean over timesteps for each pair of words, and for all clips.

    Those have the pairwise accuracy as well: in how many clips the own caption has the smaller error.

    Args:
        pipeline: trained on sprites.
        count: clips, 2 or more, of a stream that no recipe trains on.
        exchange: which word: one of :data:`latentshift.benchmarks.caption_exchange.EXCHANGES`.
        motions: of the clips.

    Raises:
        ValueError: for an unknown word or motion, a model that can't have clips of the sprites world, whose text
            encoder does not tell the captions apart, or whose scheduler is bound to its weights.
        NotFiniteError: if the U-Net's output is not finite.
    """
    check_exchange(exchange)
    check_motions(motions)
    check_frames(pipeline.config.num_frames)
    world = world_of(part_named("seen"), pipeline.sample_size)
    indices = list(islice((index for index in itertools.count() if world.sprite(index).motion in motions), count))
    sprites = [world.sprite(index) for index in indices]
    others = [exchange_word(sprite, exchange) for sprite in sprites]
    captions, exchanged = ([sprite.caption() for sprite in each] for each in (sprites, others))
    check_told_apart(pipeline, captions, exchanged)
    clips = (world[index][0][: pipeline.config.num_frames] for index in indices)
    latents = torch.stack([encode_clip(pipeline, clip) for clip in clips])
    timesteps, hidden = caption_timesteps(pipeline)
    for timestep in hidden:
        yield {"left_out": f"timestep {timestep}: noise alone, of which this model predicts the noise"}
    gaps = []
    for timestep in timesteps:
        errors = measure_captions(pipeline, latents, captions, exchanged, timestep)
        gaps.append(errors.gap)
        whole, differences = (_mean(column).mean for column in errors.own.T)
        gap, gap_of_differences = (mean_value(_mean(column)) for column in errors.gap.T)
        yield {
            "timestep": timestep,
            "error": whole,
            "gap": gap,
            "error_of_differences": differences,
            "gap_of_differences": gap_of_differences,
        }
    mean_gap = np.mean(gaps, axis=0)
    pairs = [
        f"{getattr(one, exchange)} → {getattr(other, exchange)}" for one, other in zip(sprites, others, strict=True)
    ]
    for pair in sorted(set(pairs)):
        yield _mean_row(exchange, pair, mean_gap[[each == pair for each in pairs]])
    yield _mean_row(exchange, "all", mean_gap)


def check_told_apart(pipeline: LatentShiftPipeline, captions: Sequence[str], others: Sequence[str]) -> None:
    """Refuse a model that was not trained on words of these captions, or reads two of them alike.

    Raises:
        ValueError: naming the words or the captions.
    """
    sentences = dict.fromkeys((*captions, *others))
    missing = dict.fromkeys(word for each in sentences for word in unknown_words(pipeline.tokenizer, each))
    if missing:
        raise ValueError(
            f"the model's tokenizer does not know {', '.join(map(repr, missing))}: bench captions is for models that "
            "were trained on the sprites world"
        )
    encoders = pipeline.text_encoders
    for one, other in zip(captions, others, strict=True):
        if torch.equal(*(encoders.tokenize([each]) for each in (one, other))):
            raise ValueError(
                f"the model reads {one!r} and {other!r} alike: its tokenizer does not know the words that differ, or "
                f"cuts them off after {encoders.length} tokens"
            )


def caption_timesteps(pipeline: LatentShiftPipeline) -> tuple[list[int], list[int]]:
    """Ten timesteps from the last one down, and those of them from which clean latents can't be predicted.

    Raises:
        ValueError: if the scheduler has no such timesteps.
    """
    scheduler = make_sampler("ddpm", pipeline.scheduler)
    total = int(scheduler.config.num_train_timesteps)
    timesteps = list(dict.fromkeys([total - 1, *(total * tenth // 10 for tenth in range(9, 0, -1))]))
    if scheduler.config.prediction_type != "epsilon":
        return timesteps, []
    hidden = dict(zip(timesteps, hides_latents(scheduler, torch.tensor(timesteps)).tolist(), strict=True))
    return [each for each in timesteps if not hidden[each]], [each for each in timesteps if hidden[each]]


def encode_clip(pipeline: LatentShiftPipeline, clip: np.ndarray) -> Tensor:
    """Scaled latents (F, C, h, w), the posterior's mean, float32, of a clip, uint8 RGB (F, S, S, 3)."""
    pixels = to_unit(torch.from_numpy(clip)).permute(0, 3, 1, 2)
    with torch.no_grad():
        return encode_pictures(pipeline.vae, pixels.to(pipeline.device))


@torch.no_grad()
def measure_captions(
    pipeline: LatentShiftPipeline, latents: Tensor, captions: Sequence[str], others: Sequence[str], timestep: int
) -> CaptionErrors:
    """Errors of the predicted clean latents with two captions for each clip, from the same noise.

    Args:
        pipeline: noise that frames share is as it says.
        latents: (N, F, C, h, w), scaled, float32, on the pipeline's device.
        captions: N of them, the clips' own.
        others: N of them.
        timestep: 0 … T-1.

    Raises:
        ValueError: if nothing is left of the latents there and the model predicts noise.
        NotFiniteError: if the U-Net's output is not finite.
    """
    scheduler = make_sampler("ddpm", pipeline.scheduler)  # others add noise in their own way
    texts = [_encode(pipeline, each, latents).split(_BATCH) for each in (captions, others)]
    variances = [float(each.double().var()) for each in (latents, _differences(latents))]
    if variances[1] < _LEAST_VARIANCE * variances[0]:
        variances[1] = math.nan
    rows: list[list[Tensor]] = [[], []]
    batches = progress_bar(
        range(0, len(latents), _BATCH), text=f"timestep {timestep}", unit="batch of clips", leave=False
    )
    for number, first in enumerate(batches):
        clean = latents[first : first + _BATCH]
        independent = torch.stack([_noise(first + at, timestep, clean) for at in range(len(clean))])
        steps = torch.full((len(clean),), timestep, device=clean.device)
        noisy, _ = add_noise(scheduler, clean, mix_noise(independent, pipeline.config.noise_share), steps)
        for row, text in zip(rows, texts, strict=True):
            scale = float(pipeline.config.guidance_scale)  # an input of guidance-distilled U-Nets
            predicted = denoise(pipeline.unet, noisy.to(pipeline.unet.dtype), steps, text[number], scale).float()
            check_finite(predicted, "U-Net")
            error = clean_prediction(scheduler, noisy, predicted, steps) - clean
            squares = [each.double().square().flatten(1).mean(dim=1) for each in (error, _differences(error))]
            row.append(torch.stack([each / of for each, of in zip(squares, variances, strict=True)], dim=1))
    own, exchanged = (torch.cat(row).cpu().numpy() for row in rows)
    return CaptionErrors(own, exchanged)


def _encode(pipeline: LatentShiftPipeline, captions: Sequence[str], latents: Tensor) -> TextCondition:
    height, width = (side * pipeline.vae_scale_factor for side in latents.shape[-2:])
    text = pipeline.text_encoders.encode(captions, latents.device).to(dtype=pipeline.unet.dtype)
    return text.with_sizes((height, width, 0, 0, height, width))


def _differences(latents: Tensor) -> Tensor:
    """What differs from the mean of a clip's frames."""
    return latents - latents.mean(dim=1, keepdim=True)


def _noise(clip: int, timestep: int, like: Tensor) -> Tensor:
    """Independent standard normal noise (F, C, h, w), whatever the other clips and timesteps."""
    drawn = rng_for(_STREAM, clip, timestep).standard_normal(like.shape[1:], dtype=np.float32)
    return torch.from_numpy(drawn).to(like)


def _mean_row(exchange: str, name: str, gaps: np.ndarray) -> Result:
    whole, differences = (mean_value(_mean(column)) for column in gaps.T)
    return {
        exchange: name,
        "clips": len(gaps),
        "mean_gap": whole,
        "mean_gap_of_differences": differences,
        "pairwise_accuracy": pairwise_accuracy(gaps[:, 0]),
    }


def _mean(values: np.ndarray) -> Mean:
    """Of one value for each clip; NaN is none."""
    return mean_of([None if np.isnan(value) else float(value) for value in values])


def pairwise_accuracy(gaps: np.ndarray) -> Estimate | None:
    """The share of gaps above 0 among those that are not 0, with its 95 % interval; None if all are 0.

    1/2 is chance. It is the accuracy of the Diffusion Classifier that chooses between the two captions.
    """
    right, differing = int((gaps > 0).sum()), int((gaps != 0).sum())
    return share_value(right, differing) if differing else None
