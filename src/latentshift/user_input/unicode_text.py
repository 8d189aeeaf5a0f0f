"""Check that text from a user is valid Unicode."""

from __future__ import annotations

from latentshift.user_input.error_text import printable


def check_unicode(text: str, what: str, remedy: str = "") -> None:
    """Refuse text with invalid UTF-8, which Python keeps as lone surrogates in command-line arguments.

    Args:
        text: the sentence.
        what: name for the message: ``the prompt``.
        remedy: what to do about it.

    Raises:
        ValueError: showing the sentence.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} is not UTF-8 text: {printable(text, 120)}{remedy and '; '}{remedy}") from None
