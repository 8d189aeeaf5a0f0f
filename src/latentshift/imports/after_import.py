"""Change a module right after its import, by whomever it is imported, without importing it before."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

_changes: dict[str, Callable[[ModuleType], None]] = {}


def after_import(name: str, change: Callable[[ModuleType], None]) -> None:
    """Call ``change`` with a module: at once if it is imported already, else whenever it is imported.

    Args:
        name: of the module, whole: ``latentshift.video``. There is one change for each.
        change: may be called more than once.
    """
    _changes[name] = change
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
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
        others = (finder for finder in sys.meta_path if not isinstance(finder, _Finder))
        spec = next((spec for finder in others if (spec := finder.find_spec(fullname, path, target))), None)
        if spec is not None and spec.loader is not None:
            exec_module = spec.loader.exec_module

            def run(module: ModuleType) -> None:
                exec_module(module)
                change(sys.modules.get(fullname, module))  # which a module may replace itself in, as diffusers does

            vars(spec.loader)["exec_module"] = run
        return spec
