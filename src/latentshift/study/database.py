"""The SQLite file of a study: its tables, and transactions that many processes may make at once.

All that must hold however many raters answer at once is a constraint of a table. A comparison has as many rows in
``assignments`` as it wants raters, each for one of them; no row is added later. ``UNIQUE (comparison, rater)`` keeps a
rater from having two. A row is free while it has no rater, or an unanswered lease that has ended.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latentshift.files import check_writable

FILE = "study.db"
CLIPS = "clips"  # the folder beside it
_APPLICATION = 0x4C535354  # "LSST": tells this file from other SQLite files
_VERSION = 1
_BUSY_SECONDS = 60.0

_TABLES = """
CREATE TABLE settings (one INTEGER PRIMARY KEY CHECK (one = 1), json TEXT NOT NULL);
CREATE TABLE systems (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE clips (
    id INTEGER PRIMARY KEY,
    system INTEGER NOT NULL REFERENCES systems,
    prompt TEXT NOT NULL,
    file TEXT NOT NULL UNIQUE,
    broken INTEGER NOT NULL DEFAULT 0,
    UNIQUE (system, prompt, broken)
);
CREATE TABLE comparisons (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('vote', 'identical', 'broken')),
    first INTEGER NOT NULL REFERENCES clips,
    second INTEGER NOT NULL REFERENCES clips,
    shuffle INTEGER NOT NULL CHECK (shuffle BETWEEN 1 AND 2147483646),
    UNIQUE (first, second)
);
CREATE TABLE raters (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    token_hash TEXT NOT NULL UNIQUE
);
CREATE TABLE assignments (
    id INTEGER PRIMARY KEY,
    comparison INTEGER NOT NULL REFERENCES comparisons,
    number INTEGER NOT NULL,
    swapped INTEGER NOT NULL,
    rater INTEGER REFERENCES raters,
    position INTEGER,
    leased_until REAL,
    answered INTEGER NOT NULL DEFAULT 0 CHECK (answered = 0 OR rater IS NOT NULL),
    seconds REAL,
    replays INTEGER,
    UNIQUE (comparison, number),
    UNIQUE (comparison, rater)
);
CREATE INDEX open_assignments ON assignments (number) WHERE answered = 0;
CREATE INDEX assignments_of_rater ON assignments (rater, answered);
CREATE TABLE lapsed (
    comparison INTEGER NOT NULL REFERENCES comparisons,
    rater INTEGER NOT NULL REFERENCES raters,
    PRIMARY KEY (comparison, rater)
);
CREATE TABLE choices (
    assignment INTEGER NOT NULL REFERENCES assignments,
    question TEXT NOT NULL,
    choice TEXT NOT NULL CHECK (choice IN ('first', 'second', 'neither')),
    PRIMARY KEY (assignment, question)
);
"""


def create_database(folder: Path) -> sqlite3.Connection:
    """Make the file with empty tables in a folder, in WAL mode.

    Raises:
        OSError: if it can't be made, or the disk can't hold a file in WAL mode.
    """
    try:
        connection = sqlite3.connect(folder / FILE, isolation_level=None, timeout=_BUSY_SECONDS)
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise OSError(f"the disk of {folder} can't hold a study (SQLite's mode is {mode} there): use a local disk")
        connection.executescript(_TABLES)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {_VERSION}")
    except sqlite3.Error as error:
        raise OSError(f"{folder / FILE} can't be made: {error}") from None
    return _prepared(connection)


def check_study(folder: Path) -> Path:
    """The file of a study.

    Raises:
        FileNotFoundError: where there is none.
    """
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no study: make one with latentshift study make")
    return path


def open_database(folder: Path) -> sqlite3.Connection:
    """Open the file of a study.

    Raises:
        FileNotFoundError: where there is none.
        PermissionError: where nothing can be written.
        ValueError: for a file that is none, or another version's.
    """
    path = check_study(folder)
    connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_SECONDS)
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError as error:
        connection.close()
        try:
            check_writable(path)
        except OSError:
            raise PermissionError(
                f"{path} can't be opened: SQLite writes beside it even where it only reads, and {folder} is not "
                "writable; copy the study to a folder that is"
            ) from None
        raise ValueError(f"{path} can't be read as a study: {error}") from None
    if application != _APPLICATION or version != _VERSION:
        connection.close()
        other = f"of version {version}, not {_VERSION}" if application == _APPLICATION else "another program's"
        raise ValueError(f"{path} can't be read as a study: it is {other}")
    return _prepared(connection)


def _prepared(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")  # what was committed survives a power failure too
    connection.row_factory = sqlite3.Row
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing of a block; no other process writes between its first read and its end.

    Raises:
        sqlite3.OperationalError: if others hold the file for a minute, or the disk is full; nothing is changed then.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
