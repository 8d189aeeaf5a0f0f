"""What a run leaves in its folder beside its metrics: checkpoints, the data's report, the steps it left out."""

from __future__ import annotations

import json
import math
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from tqdm import tqdm

from latentshift.files import atomic_write_text, clear_leftovers
from latentshift.training.best import best_step
from latentshift.training.checkpoint import drop_checkpoints, load_newest_checkpoint, save_checkpoint, set_aside
from latentshift.training.learner import Learner
from latentshift.training.lines import add_line
from latentshift.training.rate import before_decay
from latentshift.training.recipe import AnyRecipe, dump_recipe
from latentshift.training.stage import Stage


class Saver:
    """Writes it, from the main process; every method is to be called by all of them."""

    def __init__(self, stage: Stage, learner: Learner, recipe: AnyRecipe, accelerator: Accelerator) -> None:
        self.stage = stage
        self.learner = learner
        self.recipe = recipe
        self.accelerator = accelerator
        self.folder = recipe.output / "checkpoints"
        self.saved = 0  # the newest checkpoint's step
        self.pending: dict[str, Any] | None = None  # and what the journal had not written then
        self._reported: dict[str, list[Any]] | None = None

    def take_up(self) -> int:
        """Go back to the newest checkpoint that is whole; the step it is of, 0 if there is none."""
        checkpoint, complaints = load_newest_checkpoint(self.folder)
        if complaints and checkpoint is None:
            raise ValueError(f"{complaints[0]}, and none is whole; delete {self.folder} to begin anew")
        if self.accelerator.is_main_process:
            for complaint in complaints:
                print(f"warning: {complaint}; set aside (damaged-…), going on from the one before", file=sys.stderr)
        begun = gather_object([(0 if checkpoint is None else checkpoint.step, self.stage.fingerprint)])
        if len({step for step, _ in begun}) > 1:
            raise ValueError(
                f"the processes don't see the same checkpoints in {self.folder} (the newest are of steps "
                f"{', '.join(str(step) for step, _ in begun)}); on several machines output must be a folder that all "
                "of them share"
            )
        for name, digest in begun[0][1].items():
            if any(each.get(name) != digest for _, each in begun):
                raise ValueError(f"the processes don't see the same {name}; run again when nothing changes it any more")
        if checkpoint is None:
            return 0
        if self.accelerator.is_main_process:
            set_aside(self.folder, checkpoint.step)
        output, step = self.recipe.output, checkpoint.step
        if step > self.recipe.steps:
            raise ValueError(
                f"{output} has been trained for {step} steps already, more than the {self.recipe.steps} asked for"
            )
        before = checkpoint.values.get("fingerprint", {})
        changed = [name for name, digest in self.stage.fingerprint.items() if before.get(name, digest) != digest]
        if changed:
            raise ValueError(
                f"{output} began with another {changed[0]} than what is named now: the name is another, or what lies "
                "there has changed since; put back what it began with, or choose another output"
            )
        self.learner.restore(checkpoint)
        self.saved, self.pending = step, checkpoint.values.get("pending")
        return step

    def begin(self) -> None:
        """Write down what is going to be done, with what, and on which data."""
        if self.accelerator.is_main_process:
            own = self.recipe.output
            of_data = [place for kind in ("latents", "footage", "validation") for place in (own / kind).glob("**/")]
            for folder in (own, own / "samples", *of_data):
                clear_leftovers(folder)
            atomic_write_text(own / "recipe.yaml", dump_recipe(self.recipe))
            atomic_write_text(own / "versions.json", json.dumps(versions(self.accelerator), indent=1) + "\n")
        self.report()

    def save(self, step: int, pending: dict[str, Any], *, anyhow: bool = False) -> None:
        """Keep a step, if it is not kept.

        Args:
            step: that was just taken.
            pending: what the journal has not written yet.
            anyhow: even where all steps since the last one that is kept were left out. Else such a step is passed over:
                it has the same weights, and would take the place of a checkpoint from before the run diverged.
        """
        if step == self.saved or (step - self.learner.dropped_in_a_row <= self.saved and not anyhow):
            return
        tensors = self.learner.tensors()
        if self.accelerator.is_main_process:
            values = {"fingerprint": self.stage.fingerprint, "pending": pending, **self.learner.values()}
            save_checkpoint(self.folder, step, tensors, values)
            always = (before_decay(self.recipe), best_step(self.recipe.output, self.stage.question))
            drop_checkpoints(self.folder, self.recipe.keep_checkpoints, always)
        self.saved = step
        self.report()

    def note_dropped(self, step: int, values: dict[str, float], batch: Any) -> None:
        """Write down a step that was left out, and of which samples it was; end the run where there are too many."""
        samples = gather_object(list(batch.names()))
        if self.accelerator.is_main_process:
            told = {name: str(value) for name, value in values.items()}
            add_line(self.recipe.output / "dropped.jsonl", {"step": step, **told, "samples": samples})
            what = "loss" if not math.isfinite(values["loss"]) else "gradient"
            tqdm.write(f"warning: step {step} was left out: its {what} is not finite", file=sys.stderr)
        in_a_row, most = self.learner.dropped_in_a_row, self.recipe.max_dropped_steps
        if in_a_row > most:
            goes_on = f"goes on from step {self.saved} in {self.folder}" if self.saved else "begins anew"
            raise ValueError(
                f"the loss or its gradient was not finite in {in_a_row} steps in a row, the last of them step {step} "
                f"({self.recipe.output / 'dropped.jsonl'} names their samples); lower optimizer.learning_rate and run "
                f"again: it {goes_on}"
            )

    def report(self) -> None:
        """Write what is known of the data, where there is news of it."""
        told = gather_object([self.stage.came_across()])
        if self.accelerator.is_main_process and (found := _joined(told)) != self._reported:
            text = json.dumps({**self.stage.listed(), **found}, indent=1, ensure_ascii=False) + "\n"
            atomic_write_text(self.recipe.output / "data.json", text)
            self._reported = found

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Whatever ends it, what was learned of the data is kept; several processes have to end together for that."""
        try:
            yield
        except BaseException:
            if self.accelerator.num_processes == 1:
                with suppress(Exception):  # what has ended the run, a full disk say, is what is to be told of
                    self.report()
            raise
        self.report()


def versions(accelerator: Accelerator) -> dict[str, Any]:
    """What a run is made with."""
    names = ("latentshift", "torch", "diffusers", "transformers", "accelerate", "peft", "safetensors", "numpy", "av")
    device = accelerator.device
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in names},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": accelerator.num_processes,
    }


def _joined(told: list[dict[str, list[Any]]]) -> dict[str, list[Any]]:
    """What all processes came across, each of it once, by name."""
    joined: dict[str, list[Any]] = {}
    for heading in told[0]:
        found = {each if isinstance(each, str) else each["name"]: each for own in told for each in own[heading]}
        joined[heading] = [found[name] for name in sorted(found)]
    return joined
