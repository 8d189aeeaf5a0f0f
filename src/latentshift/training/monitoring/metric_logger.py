"""What a run reports while it trains: progress bar, ``metrics.jsonl`` and other logs, trackers such as TensorBoard."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from accelerate.utils import gather_object
from torch import Tensor
from tqdm import tqdm

from latentshift.training.checkpoints.checkpoint import Checkpoint
from latentshift.training.monitoring.run_log import DROPPED, METRICS, VALIDATION, append_jsonl, truncate_after
from latentshift.training.train_state import StepResult
from latentshift.user_input.error_text import one_line, printable


class MetricLogger:
    """Averages the values of steps and writes the means every ``log_every`` steps.

    Args:
        output: the run's folder.
        accelerator: of the run; it holds the trackers.
        name: of the progress bar.
        steps: of the whole run.
        samples_until: step -> samples in the steps up to it, over all processes.
        log_every: steps.
        project: under which trackers file the run.
        unit: of samples: ``clips`` or ``images``.
        quiet: without a progress bar.
    """

    def __init__(
        self,
        output: Path,
        accelerator: Accelerator,
        *,
        name: str,
        steps: int,
        samples_until: Callable[[int], int],
        log_every: int,
        project: str = "latentshift",
        unit: str = "images",
        quiet: bool = False,
    ) -> None:
        self.output = output
        self.accelerator = accelerator
        self.name = name
        self.steps = steps
        self.samples_until = samples_until
        self.log_every = log_every
        self.project = project
        self.unit = unit
        self.bar = tqdm(disable=True)
        self._quiet = quiet or not accelerator.is_main_process
        self._sums = _no_sums()

    @contextmanager
    def opened(self, step: int) -> Iterator[None]:
        """Start the trackers and the bar after a step, 0 at the start of a run; what was logged later is dropped.

        Raises:
            ValueError: if a tracker can't start.
        """
        self._start_trackers(step)
        if self.accelerator.is_main_process:
            for log in (METRICS, VALIDATION, DROPPED):
                truncate_after(self.output / log, step)
        self.bar = tqdm(
            total=self.steps, initial=step, desc=self.name, unit="step", disable=self._quiet, mininterval=1.0
        )
        try:
            yield
        finally:
            self.bar.close()
            self._to_trackers(lambda tracker: tracker.finish())  # `end_training` would part the processes too

    def log_step(self, step: int, result: StepResult, more: dict[str, float], seconds: float) -> None:
        """Add a step's values and its time; the means are written every ``log_every`` steps and at the last one."""
        sums = self._sums
        for name, value in {**({} if result.dropped else result.values), **more}.items():
            total, count = sums["sums"].get(name, (0.0, 0))
            sums["sums"][name] = total + value, count + 1
        sums["steps"] += 1
        sums["dropped"] += result.dropped
        sums["seconds"] += seconds
        self.bar.update()
        if step % self.log_every and step != self.steps:
            return
        means = {name: total / count for name, (total, count) in sums["sums"].items()}
        means["dropped_steps"] = sums["dropped"]
        samples = self.samples_until(step)
        rate = (samples - self.samples_until(step - sums["steps"])) / sums["seconds"]
        means["samples_per_second"] = float(f"{rate:.6g}")  # from which hub.training_cost has the run's hours
        self._sums = _no_sums()
        self._append(METRICS, step, {"samples": samples, **means})
        self._to_trackers(lambda tracker: tracker.log(means, step=step))
        loss = f"{means['loss']:.4f}" if "loss" in means else "not finite"
        self.bar.set_postfix({"loss": loss, f"{self.unit}/s": f"{means['samples_per_second']:.1f}"})

    def log_validation(self, step: int, values: dict[str, float], validation_id: str | None) -> None:
        """Log errors on fixed data, and which settings and data they are of."""
        numbers = {name: value if math.isfinite(value) else None for name, value in values.items()}  # JSON has no NaN
        self._append(VALIDATION, step, {**numbers, "asked": validation_id})
        named = {f"validation/{name}": value for name, value in values.items()}
        self._to_trackers(lambda tracker: tracker.log(named, step=step))

    def log_dropped(self, step: int, values: dict[str, float], samples: Sequence[str]) -> None:
        """Log a step that was dropped, and this process's samples of it; to be called by all processes."""
        gathered = gather_object(list(samples))
        if self.accelerator.is_main_process:
            self._append(DROPPED, step, {**{name: str(value) for name, value in values.items()}, "samples": gathered})
            what = "loss" if not math.isfinite(values["loss"]) else "gradient"
            tqdm.write(f"warning: step {step} was left out: its {what} is not finite", file=sys.stderr)

    def log_picture(self, step: int, path: Path) -> None:
        """Log a picture of samples to the trackers that show pictures."""
        if not path.exists():
            return
        from PIL import Image

        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))[None]

        def log(tracker: GeneralTracker) -> None:
            if tracker.name == "tensorboard":
                tracker.log_images({"samples": pixels}, step=step, dataformats="NHWC")
            elif hasattr(tracker, "log_images"):
                tracker.log_images({"samples": list(pixels)}, step=step)

        self._to_trackers(log)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """None."""
        return {}

    def values(self) -> dict[str, Any]:
        """The sums since the last line of the log."""
        return {"pending": self._sums}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from the sums in a checkpoint."""
        self._sums = checkpoint.values.get("pending") or _no_sums()

    def _start_trackers(self, step: int) -> None:
        run_id = hashlib.sha256(str(self.output.absolute()).encode()).hexdigest()[:12]
        wandb = {"dir": str(self.output), "name": self.output.name, "id": run_id, "resume": "allow"}
        options = {"tensorboard": {"purge_step": step + 1}, "wandb": wandb, "trackio": {"name": self.output.name}}
        self.accelerator.trackers.clear()
        try:
            self.accelerator.init_trackers(self.project, init_kwargs=options)
        except Exception as error:  # each library raises what it likes
            names = ", ".join(str(getattr(each, "value", each)) for each in self.accelerator.log_with)
            raise ValueError(
                f"trackers ({names}) can't begin: {one_line(error)}; mend that, or leave it out"
            ) from error

    def _to_trackers(self, call: Callable[[GeneralTracker], None]) -> None:
        """Call every tracker; one that fails is removed, for the run is worth more than its picture."""
        for tracker in list(self.accelerator.trackers):
            try:
                call(tracker)
            except Exception as error:  # each library raises what it likes
                self.accelerator.trackers.remove(tracker)
                tqdm.write(
                    f"warning: {tracker.name} gets nothing more, since it failed: {printable(one_line(error))}",
                    file=sys.stderr,
                )

    def _append(self, name: str, step: int, values: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            append_jsonl(self.output / name, {"step": step, **values})


def _no_sums() -> dict[str, Any]:
    return {"sums": {}, "steps": 0, "dropped": 0, "seconds": 0.0}
