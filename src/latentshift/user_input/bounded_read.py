"""Read files from users with limits on size, depth and count before anything is expanded.

An endless device, JSON nested 300,000 deep, or YAML aliases that expand to a billion values give one error that names
the file. Imports nothing else of the package.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import yaml

MAX_TEXT = 2**24  # bytes of a text or JSON file, unless the caller says otherwise
MAX_YAML = 2**19  # bytes; its parser takes about a second for 100 kB
MAX_DEPTH = 64  # lists and objects inside one another
MAX_VALUES = 100_000  # of a YAML file, every alias counted with all that it stands for

Parsed = TypeVar("Parsed")

_BRACKETS = re.compile(r'\\.|["\[\]{}]', re.DOTALL)


def read_bytes_bounded(path: Path, max_bytes: int = MAX_TEXT, what: str = "", *, pipes: bool = False) -> bytes:
    """Read a file, at most ``max_bytes`` + 1 bytes.

    Args:
        path: the file.
        max_bytes: maximum size.
        what: name for the message: ``"the recipe"``.
        pipes: whether it may be a pipe or device, as what a user names may; one that nobody writes to is waited for.

    Raises:
        ValueError: if it can't be read, or is larger.
    """
    name = f"{what} {path}" if what else str(path)
    if not pipes and path.exists() and not (path.is_file() or path.is_dir()):  # a folder has a reason of its own
        raise ValueError(f"cannot read {name}: it is a pipe or device, and no file")
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:  # a ValueError for a name with a null in it
        raise ValueError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > max_bytes:
        raise ValueError(f"cannot read {name}: it is longer than {max_bytes:,} bytes, the most that is read of it")
    return content


def read_text_bounded(path: Path, max_bytes: int = MAX_TEXT, what: str = "", *, pipes: bool = False) -> str:
    """Read a UTF-8 file, without its byte order mark; the arguments are :func:`read_bytes_bounded`'s.

    Raises:
        ValueError: where it can't be read, is longer than ``max_bytes``, or is not UTF-8.
    """
    content = read_bytes_bounded(path, max_bytes, what, pipes=pipes)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        name = f"{what} {path}" if what else str(path)
        raise ValueError(
            f"cannot read {name}: it is not UTF-8 text (byte {error.start}: {error.reason}); save it as UTF-8"
        ) from None


def load_json_bounded(path: Path, max_bytes: int = MAX_TEXT, *, max_depth: int = MAX_DEPTH) -> Any:
    """Load a JSON file.

    Raises:
        ValueError: as :func:`read_text_bounded` and :func:`parse_json_bounded`; the message names the file.
    """
    return parse_json_bounded(read_text_bounded(path, max_bytes), str(path), max_depth=max_depth)


def load_json_settings(path: Path, max_bytes: int = MAX_TEXT) -> dict[str, Any]:
    """Load a JSON file that holds a group of settings.

    Raises:
        ValueError: as :func:`load_json_bounded`, and where it holds something else.
    """
    values = load_json_bounded(path, max_bytes)
    if not isinstance(values, dict):
        shown = repr(values)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}…"
        raise ValueError(f"{path} must hold a group of settings, {{name: value}}, and not {shown}")
    return values


def parse_json_bounded(text: str, where: str, *, max_depth: int = MAX_DEPTH) -> Any:
    """Parse JSON. The caller limits its length.

    Args:
        text: the JSON.
        where: the file, or its line, for the message.
        max_depth: lists and objects inside one another.

    Raises:
        ValueError: where it is no JSON, is nested deeper, or gives one key twice.
    """
    if text.count("[") + text.count("{") > max_depth and _json_depth(text, max_depth) > max_depth:
        raise ValueError(f"{where} is nested more than {max_depth} deep")
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except ValueError as error:
        raise ValueError(f"{where} is no JSON: {_reason(error)}") from None


def load_yaml_bounded(path: Path, max_bytes: int = MAX_YAML, what: str = "", *, pipes: bool = False) -> Any:
    """Load a YAML file like ``yaml.safe_load``; the arguments are :func:`read_bytes_bounded`'s.

    Raises:
        ValueError: as :func:`read_text_bounded` and :func:`parse_yaml_bounded`; the message names the file.
    """
    return parse_yaml_bounded(
        read_text_bounded(path, max_bytes, what, pipes=pipes), f"{what} {path}" if what else str(path)
    )


def parse_yaml_bounded(text: str, where: str) -> Any:
    """Parse YAML like ``yaml.safe_load``. The caller limits its length.

    Raises:
        ValueError: where it is no YAML, is nested deeper than 64, refers to itself, gives one key twice, or stands for
            more than 100,000 values once its aliases are followed.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _expanded(node, {}) > MAX_VALUES:
                raise ValueError(f"with its aliases it stands for more than {MAX_VALUES:,} values")
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError) as error:  # a ValueError also for a date that is none
        raise ValueError(f"{where} is not YAML that can be read: {_reason(error)}") from None


def read_appended_lines(
    file: BinaryIO, path: Path, parse: Callable[[bytes], Parsed], remedy: str, max_line: int
) -> Iterator[tuple[Parsed, int]]:
    """The complete lines of a file that lines are appended to, each with the byte where it ends.

    A last line without a line end was cut by a kill or a full disk: it is passed over, and the last end is where a
    writer truncates the file before it appends.

    Args:
        file: open to be read; read from its beginning.
        path: of it, for the message.
        parse: the value of a line; a ValueError says that the line is damaged.
        remedy: what to do about damage.
        max_line: bytes of a line, at most.

    Raises:
        ValueError: for a line that is damaged or too long.
    """
    file.seek(0)
    end = number = 0
    while line := file.readline(max_line + 1):
        number += 1
        if not line.endswith(b"\n") and len(line) <= max_line:
            return
        try:
            if len(line) > max_line:
                raise ValueError
            value = parse(line)
        except ValueError:
            raise ValueError(f"{path} line {number} is damaged: {remedy}") from None
        end += len(line)
        yield value, end


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "set_int_max_str_digits" in text:  # Python's advice, which is for programmers
        return f"a number in it has more than {sys.get_int_max_str_digits():,} digits"
    return text


class _Loader(yaml.SafeLoader):
    """``yaml.SafeLoader`` with a bound on the depth."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _expanded(node: Any, known: dict[int, int]) -> int:
    """The number of values that a node expands to; each node is visited once, whatever the number of aliases."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = -1
        if isinstance(node, yaml.MappingNode):
            twice = _given_twice([key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
            if twice is not None:
                raise ValueError(f"the key {twice!r} is given twice (line {node.start_mark.line + 1})")
        items = node.value if isinstance(node, yaml.SequenceNode) else [each for pair in node.value for each in pair]
        known[id(node)] = 1 + sum(_expanded(each, known) for each in items)
    if known[id(node)] < 0:
        raise ValueError(f"an alias refers to what it stands in (line {node.start_mark.line + 1})")
    return known[id(node)]


def _json_depth(text: str, enough: int) -> int:
    """How deep brackets outside of strings are nested; no further than just above ``enough``."""
    depth = deepest = 0
    in_string = False
    for match in _BRACKETS.finditer(text):
        mark = match.group()
        if mark == '"':
            in_string = not in_string
        elif not in_string and mark in "[{":
            depth += 1
            deepest = max(deepest, depth)
            if deepest > enough:
                break
        elif not in_string and mark in "]}":
            depth -= 1
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"the key {_given_twice([key for key, _ in pairs])!r} is given twice")
    return values


def _given_twice(keys: list[str]) -> str | None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            return key
        seen.add(key)
    return None
