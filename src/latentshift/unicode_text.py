"""Sentences that a user hands over have to be Unicode text."""

from __future__ import annotations

from latentshift.error_text import printable


def check_unicode(text: str, what: str, remedy: str = "") -> None:
    """Refuse what holds bytes that were no UTF-8: Python keeps those of the command line as lone surrogates.

    Args:
        text: the sentence.
        what: it is, for the message: ``the prompt``.
        remedy: what to do about it.

    Raises:
        ValueError: showing the sentence.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} is not UTF-8 text: {printable(text, 120)}{remedy and '; '}{remedy}") from None
