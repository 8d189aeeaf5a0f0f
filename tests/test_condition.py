"""Text conditions: rows stay together, whatever is done with them."""

from __future__ import annotations

import pytest
import torch

from latentshift.diffusion.condition import TextCondition
from latentshift.diffusion.guidance import with_guidance


def numbered(count: int, start: int = 0, pooled: bool = True) -> TextCondition:
    """Rows whose every number is the row's own."""
    rows = torch.arange(start, start + count, dtype=torch.float32)
    text = TextCondition(rows[:, None, None].expand(-1, 3, 4), rows[:, None].expand(-1, 2) if pooled else None)
    return TextCondition(text.tokens, text.pooled, rows[:, None].expand(-1, 6) if pooled else None)


def rows_of(text: TextCondition) -> list[float]:
    rows = text.tokens[:, 0, 0]
    for each in (text.tokens.flatten(1), text.pooled, text.sizes):
        assert each is None or torch.equal(each, rows[:, None].expand_as(each))
    return rows.tolist()


@pytest.mark.parametrize("pooled", [True, False])
def test_rows_stay_together(pooled: bool) -> None:
    text = numbered(3, pooled=pooled)
    assert rows_of(text.repeat(2)) == [0, 0, 1, 1, 2, 2]
    assert [rows_of(part) for part in text.split(2)] == [[0, 1], [2]]
    assert [rows_of(part) for part in numbered(4, pooled=pooled).chunk(2)] == [[0, 1], [2, 3]]
    joined = TextCondition.cat([text, numbered(2, 7, pooled=pooled)])
    assert rows_of(joined) == [0, 1, 2, 7, 8] and len(joined) == 5


def test_what_is_masked_is_the_text_and_not_the_sizes() -> None:
    text = numbered(3, 1).masked(torch.tensor([False, True, False]))
    assert text.tokens[:, 0, 0].tolist() == text.pooled[:, 0].tolist() == [1, 0, 3]
    assert text.sizes[:, 0].tolist() == [1, 2, 3]


def test_sizes_keep_their_precision() -> None:
    text = numbered(2).with_sizes((1023, 1, 0, 0, 513, 769)).to("cpu", torch.bfloat16)
    assert text.tokens.dtype == text.pooled.dtype == torch.bfloat16
    assert text.sizes.tolist() == [[1023, 1, 0, 0, 513, 769]] * 2


def test_conditions_of_two_kinds_are_not_joined() -> None:
    with pytest.raises(ValueError, match="some of these conditions have pooled, and some have not"):
        TextCondition.cat([numbered(1), numbered(1, pooled=False)])


def test_guidance_shows_each_video_its_own_conditions() -> None:
    def denoiser(latents: torch.Tensor, timestep: torch.Tensor, text: TextCondition) -> torch.Tensor:
        return latents + torch.tensor(rows_of(text))[:, None]

    text, negative, latents = numbered(3, 10), numbered(3, 20), torch.zeros(3, 1)
    for together in (1, 2, None):
        predict = with_guidance(denoiser, text, negative, 3.0, together)
        expected = [n + 3 * (p - n) for p, n in zip(rows_of(text), rows_of(negative), strict=True)]
        assert predict(latents, torch.tensor(0)).flatten().tolist() == expected
        alone = with_guidance(denoiser, text, negative, 1.0, together)
        assert alone(latents, torch.tensor(0)).flatten().tolist() == rows_of(text)
