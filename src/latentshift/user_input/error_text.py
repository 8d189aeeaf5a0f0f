"""Error messages for users: pydantic's validation errors and exceptions of libraries, in plain English.

Knows no settings. Imports nothing else of the package.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

_NUMBER, _INTEGER, _BOOLEAN, _TEXT = "a number", "a whole number", "true or false", "a word or a sentence"
_SHOWN = "\u00a0\u3000\u200c\u200d"  # spaces, and joiners of Persian letters and emoji
_LIST, _GROUP = "a list, as [a, b]", "a group of settings, as {{name: value}}"
_MAX_VALUE = 200
_KEY = "[key]"  # pydantic's last part of the location of a key
# Pydantic's error type -> what the value must be; fields in braces are from the error's context.
_MUST_BE = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "finite_number": "a finite number",
    "literal_error": "{expected}",
    "int_parsing": _INTEGER,
    "int_type": _INTEGER,
    "int_from_float": _INTEGER,
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "bool_parsing": _BOOLEAN,
    "bool_type": _BOOLEAN,
    "string_type": _TEXT,
    "string_too_short": _TEXT,
    "path_type": "a path",
    "tuple_type": _LIST,
    "list_type": _LIST,
    "dict_type": _GROUP,
    "model_type": _GROUP,
    "model_attributes_type": _GROUP,
    "dataclass_type": _GROUP,
}
_MESSAGES = {
    "extra_forbidden": "unknown setting",
    "missing": "is required",
    "union_tag_invalid": "{discriminator} must be one of {expected_tags}, not '{tag}'",
    "union_tag_not_found": "{discriminator} is required",
    "too_short": "must hold {min_length} or more, not {actual_length}",
    "too_long": "must hold {max_length} or fewer, not {actual_length}",
}


def format_validation_error(
    error: ValidationError, *, leave_out: int = 0, given: object = None, known: Collection[str] = ()
) -> str:
    """All errors in one line: the setting, what it must be, and the value given.

    Args:
        error: as pydantic raises it.
        leave_out: number of leading parts of each location to omit: for a union, the name of its member.
        given: what was validated; a single value that was given where there could be a list then has no number.
        known: names of settings, as ``group.name``, of which the one most like an unknown one is suggested.
    """
    errors = error.errors(include_url=False)
    locations = [each["loc"] for each in errors]
    messages = []
    for each in errors:
        location = each["loc"]
        if each["type"] == "too_short" and any(other[: len(location)] == location != other for other in locations):
            continue  # its missing item is reported by another error
        is_key = location[-1:] == (_KEY,)  # of a dictionary; the part before is the key itself
        name = ".".join(_as_given(location[leave_out : -2 if is_key else None], given))
        message = f"each key {_message(each)}" if is_key else _message(each)
        if each["type"] == "extra_forbidden" and (alike := _most_alike(name, known)) is not None:
            message += f"; did you mean {alike}?"
        messages.append(f"{name}: {message}" if name else message)
    return "; ".join(dict.fromkeys(messages))


def printable(text: object, most: int = 500) -> str:
    """Text from a file or a user made safe for a terminal: one line, escaped and truncated.

    Control characters, line ends, bidirectional marks and bytes that are not UTF-8 are escaped as in Python (``\\x1b``,
    ``\\n``, ``\\u202e``, ``\\udce9``).

    Args:
        text: what is to be printed.
        most: maximum number of characters; the number of omitted ones is appended.
    """
    shown = str(text)
    rest = len(shown) - most
    shown = "".join(
        each if each.isprintable() or each in _SHOWN else each.encode("unicode_escape").decode()
        for each in shown[:most]
    )
    return f"{shown}… ({rest:,} more characters)" if rest > 0 else shown


def one_line(error: BaseException) -> str:
    """The message of an error in one line without full stop; its type if it has no message."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _most_alike(name: str, known: Collection[str]) -> str | None:
    """Of the same group, or else of any."""
    group, _, last = name.rpartition(".")
    beside = {each.rpartition(".")[2]: each for each in known if each.rpartition(".")[0] == group}
    anywhere = {each.rpartition(".")[2]: each for each in known}
    for candidates in (beside, anywhere):
        if alike := get_close_matches(last, candidates, 1, 0.75):
            return candidates[alike[0]]
    return None


def _as_given(location: tuple[int | str, ...], given: object) -> list[str]:
    parts = []
    for part in location:
        holder: Any = given
        if part == 0 and holder is not None and not isinstance(holder, list | tuple) and not _has(holder, part):
            continue  # the first of a list of one
        given = holder[part] if _has(holder, part) else None
        parts.append(str(part))
    return parts


def _has(holder: Any, part: int | str) -> bool:
    if isinstance(holder, list | tuple):
        return isinstance(part, int) and part < len(holder)
    return isinstance(holder, Mapping) and part in holder


def _message(error: Any) -> str:
    kind, facts = error["type"], error.get("ctx", {})
    if kind in _MESSAGES:
        return _MESSAGES[kind].format(**facts)
    if kind in _MUST_BE:
        given = "nothing" if error["input"] is None else printable(repr(error["input"]), _MAX_VALUE)
        return f"must be {_MUST_BE[kind].format(**facts)}, not {given}"
    return str(error["msg"]).removeprefix("Value error, ")
