"""Old names of modules, functions and classes: they work for one release, with a warning, and then go.

``import old.module`` and ``from old.module import old_name`` give the new objects, of all that is listed in
:mod:`latentshift.imports.renamed_names`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, cast

from latentshift.imports.renamed_names import MODULES, MOVED, NAMES

_PACKAGE = "latentshift"

_warned: set[str] = set()


def warn_renamed(old: str, new: str) -> None:
    """Warn once a process that ``old`` is called ``new`` now."""
    if old in _warned:
        return
    _warned.add(old)
    frame = sys._getframe(1)
    ours = {__name__, _PACKAGE}  # and the import system: what is named is the line that uses the old name
    while frame.f_back and (frame.f_globals.get("__name__") in ours or "importlib" in frame.f_code.co_filename):
        frame = frame.f_back
    warnings.warn_explicit(
        f"{old} is called {new} now; the old name goes in the next release",
        FutureWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        frame.f_globals.get("__name__"),
    )


def old_name(module: str, name: str) -> Any:
    """The object that ``name`` meant in a module, called ``module`` now.

    Raises:
        AttributeError: if there was none.
    """
    below = _below(module)
    if (new := NAMES.get(below, {}).get(name)) is not None:
        home = module
    elif (moved := MOVED.get(below, {}).get(name)) is not None:
        home, new = f"{_PACKAGE}.{moved}", name
    else:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    warn_renamed(f"{module}.{name}", f"{home}.{new}")
    return getattr(import_module(home), new)


def install_finder() -> None:
    """Let the import system find old modules, and old names in modules that are imported from now on."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _below(module: str) -> str:
    return module.removeprefix(_PACKAGE).removeprefix(".")


class _Finder:
    """First on ``sys.meta_path``; leaves all but modules with an entry above to the others."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(_PACKAGE + "."):
            return None
        below = _below(fullname)
        if below in MODULES:
            return ModuleSpec(fullname, cast(Any, _OldModule(MODULES[below])), is_package=True)
        if below in NAMES or below in MOVED:
            spec = PathFinder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                vars(spec.loader)["exec_module"] = _then_old_names(spec.loader.exec_module)
            return spec
        return None


class _OldModule:
    """Loader of a module that is called otherwise now: what is asked of it comes from the new one."""

    def __init__(self, homes: tuple[str, ...]) -> None:
        self.homes = [f"{_PACKAGE}.{home}" for home in homes]

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None  # the usual one

    def exec_module(self, module: ModuleType) -> None:
        old, homes = module.__name__, self.homes
        warn_renamed(old, " and ".join(homes))

        def __getattr__(name: str) -> Any:  # noqa: N807
            if not name.startswith("__"):
                for home in homes:
                    try:
                        return getattr(import_module(home), name)
                    except AttributeError:
                        continue
            raise AttributeError(f"module {old!r} has no attribute {name!r}")

        vars(module)["__getattr__"] = __getattr__


def _then_old_names(exec_module: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def run(module: ModuleType) -> None:
        exec_module(module)
        vars(module).setdefault("__getattr__", lambda name: old_name(module.__name__, name))

    return run
