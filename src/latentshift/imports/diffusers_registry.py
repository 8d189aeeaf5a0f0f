"""``diffusers.LatentShiftPipeline``, by which ``DiffusionPipeline.from_pretrained`` finds the class of our folders.

It is there as soon as both packages are imported, in either order, and imports nothing before it is asked for.
``latentshift.pipeline`` is named as a string: the import rules can't see it, and have this file on the lowest floor.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_LIBRARY, _CLASS = "diffusers", "LatentShiftPipeline"


def register_with_diffusers() -> None:
    """Add the class to diffusers, now or when it is imported."""
    module = sys.modules.get(_LIBRARY)  # None also where a program forbids its import
    if module is not None:
        _add_class(module)
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


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


class _Finder:
    """Leaves finding diffusers to the others, and adds the class when it has been imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _LIBRARY:
            return None
        others = (finder for finder in sys.meta_path if not isinstance(finder, _Finder))
        spec = next((spec for finder in others if (spec := finder.find_spec(fullname, path, target))), None)
        if spec is not None and spec.loader is not None:
            exec_module = spec.loader.exec_module

            def run(module: ModuleType) -> None:
                exec_module(module)
                _add_class(sys.modules.get(fullname, module))  # which diffusers replaces

            vars(spec.loader)["exec_module"] = run
        return spec
