"""Check an evaluation of a model on prompts, and run it on one or several processes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from latentshift.cli.evaluate.common import MAX_PATH, print_notes, print_report, workers
from latentshift.cli.evaluate.prompted_job import PromptedJob
from latentshift.cli.evaluate.prompted_options import ModelOptions
from latentshift.cli.own_command import own_command
from latentshift.error_text import printable
from latentshift.files import check_writable

if TYPE_CHECKING:
    from latentshift.data.footage.window import Short
    from latentshift.evaluation.protocols.choice import Choice
    from latentshift.evaluation.protocols.systems import KeepWord


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
