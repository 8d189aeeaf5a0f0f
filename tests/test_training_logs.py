"""Metrics, trackers and the files that a run logs to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from latentshift.models.precision import fast_dtype
from latentshift.training.distributed import make_accelerator
from latentshift.training.monitoring.metric_logger import MetricLogger
from latentshift.training.monitoring.run_log import append_jsonl, read_jsonl, truncate_after
from latentshift.training.recipe import AutoencoderRecipe
from latentshift.training.run import run
from latentshift.training.train_state import StepResult
from tiny_runs import tiny


def test_trackers_that_are_not_installed_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="trackers names wandb, which is not installed: pip install wandb"):
        run(tiny("autoencoder", tmp_path, "trackers=[wandb]"), quiet=True)


def test_tensorboard_receives_metrics_and_samples(tmp_path: Path) -> None:
    run(tiny("autoencoder", tmp_path, "trackers=[tensorboard]", "sample_every=3"), quiet=True)
    output = tmp_path / "autoencoder"
    (file,) = (output / "tensorboard").rglob("events.*")
    events = EventAccumulator(str(file)).Reload()
    tracked = [(each.step, each.value) for each in events.Scalars("loss")]
    logged = [(line["step"], pytest.approx(line["loss"])) for line in read_jsonl(output / "metrics.jsonl")]
    assert tracked == logged and len(logged) == 4
    (images,) = events.Tags()["images"]
    assert [each.step for each in events.Images(images)] == [3, 4]


def accelerator_of(recipe: AutoencoderRecipe) -> Accelerator:
    return make_accelerator(recipe.compute, recipe.trackers, recipe.output / "tensorboard")


def logger_of(recipe: AutoencoderRecipe, accelerator: Accelerator) -> MetricLogger:
    return MetricLogger(
        recipe.output,
        accelerator,
        name="tiny",
        steps=recipe.steps,
        samples_until=lambda step: step * recipe.batch_size,
        log_every=recipe.log_every,
        quiet=True,
    )


class Failing(GeneralTracker):
    """A tracker whose server is gone after the first thing that it is told."""

    name = "failing"
    requires_logging_directory = False

    def __init__(self) -> None:
        super().__init__()
        self.told = 0

    @property
    def tracker(self) -> None:
        return None

    def log(self, values: dict[str, float], step: int | None = None) -> None:
        self.told += 1
        if self.told > 1:
            raise ConnectionError("no route\nto host")


def test_a_failing_tracker_is_dropped_and_training_continues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny("autoencoder", tmp_path, "trackers=[tensorboard]")
    (tmp_path / "autoencoder").mkdir()
    accelerator = accelerator_of(recipe)
    logger = logger_of(recipe, accelerator)
    with logger.opened(0):
        accelerator.trackers.insert(0, failing := Failing())
        for step in (1, 2, 3):
            logger.log_step(step, StepResult({"loss": 1.0}, dropped=False), {}, 1.0)
        assert [each.name for each in accelerator.trackers] == ["tensorboard"]
    assert failing.told == 2
    assert capsys.readouterr().err == "warning: failing gets nothing more, since it failed: no route to host\n"
    assert len((tmp_path / "autoencoder" / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize(("capability", "warnings"), [("AVX2", 1), ("AVX512", 0), ("AVX512 without bf16", 1)])
def test_a_cpu_without_bf16_instructions_gives_a_warning(
    capability: str, warnings: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability.split()[0])
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: "without" not in capability)
    assert fast_dtype("cpu") == (torch.float32 if warnings else torch.bfloat16)
    for precision in ("bf16", "fp32"):
        run(tiny("autoencoder", tmp_path / precision, "steps=1", f"compute.precision={precision}"))
    assert capsys.readouterr().err.count("this CPU has no instructions for bf16") == warnings


def test_a_tracker_that_cannot_begin_is_named(tmp_path: Path) -> None:
    recipe = tiny("autoencoder", tmp_path, "trackers=[tensorboard]")
    (tmp_path / "autoencoder").mkdir()
    (tmp_path / "autoencoder" / "tensorboard").write_text("a file")
    with pytest.raises(ValueError, match=r"trackers \(tensorboard\) can't begin: "):
        logger_of(recipe, accelerator_of(recipe)).opened(0).__enter__()


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(OSError, match=r"metrics\.jsonl can't be written to .*: it resumes from the newest checkpoint"):
        append_jsonl(tmp_path / "metrics.jsonl", {"step": 1})


def test_a_log_is_cut_back_to_a_step_and_to_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "dropped.jsonl"
    for step in (1, 2, 3):
        append_jsonl(log, {"step": step, "samples": ["a line's \u2028 end, a {brace} in it, and ü"]})
    whole = log.read_text(encoding="utf-8")
    written = log.read_bytes()
    for last in (b"}", "ü".encode()[:1]):  # as an object ends, and within a letter
        log.write_bytes(written[: written.rindex(last, 0, len(written) - 4) + 1])
        assert [line["step"] for line in read_jsonl(log)] == [1, 2]
    assert [line["step"] for line in read_jsonl(log)] == [1, 2]
    truncate_after(log, 2)
    assert whole.startswith(log.read_text(encoding="utf-8")) and log.read_text(encoding="utf-8").count("\n") == 2
    truncate_after(log, 0)
    assert log.read_text() == "" and read_jsonl(tmp_path / "none.jsonl") == []
