"""What each way to sample faster brings on this CPU: with and without it, in turns in one process, in processor time.

Knows no GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy

import torch
from torch import Tensor

from latentshift.benchmarks.report import Result
from latentshift.benchmarks.timing import interleaved_seconds, spread
from latentshift.diffusion.condition import TextCondition
from latentshift.models.autoencoder import decode_videos
from latentshift.models.compiled_calls import CompiledCalls
from latentshift.models.conditioning.text_projection import project_text_once
from latentshift.models.denoiser import denoise, wants_sizes
from latentshift.models.precision import fast_dtype
from latentshift.models.storage.shared_weights import share_weights
from latentshift.pipeline import LatentShiftPipeline, open_pipeline
from latentshift.shift import remove, shift_of

_ROUNDS, _QUICK_ROUNDS = 15, 1

Call = Callable[[], object]


@torch.no_grad()
def bench_speed(model: str, quick: bool = False) -> Iterator[Result]:
    """A row for each switch: seconds of a step with guidance, or of decoding a video, without and with it.

    After the switches one by one, all of them that make a step faster together, beside float32; and the shift, which
    is no switch: a step, and a training step, without it and with it.

    Args:
        model: as for :func:`latentshift.model_paths.resolve_model`; without pooled embeddings.
        quick: one round, and nothing is compiled.

    Raises:
        ValueError: for a model that can't be loaded, or SDXL.
    """
    rounds = _QUICK_ROUNDS if quick else _ROUNDS
    dtype = fast_dtype("cpu")
    plain, fast = (_Parts(open_pipeline(model, dtype=each)) for each in (torch.float32, dtype))
    name = str(dtype).removeprefix("torch.")
    # As --dtype auto does; where that is float32, there is nothing to switch.
    if dtype != torch.float32:
        yield _row(f"{name} in place of float32", "a step", plain.step, fast.step, rounds)
        yield _row(f"{name} in place of float32", "decoding", plain.decode, fast.decode, rounds)
    with project_text_once():
        fast.pass_()
        yield _row(f"text projected once, {name}", "a step", fast.step, fast.pass_, rounds)
    last = _Parts(open_pipeline(model, dtype=dtype), torch.channels_last)
    yield _row(f"channels last, {name}", "a step", fast.step, last.step, rounds)
    yield _row(f"channels last, {name}", "decoding", fast.decode, last.decode, rounds)
    best = fast
    if not quick:
        compiled = _Parts(open_pipeline(model, dtype=dtype))
        compiled.compile()
        yield _row(f"compiled, {name}", "a step", fast.step, compiled.step, rounds)
        best = compiled
    with project_text_once():  # which compiled code does not
        best.pass_()
        yield _row("together" if quick else "together, compiled", "a step", plain.step, best.pass_, rounds)
    if fast.has_shift:
        for parts, kind in ((fast, name), (plain, "float32"))[: 1 if dtype == torch.float32 else 2]:
            without = parts.without_shift()
            yield _row(f"the shift, {kind}", "a step", without.step, parts.step, rounds)
        without = plain.without_shift()
        kind = "float32" if dtype == torch.float32 else f"{name} autocast"
        yield _row(f"the shift, {kind}", "a training step", without.train, plain.train, rounds)


class _Parts:
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

    def without_shift(self) -> _Parts:
        """The same, and the same weights, without the shift."""
        other = copy(self)
        other._unet = share_weights(self._unet)
        remove(other._unet)
        return other

    def compile(self) -> None:
        """Compile the U-Net for its step, as ``pipe.accelerate`` does."""
        calls = CompiledCalls(self._unet)
        self._unet._compiled_call_impl = calls
        with calls.trial(compiling=True) as trial:
            self.pass_()
        calls.kinds |= trial.kinds

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
