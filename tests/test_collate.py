"""What a training batch is made of: draws that belong to a sample, not to the batch it is in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latentshift import LatentShiftPipeline
from latentshift.caption_embedding import CaptionEmbedding
from latentshift.data.dataset import Sample
from latentshift.data.loader import Batch
from latentshift.data.sample_order import rng_for
from latentshift.diffusion.noise import paper_scheduler
from latentshift.models.autoencoder import sample_moments
from latentshift.training.data.collate import Collator
from tiny_models import tiny_bert, tiny_tokenizer, tiny_unet, tiny_vae

SEED, FRAMES = 7, 3


def collator() -> Collator:
    pipeline = LatentShiftPipeline(
        vae=tiny_vae(),
        text_encoder=tiny_bert(),
        tokenizer=tiny_tokenizer(),
        unet=tiny_unet(),
        scheduler=paper_scheduler("epsilon"),
    )
    options = {"text_encoded": False, "device": torch.device("cpu"), "dtype": torch.float32}
    return Collator(pipeline.vae, pipeline.text_encoders, timesteps=1000, seed=SEED, **options)


def batch_of(*numbers: int) -> Batch:
    moments = np.random.default_rng(0).standard_normal((8, FRAMES, 8, 4, 4)).astype(np.float16)
    captions = ["red star", "black star", "red background"]
    samples = [Sample(moments[number], captions[number % 3]) for number in numbers]
    return Batch(samples, [], [(0, 0, 0, number) for number in numbers])


def test_a_samples_draws_do_not_depend_on_its_batch() -> None:
    collate = collator()
    together = collate(batch_of(5, 2, 7), caption_dropout=0.5)
    for row, number in enumerate((5, 2, 7)):
        alone = collate(batch_of(number), caption_dropout=0.5)
        for name in ("latents", "noise", "timesteps", "token_ids"):
            assert torch.equal(getattr(together, name)[row], getattr(alone, name)[0]), name


def test_the_draws_are_those_of_the_samples_place() -> None:
    collate = collator()
    batch = batch_of(4)
    made = collate(batch)
    rng = rng_for(SEED, 0, 0, 0, 4)
    posterior, noise = torch.from_numpy(rng.standard_normal((2, FRAMES, 4, 4, 4), dtype=np.float32))
    assert torch.equal(made.noise[0], noise) and made.timesteps.tolist() == [int(rng.integers(1000))]
    moments = torch.from_numpy(batch.samples[0].content.astype(np.float32))
    assert torch.equal(made.latents[0], sample_moments(collate.autoencoder, moments[None], posterior[None])[0])


def test_dropped_captions_are_the_empty_one() -> None:
    collate = collator()
    captions, empty = (collate.text_encoders.tokenize(words) for words in (["black star"] * 8, [""] * 8))
    batch = batch_of(1, 4, 7, 1, 4, 7, 1, 4)
    assert torch.equal(collate(batch, caption_dropout=0.0).token_ids, captions)
    assert torch.equal(collate(batch, caption_dropout=1.0).token_ids, empty)


@pytest.mark.parametrize("pooled", [True, False])
def test_encoded_text_is_each_samples_own_or_that_of_the_empty_caption(pooled: bool) -> None:
    collate = collator()
    collate.text_encoded = True
    batch = batch_of(3, 6, 1)
    for number, sample in enumerate(batch.samples):
        tokens, row = np.full((2, 3, 4), number, np.float16), np.full((2, 2), number, np.float16)
        tokens[1], row[1] = -1, -1
        sample.text, sample.empty = (CaptionEmbedding(tokens[k], row[k] if pooled else None) for k in (0, 1))
    for dropout, expected in ((0.0, [0, 1, 2]), (1.0, [-1, -1, -1])):
        made = collate(batch, caption_dropout=dropout)
        assert made.token_ids is None and made.text.tokens.dtype == torch.float32
        assert torch.equal(made.text.tokens, torch.tensor(expected)[:, None, None].expand(3, 3, 4).float())
        if pooled:
            assert torch.equal(made.text.pooled, torch.tensor(expected)[:, None].expand(3, 2).float())
        else:
            assert made.text.pooled is None
