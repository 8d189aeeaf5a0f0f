"""What `info --frames` says a pass takes: the estimate of a pass, in chunks as `generate` has them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from latentshift import LatentShiftPipeline
from latentshift.memory.long_video import pass_memory


def test_it_is_the_estimate_and_offloading_takes_less(cli, model: Path) -> None:
    words = ("info", model, "--json", "--frames", 12, "--frame-chunk", 1, "--dtype", "float32")
    kept, offloaded = (json.loads(cli(*words, *more)[1])["memory"] for more in ((), ("--offload-skips",)))
    assert kept["pass_bytes"] == pass_memory(str(model), 12, 1, "zeros", torch.float32) > offloaded["pass_bytes"] > 0
    assert kept["unet_bytes"] == 4 * LatentShiftPipeline.from_pretrained(model).unet.num_parameters()
    assert "memory" not in json.loads(cli("info", model, "--json")[1])


def test_it_is_printed_with_the_chunk_that_generate_takes(cli, model: Path) -> None:
    code, out, err = cli("info", model, "--frames", 65, "--dtype", "bfloat16")
    assert code == 0, err
    assert "memory of a guided pass over 65 frames in chunks of 16\n" in out
    assert out.count("GiB  bfloat16") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--frame-chunk", 2), "add --frames"),
        (("--offload-skips",), "add --frames"),
        (("--frames", 4, "--frame-chunk", 5), "--frame-chunk must be a whole number from 1 to the video's 4 frames"),
        (("--frames", 4, "--offload-skips"), "these 4 frames go at once"),
    ],
)
def test_mistakes_are_refused(cli, model: Path, words: tuple[object, ...], message: str) -> None:
    code, _, err = cli("info", model, *words)
    assert code == 1 and message in err
