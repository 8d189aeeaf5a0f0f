"""The garbage collector while libraries are imported."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest

from latentshift.imports.fast_import import collector_paused


@pytest.fixture
def collector() -> Iterator[None]:
    enabled = gc.isenabled()
    yield
    (gc.enable if enabled else gc.disable)()


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_off_inside_and_as_before_afterwards(enabled: bool, collector: None) -> None:
    (gc.enable if enabled else gc.disable)()
    with collector_paused():
        assert not gc.isenabled()
        with collector_paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled() == enabled
    with pytest.raises(ImportError), collector_paused():
        raise ImportError("a library is missing")
    assert gc.isenabled() == enabled


def test_it_is_off_while_the_pipeline_is_imported_and_on_afterwards() -> None:
    code = """
import gc, sys
from importlib.abc import MetaPathFinder
class Look(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "diffusers", "transformers"):
            print(name, gc.isenabled())
sys.meta_path.insert(0, Look())
from latentshift import LatentShiftPipeline
print("after", gc.isenabled())
"""
    *imports, after = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert set(imports) == {"diffusers False", "torch False", "transformers False"} and after == "after True"
