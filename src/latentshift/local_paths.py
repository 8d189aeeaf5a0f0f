"""Paths of the machine at hand and credentials in URLs, cut out of what is shared with others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_START = r"(?:file:/+|~[\w.-]*[\\/]|[A-Za-z]:[\\/]|\\\\|(?:\.\.[\\/])+|/(?!/))"  # of a path
_PATH = re.compile(_START)
_PATH_IN_TEXT = re.compile(rf"(?<=[\s=:,;'\"(\[]){_START}[^\s,;'\"()\[\]]*[\\/][^\s,;'\"()\[\]]*")
_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]{0,20}://"
_URL = re.compile(rf"({_SCHEME})((?:(?!{_SCHEME})\S)*)")
_ADDRESS = re.compile(
    r"(?P<user>[^/?#\"'<>]*@)?(?P<host>\[[\da-fA-F:.]*\]|[^/?#\"'<>@:\[\]]*)(?P<port>:\d*)?"
    r"(?P<path>/[^?#\"'<>]*)?(?:[?#][^\"'<>]*)?"
)


def cut_local_paths(value: Any) -> Any:
    """Settings with every path of the machine cut down to its last name: ``/home/jane/clips`` becomes ``clips``.

    Absolute paths, those below a home (``~``) or above the folder (``..``), of Windows, and ``file:`` URLs are cut,
    in keys too; relative paths and ids of the hub stay. A string that begins with a path is one path, spaces included;
    within other text a path ends at a space. Of other URLs scheme, host and path stay: ``user:password@`` and the
    query, which may be a signature, are cut; of one that is malformed, as by a ``#`` in a password, only the scheme
    stays.

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
    return _PATH_IN_TEXT.sub(lambda match: _last_name(match.group()), _URL.sub(_cut_url, value))


def _cut_url(match: re.Match[str]) -> str:
    """A URL's scheme, host, port and path, and the text after it up to the next space or URL."""
    scheme, rest = match.groups()
    parts = _ADDRESS.match(rest)
    assert parts is not None  # all of it is optional
    user, host, port, path = (each or "" for each in parts.groups())
    after = rest[parts.end() :]
    unsure = user or port or not path  # before a /, ? or # in a password stands what looks like a host
    if (after and after[0] not in "\"'<>") or (unsure and "@" in rest[len(user) :]):
        return scheme
    return scheme + host + port + path + after


def _last_name(path: str) -> str:
    return re.split(r"[\\/]", path.rstrip("\\/ "))[-1]
