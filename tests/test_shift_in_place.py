"""What was compiled before, and what somebody keeps: the shift writes over neither."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from equation_3 import block_with_loops
from latentshift import shift
from latentshift.frame_context import frame_context
from latentshift.settings import Place
from latentshift.shift import ShiftConfig, install, remove, temporal_shift
from tiny_models import ONE_LEVEL, tiny_unet


class OneBlock(torch.nn.Module):
    """What is compiled in no time."""

    def __init__(self) -> None:
        super().__init__()
        self.block = tiny_unet(**ONE_LEVEL).down_blocks[0].resnets[0]

    def forward(self, sample: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return self.block(sample, time)


@torch.no_grad()
@pytest.mark.parametrize("place", ["conv1", "block"])
def test_what_was_compiled_before_is_shifted_all_the_same(place: Place) -> None:
    torch.compiler.reset()
    model, x, time = OneBlock(), torch.randn(4, 8, 4, 4), torch.randn(4, 32)
    compiled = torch.compile(model, backend="eager")
    image = compiled(x, time)
    for padding in ("zeros", "circular"):
        config = ShiftConfig(padding=padding, place=place)
        install(compiled, config)
        expected = [
            block_with_loops(model.block, *each, config) for each in zip(x.split(2), time.split(2), strict=True)
        ]
        torch.testing.assert_close(compiled(x, time, num_frames=2), torch.cat(expected))
        assert not torch.equal(torch.cat(expected), image)
        remove(compiled)
    assert torch.equal(compiled(x, time), image)


def keeping_forward(module: nn.Module, keep: Callable[[torch.Tensor], object], of_input: bool) -> Callable[..., Any]:
    """The module's forward pass, which also keeps what goes in or comes out: a wrapper, as accelerate's hooks are."""
    forward = module.forward

    def wrapped(x: torch.Tensor) -> torch.Tensor:
        output = forward(x)
        keep(x if of_input else output)
        return output

    return wrapped


# How somebody may keep what goes from a block's norm to its nonlinearity.
WATCHERS: dict[str, Callable[[Any, Callable[[torch.Tensor], object]], Any]] = {
    "hook of the norm": lambda block, keep: block.norm1.register_forward_hook(lambda m, args, out: keep(out)),
    "hook of silu": lambda block, keep: block.nonlinearity.register_forward_hook(lambda m, args, out: keep(args[0])),
    "pre-hook of silu": lambda block, keep: block.nonlinearity.register_forward_pre_hook(lambda m, args: keep(args[0])),
    "global hook": lambda block, keep: register_module_forward_hook(
        lambda m, args, out: keep(out) if m is block.norm1 else None
    ),
    "global pre-hook": lambda block, keep: register_module_forward_pre_hook(
        lambda m, args: keep(args[0]) if m is block.nonlinearity else None
    ),
    "forward of the norm": lambda block, keep: setattr(
        block.norm1, "forward", keeping_forward(block.norm1, keep, of_input=False)
    ),
    "forward of silu": lambda block, keep: setattr(
        block.nonlinearity, "forward", keeping_forward(block.nonlinearity, keep, of_input=True)
    ),
}


@torch.no_grad()
def test_silu_works_in_place_of_a_large_output_of_the_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    unet = install(tiny_unet(**ONE_LEVEL))
    block, x = unet.down_blocks[0].resnets[0], torch.randn(4, 8, 4, 4)
    with frame_context(unet).with_num_frames(2):
        assert type(block.norm1(x[:2])) is torch.Tensor
        monkeypatch.setattr(shift, "SMALL", x.nbytes)
        normed = block.norm1(x)
    plain = normed.as_subclass(torch.Tensor).clone()
    assert torch.equal(normed + 0, plain) and type(normed + 0) is torch.Tensor  # other operations leave it alone
    assert type(block.nonlinearity(normed)) is torch.Tensor
    assert torch.equal(normed + 0, torch.nn.functional.silu(plain))


@pytest.mark.parametrize("watcher", WATCHERS)
@pytest.mark.parametrize("copied", [False, True])
@torch.no_grad()
def test_what_somebody_keeps_of_a_block_is_not_overwritten(
    watcher: str, copied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shift, "SMALL", 0)
    unet = install(tiny_unet(**ONE_LEVEL))
    unet = copy.deepcopy(unet) if copied else unet
    block, x, time, seen = unet.down_blocks[0].resnets[0], torch.randn(4, 8, 4, 4), torch.randn(4, 32), []
    with frame_context(unet).with_num_frames(2):
        expected = block(x, time)
        handle = WATCHERS[watcher](block, lambda kept: None if seen else seen.append(kept))
        try:
            assert torch.equal(block(x, time), expected)
        finally:
            if handle is not None:  # a global one would stay
                handle.remove()
        normed = torch.nn.functional.group_norm(x, block.norm1.num_groups, block.norm1.weight, block.norm1.bias, 1e-5)
    assert torch.equal(torch.as_tensor(seen[0]).as_subclass(torch.Tensor), temporal_shift(normed, 2))


def shifted_norm(block: Any, x: torch.Tensor, num_frames: int) -> torch.Tensor:
    normed = torch.nn.functional.group_norm(x, block.norm1.num_groups, block.norm1.weight, block.norm1.bias, 1e-5)
    return temporal_shift(normed, num_frames)


def test_what_a_layer_keeps_is_for_calls_of_one_kind_alone() -> None:
    unet = install(tiny_unet(**ONE_LEVEL))
    block, context = unet.down_blocks[0].resnets[0], frame_context(unet)
    x = torch.randn(4, 8, 4, 4)
    others = [x, x.double(), x.to(memory_format=torch.channels_last), x[:2], torch.randn(4, 8, 2, 2), x]

    @torch.no_grad()  # of the thread
    def check() -> None:
        for num_frames in (2, 1, 2):
            for each in others:
                block.norm1.to(each.dtype)
                with context.with_num_frames(num_frames):
                    expected = shifted_norm(block, each, num_frames)
                    assert torch.equal(block.norm1(each), expected) and torch.equal(block.norm1(each), expected)
                    other = block.norm1(each + 1)  # keeps its values while the next one goes the same way
                    assert torch.equal(block.norm1(each), expected)
                    torch.testing.assert_close(other, shifted_norm(block, each + 1, num_frames), rtol=0, atol=0)
        with context.with_num_frames(2, frames_independent=True):
            assert torch.equal(block.norm1(x), block.norm1.plain()(x))

    check()
    block.norm1.float()
    with torch.inference_mode():
        check()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(check).result()


def test_in_training_the_shift_works_in_place_with_the_gradients_of_the_function() -> None:
    unet = install(tiny_unet(**ONE_LEVEL))
    block, x, weight = unet.down_blocks[0].resnets[0], torch.randn(4, 8, 4, 4), torch.randn(4, 8, 4, 4)
    found = []
    for shifted in (block.norm1, lambda x: shifted_norm(block, x, 2)):
        leaf = x.clone().requires_grad_()
        with frame_context(unet).with_num_frames(2):
            output = shifted(leaf)
        (torch.nn.functional.silu(output) * weight).sum().backward()
        found.append([output, leaf.grad, block.norm1.weight.grad, block.norm1.bias.grad])
        block.zero_grad()
    assert all(map(torch.equal, *found))


def test_gradients_of_the_layer_and_of_its_gradients_are_the_true_ones() -> None:
    unet = install(tiny_unet(**ONE_LEVEL)).double()
    norm = unet.down_blocks[0].resnets[0].norm1
    x = torch.randn(4, 8, 1, 2, dtype=torch.float64, requires_grad=True)
    with frame_context(unet).with_num_frames(2):
        assert torch.autograd.gradcheck(norm, x) and torch.autograd.gradgradcheck(norm, x)
