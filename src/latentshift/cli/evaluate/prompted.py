"""Check an evaluation of a model on prompts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from latentshift.cli.engine import check_engine
from latentshift.cli.evaluate.prompted_options import ModelOptions
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
    rank_timeout: float,
) -> tuple[Choice, KeepWord, float, Short]:
    """Refuse what is wrong before torch is imported; what a :class:`PromptedJob` takes after its output.

    Args:
        options: of the model.
        extractors: as written.
        standard: extractors of the protocol.
        output, keep, seconds, short, engine, actors, rank_timeout: as given.

    Raises:
        ValueError: for the first invalid option, or a missing extractor.
    """
    from latentshift.cli.data.common import one_of
    from latentshift.data.footage.window import SHORT, Window
    from latentshift.evaluation.protocols.choice import choose_extractors
    from latentshift.evaluation.protocols.systems import KEEP as KEEP_WORDS

    check_engine(engine, actors, options.device, rank_timeout)
    keep_word, short_word = one_of("--keep", keep, KEEP_WORDS), one_of("--short", short, SHORT)
    Window(1, seconds)
    choice = choose_extractors(extractors, standard, options.check())
    check_writable(output / "report.json")
    return choice, keep_word, seconds, short_word
