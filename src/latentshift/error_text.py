"""Errors of libraries in words for people: what pydantic finds wrong with settings, and whatever else is raised.

Knows no settings. Imports nothing else of the package.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

_NUMBER, _WHOLE_NUMBER, _TRUTH, _WORD = "a number", "a whole number", "true or false", "a word or a sentence"
_SHOWN = "\u00a0\u3000\u200c\u200d"  # spaces, and what joins letters of Persian and parts of an emoji
_LIST, _GROUP = "a list, as [a, b]", "a group of settings, as {{name: value}}"
_MOST_OF_A_VALUE = 200
# Pydantic's kind of error -> what the value must be; in braces, what pydantic tells of it.
_MUST_BE = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "finite_number": "a finite number",
    "literal_error": "{expected}",
    "int_parsing": _WHOLE_NUMBER,
    "int_type": _WHOLE_NUMBER,
    "int_from_float": _WHOLE_NUMBER,
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "bool_parsing": _TRUTH,
    "bool_type": _TRUTH,
    "string_type": _WORD,
    "string_too_short": _WORD,
    "path_type": "a path",
    "tuple_type": _LIST,
    "list_type": _LIST,
    "dict_type": _GROUP,
    "model_type": _GROUP,
    "model_attributes_type": _GROUP,
    "dataclass_type": _GROUP,
}
_IN_FULL = {
    "extra_forbidden": "there is no such setting",
    "missing": "is to be given",
    "union_tag_invalid": "{discriminator} must be one of {expected_tags}, not '{tag}'",
    "union_tag_not_found": "{discriminator} is to be given",
    "too_short": "must hold {min_length} or more, not {actual_length}",
    "too_long": "must hold {max_length} or fewer, not {actual_length}",
}


def format_validation_error(error: ValidationError, *, leave_out: int = 0) -> str:
    """All that is wrong, one after the other: where, what, and what was given instead.

    Args:
        error: as pydantic raises it.
        leave_out: how many parts of each place to leave out, from the front: of a union, which of its kinds it is.
    """
    found = error.errors(include_url=False)
    places = [each["loc"] for each in found]
    told = []
    for each in found:
        place = each["loc"]
        if each["type"] == "too_short" and any(other[: len(place)] == place != other for other in places):
            continue  # it lacks what is told to be wrong
        name = ".".join(str(part) for part in place[leave_out:])
        told.append(f"{name}: {_said(each)}" if name else _said(each))
    return "; ".join(dict.fromkeys(told))


def printable(text: object, most: int = 500) -> str:
    """Text of a file or a user as it may go to a terminal: one line, escaped and cut.

    Control characters, line ends, marks that turn the direction of writing and bytes that are not UTF-8 are spelled
    out as in Python (``\\x1b``, ``\\n``, ``\\u202e``, ``\\udce9``).

    Args:
        text: what is to be printed.
        most: characters of it that are kept; what is left out is counted.
    """
    shown = str(text)
    rest = len(shown) - most
    shown = "".join(
        each if each.isprintable() or each in _SHOWN else each.encode("unicode_escape").decode()
        for each in shown[:most]
    )
    return f"{shown}… ({rest:,} more characters)" if rest > 0 else shown


def one_line(error: BaseException) -> str:
    """What an error says, in one line without its end; its kind, if it says nothing."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _said(error: Any) -> str:
    kind, facts = error["type"], error.get("ctx", {})
    if kind in _IN_FULL:
        return _IN_FULL[kind].format(**facts)
    if kind in _MUST_BE:
        given = "nothing" if error["input"] is None else printable(repr(error["input"]), _MOST_OF_A_VALUE)
        return f"must be {_MUST_BE[kind].format(**facts)}, not {given}"
    return str(error["msg"]).removeprefix("Value error, ")
