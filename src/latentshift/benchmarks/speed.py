"""What each way to sample faster brings on this CPU: with and without it, in turns in one process, in processor time.

Knows no GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from latentshift.benchmarks.model_parts import ModelParts
from latentshift.benchmarks.report import Result
from latentshift.benchmarks.shift_cost import shift_costs
from latentshift.benchmarks.timing import interleaved_seconds, spread
from latentshift.models.conditioning.text_projection import project_text_once
from latentshift.models.precision import fast_dtype
from latentshift.pipeline import open_pipeline

_ROUNDS, _QUICK_ROUNDS = 15, 1
_SHIFT_SECONDS, _SHIFT_ALONE_SECONDS = 10.0, 50.0

Call = Callable[[], object]


@torch.no_grad()
def bench_speed(model: str, quick: bool = False) -> Iterator[Result]:
    """A row for each switch: seconds of a step with guidance, or of decoding a video, without and with it.

    After the switches one by one, all of them that make a step faster together, beside float32; and the shift, which
    is no switch: a step, and a training step, with it and without it (:mod:`latentshift.benchmarks.shift_cost`).

    Args:
        model: as for :func:`latentshift.models.storage.model_paths.resolve_model`; without pooled embeddings.
        quick: one round, and nothing is compiled.

    Raises:
        ValueError: for a model that can't be loaded, or SDXL.
    """
    rounds = _QUICK_ROUNDS if quick else _ROUNDS
    dtype = fast_dtype("cpu")
    plain, fast = (ModelParts(open_pipeline(model, dtype=each)) for each in (torch.float32, dtype))
    name = str(dtype).removeprefix("torch.")
    # As --dtype auto does; where that is float32, there is nothing to switch.
    if dtype != torch.float32:
        yield _row(f"{name} in place of float32", "a step", plain.step, fast.step, rounds)
        yield _row(f"{name} in place of float32", "decoding", plain.decode, fast.decode, rounds)
    with project_text_once():
        fast.pass_()
        yield _row(f"text projected once, {name}", "a step", fast.step, fast.pass_, rounds)
    last = ModelParts(open_pipeline(model, dtype=dtype), torch.channels_last)
    yield _row(f"channels last, {name}", "a step", fast.step, last.step, rounds)
    yield _row(f"channels last, {name}", "decoding", fast.decode, last.decode, rounds)
    best = fast
    if not quick:
        compiled = ModelParts(open_pipeline(model, dtype=dtype))
        compiled.compile()
        best = compiled
    with project_text_once():  # which compiled code does not
        best.pass_()
        if not quick:
            yield _row(f"compiled, {name}", "a step", fast.pass_, best.pass_, rounds)
        yield _row("together" if quick else "together, compiled", "a step", plain.step, best.pass_, rounds)
    yield from _shift_rows(plain, fast, 0 if quick else _SHIFT_SECONDS)


@torch.no_grad()
def bench_shift(model: str, quick: bool = False, compiled: bool = False) -> Iterator[Result]:
    """What the shift alone costs, each row measured for longer than by :func:`bench_speed`.

    Args:
        model: as for :func:`bench_speed`.
        quick: one turn, on one thread.
        compiled: also of a step and a training step in compiled code, of the dtype that is fast here.

    Raises:
        ValueError: for a model that can't be loaded, SDXL, or a model without the shift.
    """
    plain, fast = (ModelParts(open_pipeline(model, dtype=each)) for each in (torch.float32, fast_dtype("cpu")))
    if not plain.has_shift:
        raise ValueError(f"{model} has no temporal shift, so there is no cost of it to measure")
    seconds = 0 if quick else _SHIFT_ALONE_SECONDS
    yield from _shift_rows(plain, fast, seconds)
    if compiled:
        step, training = _shift_names()
        with project_text_once():  # which compiled code does not; but it looks once, too, whether weights are the same
            yield from shift_costs(f"{step}, compiled", ModelParts.pass_, fast, seconds, ModelParts.compile)
        yield from shift_costs(f"{training}, compiled", ModelParts.train, plain, seconds, ModelParts.compile_training)


def _shift_rows(plain: ModelParts, fast: ModelParts, seconds: float) -> Iterator[Result]:
    """Rows of the two dtypes, or of one where that is the fast one; none for a model without the shift."""
    if not plain.has_shift:
        return
    step, training = _shift_names()
    if fast_dtype("cpu") != torch.float32:
        yield from shift_costs(step, ModelParts.step, fast, seconds)
    yield from shift_costs("a step, float32", ModelParts.step, plain, seconds)
    yield from shift_costs(training, ModelParts.train, plain, seconds)


def _shift_names() -> tuple[str, str]:
    """Of a step and a training step in the dtype that is fast here."""
    dtype = fast_dtype("cpu")
    name = str(dtype).removeprefix("torch.")
    return f"a step, {name}", f"a training step, {name}{'' if dtype == torch.float32 else ' autocast'}"


def _row(switch: str, of: str, without: Call, with_it: Call, rounds: int) -> Result:
    def numbered(call: Call) -> Callable[[int], None]:
        def numbered_call(number: int) -> None:
            call()

        return numbered_call

    off, on = interleaved_seconds([numbered(without), numbered(with_it)], rounds)
    ratios = [before / after for before, after in zip(off, on, strict=True)]
    return {
        "switch": switch,
        "of": of,
        "off_s": spread(off),
        "on_s": spread(on),
        "off_to_on": spread(ratios),
        "rounds": rounds,
    }
