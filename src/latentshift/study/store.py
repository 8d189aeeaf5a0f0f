"""Hand out comparisons to raters and take their answers, for any number of processes at once.

A rater gets the comparisons that fewest others have, in an order of the seed. A comparison is leased: whoever does not
answer in time may lose it to another rater, and does not get it again. Knows nothing of HTTP.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from latentshift.study.database import CLIPS, open_database, transaction
from latentshift.study.records import (
    SIDES,
    Answer,
    AnswerRefusedError,
    Assignment,
    Choice,
    RaterProgress,
    Side,
    UnknownTokenError,
)
from latentshift.study.seeded import PRIME, seeded
from latentshift.study.settings import StudySettings
from latentshift.user_input.error_text import printable


class Store:
    """A study's folder, opened by one thread; others open it as well.

    Args:
        folder: as ``make_study`` wrote it.
        clock: seconds since 1970.

    Raises:
        FileNotFoundError, ValueError: where the folder holds no study.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._database = open_database(folder)
        self._clock = clock
        self.folder = folder
        self.settings = StudySettings.from_json(self._one("SELECT json FROM settings")["json"])

    def close(self) -> None:
        """Close the file. Nothing that was confirmed waits to be written."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def systems(self) -> list[str]:
        """Names of the systems in the study's order."""
        return [row["name"] for row in self._database.execute("SELECT name FROM systems ORDER BY number")]

    def add_raters(self, count: int) -> list[str]:
        """Add raters, and give the token of each: this is the only time, since the file keeps hashes.

        Raises:
            ValueError: unless count is 1 or more.
        """
        if count < 1:
            raise ValueError(f"add 1 or more raters, not {count}")
        tokens = [secrets.token_urlsafe(16) for _ in range(count)]
        with transaction(self._database):
            self._database.executemany(
                "INSERT INTO raters (id, token_hash) VALUES (?, ?)",
                [(secrets.token_hex(8), _hash(token)) for token in tokens],
            )
        return tokens

    def rater_id(self, token: str) -> str:
        """The random id that a rater's answers are listed under.

        Raises:
            UnknownTokenError: if there is no such rater.
        """
        return str(self._rater(token)["id"])

    def next_assignment(self, token: str) -> Assignment | None:
        """The pair that a rater is to answer now: the open one, if any, with a new lease; else a new one.

        Returns:
            None if no comparison is free for this rater, now or at all (:meth:`progress_of` tells).

        Raises:
            UnknownTokenError: if there is no such rater.
        """
        rater = self._rater(token)["number"]
        with transaction(self._database):
            now = self._clock()
            until = now + self.settings.lease_seconds
            lease = self._open_of(rater) or self._free_for(rater, now)
            if lease is None:
                return None
            if lease["rater"] == rater:
                self._database.execute("UPDATE assignments SET leased_until = ? WHERE id = ?", (until, lease["id"]))
                return self._assignment(lease["id"])
            position = self._answered_by(rater)
            if (check := self._due_check(rater, position)) is not None:
                return self._assignment(self._assign_check(check, rater, position, until))
            if lease["rater"] is not None:
                self._database.execute("INSERT INTO lapsed VALUES (?, ?)", (lease["comparison"], lease["rater"]))
            self._database.execute(
                "UPDATE assignments SET rater = ?, position = ?, leased_until = ? WHERE id = ?",
                (rater, position, until, lease["id"]),
            )
            return self._assignment(lease["id"])

    def answer(
        self,
        token: str,
        assignment: int,
        sides: Mapping[str, Side],
        *,
        seconds: float | None = None,
        replays: int | None = None,
    ) -> None:
        """Store an answer; when this returns, it is on the disk. The same answer again is confirmed again.

        An answer after its lease ended is taken as long as no other rater has got the pair.

        Args:
            token: the rater's.
            assignment: its id.
            sides: of each question's name ``left``, ``right``, or, if the study has it, ``neither`` for "can't tell".
            seconds: from showing to answering.
            replays: of the videos.

        Raises:
            UnknownTokenError: if there is no such rater.
            ValueError: for an answer that does not fit the questions.
            AnswerRefusedError: if the pair is another rater's, or was answered otherwise before.
        """
        self._check_sides(sides)
        rater = self._rater(token)["number"]
        with transaction(self._database):
            row = self._database.execute("SELECT * FROM assignments WHERE id = ?", (assignment,)).fetchone()
            if row is None or row["rater"] != rater:
                raise AnswerRefusedError(_NOT_YOURS)
            choices = {question: _choice(side, bool(row["swapped"])) for question, side in sides.items()}
            if row["answered"]:
                stored = self._database.execute("SELECT * FROM choices WHERE assignment = ?", (assignment,))
                if {each["question"]: each["choice"] for each in stored} != choices:
                    raise AnswerRefusedError(
                        "you have answered this pair already, and otherwise: the first answer stays"
                    )
                return
            self._database.executemany(
                "INSERT INTO choices VALUES (?, ?, ?)", [(assignment, *each) for each in choices.items()]
            )
            self._database.execute(
                "UPDATE assignments SET answered = 1, leased_until = NULL, seconds = ?, replays = ? WHERE id = ?",
                (seconds, replays, assignment),
            )

    def clip_of(self, token: str, assignment: int, side: Literal["left", "right"]) -> Path:
        """The file that a rater sees on a side of a pair of theirs.

        Raises:
            UnknownTokenError: if there is no such rater.
            AnswerRefusedError: if the pair is not, or no longer, theirs.
        """
        rater = self._rater(token)["number"]
        row = self._database.execute("SELECT rater FROM assignments WHERE id = ?", (assignment,)).fetchone()
        if row is None or row["rater"] != rater:
            raise AnswerRefusedError(_NOT_YOURS)
        pair = self._assignment(assignment)
        return self.folder / CLIPS / (pair.left if side == "left" else pair.right)

    def progress_of(self, token: str) -> RaterProgress:
        """Where a rater stands.

        Raises:
            UnknownTokenError: if there is no such rater.
        """
        rater = self._rater(token)["number"]
        row = self._one(
            f"""
            SELECT count(*) AS wanted, coalesce(sum(free), 0) AS free FROM (
                SELECT max(a.rater IS NULL OR a.rater = :rater OR a.leased_until <= :now) AS free
                FROM assignments a JOIN comparisons c ON c.id = a.comparison
                WHERE a.answered = 0 AND c.kind = 'vote' AND (a.rater = :rater OR {_NEVER_HAD})
                GROUP BY a.comparison
            )
            """,
            {"rater": rater, "now": self._clock()},
        )
        return RaterProgress(self._answered_by(rater), row["free"], row["wanted"] - row["free"])

    def progress(self) -> tuple[int, int]:
        """Votes that were given, and that are wanted; attention checks not counted."""
        row = self._one(
            "SELECT coalesce(sum(a.answered), 0) AS given, count(*) AS wanted FROM assignments a "
            "JOIN comparisons c ON c.id = a.comparison WHERE c.kind = 'vote'"
        )
        return row["given"], row["wanted"]

    def answers(self) -> list[Answer]:
        """All answers, attention checks included, by comparison, rater and question."""
        rows = self._database.execute(
            """
            SELECT c.id AS comparison, c.kind, one.prompt, s1.name AS first, s2.name AS second, r.id AS rater,
                choices.question, choices.choice, a.swapped, a.position, a.seconds, a.replays
            FROM choices JOIN assignments a ON a.id = choices.assignment
            JOIN comparisons c ON c.id = a.comparison JOIN raters r ON r.number = a.rater
            JOIN clips one ON one.id = c.first JOIN clips two ON two.id = c.second
            JOIN systems s1 ON s1.number = one.system JOIN systems s2 ON s2.number = two.system
            ORDER BY c.id, r.number, choices.question
            """
        )
        return [Answer(**{**row, "swapped": bool(row["swapped"])}) for row in map(dict, rows)]

    def _one(self, sql: str, values: Mapping[str, object] | tuple[object, ...] = ()) -> sqlite3.Row:
        row: sqlite3.Row = self._database.execute(sql, values).fetchone()
        return row

    def _rater(self, token: str) -> sqlite3.Row:
        row = self._database.execute("SELECT * FROM raters WHERE token_hash = ?", (_hash(token),)).fetchone()
        if row is None:
            raise UnknownTokenError("no rater of this study has this link")
        return row

    def _answered_by(self, rater: int) -> int:
        return int(self._one("SELECT count(*) FROM assignments WHERE rater = ? AND answered = 1", (rater,))[0])

    def _open_of(self, rater: int) -> sqlite3.Row | None:
        return self._one("SELECT * FROM assignments WHERE rater = ? AND answered = 0", (rater,))

    def _free_for(self, rater: int, now: float) -> sqlite3.Row | None:
        """The row to give to a rater, free and of lowest number: its number is how many others have the comparison."""
        values = {"rater": rater, "now": now, "order": seeded(self.settings.seed, "order", rater), "prime": PRIME}
        for number in range(self.settings.raters_each):
            row = self._one(
                f"""
                SELECT a.* FROM assignments a JOIN comparisons c ON c.id = a.comparison
                WHERE a.number = :number AND a.answered = 0 AND c.kind = 'vote'
                    AND (a.rater IS NULL OR a.leased_until <= :now) AND {_NEVER_HAD}
                ORDER BY c.shuffle * :order % :prime, c.id LIMIT 1
                """,
                {**values, "number": number},
            )
            if row is not None:
                return row
        return None

    def _due_check(self, rater: int, position: int) -> int | None:
        """The attention check to show at a position: one in each block of ``check_every``, at a place of the seed."""
        seed, every = self.settings.seed, self.settings.check_every
        block, place = divmod(position, every)
        if seeded(seed, "check", rater, block) % every != place:
            return None
        by_kind = []
        for kind in ("broken", "identical"):
            rows = self._database.execute("SELECT id FROM comparisons WHERE kind = ?", (kind,))
            by_kind.append(sorted((seeded(seed, "check", rater, kind, row["id"]), row["id"]) for row in rows))
        # In turns, as long as there are both kinds.
        ordered = sorted(
            (index, kind, each[1]) for kind, checks in enumerate(by_kind) for index, each in enumerate(checks)
        )
        return ordered[block][2] if block < len(ordered) else None

    def _assign_check(self, comparison: int, rater: int, position: int, until: float) -> int:
        swapped = seeded(self.settings.seed, "side", rater, comparison) % 2
        (number,) = self._one("SELECT count(*) FROM assignments WHERE comparison = ?", (comparison,))
        cursor = self._database.execute(
            "INSERT INTO assignments (comparison, number, swapped, rater, position, leased_until) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (comparison, number, swapped, rater, position, until),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def _assignment(self, number: int) -> Assignment:
        row = self._one(
            "SELECT a.*, one.prompt, one.file AS first, two.file AS second FROM assignments a "
            "JOIN comparisons c ON c.id = a.comparison "
            "JOIN clips one ON one.id = c.first JOIN clips two ON two.id = c.second WHERE a.id = ?",
            (number,),
        )
        left, right = (row["second"], row["first"]) if row["swapped"] else (row["first"], row["second"])
        return Assignment(row["id"], row["prompt"], left, right, row["position"], row["leased_until"])

    def _check_sides(self, sides: Mapping[str, Side]) -> None:
        wanted = {question.name for question in self.settings.questions}
        if set(sides) != wanted:
            raise ValueError(
                f"an answer is for {', '.join(sorted(wanted))}, not {printable(', '.join(sorted(sides)) or 'nothing')}"
            )
        allowed = SIDES if self.settings.cant_tell else SIDES[:2]
        for side in sides.values():
            if side not in allowed:
                raise ValueError(f"an answer is one of {', '.join(allowed)}, not {printable(side)}")


_NOT_YOURS = "this pair is not yours, or its time ran out and another rater has it now"
# SQL: the rater :rater has no row of a comparison, and lost none.
_NEVER_HAD = """
    NOT EXISTS (SELECT 1 FROM assignments own WHERE own.comparison = a.comparison AND own.rater = :rater)
    AND NOT EXISTS (SELECT 1 FROM lapsed WHERE lapsed.comparison = a.comparison AND lapsed.rater = :rater)
"""


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _choice(side: Side, swapped: bool) -> Choice:
    if side == "neither":
        return "neither"
    return "second" if (side == "left") == swapped else "first"
