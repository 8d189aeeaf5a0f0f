"""The shift as a function of tensors, against a plain loop of Eq. 3, and its settings."""

from __future__ import annotations

import re

import pytest
import torch

from equation_3 import eq3
from latentshift.settings import BLOCKS, DIRECTIONS, PADDINGS, PLACES, Padding
from latentshift.shift import ShiftConfig, temporal_shift

CONFIGS = [
    ShiftConfig(padding=padding, direction=direction, fold=fold)
    for padding in PADDINGS
    for direction in DIRECTIONS
    for fold in (2, 3)
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("num_frames", [1, 2, 3, 16])
@pytest.mark.parametrize("channels", [4, 5, 6, 320])
def test_shift_is_equation_3(config: ShiftConfig, num_frames: int, channels: int) -> None:
    x = torch.randn(2 * num_frames, channels, 3, 2, dtype=torch.float64)
    expected = torch.cat([eq3(video, config) for video in x.split(num_frames)])
    assert torch.equal(temporal_shift(x, num_frames, config), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("padding", PADDINGS)
def test_any_dtype_and_memory_format(dtype: torch.dtype, memory_format: torch.memory_format, padding: Padding) -> None:
    x = (torch.randn(8, 7, 4, 4) * 100).to(dtype).contiguous(memory_format=memory_format)
    before, config = x.clone(), ShiftConfig(padding=padding)
    shifted = temporal_shift(x, 4, config)
    assert shifted.dtype == dtype and shifted.is_contiguous(memory_format=memory_format)
    assert torch.equal(shifted, torch.cat([eq3(video, config) for video in before.split(4)]))
    assert torch.equal(x, before)


def test_a_shift_leaves_nothing_behind_for_the_next_one() -> None:
    """The memory that a small shift goes through is kept in its thread."""
    x, config = torch.randn(6, 7, 2, 2), ShiftConfig()
    expected = torch.cat([eq3(video, config) for video in x.split(3)])
    with torch.inference_mode():
        assert torch.equal(temporal_shift(x, 3), expected)
    for repetition in range(2):
        with torch.no_grad():
            edge = torch.full((2, 2, 2, 2), 1.0 + repetition)
            parts = [temporal_shift(x, 3, config, *edges) for edges in ((edge, None), (None, edge), (edge, edge))]
        assert [int((part != expected).sum()) for part in parts] == [16, 16, 32]
        assert torch.equal(temporal_shift(x, 3), expected)
        assert torch.equal(temporal_shift(x.double(), 3), expected.double())
        leaf = x.clone().requires_grad_()
        temporal_shift(leaf, 3).backward(expected)
        wanted = torch.func.vjp(lambda x: temporal_shift(x, 3), x)[1](expected)[0]
        assert torch.equal(leaf.grad, wanted)
        for num_frames in range(1, 40):  # more kinds of tensors than are kept
            assert temporal_shift(torch.ones(num_frames, 3, 1, 1), num_frames).sum() == 3 * num_frames - 2


def test_320_channels_are_106_108_106() -> None:
    x = torch.arange(3.0)[:, None, None, None].expand(3, 320, 1, 1) + 1
    middle = temporal_shift(x, 3)[1, :, 0, 0]
    assert middle.tolist() == [1.0] * 106 + [2.0] * 108 + [3.0] * 106


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("num_frames", [1, 2, 3])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_gradient_is_the_transposed_shift(
    config: ShiftConfig, num_frames: int, memory_format: torch.memory_format
) -> None:
    shape = (num_frames, 5, 2, 2)
    size = 20 * num_frames
    units = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
    matrix = torch.stack([eq3(unit, config).flatten() for unit in units], dim=1)
    x = torch.randn(shape, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
    weight = torch.randint(-9, 10, shape).double()  # whole numbers: their sums are exact
    (temporal_shift(x, num_frames, config) * weight).sum().backward()
    assert torch.equal(x.grad.flatten(), matrix.T @ weight.flatten())


@pytest.mark.parametrize("padding", PADDINGS)
def test_the_shift_has_second_and_forward_derivatives(padding: Padding) -> None:
    config = ShiftConfig(padding=padding)

    def cubed(x: torch.Tensor) -> torch.Tensor:
        return temporal_shift(x, 3, config) ** 3

    x = torch.randn(3, 5, 1, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(cubed, x, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(cubed, x)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("padding", PADDINGS)
def test_shift_exports_and_compiles_to_the_same(padding: Padding, memory_format: torch.memory_format) -> None:
    config = ShiftConfig(padding=padding)

    class Shift(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return temporal_shift(x, 4, config)

    x = torch.randn(8, 6, 4, 4).contiguous(memory_format=memory_format).requires_grad_()
    expected, weight = temporal_shift(x, 4, config), torch.randn(8, 6, 4, 4)
    exported = torch.export.export(Shift(), (x,)).module()
    assert torch.equal(exported(x), expected)
    compiled = torch.compile(Shift(), backend="aot_eager", fullgraph=True)(x)
    assert torch.equal(compiled, expected)
    wanted = torch.autograd.grad((expected * weight).sum(), x)
    assert torch.equal(*torch.autograd.grad((compiled * weight).sum(), x), *wanted)


@pytest.mark.parametrize("padding", ["replicate", "circular"])
def test_one_frame_and_equal_frames_are_not_changed_unless_zeros_stand_beyond_the_ends(padding: Padding) -> None:
    config, frame = ShiftConfig(padding=padding), torch.randn(1, 7, 2, 2)
    for count in (1, 2, 5):
        video = frame.repeat(count, 1, 1, 1)
        assert torch.equal(temporal_shift(video, count, config), video)
        assert not torch.equal(temporal_shift(video, count), video)


def test_replicate_changes_a_frame_only_where_a_neighbour_differs() -> None:
    video = torch.randn(2, 7, 2, 2).repeat_interleave(4, dim=0)  # a picture, and another one after a cut
    shifted = temporal_shift(video, 8, ShiftConfig(padding="replicate"))
    changed = (shifted != video).flatten(1).any(dim=1).nonzero().flatten()
    assert changed.tolist() == [3, 4]
    circular = temporal_shift(video, 8, ShiftConfig(padding="circular"))  # whose ends are neighbours
    assert (circular != video).flatten(1).any(dim=1).nonzero().flatten().tolist() == [0, 3, 4, 7]


@pytest.mark.parametrize(("batch", "frames", "channels"), [(7, 2, 6), (4, 0, 6), (4, 2, 2)])
def test_what_cannot_be_shifted(batch: int, frames: int, channels: int) -> None:
    with pytest.raises(ValueError, match=r"does not divide|too few"):
        temporal_shift(torch.zeros(batch, channels, 1, 1), frames)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fold": 1}, "the shift's fold must be a whole number of 2 or more, not 1"),
        ({"padding": "reflect"}, 'the shift\'s padding must be one of "zeros", '),
        ({"direction": "both"}, "the shift's direction must be one of "),
        ({"place": "norm1"}, 'the shift\'s place must be one of "conv1", "conv2", "block", not \'norm1\''),
        ({"blocks": "mid"}, 'the shift\'s blocks must be one of "all", "encoder", "decoder", not \'mid\''),
        ({"fold": 2, "place": "block"}, 'the shift\'s fold must be 3 or more where its place is "block"'),
    ],
)
def test_settings_that_do_not_hold(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        ShiftConfig(**settings)


def test_settings_come_back_from_a_file_and_the_papers_are_as_in_old_ones() -> None:
    assert ShiftConfig().to_dict() == {"fold": 3, "padding": "zeros", "direction": "first_from_past"}
    for place in PLACES:
        for blocks in BLOCKS:
            config = ShiftConfig(4, "replicate", "past_only", place, blocks)
            assert ShiftConfig.from_dict(config.to_dict()) == config
