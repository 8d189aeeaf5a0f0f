"""Functions whose module is imported when they are called."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from latentshift.imports.late_function import import_with_late_function

LIBRARIES = {
    "slow/__init__.py": "def double(x):\n    return 2 * x\n\n\nVALUE = 7\n",
    "slow/inner.py": "import slow\n\nVALUE = slow.VALUE\n",
    "calls.py": "from slow import double\n",
    "asks_for_more.py": "from slow import VALUE, double\n",
    "imports_inside.py": "from slow.inner import VALUE\nfrom slow import double\n",
    "fails.py": "import no_such_module_at_all\n",
}


@pytest.fixture(autouse=True)
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow module, and those that use it, none of them imported yet."""
    (tmp_path / "slow").mkdir()
    for name, text in LIBRARIES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("slow", "slow.inner", "calls", "asks_for_more", "imports_inside", "fails"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_the_module_is_imported_at_the_first_call() -> None:
    import_with_late_function("calls", "slow", "double")
    assert "slow" not in sys.modules
    double = import_module("calls").double
    assert "slow" not in sys.modules and double.__name__ == "double"
    assert double(3) == 6 and sys.modules["slow"].double(3) == 6


@pytest.mark.parametrize("name", ["asks_for_more", "imports_inside"])
def test_who_needs_more_of_it_gets_the_real_one(name: str) -> None:
    import_with_late_function(name, "slow", "double")
    library = import_module(name)
    assert library.VALUE == 7 and library.double(3) == 6
    assert sys.modules["slow"].__file__.endswith("__init__.py")


def test_what_is_imported_already_is_used_and_what_fails_leaves_nothing() -> None:
    import_with_late_function("fails", "slow", "double")
    assert "slow" not in sys.modules and "fails" not in sys.modules
    slow = import_module("slow")
    import_with_late_function("calls", "slow", "double")
    assert "calls" not in sys.modules and import_module("calls").double is slow.double


def test_commands_load_no_optimizers_for_losses_that_none_of_them_has() -> None:
    code = (
        "import sys\n"
        "from latentshift.cli.models import quiet_libraries\n"
        "quiet_libraries()\n"
        "import latentshift.pipeline, numpy\n"
        "assert 'scipy.optimize' not in sys.modules\n"
        "from transformers.loss.loss_for_object_detection import linear_sum_assignment\n"
        "rows, columns = linear_sum_assignment(numpy.array([[4.0, 1.0], [2.0, 3.0]]))\n"
        "assert (list(rows), list(columns)) == ([0, 1], [1, 0])\n"
        "import scipy.optimize\n"
        "assert scipy.optimize.linear_sum_assignment is not linear_sum_assignment\n"
        "assert scipy.optimize.__file__\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
