"""``diffusers.LatentShiftPipeline``, by which ``DiffusionPipeline.from_pretrained`` finds the class of our folders.

It is there as soon as both packages are imported, in either order, and imports nothing before it is asked for.
``latentshift.pipeline`` is named as a string: the import rules can't see it, and have this file on the lowest floor.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from latentshift.imports.after_import import after_import

_LIBRARY, _CLASS = "diffusers", "LatentShiftPipeline"


def register_with_diffusers() -> None:
    """Add the class to diffusers, now or when it is imported."""
    after_import(_LIBRARY, _add_class)


def _add_class(module: ModuleType) -> None:
    kind: Any = type(module)
    if getattr(kind, "_has_latentshift", False):
        return

    class WithOurPipeline(kind):
        _has_latentshift = True

        def __getattr__(self, name: str) -> Any:
            if name == _CLASS:
                return getattr(import_module("latentshift.pipeline"), name)
            inherited = getattr(super(), "__getattr__", None)
            if inherited is None:  # diffusers that was imported whole
                raise AttributeError(f"module {_LIBRARY!r} has no attribute {name!r}")
            return inherited(name)

    module.__class__ = WithOurPipeline
