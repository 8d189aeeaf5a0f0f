"""Cross-attention's keys and values of a text, projected once for all steps of a sampling instead of in every step.

The text of a video is the same in every step, and so are its keys and values: the result is the same bit for bit. They
are kept inside :func:`project_text_once` alone, in the thread that entered it.
Legend of shapes: B videos, L tokens, D width of the text encoder, C channels.
"""

from __future__ import annotations

import operator
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

MOST_BYTES = 2**28  # of kept keys and values; further ones are projected in every step


@dataclass(frozen=True)
class _Projected:
    """Keys and values of a text in one layer, and what they are made of."""

    tokens: weakref.ref[Tensor]
    weights: tuple[nn.Parameter, ...]
    versions: tuple[int, ...]
    key: Tensor
    value: Tensor

    @property
    def nbytes(self) -> int:
        return self.key.nbytes + self.value.nbytes

    def is_of(self, tokens: Tensor, weights: tuple[nn.Parameter, ...], versions: tuple[int, ...]) -> bool:
        same = len(self.weights) == len(weights) and all(map(operator.is_, self.weights, weights))
        return same and self.tokens() is tokens and self.versions == versions


class _Kept:
    """What one sampling keeps."""

    def __init__(self) -> None:
        self.of: dict[tuple[int, int], _Projected] = {}  # ids of layer and text
        self.nbytes = 0
        self.token = object()

    def add(self, name: tuple[int, int], projected: _Projected) -> None:
        if self.nbytes + projected.nbytes <= MOST_BYTES:
            self.of[name] = projected
            self.nbytes += projected.nbytes

    def drop(self, name: tuple[int, int]) -> None:
        if (projected := self.of.pop(name, None)) is not None:
            self.nbytes -= projected.nbytes

    def drop_all(self) -> None:
        self.of.clear()
        self.nbytes = 0


class _Thread(threading.local):
    kept: _Kept | None = None


_thread = _Thread()


@contextmanager
def project_text_once() -> Iterator[None]:
    """Inside, and in this thread, cross-attention that shares the text keeps its keys and values.

    They are kept for the same tensor of tokens, as long as there is one, and the same weights, and for plain linear
    layers: not under autograd, while torch compiles, with a LoRA or a hook on the projection, or beyond
    :data:`MOST_BYTES`. All is dropped at the end.
    """
    before, _thread.kept = _thread.kept, (own := _Kept())
    try:
        yield
    finally:
        _thread.kept = before
        own.drop_all()  # references to the texts lead back to it


def drop_projected_text() -> None:
    """Drop what :func:`project_text_once` keeps in this thread, after code that may have changed the weights.

    A change through ``weight.data`` or a merged LoRA leaves no trace in the parameter.
    """
    if _thread.kept is not None:
        _thread.kept.drop_all()
        _thread.kept.token = object()


def weights_token() -> object | None:
    """The same object as long as nothing is known that could have changed the weights in silence.

    That is inside :func:`project_text_once`, until :func:`drop_projected_text`; outside it is None.
    """
    return None if _thread.kept is None else _thread.kept.token


def with_projected_text(attn: Attention, tokens: Tensor) -> Any:
    """The attention layer to call for a text: itself, or with kept keys and values in place of its projections.

    Args:
        attn: a cross-attention layer.
        tokens: (B, L, D).
    """
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or (kept := _thread.kept) is None:
        return attn
    if not _is_plain(attn):
        return attn
    weights = (*attn.to_k.parameters(), *attn.to_v.parameters())
    versions = tuple(weights_version(each) for each in (tokens, *weights))
    name = id(attn), id(tokens)
    projected = kept.of.get(name)
    if projected is None or not projected.is_of(tokens, weights, versions):
        kept.drop(name)
        reference = weakref.ref(tokens, lambda _: kept.drop(name))
        projected = _Projected(reference, weights, versions, attn.to_k(tokens), attn.to_v(tokens))
        kept.add(name, projected)
    return _WithProjectedText(attn, projected)


class _WithProjectedText:
    """An attention layer to an attention processor, whose keys and values are there already."""

    def __init__(self, attn: Attention, projected: _Projected) -> None:
        self._attn = attn
        self._projected = projected

    def to_k(self, tokens: Tensor) -> Tensor:
        return self._projected.key

    def to_v(self, tokens: Tensor) -> Tensor:
        return self._projected.value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._attn, name)


def _is_plain(attn: Attention) -> bool:
    """Whether keys and values are a matter of the text and two weights alone."""
    return not attn.norm_cross and all(
        type(layer) is nn.Linear
        and "forward" not in vars(layer)  # as offloading and casting hooks replace it
        and not layer._forward_hooks
        and not layer._forward_pre_hooks
        for layer in (attn.to_k, attn.to_v)
    )


def weights_version(tensor: Tensor) -> int:
    """Counts changes in place, of which inference tensors keep no count."""
    return 0 if tensor.is_inference() else tensor._version
