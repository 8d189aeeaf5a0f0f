"""How errors end a command: a mistake in a sentence, a fault of ours in its traceback, and memory that ran out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from latentshift.out_of_memory import is_out_of_memory
from latentshift.training import recipe_file

HUGE = 10**15  # bytes: more than any address space grants
SPRITES = Path(__file__).parent.parent / "recipes" / "sprites-autoencoder.yaml"


def allocate_in_torch() -> None:
    torch.empty(HUGE, dtype=torch.uint8)


def allocate_in_python() -> None:
    bytearray(HUGE)


def key_error() -> None:
    {}["step"]


def assertion_error() -> None:
    raise AssertionError


def runtime_error() -> None:
    torch.zeros(2, 3) @ torch.zeros(2, 3)


def words_of_memory() -> None:
    raise RuntimeError("the scheduler has allocated no steps")


@pytest.mark.parametrize("allocate", [allocate_in_torch, allocate_in_python])
def test_memory_that_runs_out_is_a_sentence(allocate: Callable[[], None], cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe_file, "load_recipe", lambda *words: allocate())
    code, _, err = cli("train", SPRITES)
    assert code == 1 and err.startswith("error: the machine has too little memory for this")
    assert "Traceback" not in err


@pytest.mark.parametrize("fail", [key_error, assertion_error, runtime_error, words_of_memory])
def test_a_fault_of_ours_shows_its_traceback(fail: Callable[[], None], cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe_file, "load_recipe", lambda *words: fail())
    code, _, err = cli("train", SPRITES)
    assert code == 1 and err.startswith("Traceback") and f"in {fail.__name__}" in err
    assert "please report this with the traceback above" in err.splitlines()[-1]


def test_a_gpus_lack_of_memory_has_a_type() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(ValueError("DefaultCPUAllocator: can't allocate memory"))
