"""The option ``--prompt-at FRAME=PROMPT``, checked before a model is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from latentshift.cli.prompts_file import REMEDY
from latentshift.settings import frame_position
from latentshift.user_input.unicode_text import check_unicode

_NAME = "--prompt-at"


def read_prompts_at(
    texts: Sequence[str], sentences: Sequence[str], frames: int | None, *, extend: int | None
) -> dict[int, str]:
    """The prompts of frames behind the first.

    Args:
        texts: of all options.
        sentences: the prompts; the options are for one alone.
        frames: of the video; None where they are not known yet.
        extend: of ``--extend``.

    Returns:
        Frame, negative ones from the end -> sentence.

    Raises:
        ValueError: for an option that can't be read, a frame outside of the video, of the prompt itself or named twice,
            several prompts, or an extension.
    """
    if not texts:
        return {}
    if len(sentences) > 1:
        raise ValueError(f"{_NAME} changes one prompt, and there are {len(sentences)}: make their videos one by one")
    if extend is not None:
        raise ValueError(f"{_NAME} and --extend don't go together: frames count anew in each extension")
    prompts: dict[int, str] = {}
    positions = {0}
    for text in texts:
        number, equals, sentence = text.partition("=")
        digits = number.strip().removeprefix("-")
        if not equals or not (digits.isascii() and digits.isdecimal()) or not sentence.strip():
            raise ValueError(f'{_NAME} is FRAME=PROMPT, as 8="a blue star", not {text!r}')
        check_unicode(sentence, _NAME, REMEDY)
        frame = int(number)
        position = frame if frames is None else frame_position(frame, frames, _NAME)
        if position in positions:
            which = "frame 0, which the prompt itself has" if position == 0 else f"frame {position} twice"
            raise ValueError(f"{_NAME} names {which}: give each frame one prompt")
        positions.add(position)
        prompts[frame] = sentence
    return prompts
