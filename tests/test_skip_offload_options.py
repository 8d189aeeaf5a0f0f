"""Where --offload-skips has no effect it is refused in a sentence, as far as it is known before a model is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from latentshift import LatentShiftPipeline


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("generate star --frames 100 --device cpu", "--offload-skips moves skip connections from a GPU's memory"),
        ("generate star", "these 16 frames go at once: choose a --frame-chunk below 16"),
        ("bench length --device cpu", "--offload-skips moves skip connections from a GPU's memory"),
        ("bench length --frame-chunk 1024", "these 1024 frames go at once"),
    ],
)
def test_commands_refuse_it(cli, words: str, message: str) -> None:
    code, _, errors = cli(*words.split(), "--offload-skips")
    assert code == 1 and message in errors and errors.count("\n") == 1


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_it_is_true_or_false(model: Path, value: object) -> None:
    with pytest.raises(ValueError, match="offload_skips must be True or False"):
        LatentShiftPipeline.from_pretrained(model)("red star", offload_skips=value)
