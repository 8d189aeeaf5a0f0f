"""A module that other libraries import and seldom use, loaded when something of it is first asked for."""

from __future__ import annotations

import sys
import threading
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any


class _LazyModule(ModuleType):
    """Itself the module, before and after it is loaded; only what is missing in it loads it."""

    def __getattr__(self, name: str) -> Any:
        state = object.__getattribute__(self, "__dict__")
        if name.startswith("__") and name != "__all__":  # a look around: `inspect` asks every module for some
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        with state["_lazy_lock"]:
            if not state["_lazy_loading"]:  # else its own code asks, or another thread did so first
                state["_lazy_loading"] = True
                try:
                    state["__spec__"].loader.exec_module(self)
                except BaseException:
                    state["_lazy_loading"] = False
                    raise
        if name in state:
            return state[name]
        if "__getattr__" in state:
            return state["__getattr__"](name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


def load_when_used(name: str) -> None:
    """Let the first use of a module load it, in place of its import; nothing is done if it is loaded, or not installed.

    It is the same module then, for all who imported it. What it is asked for from outside is what counts: its
    submodules can be imported before.

    Args:
        name: of a module whose parent is a cheap import, as in ``"scipy.stats"``.
    """
    if name in sys.modules:
        return
    try:
        spec = find_spec(name)  # imports the parent
    except ModuleNotFoundError:
        return
    if spec is None or spec.loader is None:
        return
    module = module_from_spec(spec)
    module.__class__ = _LazyModule
    vars(module).update(_lazy_lock=threading.RLock(), _lazy_loading=False)
    sys.modules[name] = module
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], last, module)
