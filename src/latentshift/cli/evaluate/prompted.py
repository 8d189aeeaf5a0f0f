"""Shared by the protocols whose videos are made here: the model's options, and one run on one or several processes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from latentshift.cli.evaluate.common import (
    MAX_PATH,
    open_extractors,
    print_notes,
    print_report,
    workers,
)
from latentshift.cli.own_command import own_command
from latentshift.error_text import printable
from latentshift.files import check_writable
from latentshift.model_paths import BUNDLED

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

MODEL = typer.Option(BUNDLED, "--model", help="The bundled model, a folder, or a hub id.")
LORA = typer.Option(None, "--lora", metavar="FILE[:WEIGHT]", help="A LoRA, as in generate; may be given several times.")
DELTA = typer.Option(None, "--delta", help="A file with the difference of all weights from training.")
SYSTEM = typer.Option(
    "video",
    "--system",
    help="video: the model's videos. frozen: one image of it, held still. images: the plain image model (no shift, no "
    "temporal layers), an image a frame. frozen-images: one of its images, held still.",
)
STEPS = typer.Option(100, "--steps", help="Sampling steps.")
SAMPLER = typer.Option(None, "--sampler", help="As in generate. Default: the model's.")
SIDE = typer.Option(
    None, "--size", help="Side of the frames in pixels, of generated and true videos. Default: the model's."
)
SECONDS = typer.Option(2.0, "--seconds", help="Of a true video that the frames are taken from, from its centre.")
KEEP = typer.Option(
    "examples", "--keep", help="Which videos stay as files in clips/: examples (the best and the worst), all, none."
)
ENGINE = typer.Option(
    "local",
    "--engine",
    help="local, also under torchrun or accelerate launch; or ray, with the extra latentshift[ray].",
)
ACTORS = typer.Option(1, "--actors", help="With ray: number of actors, each with a model.")
OUTPUT_HELP = "Folder of the result."


@dataclass(frozen=True)
class ModelOptions:
    """The options of the model, as given; they can be sent to another process.

    Attributes:
        frames: None: the model's, as ``size`` and ``guidance``.
    """

    model: str
    variant: str | None
    lora: tuple[str, ...]
    delta: Path | None
    system: str
    frames: int | None
    size: int | None
    steps: int
    guidance: float | None
    sampler: str | None
    device: str
    dtype: str

    def check(self) -> int | None:
        """Refuse what is wrong before torch is imported.

        Returns:
            The number of frames of the videos, if it is known without opening the model.

        Raises:
            ValueError: for the first invalid option.
        """
        from latentshift.cli.data.common import one_of
        from latentshift.cli.preflight import check_adapters, check_frame_count, check_generation
        from latentshift.evaluation.protocols.systems import SYSTEMS
        from latentshift.model_paths import check_model, read_video_size

        one_of("--system", self.system, SYSTEMS)
        if self.frames is not None:
            check_frame_count(self.frames)
        if self.size is not None and self.size < 1:
            raise ValueError(f"--size must be a number of pixels, not {self.size:,}")
        check_generation(
            self.model,
            self.device,
            self.dtype,
            self.sampler,
            self.steps,
            self.guidance,
            variant=self.variant,
            frames=self.frames,
            height=self.size,
            width=self.size,
        )
        check_adapters(self.lora, self.delta, self.model, self.variant)
        folder = check_model(self.model)
        return self.frames or (None if folder is None else read_video_size(folder)[0])


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

    def build(self, device: str, *, shown: bool = True) -> Evaluation:
        """Load the model and the extractors.

        Args:
            device: of both.
            shown: whether progress is shown.

        Raises:
            ValueError: if one can't be loaded, or an extractor can't read clips of the model's number of frames.
        """
        from latentshift.cli.data.common import one_of
        from latentshift.cli.models import load_adapted, pick_device
        from latentshift.diffusion.samplers import make_sampler
        from latentshift.evaluation.protocols.choice import choose_extractors
        from latentshift.evaluation.protocols.evaluation import READINGS, Evaluation, VideoSet
        from latentshift.evaluation.protocols.generation import GenerationSettings, Generator, generated_videos
        from latentshift.evaluation.protocols.kept_clips import KeptClips
        from latentshift.evaluation.protocols.readings import Readings
        from latentshift.evaluation.protocols.systems import KINDS, SYSTEMS
        from latentshift.evaluation.report.schema import System
        from latentshift.models.storage.fingerprint import model_fingerprint

        options = self.model
        place = pick_device(device)
        pipeline = load_adapted(options.model, place, options.dtype, options.lora, options.delta, options.variant)
        pipeline.scheduler = make_sampler(options.sampler, pipeline.scheduler)
        side = pipeline.sample_size if options.size is None else options.size
        made = GenerationSettings(
            one_of("--system", options.system, SYSTEMS),
            pipeline.config.num_frames if options.frames is None else options.frames,
            side,
            side,
            options.steps,
            float(pipeline.config.guidance_scale) if options.guidance is None else options.guidance,
        )
        generate = Generator(pipeline, made)
        choose_extractors(",".join(self.choice.keys), (), made.frames)  # now that the number of frames is known
        contents = model_fingerprint(*pipeline.components.values())
        settings: dict[str, Any] = {
            **asdict(made),
            "sampler": type(pipeline.scheduler).__name__,
            "shift": pipeline.config.shift,
            "method": pipeline.method,
            "noise_share": pipeline.config.noise_share,
            "contents": contents,
            "device": pipeline.device.type,
            "dtype": str(pipeline.dtype).removeprefix("torch."),
        }
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


def check_and_choose(
    options: ModelOptions,
    extractors: str,
    standard: tuple[str, ...],
    output: Path,
    keep: str,
    seconds: float,
    short: str,
    engine: str,
    actors: int,
) -> tuple[Choice, KeepWord, float, Short]:
    """Refuse what is wrong before torch is imported; what a :class:`PromptedJob` takes after its output.

    Args:
        options: of the model.
        extractors: as written.
        standard: extractors of the protocol.
        output, keep, seconds, short, engine, actors: as given.

    Raises:
        ValueError: for the first invalid option, or a missing extractor.
    """
    from latentshift.cli.data.common import one_of
    from latentshift.cli.data.encode import ENGINES
    from latentshift.data.footage.window import SHORT, Window
    from latentshift.evaluation.protocols.choice import choose_extractors
    from latentshift.evaluation.protocols.systems import KEEP as KEEP_WORDS

    one_of("--engine", engine, ENGINES)
    if engine == "ray" and find_spec("ray") is None:
        raise ValueError("--engine ray needs Ray: pip install 'latentshift[ray]'")
    if engine == "ray" and options.device not in ("auto", "cpu", "cuda"):
        raise ValueError(
            f"with --engine ray, --device is auto, cpu or cuda, not {options.device}: Ray deals out the GPUs"
        )
    if actors < 1:
        raise ValueError(f"--actors must be 1 or more, not {actors}")
    keep_word, short_word = one_of("--keep", keep, KEEP_WORDS), one_of("--short", short, SHORT)
    Window(1, seconds)
    choice = choose_extractors(extractors, standard, options.check())
    check_writable(output / "report.json")
    return choice, keep_word, seconds, short_word


def run_job(job: PromptedJob, *, engine: str, actors: int, seed: int) -> None:
    """Run an evaluation to its end on this process, on those of torchrun, or on Ray's actors; then print it.

    Args:
        job: the evaluation.
        engine: ``local`` or ``ray``.
        actors: of Ray.
        seed: of bootstraps and samples.
    """
    if engine == "ray":
        from latentshift.cli.evaluate.ray_engine import measure_with_ray

        evaluation = measure_with_ray(job, actors)
        print_report(evaluation.report(own_command(evaluation.settings["dtype"]), seed), job.output)
        return
    with workers(job.model.device) as (worker, device):
        if worker.is_first:
            print_notes([*job.plan.number_notes, *job.plan.notes, *job.choice.notes])
            print(
                f"{len(job.plan.items):,} videos to make, less those in {printable(job.output, MAX_PATH)} already; the "
                "same command resumes",
                flush=True,
            )
        evaluation = job.build(device, shown=worker.is_first)
        evaluation.measure(worker)
        if worker.is_first:
            print_report(evaluation.report(own_command(evaluation.settings["dtype"]), seed), job.output)


def _name(options: ModelOptions) -> str:
    name = Path(options.model).name
    return name if options.system == "video" else f"{name} ({options.system})"
