"""The part of a clip's file name that is made from its prompt."""

from __future__ import annotations

import re

_LENGTH = 60


def prompt_slug(prompt: str) -> str:
    """Letters and digits of a prompt in lower case, joined by hyphens, at most 60 characters; ``video`` for none.

    Prompts may share one: those that differ in punctuation, or beyond its length.
    """
    words = "".join(letter if letter.isalnum() else " " for letter in prompt.lower()).split()
    return "-".join(words)[:_LENGTH].strip("-") or "video"


def slugs_of_name(stem: str) -> set[str]:
    """What :func:`prompt_slug` may have made of the prompt of a file of this name: with a number at its end or not."""
    return {prompt_slug(stem), prompt_slug(re.sub(r"[\W_]+\d+$", "", stem))}
