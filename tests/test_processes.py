"""One run on one process or on two, killed or asked to end: the same weights, the same order, nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from latentshift.training.checkpoint import checkpoint_step, list_checkpoints, load_checkpoint, load_newest_checkpoint
from latentshift.training.recipe import load_recipe
from latentshift.training.run import run
from latentshift.training.termination import EXIT_CODE

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


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process that nothing broke."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run(load_recipe(AUTOENCODER, [*TINY, "steps=6", f"output={folder}"]), quiet=True)
    return folder


def test_gradients_are_gathered_over_parts_of_a_batch(whole: Path, tmp_path: Path) -> None:
    run(load_recipe(AUTOENCODER, [*TINY, "steps=6", f"output={tmp_path}/parts", "micro_batch_size=2"]), quiet=True)
    np.testing.assert_allclose(losses(tmp_path / "parts"), losses(whole), rtol=1e-4)
    with pytest.raises(ValueError, match="don't divide into batches of 3"):
        run(load_recipe(AUTOENCODER, [*TINY, "steps=6", f"output={tmp_path}/odd", "micro_batch_size=3"]), quiet=True)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_learn_what_one_learns_and_a_run_moves_between_them(
    parallel: str, whole: Path, tmp_path: Path
) -> None:
    words = [str(AUTOENCODER), *TINY, f"output={tmp_path}/run", f"compute.parallel={parallel}"]
    finish(train(*words, "steps=2", processes=2))
    finish(train(*words, "steps=4", processes=1))
    finish(train(*words, "steps=6", processes=2))
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(whole), rtol=1e-4)
    expected = weights(whole)
    for name, value in weights(tmp_path / "run").items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=2e-4)
    assert json.loads((tmp_path / "run" / "versions.json").read_text())["processes"] == 2


@pytest.mark.parametrize(
    ("parallel", "settings"),
    [
        ("ddp", ["method=latent-vdm", "train_text_encoder=true", "export_from=best"]),
        ("fsdp", ["method=latent-shift", "train_text_encoder=false"]),
        ("fsdp", ["method=latent-vdm", "train_text_encoder=false"]),
        ("fsdp", ["train_text_encoder=true", "export_from=best"]),
        ("fsdp", ["train_text_encoder=false", "lora.rank=2", "exports=[model]"]),
    ],
)
def test_two_processes_make_the_video_model_that_one_makes(
    parallel: str, settings: list[str], model: Path, tmp_path: Path
) -> None:
    """Sampled, validated and exported in between: by the main process, of weights that it gathers from shares."""
    base = shutil.copytree(model, tmp_path / "base")
    config = base / "text_encoder" / "config.json"  # its dropout would differ between one process and two
    config.write_text(json.dumps({**json.loads(config.read_text()), "dropout": 0.0}))
    words = [str(RECIPES / "finetune-folder.yaml"), f"model={base}", "data={source: sprites, options: {clips: 4}}"]
    words += ["steps=3", "batch_size=4", "micro_batch_size=1", "sample_every=2", "save_every=2", "log_every=1"]
    words += ["optimizer={learning_rate: 1e-3, warmup_steps: 1}", "validation={every: 2, clips: 1, bands: 2}"]
    words += ["sample_steps=2", "weights=float32", "compute={device: cpu, threads: 1}"]
    words += ["compute.gradient_checkpointing=true", *settings]
    run(load_recipe(Path(words[0]), [*words[1:], f"output={tmp_path}/whole"]), quiet=True)
    finish(train(*words, f"output={tmp_path}/shares", f"compute.parallel={parallel}", processes=2))
    np.testing.assert_allclose(losses(tmp_path / "shares"), losses(tmp_path / "whole"), rtol=1e-4)
    told = [
        [json.loads(line)["error"] for line in (tmp_path / name / "validation.jsonl").read_text().splitlines()]
        for name in ("shares", "whole")
    ]
    np.testing.assert_allclose(told[0], told[1], rtol=1e-3)
    assert (tmp_path / "shares" / "samples" / "step-00000002.mp4").exists()
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole/model").rglob("*.safetensors"))
    assert len(files) == (4 if "method=latent-vdm" in settings else 3)
    for file in files:
        made, expected = load_file(tmp_path / "shares" / file), load_file(tmp_path / "whole" / file)
        assert made.keys() == expected.keys()
        for name, value in made.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-3)


def test_each_process_keeps_its_share_alone(tmp_path: Path) -> None:
    script = tmp_path / "shares.py"
    script.write_text(f"""
import sys
from pathlib import Path
from latentshift.training.stages.autoencoder import AutoencoderStage
from latentshift.training.learner import Learner
from latentshift.training.processes import accelerator_for
from latentshift.training.recipe import load_recipe
words = [*{TINY!r}, "steps=2", "output={tmp_path}/run", "compute.parallel=fsdp"]
recipe = load_recipe(Path({str(AUTOENCODER)!r}), words)
accelerator = accelerator_for(recipe)
learner = Learner(AutoencoderStage(recipe).objective, recipe, accelerator)
groups = (learner.trained.values(), learner.average.shadow_params)
parts = [sum(value.to_local().numel() for value in group) for group in groups]
whole = sum(value.numel() for value in learner.trained.values())
assert all(part < 0.75 * whole for part in parts), (parts, whole)
accelerator.end_training()
""")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(launch, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def test_settings_that_do_not_go_with_shares_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"parallel=fsdp does not go with compute\.channels_last"):
        load_recipe(AUTOENCODER, [*TINY, "steps=2", "compute.parallel=fsdp", "compute.channels_last=true"])


def test_sigterm_saves_and_ends_with_a_code_of_its_own(whole: Path, tmp_path: Path) -> None:
    words = [str(AUTOENCODER), *TINY, f"output={tmp_path}/run", "steps=100000", "save_every=100000"]
    process = train(*words)
    log = tmp_path / "run" / "metrics.jsonl"
    while process.poll() is None and (not log.exists() or log.read_text().count("\n") < 3):
        time.sleep(0.05)
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == EXIT_CODE and time.monotonic() - start < 30
    assert "ended by SIGTERM after step" in err and "Traceback" not in err
    checkpoint, complaints = load_newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None and complaints == []
    assert checkpoint.step >= log.read_text().count("\n")  # no step that was told of is lost


def test_one_run_at_a_time_is_at_work_in_a_folder(tmp_path: Path) -> None:
    """Else two would write one another's metrics and checkpoints, as after a launcher was killed and begun again."""
    words = [str(AUTOENCODER), *TINY, f"output={tmp_path}/run", "steps=100000", "save_every=100000"]
    process = train(*words)
    log = tmp_path / "run" / "metrics.jsonl"
    while process.poll() is None and (not log.exists() or log.read_text().count("\n") < 3):
        time.sleep(0.05)
    recipe = load_recipe(AUTOENCODER, [*words[1:-2], "steps=1"])
    with pytest.raises(ValueError, match=rf"another run is at work in .*run \(process {process.pid} on "):
        run(recipe, quiet=True)
    process.kill()  # which leaves the file, and holds nothing any more
    process.communicate()
    assert (tmp_path / "run" / ".running").exists()
    run(recipe, quiet=True)
    assert not (tmp_path / "run" / ".running").exists()


def test_sigterm_to_several_processes_saves_too(tmp_path: Path) -> None:
    words = [str(AUTOENCODER), *TINY, f"output={tmp_path}/run", "steps=100000", "save_every=100000"]
    process = train(*words, processes=2)
    log = tmp_path / "run" / "metrics.jsonl"
    while process.poll() is None and (not log.exists() or log.read_text().count("\n") < 3):
        time.sleep(0.05)
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)  # torchrun hands it on, and ends with a code of its own
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0 and time.monotonic() - start < 30
    assert "ended by SIGTERM after step" in err
    checkpoint, complaints = load_newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None and complaints == []
    assert checkpoint.step >= log.read_text().count("\n")


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


def test_processes_that_see_other_folders_are_refused(whole: Path, tmp_path: Path) -> None:
    """As on machines that don't share a disk."""
    process = apart(
        tmp_path,
        f"""
folder._MOST_TO_APPEAR = 1
train(({str(whole)!r}, {str(tmp_path / "other")!r})[rank], "steps=6")
""",
    )
    _, err = process.communicate(timeout=300)
    assert process.returncode != 0 and f"the processes don't share {tmp_path}/other" in err
    assert not (tmp_path / "other").exists()


def test_processes_that_see_other_checkpoints_are_refused(whole: Path, tmp_path: Path) -> None:
    """As of a shared disk that shows what is new on it late."""
    shutil.copytree(whole, tmp_path / "run")
    process = apart(
        tmp_path,
        f"""
from latentshift.training import saver
if rank:
    saver.load_newest_checkpoint = lambda folder: (None, [])
train({str(tmp_path / "run")!r}, "steps=6")
""",
    )
    _, err = process.communicate(timeout=300)
    assert process.returncode != 0 and "the processes don't see the same checkpoints" in err
    assert "the newest are of steps 6, 0" in err


def test_processes_that_begin_from_other_weights_are_refused(tmp_path: Path) -> None:
    """In shares they would train halves of two models."""
    process = apart(
        tmp_path,
        f"""
AutoencoderStage.fingerprint = property(lambda self: {{"base": "of a machine" if rank else "of another"}})
train({str(tmp_path / "run")!r}, "steps=2")
""",
    )
    _, err = process.communicate(timeout=300)
    assert process.returncode != 0 and "the processes don't see the same base" in err


def test_sigterm_does_not_wait_for_data_of_one_of_several_processes(tmp_path: Path) -> None:
    """As of a disk that does not answer."""
    process = apart(
        tmp_path,
        f"""
quick = AutoencoderStage._batch
def slow(self, step):
    time.sleep(600 if rank and step == 4 else 0)
    return quick(self, step)
AutoencoderStage._batch = slow
try:
    train({str(tmp_path / "run")!r}, "steps=9", "save_every=9")
except Terminated as ended:
    print(ended)
""",
    )
    log = tmp_path / "run" / "metrics.jsonl"
    while process.poll() is None and (not log.exists() or log.read_text().count("\n") < 3):
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert "ended by SIGTERM after step 3" in out, err[-3000:]
    assert [checkpoint_step(path) for path in list_checkpoints(tmp_path / "run" / "checkpoints")] == [3]


def test_sigterm_does_not_wait_for_samples(model: Path, tmp_path: Path) -> None:
    words = [str(RECIPES / "finetune-folder.yaml"), f"model={model}", "data={source: sprites, options: {clips: 4}}"]
    words += ["steps=2", "batch_size=2", "sample_every=1", "sample_steps=1000", "compute={device: cpu, threads: 1}"]
    words += ["optimizer={learning_rate: 1e-3, warmup_steps: 0}", "log_every=1", f"output={tmp_path}/run"]
    process = train(*words)
    while process.poll() is None and not list_checkpoints(tmp_path / "run" / "checkpoints"):
        time.sleep(0.05)
        if (tmp_path / "run" / "metrics.jsonl").exists() and (tmp_path / "run" / "metrics.jsonl").read_text():
            break
    time.sleep(2)  # now it samples
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == EXIT_CODE and time.monotonic() - start < 10, err
    assert "ended by SIGTERM after step 1" in err
    assert not (tmp_path / "run" / "samples" / "step-00000001.png").exists()
    checkpoint, complaints = load_newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None and checkpoint.step == 1 and complaints == []


def saves_left(output: Path) -> set[Path]:
    """What saves that are under way, or were killed, have written so far."""
    return set((output / "checkpoints").glob(".*.part"))


@pytest.mark.parametrize(("kills", "steps"), [(4, 30), pytest.param(50, 120, marks=pytest.mark.slow)])
def test_killed_at_random_moments(kills: int, steps: int, model: Path, tmp_path: Path) -> None:
    """SIGKILL, in the middle of saves too: the same losses, errors and weights, bit for bit; no state that is broken.

    Of clips and single frames in turns, with validation and samples between, and the best step kept and exported.
    """
    words = [str(RECIPES / "finetune-folder.yaml"), f"model={model}", "data={source: sprites, options: {clips: 8}}"]
    words += [f"steps={steps}", "batch_size=2", "image_share=0.5", "save_every=3", "keep_checkpoints=2", "log_every=4"]
    words += ["validation={every: 5, clips: 1, bands: 2}", "export_from=best", "sample_every=40", "sample_steps=2"]
    words += ["optimizer={learning_rate: 1e-3, warmup_steps: 1}", "compute={device: cpu, precision: fp32, threads: 1}"]
    start = time.monotonic()
    finish(train(*words, f"output={tmp_path}/whole"))
    life = time.monotonic() - start
    output = tmp_path / "killed"
    rng = np.random.default_rng(0)
    at_work = in_saves = 0
    for number in range(kills):
        before = {path.name for path in (output / "checkpoints").glob("*")}
        left = saves_left(output)
        process = train(*words, f"output={output}")
        kind = ("in a save", "after a save", "anywhere")[number % 3]
        deadline = time.monotonic() + (rng.uniform(0, life) if kind == "anywhere" else 60)
        while process.poll() is None and time.monotonic() < deadline:
            now = {path.name for path in (output / "checkpoints").glob("*")}
            if (kind == "in a save" and saves_left(output) - left) or (kind == "after a save" and now != before):
                break
            time.sleep(0.0005)
        if kind != "anywhere":
            time.sleep(float(rng.uniform(0, 0.004 if kind == "in a save" else 0.1)))
        at_work += process.poll() is None
        process.kill()
        process.communicate()
        in_saves += bool(saves_left(output) - left)
        for path in list_checkpoints(output / "checkpoints"):
            assert load_checkpoint(path).step == checkpoint_step(path)
    assert at_work >= kills // 2 and in_saves >= max(1, kills // 6)
    finish(train(*words, f"output={output}"))
    assert losses(output) == losses(tmp_path / "whole")
    for log in ("validation.jsonl", "model/unet/diffusion_pytorch_model.safetensors"):
        assert (output / log).read_bytes() == (tmp_path / "whole" / log).read_bytes()
    expected = weights(tmp_path / "whole")
    assert all(torch.equal(value, expected[name]) for name, value in weights(output).items())
