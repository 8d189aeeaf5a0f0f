"""Prompts: of the command line, and of a file with one on each line."""

from __future__ import annotations

import io
from pathlib import Path

from latentshift.user_input.bounded_read import read_text_bounded
from latentshift.user_input.unicode_text import check_unicode

REMEDY = "set the terminal to UTF-8, or use --prompts-file"
_MAX_BYTES = 2**22


def read_prompts_file(file: Path) -> list[str]:
    """The lines that are not blank.

    Raises:
        ValueError: if it can't be read, is too long, or is not UTF-8.
    """
    text = read_text_bounded(file, _MAX_BYTES, "the prompts file", pipes=True)
    return [line.rstrip("\n") for line in io.StringIO(text, newline=None) if line.strip()]


def read_prompts(prompts: list[str], file: Path | None) -> list[str]:
    """The prompts of a command and of its file, checked.

    Args:
        prompts: of the command line.
        file: of further ones; None for none.

    Raises:
        ValueError: if there is none, one is empty or no Unicode, or the file can't be read.
    """
    sentences = list(prompts)
    if file is not None:
        sentences += read_prompts_file(file)
    if not sentences:
        raise ValueError('give a prompt, e.g. latentshift generate "a red star circling on a navy background"')
    if not all(sentence.strip() for sentence in sentences):
        raise ValueError("the prompt is empty; say what the video should show")
    for sentence in sentences:
        check_unicode(sentence, "the prompt", REMEDY)
    return sentences
