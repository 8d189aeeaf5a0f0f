"""The settings of a run that all stages share: its folder, length and rhythm; and the check that it can be resumed.

Knows nothing of how a stage is trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from latentshift.training.recipes.settings import (
    ComputeSettings,
    DataSettings,
    FrameSourceSettings,
    LoraSettings,
    MayChange,
    OptimizerSettings,
    Settings,
)


class RunSettings(Settings):
    """What all stages share: the run's folder, its length and its rhythm."""

    output: MayChange[Path] = Field(
        description="the run's folder: recipe, checkpoints, samples, logs, and finally the model"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="of the initial weights, the data order and all randomness")
    steps: MayChange[int] = Field(ge=1, description="optimizer steps")
    batch_size: int = Field(ge=1, description="images or clips per step, over all processes")
    micro_batch_size: MayChange[int | None] = Field(
        None, ge=1, description="images or clips per forward pass of a process, to save memory; none: all of its share"
    )
    max_dropped_steps: MayChange[int] = Field(
        10,
        ge=0,
        description="consecutive steps with a non-finite loss or gradient that are skipped before the run ends",
    )
    ema_decay: float = Field(
        0.9999, ge=0, lt=1, description="decay of the averaged weights (float32) that are exported"
    )
    ema_warmup: bool = Field(
        True,
        description="the decay rises as 1 - (1 + step)^-0.75; false: as (1 + step) / (10 + step), as in LDM",
    )
    trackers: MayChange[tuple[Literal["tensorboard", "wandb", "trackio"], ...]] = Field(
        ("tensorboard",), description="that log metrics and samples, in addition to files"
    )
    project: MayChange[str] = Field("latentshift", min_length=1, description="project name in the trackers")
    log_every: MayChange[int] = Field(20, ge=1)
    sample_every: MayChange[int] = Field(1000, ge=1)
    save_every: MayChange[int] = Field(500, ge=1)
    keep_checkpoints: MayChange[int] = Field(2, ge=1)
    optimizer: OptimizerSettings = OptimizerSettings()
    compute: MayChange[ComputeSettings] = ComputeSettings()

    @property
    def unit(self) -> str:
        """What a sample is: images or clips."""
        return "images"

    @property
    def bases(self) -> tuple[str | Path, ...]:
        """The models, or runs, that this run starts from."""
        return ()

    @property
    def share_of_images(self) -> float:
        """The share of a video run's steps that learn single frames."""
        return 0.0

    @property
    def steps_on_few_frames(self) -> dict[int, int]:
        """Frames of a clip -> how many of a video run's first steps are on so few."""
        return {}

    @property
    def adapter(self) -> LoraSettings | None:
        """The low-rank adapter that is trained in place of the weights, if any."""
        return None

    @property
    def has_unet(self) -> bool:
        """Whether a U-Net is trained."""
        return False

    @property
    def base_model(self) -> str | None:
        """The model that is fine-tuned, if any."""
        return None

    @property
    def base_variant(self) -> str | None:
        """The variant of the weight files of :attr:`base_model`; None: the plain ones."""
        return None

    @property
    def new_size(self) -> int | None:
        """Side of the frames in pixels that the base is to have; None: its own."""
        return None

    @property
    def text_models(self) -> tuple[str, ...]:
        """Folders and hub ids of a pretrained tokenizer or text encoder."""
        return ()

    @property
    def all_sources(self) -> tuple[DataSettings | FrameSourceSettings, ...]:
        """The sources of training and of validation."""
        return ()

    def images_unused_reason(self, source: DataSettings | FrameSourceSettings) -> str:
        """Why images of one of the sources are not used; empty: they are."""
        return ""

    @property
    def last_full_rate_step(self) -> int | None:
        """The last step before the final decay, from which a run can be made longer; None under a cosine schedule."""
        optimizer = self.optimizer
        return None if optimizer.schedule == "cosine" else self.steps - optimizer.decay_steps

    def micro_batches(self, processes: int) -> int:
        """How many micro-batches a process splits its share of a step's batch into.

        Raises:
            ValueError: for a batch that can't be shared evenly, or not in batches of ``micro_batch_size``.
        """
        share, rest = divmod(self.batch_size, processes)
        if rest or not share:
            raise ValueError(f"a batch_size of {self.batch_size} can't be shared evenly by {processes} processes")
        micro = self.micro_batch_size or share
        count, rest = divmod(share, micro)
        if rest or not count:
            raise ValueError(
                f"the {share} samples that a process has of each batch don't divide into batches of {micro}; change "
                "micro_batch_size or batch_size"
            )
        return count

    @property
    def validate_every(self) -> int | None:
        """Steps between validations; None: there is none."""
        return None

    @property
    def exports_best(self) -> bool:
        """Whether the step with the lowest validation error is exported, and not the last one."""
        return False

    @property
    def is_compiled(self) -> bool:
        """Whether torch.compile is used."""
        return False

    def for_memory_benchmark(self, folder: Path) -> Self:
        """A copy that writes into another folder alone, and makes one sample in few steps."""
        return self.model_copy(update={"output": folder})

    def check_resumes(self, previous: RunSettings, newest: int) -> None:
        """Check that a run can go on with this recipe, and end as if it had had it from the beginning.

        Where the learning rate falls is settled no sooner than it begins to.

        Args:
            previous: the recipe that it had.
            newest: the step of its newest checkpoint.

        Raises:
            ValueError: naming the first setting that differs and may not.
        """
        before, now = previous.fixed(), self.fixed()
        full, new_full = previous.last_full_rate_step, self.last_full_rate_step
        if full is not None and new_full is not None and newest <= min(full, new_full):
            before["optimizer"]["decay_steps"] = now["optimizer"]["decay_steps"]
        for key in sorted(set(before) | set(now)):
            if before.get(key) != now.get(key):
                name, was, is_now = _innermost_difference(key, before.get(key), now.get(key))
                raise ValueError(
                    f"{self.output} holds a run of another recipe: {name} was {_said(was)} and is now {_said(is_now)}; "
                    "choose another output, or delete this one"
                )
        if previous.steps != self.steps and (full is None or newest > full):
            raise ValueError(
                f"the learning rate of {self.output} was falling already towards its {previous.steps} steps; go on "
                "with that number" + ("" if full is None else f", or delete its checkpoints after step {full}")
            )
        if previous.steps != self.steps and newest <= self.steps and (new_full is None or newest > new_full):
            raise ValueError(
                f"{self.output} is at step {newest}, where with {self.steps} steps the learning rate would be falling "
                "already" + ("" if new_full is None else f", from step {new_full} on") + "; give it more steps"
            )

    @model_validator(mode="after")
    def _check_fsdp(self) -> RunSettings:
        if self.compute.parallel == "fsdp" and (conflicts := fsdp_conflicts(self)):
            raise ValueError(f"compute.parallel=fsdp does not go with {conflicts[0]}; leave one of them out")
        return self

    @model_validator(mode="after")
    def _check_8bit_memory_format(self) -> RunSettings:
        # bitsandbytes makes weights contiguous at its first step, and its moments before that.
        if self.optimizer.kind == "adamw_8bit" and self.compute.channels_last:
            raise ValueError("optimizer.kind=adamw_8bit does not go with compute.channels_last; leave one of them out")
        return self

    @model_validator(mode="after")
    def _check_schedule_length(self) -> RunSettings:
        optimizer = self.optimizer
        if optimizer.warmup_steps + optimizer.decay_steps > self.steps:
            raise ValueError(
                f"optimizer.warmup_steps {optimizer.warmup_steps} and optimizer.decay_steps {optimizer.decay_steps} "
                f"are more than the {self.steps} steps: the learning rate would never reach its height; raise "
                "steps, or add optimizer.warmup_steps=0 optimizer.decay_steps=0"
            )
        return self


def fsdp_conflicts(recipe: RunSettings) -> list[str]:
    """The settings of a recipe that can't be combined with sharded weights (``compute.parallel=fsdp``)."""
    compute = recipe.compute
    settings = {
        "compute.channels_last": compute.channels_last,
        "compute.precision=fp16": compute.precision == "fp16",
        "compute.ema_device=cpu": compute.ema_device == "cpu",
        "optimizer.kind=adamw_8bit": recipe.optimizer.kind == "adamw_8bit",
        "compile": recipe.is_compiled,
    }
    return [name for name, is_set in settings.items() if is_set]


def _said(value: Any) -> Any:
    return "not set" if value is None else value


def _innermost_difference(name: str, before: Any, now: Any) -> tuple[str, Any, Any]:
    """The first setting within two different ones that differs, by its name on the command line, and its values."""
    if isinstance(before, dict) and isinstance(now, dict) and before.keys() == now.keys():
        key = next(key for key in before if before[key] != now[key])
        return _innermost_difference(f"{name}.{key}", before[key], now[key])
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        number = next(number for number, value in enumerate(before) if value != now[number])
        inner = name if len(before) == 1 else f"{name}.{number}"  # one source is set as data.flip, say
        if isinstance(before[number], dict):
            return _innermost_difference(inner, before[number], now[number])
    return name, before, now
