"""uint8 and [-1, 1]: the one definition, in numpy and torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latentshift.video import (
    to_uint8,
    to_unit,
)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_every_level_survives_the_unit_range(kind: str) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(2, 128)
    values = levels if kind == "numpy" else torch.from_numpy(levels)
    unit = to_unit(values)
    assert type(unit) is type(values)
    assert unit.dtype == (np.float32 if kind == "numpy" else torch.float32)
    assert (float(unit.min()), float(unit.max())) == (-1.0, 1.0)
    back = to_uint8(unit)
    assert type(back) is type(values)
    assert back.dtype == values.dtype
    np.testing.assert_array_equal(back, values)


def test_numpy_and_torch_agree_and_round_to_the_nearest() -> None:
    x = np.linspace(-1.5, 1.5, 10_001).astype(np.float32)
    expected = np.clip((x.astype(np.float64) + 1) * 127.5, 0, 255)
    assert np.abs(to_uint8(x) - expected).max() <= 0.5001
    np.testing.assert_array_equal(to_uint8(torch.from_numpy(x)).numpy(), to_uint8(x))


def test_half_precision_and_large_values() -> None:
    assert to_uint8(torch.tensor([-9.0, 0.5, 9.0], dtype=torch.bfloat16)).tolist() == [0, 191, 255]
    assert to_uint8(np.array([-1e300, 1e300])).tolist() == [0, 255]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(bad: float) -> None:
    for x in (np.array([0.0, bad], np.float32), torch.tensor([0.0, bad])):
        with pytest.raises(ValueError, match="NaN or infinite"):
            to_uint8(x)


def test_wrong_types_are_refused() -> None:
    for values in (np.zeros(3), torch.zeros(3)):
        with pytest.raises(TypeError, match="uint8"):
            to_unit(values)
        with pytest.raises(TypeError, match="float"):
            to_uint8(to_uint8(values))
