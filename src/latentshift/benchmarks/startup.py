"""How long it takes until there is an answer: mistakes, help and imports, each in a fresh process.

Processor time (user and system) of the process, the median of rounds in which all commands take turns, and its ratio to
an empty Python, to ``import torch``, to torch with transformers' CLIP, and to diffusers' own pipeline of the same
rounds. Imports no torch.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from latentshift.benchmarks.report import Result

EMPTY, TORCH, TORCH_AND_CLIP = "python -c pass", "import torch", "import torch, transformers.models.clip"
STOCK = "from diffusers import StableDiffusionPipeline"
_CODE = {
    EMPTY: "pass",
    TORCH: TORCH,
    TORCH_AND_CLIP: TORCH_AND_CLIP,
    STOCK: STOCK,
    "import latentshift": "import latentshift",
    "from latentshift import install": "from latentshift import install",
    "from latentshift import LatentShiftPipeline": "from latentshift import LatentShiftPipeline",
}
_COMMANDS = (
    "--help",
    "generate --help",
    'generate ""',
    "generate star --size 60",
    "info nowhere",
    "train recipe.yaml steps=many",
    "train recipe.yaml",
    "data inspect nowhere",
    "init --family sd9 -o new",
)
_RECIPE = "stage: video\noutput: run\nsteps: 400\nbatch_size: 1\nmodel: bundled\ndata: clips\n"


def bench_startup(quick: bool = False) -> Iterator[Result]:
    """One row for each command, with the median of five rounds after one that is not counted. Quick: of one."""
    commands = {name: [sys.executable, "-c", code] for name, code in _CODE.items()}
    for words in _COMMANDS:
        arguments = [word.strip('"') for word in words.split(" ")]
        commands[f"latentshift {words}"] = [sys.executable, "-m", "latentshift", *arguments]
    spent: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "clips").mkdir()  # without a clip
        (Path(folder) / "recipe.yaml").write_text(_RECIPE, encoding="utf-8")
        for counted in (False, *[True] * (1 if quick else 5)):
            for name, command in commands.items():
                seconds = _processor_seconds(command, folder)
                if counted:
                    spent[name].append(seconds)
    medians = {name: statistics.median(each) for name, each in spent.items()}
    for name, seconds in medians.items():
        yield {
            "what": name,
            "cpu_seconds": seconds,
            "to_empty_python": seconds / medians[EMPTY],
            "to_import_torch": seconds / medians[TORCH],
            "to_torch_and_clip": seconds / medians[TORCH_AND_CLIP],
            "to_stock_pipeline": seconds / medians[STOCK],
        }


def _processor_seconds(command: list[str], folder: str) -> float:
    """Of a process that runs to its end, whatever it says and however it ends."""
    with open(os.devnull, "w") as nothing:
        file_actions = [(os.POSIX_SPAWN_DUP2, nothing.fileno(), 1), (os.POSIX_SPAWN_DUP2, nothing.fileno(), 2)]
        here = Path.cwd()
        os.chdir(folder)
        try:
            process = os.posix_spawn(command[0], command, os.environ, file_actions=file_actions)
        finally:
            os.chdir(here)
    _, _, usage = os.wait4(process, 0)
    return usage.ru_utime + usage.ru_stime
