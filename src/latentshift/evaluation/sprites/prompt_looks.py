"""What a prompt of the sprites world says of a clip's looks, whatever motion it names. Needs numpy alone."""

from __future__ import annotations

import re

from latentshift.data.sprites import BACKGROUNDS, COLOURS, THINGS

_PROMPT = re.compile(r"an? (\w+) (\w+)\b.* on an? (\w+) background", re.IGNORECASE)
_KNOWN = {"colour": tuple(COLOURS), "thing": THINGS, "background": tuple(BACKGROUNDS)}


def looks_of(prompt: str) -> dict[str, str]:
    """The words for ``colour``, ``thing`` and ``background`` in a prompt of the sprites world, of whatever motion.

    Raises:
        ValueError: if it has not that form, or a word that the world does not know.
    """
    match = _PROMPT.fullmatch(prompt.strip())
    if match is None:
        raise ValueError(f'the prompt must have the form "a red star … on a navy background", not {prompt!r}')
    looks = dict(zip(_KNOWN, (word.lower() for word in match.groups()), strict=True))
    for kind, word in looks.items():
        if word not in _KNOWN[kind]:
            raise ValueError(f"the prompt {prompt!r} has the {kind} {word!r}; sprites know {', '.join(_KNOWN[kind])}")
    return looks
