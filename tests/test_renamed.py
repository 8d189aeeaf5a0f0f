"""Old names of modules, functions and classes go on working, each with one warning."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from latentshift import LatentShiftPipeline
from latentshift.imports.renamed_names import MODULES
from launch import Processes, finish, run_code

ROOT = Path(__file__).parents[1]


def python(code: str) -> str:
    """What it complains of, in a process of its own, as ``python -c`` does; it must not fail."""
    with Processes(run_code, code) as process:
        finish(process)
        return process.errors()


def test_all_that_was_renamed_is_there_under_both_names_and_warns_once() -> None:
    python(
        """
import warnings
from importlib import import_module
from pathlib import Path
import latentshift
from latentshift.imports.renamed_names import MODULES, MOVED, NAMES

def warned(make):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return make(), [str(each.message) for each in caught if each.category is FutureWarning]

for old, homes in MODULES.items():
    _, messages = warned(lambda: import_module(f"latentshift.{old}"))
    assert [each for each in messages if each.startswith(f"latentshift.{old} is called ")], (old, messages)
    assert not warned(lambda: import_module(f"latentshift.{old}"))[1]
    for home in homes:
        old_module, new_module = import_module(f"latentshift.{old}"), import_module(f"latentshift.{home}")
        for name, new in NAMES.get(home, {}).items():
            assert getattr(old_module, name) is getattr(new_module, new), (old, name)
        for name, value in list(vars(new_module).items()):
            if not name.startswith("__"):
                assert getattr(old_module, name) is value, (old, name)
for module, names in NAMES.items():
    home = import_module(".".join(filter(None, ["latentshift", module])))
    for old, new in names.items():
        assert getattr(home, old) is getattr(home, new)
        assert not warned(lambda: getattr(home, old))[1]
for module, names in MOVED.items():
    before = import_module(f"latentshift.{module}")
    for name, new in names.items():
        value, messages = warned(lambda: getattr(before, name))
        assert value is getattr(import_module(f"latentshift.{new}"), name)
        assert messages == [
            f"latentshift.{module}.{name} is called latentshift.{new}.{name} now; the old name goes in the next release"
        ]
        assert not warned(lambda: getattr(before, name))[1]
"""
    )


@pytest.mark.parametrize(
    "code",
    [
        "import latentshift.clip as old\nfrom latentshift.frame_context import FrameContext\n"
        "assert old.ClipContext is FrameContext",
        "from latentshift.clip import clip_context as old\nfrom latentshift.frame_context import frame_context as new\n"
        "assert old is new",
        "from latentshift import frames_apart, frames_independent\nassert frames_apart is frames_independent",
        "import latentshift.data.encoded.settle as old\nfrom latentshift.data.latents.resolve import resolve_source\n"
        "assert old.settle_source is resolve_source",
        "from latentshift.whole import whole as old\nfrom latentshift.lock import open_alone\n"
        "from latentshift.files import atomic_write\nassert old is atomic_write",
    ],
)
def test_old_imports_give_the_new_objects_and_name_the_line_that_uses_them(code: str) -> None:
    complaints = python(code)
    assert "<string>:1: FutureWarning: latentshift." in complaints and " now; the old name goes" in complaints


def test_nothing_here_imports_an_old_module() -> None:
    """Other processes than pytest's would only warn of it, and their tests pass until the name is gone."""
    old, found = {f"latentshift.{each}" for each in MODULES}, set()
    for file in (each for folder in ("src", "tests", "comfyui") for each in (ROOT / folder).rglob("*.py")):
        if file == Path(__file__):
            continue
        for module, names in re.findall(
            r"(?:from|import) (latentshift[\w.]*)(?: import (\([^)]*\)|.*))?", file.read_text(encoding="utf-8")
        ):
            imported = {module, *(f"{module}.{name}" for name in re.findall(r"\w+", names))}
            found |= {(file.name, each) for each in imported & old}
    assert not found


def test_new_names_warn_of_nothing_and_names_that_never_were_are_missing() -> None:
    assert python("from latentshift.frame_context import frame_context; from latentshift import install") == ""
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        import_module("latentshift.frame_context").nothing  # noqa: B018
    with pytest.raises(ImportError):
        import_module("latentshift.nothing")
    import latentshift

    with pytest.raises(AttributeError, match="module 'latentshift' has no attribute 'nothing'"):
        latentshift.nothing  # noqa: B018


def test_the_old_name_of_a_pipelines_text_encoders_warns(model: Path) -> None:
    pipeline = LatentShiftPipeline.from_pretrained(model)
    with pytest.warns(FutureWarning, match="sentences is called LatentShiftPipeline.text_encoders now"):
        assert pipeline.sentences.length == pipeline.text_encoders.length
