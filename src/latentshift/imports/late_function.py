"""A function that libraries import from a slow module and seldom call: the module is imported at the first call."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any


def import_with_late_function(name: str, module: str, function: str) -> None:
    """Import a module, in which ``from module import function`` takes a stand-in that imports ``module`` when called.

    The stand-in's module is there during this import alone. Who asks it for anything else meanwhile gets the real one;
    where an import fails with it, it is done without. Nothing is done if ``module`` is imported already, and an import
    that fails without it is left to who needs it.

    Args:
        name: of the module to import, as in ``"transformers.loss.loss_utils"``.
        module: that is slow to import, as in ``"scipy.optimize"``.
        function: of it.
    """
    if module in sys.modules:
        return
    stand_in = sys.modules[module] = _StandIn(module)
    vars(stand_in)[function] = _late(module, function)
    try:
        import_module(name)
    except ImportError:
        _remove(stand_in)
        try:
            import_module(name)
        except ImportError:
            return
    finally:
        _remove(stand_in)


class _StandIn(ModuleType):
    """Has one function, and everything else of the real module, which then takes its place."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # a look around: `inspect` asks every module for some
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        _remove(self)
        return getattr(import_module(self.__name__), name)


def _remove(stand_in: _StandIn) -> None:
    if sys.modules.get(stand_in.__name__) is stand_in:
        del sys.modules[stand_in.__name__]


def _late(module: str, function: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(import_module(module), function)(*args, **kwargs)

    call.__name__ = call.__qualname__ = function
    return call
