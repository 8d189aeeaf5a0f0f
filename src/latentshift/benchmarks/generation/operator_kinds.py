"""torch's operators by kind, for tables of where the time of a pass goes. Imports no library."""

from __future__ import annotations

from collections.abc import Iterable

CONVOLUTION, PRODUCT, ATTENTION = "convolution", "matrix product", "attention"
NORMALISATION, ACTIVATION, COPY, OTHER = "normalisation", "activation", "copy", "other"
KINDS = (CONVOLUTION, PRODUCT, ATTENTION, NORMALISATION, ACTIVATION, COPY, OTHER)

# Parts of a name -> kind; the first that matches counts. In a U-Net, batched products and softmax are attention's.
_PARTS = (
    (("attention", "softmax", "bmm"), ATTENTION),
    (("conv",), CONVOLUTION),
    (("addmm", "mm", "matmul", "linear", "einsum"), PRODUCT),
    (("norm",), NORMALISATION),
    (("silu", "gelu", "sigmoid", "relu", "tanh"), ACTIVATION),
    (
        ("copy", "cat", "clone", "contiguous", "repeat", "fill", "zeros", "zero_", "upsample", "pad", "index", "stack"),
        COPY,
    ),
)


def kind_of(operator: str) -> str:
    """The kind of an operator as the profiler names it, e.g. ``aten::mkldnn_convolution``: one of :data:`KINDS`.

    Upsampling by repeated pixels is a copy. Additions, multiplications, views and what torch spends on calls are other.
    """
    name = operator.rpartition("::")[2].rpartition("aten.")[2]
    return next((kind for parts, kind in _PARTS if any(part in name for part in parts)), OTHER)


def by_kind(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Sums of (operator, value) by kind, of all :data:`KINDS` in their order."""
    sums = dict.fromkeys(KINDS, 0.0)
    for operator, value in values:
        sums[kind_of(operator)] += value
    return sums
