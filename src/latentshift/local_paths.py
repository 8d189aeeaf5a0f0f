"""Paths of the machine at hand and credentials in URLs, cut out of what is shared with others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_START = r"(?:file:/+|~[\w.-]*[\\/]|[A-Za-z]:[\\/]|\\\\|(?:\.\.[\\/])+|/(?!/))"  # of a path
_PATH = re.compile(_START)
_PATH_IN_TEXT = re.compile(rf"(?<=[\s=:,;'\"(\[]){_START}[^\s,;'\"()\[\]]*[\\/][^\s,;'\"()\[\]]*")
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?:[^\s/?#\"'<>]*@)?(?P<address>[^\s?#\"'<>]*)(?:[?#][^\s\"'<>]*)?"
)


def cut_local_paths(value: Any) -> Any:
    """Settings with every path of the machine cut down to its last name: ``/home/jane/clips`` becomes ``clips``.

    Absolute paths, those below a home (``~``) or above the folder (``..``), of Windows, and ``file:`` URLs are cut,
    in keys too; relative paths and ids of the hub stay. A string that begins with a path is one path, spaces included;
    within other text a path ends at a space. Of other URLs scheme, host and path stay: ``user:password@`` and the
    query, which may be a signature, are cut.

    Args:
        value: a string, or mappings and lists of them; anything else is returned as it is.
    """
    if isinstance(value, Mapping):
        return {cut_local_paths(key): cut_local_paths(each) for key, each in value.items()}
    if isinstance(value, list):
        return [cut_local_paths(each) for each in value]
    if not isinstance(value, str):
        return value
    if _PATH.match(value):
        return _last_name(value)
    return _PATH_IN_TEXT.sub(lambda match: _last_name(match.group()), _URL.sub(r"\g<scheme>\g<address>", value))


def _last_name(path: str) -> str:
    return re.split(r"[\\/]", path.rstrip("\\/ "))[-1]
