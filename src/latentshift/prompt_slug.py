"""The part of a clip's file name that is made from its prompt."""

from __future__ import annotations

_LENGTH = 60


def prompt_slug(prompt: str) -> str:
    """Letters and digits of a prompt in lower case, joined by hyphens, at most 60 characters; ``video`` for none.

    Prompts may share one: those that differ in punctuation, or beyond its length.
    """
    words = "".join(letter if letter.isalnum() else " " for letter in prompt.lower()).split()
    return "-".join(words)[:_LENGTH].strip("-") or "video"
