"""Modules that are loaded when something of them is used."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from latentshift.imports.lazy_module import load_when_used

MODULE = """
import threading
from parent import part  # itself, before it is loaded to its end

log.append("begun")
gate.wait()
VALUE = 7
__all__ = ["VALUE"]


def double():
    return 2 * part.VALUE
"""


@pytest.fixture
def part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that says when it is loaded, and waits for a gate meanwhile."""
    (tmp_path / "parent").mkdir()
    (tmp_path / "parent" / "__init__.py").write_text(
        "import threading\nlog, gate = [], threading.Event()\ngate.set()\n"
    )
    (tmp_path / "parent" / "part.py").write_text("from parent import gate, log\n" + MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("parent", "parent.part"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "parent.part"


def test_it_is_loaded_once_when_something_of_it_is_used(part: str) -> None:
    load_when_used(part)
    import parent  # type: ignore[import-not-found]
    import parent.part as imported  # type: ignore[import-not-found]

    assert imported is parent.part is sys.modules[part] and inspect.ismodule(imported)
    assert imported.__file__.endswith("part.py") and not hasattr(imported, "__wrapped__") and parent.log == []
    inspect.getmodule(inspect.currentframe())  # looks into every module there is
    assert parent.log == []
    assert imported.double() == 14 and parent.log == ["begun"]
    assert {**vars(imported)}["VALUE"] == 7 and imported.__all__ == ["VALUE"]
    with pytest.raises(AttributeError, match=r"^module 'parent.part' has no attribute 'other'$"):
        _ = imported.other
    load_when_used(part)
    assert sys.modules[part] is imported and parent.log == ["begun"]


def test_from_it_names_are_imported_as_ever(part: str) -> None:
    load_when_used(part)
    namespace: dict[str, object] = {}
    exec("from parent.part import *\nfrom parent.part import double", namespace)
    assert namespace["VALUE"] == 7 and "double" in namespace


def test_another_thread_waits_until_it_is_loaded(part: str) -> None:
    load_when_used(part)
    import parent

    parent.gate.clear()
    seen: list[int] = []
    threads = [threading.Thread(target=lambda: seen.append(parent.part.double())) for _ in range(4)]
    for thread in threads:
        thread.start()
    parent.gate.set()
    for thread in threads:
        thread.join()
    assert seen == [14] * 4 and parent.log == ["begun"]


def test_a_failure_to_load_is_the_modules_own_and_may_pass(part: str, tmp_path: Path) -> None:
    file = tmp_path / "parent" / "part.py"
    whole = file.read_text()
    file.write_text("raise OSError('the disk does not answer')\n")
    load_when_used(part)
    import parent

    with pytest.raises(OSError, match="the disk does not answer"):
        parent.part.double()
    file.write_text(whole)
    importlib.invalidate_caches()
    assert parent.part.double() == 14


def test_what_is_not_installed_is_left_alone() -> None:
    load_when_used("no_such_package.part")
    load_when_used("email.no_such_part")
    assert "no_such_package.part" not in sys.modules and "email.no_such_part" not in sys.modules


def test_a_command_does_without_scipys_statistics_until_they_are_asked_for() -> None:
    code = """
import sys
from latentshift.cli.models import quiet_libraries
quiet_libraries()
from latentshift.pipeline import LatentShiftPipeline
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, LMSDiscreteScheduler
print("scipy.stats._stats_py" in sys.modules or "scipy.integrate._quadpack_py" in sys.modules)
sampler = DPMSolverMultistepScheduler(use_beta_sigmas=True)
sampler.set_timesteps(4)
multistep = LMSDiscreteScheduler()
multistep.set_timesteps(4)
assert abs(multistep.get_lms_coefficient(1, 0, 0) - float(multistep.sigmas[1] - multistep.sigmas[0])) < 1e-4
import scipy
print(scipy.stats is sys.modules["scipy.stats"], scipy.stats.norm.cdf(0.0), sampler.timesteps.tolist())
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = ended.stdout.splitlines()
    assert before == "False"
    assert after.startswith("True 0.5 [")
