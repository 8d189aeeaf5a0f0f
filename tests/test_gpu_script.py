"""``benchmarks/gpu.sh``: its commands are ones that there are, and what fails or has no time is named."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from command_words import check_understood
from latentshift.training.recipe_file import load_recipe
from waiting import PATIENCE

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "gpu.sh"


def run(folder: Path, *words: str, record: str, **variables: str) -> tuple[int, str, list[list[str]]]:
    """Exit code, what was printed, and the words of each command, which a shell script stands in for."""
    stand_in = folder / "stand-in"
    stand_in.write_text(f'#!/bin/bash\nprintf "%s\\0" "$@" END >> "{folder}/words"\n{record}\n')
    stand_in.chmod(0o755)
    made = subprocess.run(
        [SCRIPT, *words],
        cwd=folder,
        env=os.environ | {"LATENTSHIFT": str(stand_in)} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
    )
    written = folder / "words"
    calls = written.read_text().split("END\0")[:-1] if written.exists() else []
    return made.returncode, made.stdout, [call.split("\0")[:-1] for call in calls]


@pytest.mark.parametrize("options", [[], ["--tiny"]])
def test_every_command_is_understood_and_every_recipe_holds(options: list[str], tmp_path: Path) -> None:
    code, printed, calls = run(tmp_path, "made", *options, record="echo a row")
    assert code == 0, printed
    table = (tmp_path / "made" / "table.md").read_text()
    assert table.count("a row") == len(calls) == table.count("\n## ") == (9 if options else 10)
    shown = [shlex.split(line) for line in table.splitlines() if line.startswith("    latentshift ")]
    assert shown == [["latentshift", *words] for words in calls]  # as a shell takes them
    methods = set()
    for words in calls:
        check_understood(words)
        if words[:2] == ["bench", "memory"]:
            settings = [word for word in words[3:] if "=" in word]
            recipe = load_recipe(Path(words[2]), settings)
            methods.add((recipe.method, recipe.compute.gradient_checkpointing, recipe.lora is not None))
    assert len(methods) == 5


def test_a_failure_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    fails = '[[ $* == *modelscope* ]] && { echo "error: out of memory" >&2; exit 3; }; echo a row'
    code, printed, calls = run(tmp_path, "made", "--tiny", record=fails)
    assert code == 1 and printed.count("a row") == len(calls) - 1
    assert "Failed with exit code 3: error: out of memory" in (tmp_path / "made" / "table.md").read_text()


@pytest.mark.parametrize(
    ("words", "variables", "message"),
    [
        ([], {}, "usage: benchmarks/gpu.sh FOLDER [--tiny]"),
        (["made", "--small"], {}, "usage: benchmarks/gpu.sh FOLDER [--tiny]"),
        (["made"], {"MINUTES": "0"}, "MINUTES must be a whole number from 1 to 9999, not 0"),
        (["."], {}, "./table.md is there already"),
    ],
)
def test_mistakes_start_nothing(words: list[str], variables: dict[str, str], message: str, tmp_path: Path) -> None:
    (tmp_path / "table.md").touch()
    code, printed, calls = run(tmp_path, *words, record="true", **variables)
    assert code == 2 and message in printed and not calls
