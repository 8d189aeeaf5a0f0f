"""Change a module right after its import, by whomever it is imported, without importing it before."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_changes: dict[str, Callable[[ModuleType], None]] = {}


def after_import(name: str, change: Callable[[ModuleType], None]) -> None:
    """Call ``change`` with a module: at once if it is imported already, else whenever it is imported.

    Args:
        name: of the module, whole: ``latentshift.video``. There is one change for each.
        change: may be called more than once.
    """
    _changes[name] = change
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        # One of this module's earlier import, after which it was reloaded, or taken out of sys.modules, is replaced:
        # each of the two would ask the other one, without end.
        sys.meta_path[:] = [_Finder(), *(finder for finder in sys.meta_path if not _is_earlier(finder))]
    module = sys.modules.get(name)  # None also where a program forbids its import
    if module is not None:
        change(module)


class _Finder:
    """Leaves finding modules to the others, and changes those with an entry above when they have been imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        change = _changes.get(fullname)
        if change is None:
            return None
        finders: list[Any] = [each for each in sys.meta_path if each is not self and hasattr(each, "find_spec")]
        spec = next((spec for each in finders if (spec := each.find_spec(fullname, path, target))), None)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _Loader(spec.loader, change)
        return spec


class _Loader:
    """Stands in for a module's own loader until it runs; that one may be the loader of other modules too."""

    def __init__(self, own: Any, change: Callable[[ModuleType], None]) -> None:
        self._own = own
        self._change = change

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._own.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        assert spec is not None
        module.__loader__ = spec.loader = self._own
        self._own.exec_module(module)
        self._change(sys.modules.get(spec.name, module))  # which a module may replace itself in, as diffusers does

    def __getattr__(self, name: str) -> Any:
        if name == "_own":  # of a copy that is being made
            raise AttributeError(name)
        return getattr(self._own, name)


def _is_earlier(finder: object) -> bool:
    kind = type(finder)
    return (kind.__module__, kind.__qualname__) == (__name__, _Finder.__qualname__)
