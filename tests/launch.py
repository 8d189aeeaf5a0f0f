"""Training runs in processes of their own, one or several, and what they left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from latentshift.training.checkpoint import list_checkpoints

RECIPES = Path(__file__).parent.parent / "recipes"
TINY = [
    "model={channels: [8, 8, 8], layers_per_block: 1, latent_channels: 4, norm_groups: 4}",
    "data.size=32",
    "batch_size=8",
    "sample_every=1000",
    "save_every=2",
    "log_every=1",
    "optimizer={learning_rate: 1e-3, warmup_steps: 1}",
    "compute={device: cpu, precision: fp32, threads: 1}",
]
AUTOENCODER = RECIPES / "sprites-autoencoder.yaml"


def train(*words: str, processes: int = 1, **options: object) -> subprocess.Popen[str]:
    launch = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"] if processes > 1 else []
    command = [sys.executable, "-m", *launch, "latentshift", "train", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def finish(process: subprocess.Popen[str]) -> None:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:] + out[-500:]


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(list_checkpoints(folder / "checkpoints")[-1] / "weights.safetensors")


APART = f"""
import os, time
from pathlib import Path
from latentshift.training import folder
from latentshift.training.recipe import load_recipe
from latentshift.training.run import run
from latentshift.training.stages.autoencoder import AutoencoderStage
from latentshift.training.termination import Terminated
rank, words = int(os.environ["RANK"]), {TINY!r}
def train(output, *more):
    run(load_recipe(Path({str(AUTOENCODER)!r}), [*words, f"output={{output}}", *more]), quiet=True)
"""


def apart(tmp_path: Path, text: str) -> subprocess.Popen[str]:
    """Two processes that differ in something."""
    script = tmp_path / "apart.py"
    script.write_text(APART + text)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    return subprocess.Popen(launch, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
