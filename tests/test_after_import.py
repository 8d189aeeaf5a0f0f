"""Modules that are changed right after their import, among other finders and loaders, and when all is imported anew."""

from __future__ import annotations

import copy
import sys
import zipfile
from importlib import import_module, reload
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

import latentshift.video
from latentshift.imports.after_import import after_import
from launch import Processes, finish, run_code


@pytest.fixture(autouse=True)
def _nothing_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr("latentshift.imports.after_import._changes", {})
    for name in ("changed_one", "other_one"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_each_import_and_reload_changes_the_module_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "modules.zip", "w") as archive:  # whose modules have one loader
        archive.writestr("changed_one.py", "")
        archive.writestr("other_one.py", "")
    monkeypatch.syspath_prepend(tmp_path / "modules.zip")
    changed: list[ModuleType] = []
    after_import("changed_one", changed.append)
    assert find_spec("changed_one") and not changed
    one, other = import_module("changed_one"), import_module("other_one")
    assert changed == [one] and one.__loader__ == other.__loader__ == one.__spec__.loader  # type: ignore[union-attr]
    reload(other)
    assert changed == [one]
    assert reload(one) is one and changed == [one, one]


def test_finders_and_loaders_of_an_older_kind_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:  # that importlib asks in another way, up to Python 3.11
        def find_module(self, name: str, path: object = None) -> None:
            return None

    (tmp_path / "changed_one.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    after_import("changed_one", lambda module: setattr(module, "is_changed", True))
    sys.meta_path.insert(0, Old())  # type: ignore[arg-type]
    spec = find_spec("changed_one")
    assert spec is not None and copy.copy(spec.loader).get_code("changed_one")  # type: ignore[union-attr]
    assert import_module("changed_one").is_changed


def test_a_package_that_is_imported_anew_works_on() -> None:
    """As by what reloads a program's modules: its earlier finder is still there."""
    code = """
import sys
for _ in range(3):
    import latentshift
    import latentshift.video
    assert callable(latentshift.video)
    for name in [each for each in sys.modules if each.split(".")[0] in ("latentshift", "diffusers")]:
        del sys.modules[name]
import diffusers
import latentshift
assert diffusers.LatentShiftPipeline is latentshift.LatentShiftPipeline
assert sum(type(each).__module__ == "latentshift.imports.after_import" for each in sys.meta_path) == 1
"""
    with Processes(run_code, code) as process:
        finish(process)


def test_a_copy_of_the_callable_module_is_itself() -> None:
    """As what cloudpickle, and Ray with it, makes of a function that names it."""
    assert copy.copy(latentshift.video) is latentshift.video is copy.deepcopy(latentshift.video)
