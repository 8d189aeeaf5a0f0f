"""An evaluation of a model on prompts, with all that it needs to be built in another process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentshift.cli.evaluate.common import open_extractors
from latentshift.cli.evaluate.prompted_options import ModelOptions

if TYPE_CHECKING:
    from latentshift.data.footage.window import Short
    from latentshift.data.worker_pool import WorkerLimits
    from latentshift.evaluation.protocols.choice import Choice
    from latentshift.evaluation.protocols.evaluation import Evaluation, VideoSet
    from latentshift.evaluation.protocols.generation import GenerationSettings
    from latentshift.evaluation.protocols.paper_prompts import PaperPlan
    from latentshift.evaluation.protocols.plan import Item
    from latentshift.evaluation.protocols.run import Video
    from latentshift.evaluation.protocols.systems import KeepWord
    from latentshift.evaluation.report.schema import Protocol
    from latentshift.pipeline import LatentShiftPipeline


@dataclass(frozen=True)
class PromptedJob:
    """An evaluation of a model on a plan of prompts; it can be sent to another process.

    Attributes:
        protocol: its name.
        plan: prompts and true videos.
        model: that makes the videos.
        output: folder of the result.
        choice: of extractors.
        keep: which videos stay as files.
        seconds, short: of the window that true videos' frames are taken from (:class:`.window.Window`).
        limits: of the decoding processes.
        repeats: see :func:`latentshift.evaluation.protocols.summary.summarize`.
    """

    protocol: Protocol
    plan: PaperPlan
    model: ModelOptions
    output: Path
    choice: Choice
    keep: KeepWord
    seconds: float
    short: Short
    limits: WorkerLimits
    repeats: int = 1

    @property
    def device(self) -> str:
        """As given."""
        return self.model.device

    @property
    def dtype(self) -> str:
        """As given."""
        return self.model.dtype

    @property
    def notes(self) -> list[str]:
        """Sentences on the plan and the extractors."""
        return [*self.plan.number_notes, *self.plan.notes, *self.choice.notes]

    @property
    def total(self) -> int:
        """Videos of the plan."""
        return len(self.plan.items)

    def with_dtype(self, dtype: str) -> PromptedJob:
        """The same with the dtype that ``auto`` came to."""
        return replace(self, model=replace(self.model, dtype=dtype))

    def build(self, device: str, *, shown: bool = True) -> Evaluation:
        """Load the model and the extractors.

        Args:
            device: of both.
            shown: whether progress is shown.

        Raises:
            ValueError: if one can't be loaded, or an extractor can't read clips of the model's number of frames.
        """
        from latentshift.cli.models import load_adapted, pick_device
        from latentshift.diffusion.samplers import make_sampler
        from latentshift.evaluation.protocols.choice import choose_extractors
        from latentshift.evaluation.protocols.evaluation import READINGS, Evaluation, VideoSet
        from latentshift.evaluation.protocols.generation import Generator, generated_videos
        from latentshift.evaluation.protocols.kept_clips import KeptClips
        from latentshift.evaluation.protocols.readings import Readings
        from latentshift.evaluation.protocols.systems import KINDS
        from latentshift.evaluation.report.schema import System
        from latentshift.models.storage.fingerprint import model_fingerprint

        options = self.model
        place = pick_device(device)
        pipeline = load_adapted(options.model, place, options.dtype, options.lora, options.delta, options.variant)
        pipeline.scheduler = make_sampler(options.sampler, pipeline.scheduler)
        made = _generation_settings(options, pipeline)
        generate = Generator(pipeline, made)
        choose_extractors(",".join(self.choice.keys), (), made.frames)  # now that the number of frames is known
        contents = model_fingerprint(*pipeline.components.values())
        settings = _made_by(made, pipeline, contents)
        made_by = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        kept = KeptClips(self.output, self.keep, float(pipeline.config.fps), made_by)

        def make(wanted: Iterable[tuple[int, Item]]) -> Iterator[Video]:
            kept.start(Readings(self.output / READINGS, len(self.plan.items)))
            yield from generated_videos(generate, kept, wanted)

        return Evaluation(
            self.output,
            self.protocol,
            System(name=_name(options), kind=KINDS[options.system], model=options.model, contents=contents),
            {
                **settings,
                "size": f"{made.width}x{made.height}",
                "repeats": self.repeats,
                "reference_seconds": self.seconds,
                "reference_short": self.short,
                "seeds": f"{self.plan.items[0].seed} and on, one a prompt",
            },
            open_extractors(self.choice.keys, place, shown=shown),
            VideoSet("the plan", self.plan.items, make, kept.keep),
            self._reference(made),
            kept.files,
            repeats=self.repeats,
            rejected=self.plan.rejected,
            notes=[*self.plan.notes, *self.choice.notes],
            number_notes=self.plan.number_notes,
        )

    def _reference(self, made: GenerationSettings) -> VideoSet:
        from latentshift.data.footage.framing import Framing
        from latentshift.data.footage.window import Window
        from latentshift.evaluation.protocols.evaluation import VideoSet
        from latentshift.evaluation.protocols.row_videos import items_of_rows, row_videos

        window = Window(made.frames, self.seconds, "centre", self.short)
        framing = Framing(made.height, made.width)

        def make(wanted: Iterable[tuple[int, Item]]) -> Iterator[Video]:
            return row_videos(self.plan.rows, window, framing, self.limits, wanted)

        return VideoSet("the data set", items_of_rows(self.plan.rows), make)


def _generation_settings(options: ModelOptions, pipeline: LatentShiftPipeline) -> GenerationSettings:
    """What the options say, and the model where they say nothing."""
    from latentshift.cli.data.common import one_of
    from latentshift.diffusion.sampler_names import default_guidance
    from latentshift.evaluation.protocols.generation import GenerationSettings
    from latentshift.evaluation.protocols.systems import SYSTEMS

    side = pipeline.sample_size if options.size is None else options.size
    guidance = default_guidance(options.sampler, float(pipeline.config.guidance_scale))
    return GenerationSettings(
        one_of("--system", options.system, SYSTEMS),
        pipeline.config.num_frames if options.frames is None else options.frames,
        side,
        side,
        options.steps,
        guidance if options.guidance is None else options.guidance,
    )


def _made_by(made: GenerationSettings, pipeline: LatentShiftPipeline, contents: str) -> dict[str, Any]:
    """All that a generated video is a function of, beside its prompt and seed.

    Args:
        made: how the model makes its videos.
        pipeline: of it, with its sampler.
        contents: fingerprint of its parts.
    """
    return {
        **asdict(made),
        "sampler": type(pipeline.scheduler).__name__,
        "shift": pipeline.config.shift,
        "method": pipeline.method,
        "noise_share": pipeline.config.noise_share,
        "contents": contents,
        "device": pipeline.device.type,
        "dtype": str(pipeline.dtype).removeprefix("torch."),
    }


def _name(options: ModelOptions) -> str:
    name = Path(options.model).name
    return name if options.system == "video" else f"{name} ({options.system})"
