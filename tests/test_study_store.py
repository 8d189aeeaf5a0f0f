"""What a study's store promises: exactly so many raters, no pair twice, no confirmed answer lost."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from latentshift.study.database import FILE, create_database
from latentshift.study.design import ClipFile, write_design
from latentshift.study.records import Answer, AnswerRefusedError, Assignment, UnknownTokenError
from latentshift.study.result import (
    check_table,
    left_share,
    majority_table,
    strength_intervals,
    system_strengths,
)
from latentshift.study.settings import Question, StudySettings
from latentshift.study.store import Store
from waiting import PATIENCE, wait_for

ONE_QUESTION = (Question("quality", "Which is better?"),)
RATER = Path(__file__).parent / "study_rater.py"


class Clock:
    """Seconds that pass when told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def make(
    folder: Path,
    prompts: int = 4,
    systems: str = "AB",
    *,
    broken: int = 0,
    identical: int = 0,
    **settings: object,
) -> list[ClipFile]:
    """A study without clips."""
    database = create_database(folder)
    names = [f"prompt {number}" for number in range(prompts)]
    chosen = StudySettings(**{"questions": ONE_QUESTION, **settings})  # type: ignore[arg-type]
    suffixes = {system: dict.fromkeys(names, ".mp4") for system in systems}
    clips = write_design(database, chosen, names, suffixes, broken=broken, identical=identical)
    database.close()
    return clips


def answer_all(
    store: Store, token: str, choose: Callable[[Assignment], str] = lambda pair: "left", most: int = 10**6
) -> list[Assignment]:
    """The pairs that a rater answered until nothing was left, or ``most`` of them."""
    done: list[Assignment] = []
    while len(done) < most and (pair := store.next_assignment(token)) is not None:
        side = choose(pair)
        store.answer(token, pair.id, {each.name: side for each in store.settings.questions})  # type: ignore[misc]
        done.append(pair)
    return done


def test_each_comparison_gets_exactly_its_raters(tmp_path: Path) -> None:
    make(tmp_path, prompts=6, systems="ABC", raters_each=3)
    with Store(tmp_path) as store:
        tokens = store.add_raters(5)
        open_tokens = list(tokens)
        while open_tokens:  # in turns, one pair each
            open_tokens = [token for token in open_tokens if answer_all(store, token, most=1)]
        answers = store.answers()
        assert store.progress() == (54, 54)
    assert Counter(Counter(each.comparison for each in answers).values()) == {3: 18}
    assert max(Counter((each.comparison, each.rater) for each in answers).values()) == 1
    assert {(each.first, each.second) for each in answers} == {("A", "B"), ("A", "C"), ("B", "C")}
    # Both systems stand on the left as often, up to one rater of each comparison.
    assert set(Counter(each.comparison for each in answers if each.swapped).values()) == {1, 2}


def test_the_tables_themselves_refuse_a_second_row_for_a_rater(tmp_path: Path) -> None:
    make(tmp_path, raters_each=2)
    with Store(tmp_path) as store:
        store.add_raters(1)
    database = sqlite3.connect(tmp_path / FILE)
    with pytest.raises(sqlite3.IntegrityError, match=r"assignments.comparison, assignments.rater"):
        database.execute("UPDATE assignments SET rater = 1 WHERE comparison = 1")
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        database.execute("UPDATE assignments SET answered = 1")


def test_comparisons_with_fewest_raters_come_first(tmp_path: Path) -> None:
    make(tmp_path, prompts=9, raters_each=2)
    with Store(tmp_path) as store:
        one, two = store.add_raters(2)
        answer_all(store, one, most=5)
        answer_all(store, two, most=4)
        assert set(Counter(each.comparison for each in store.answers()).values()) == {1}


def test_order_and_sides_are_of_the_seed(tmp_path: Path) -> None:
    seen = {}
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        (tmp_path / name).mkdir()
        clips = make(tmp_path / name, prompts=20, raters_each=1, seed=seed, broken=2)
        with Store(tmp_path / name) as store:
            pairs = answer_all(store, *store.add_raters(1))
        seen[name] = ([(pair.prompt, pair.left, pair.right) for pair in pairs], clips)
    assert seen["one"] == seen["same"]
    assert [prompt for prompt, *_ in seen["one"][0]] != [prompt for prompt, *_ in seen["other"][0]]
    # Neither the order of files nor the side tells the system.
    systems = {clip.file: clip.system for clip in seen["one"][1]}
    assert {systems[left] for _, left, _ in seen["one"][0]} == {"A", "B"}
    assert [systems[file] for file in sorted(systems)] != sorted(systems.values())


def test_raters_have_different_orders(tmp_path: Path) -> None:
    make(tmp_path, prompts=20, raters_each=2)
    with Store(tmp_path) as store:
        orders = [[pair.prompt for pair in answer_all(store, token)] for token in store.add_raters(2)]
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1])


def test_a_reload_gives_the_same_pair_and_a_new_lease(tmp_path: Path) -> None:
    make(tmp_path, lease_seconds=10)
    clock = Clock()
    with Store(tmp_path, clock=clock) as store:
        (token,) = store.add_raters(1)
        first = store.next_assignment(token)
        clock.now += 9
        again = store.next_assignment(token)
    assert first is not None and again is not None
    assert (first.id, first.left) == (again.id, again.left) and again.leased_until == first.leased_until + 9


def test_an_expired_lease_goes_to_another_rater_and_not_back(tmp_path: Path) -> None:
    make(tmp_path, prompts=1, raters_each=1, lease_seconds=10)
    clock = Clock()
    with Store(tmp_path, clock=clock) as store:
        slow, quick, third = store.add_raters(3)
        pair = store.next_assignment(slow)
        assert pair is not None and store.next_assignment(quick) is None
        progress = store.progress_of(quick)
        assert (progress.answered, progress.available, progress.waiting) == (0, 0, 1)
        clock.now += 10
        assert store.progress_of(quick).available == 1
        taken = store.next_assignment(quick)
        assert taken is not None and taken.id == pair.id
        with pytest.raises(AnswerRefusedError, match="another rater has it now"):
            store.answer(slow, pair.id, {"quality": "left"})
        clock.now += 10
        assert store.next_assignment(slow) is None, "it has seen this pair"
        assert store.progress_of(slow).available == 0
        store.answer(quick, pair.id, {"quality": "left"})  # late, but nobody else took it
        assert store.next_assignment(third) is None and store.progress() == (1, 1)


def test_the_same_answer_twice_is_one_and_another_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    with Store(tmp_path) as store:
        (token,) = store.add_raters(1)
        pair = store.next_assignment(token)
        assert pair is not None
        store.answer(token, pair.id, {"quality": "left"}, seconds=2.5, replays=1)
        store.answer(token, pair.id, {"quality": "left"}, seconds=9.0)
        with pytest.raises(AnswerRefusedError, match="the first answer stays"):
            store.answer(token, pair.id, {"quality": "right"})
        (answer,) = store.answers()
    assert (answer.seconds, answer.replays) == (2.5, 1)
    assert answer.choice == ("second" if answer.swapped else "first")


def test_answers_that_fit_nothing_are_refused(tmp_path: Path) -> None:
    make(tmp_path)
    with Store(tmp_path) as store:
        one, two = store.add_raters(2)
        pair = store.next_assignment(one)
        assert pair is not None
        for sides, why in (
            ({}, "an answer is for quality, not nothing"),
            ({"quality": "left", "speed": "left"}, "not quality, speed"),
            ({"quality": "up"}, "one of left, right, not up"),
            ({"quality": "neither"}, "one of left, right, not neither"),
        ):
            with pytest.raises(ValueError, match=why):
                store.answer(one, pair.id, sides)  # type: ignore[arg-type]
        for number in (pair.id, 10**6):
            with pytest.raises(AnswerRefusedError, match="not yours"):
                store.answer(two, number, {"quality": "left"})
        with pytest.raises(UnknownTokenError):
            store.next_assignment("guessed")
        assert store.answers() == []


def test_one_attention_check_in_each_block_until_there_are_no_more(tmp_path: Path) -> None:
    clips = make(tmp_path, prompts=60, raters_each=2, broken=3, identical=2, check_every=6, cant_tell=True)
    intact = {clip.file: not clip.broken for clip in clips}

    def careful(pair: Assignment) -> str:
        if pair.left == pair.right:
            return "neither"
        return "left" if intact[pair.left] > intact[pair.right] else "right"

    with Store(tmp_path) as store:
        one, two = store.add_raters(2)
        pairs = answer_all(store, one, careful)
        answer_all(store, two)
        checks = [
            n for n, pair in enumerate(pairs) if pair.left == pair.right or not intact[pair.left] * intact[pair.right]
        ]
        assert [n // 6 for n in checks] == [0, 1, 2, 3, 4]
        assert len({n % 6 for n in checks}) > 1, "a rater can't know where they are"
        assert len(pairs) == 65 and store.progress() == (120, 120)
        results = check_table(store.answers())
        first, second = (results[store.rater_id(token)] for token in (one, two))
    assert (first.broken_passed, first.broken_shown) == (3, 3)
    assert (first.identical_passed, first.identical_shown) == (2, 2)
    assert (second.broken_shown, second.identical_passed, second.identical_shown) == (3, 0, 2)


def test_more_checks_than_clips_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 to 2 broken attention checks, not 3"):
        make(tmp_path, prompts=1, broken=3)


def test_nothing_of_a_rater_but_a_random_id_is_stored(tmp_path: Path) -> None:
    make(tmp_path)
    with Store(tmp_path) as store:
        tokens = store.add_raters(2)
        answer_all(store, tokens[0])
    assert len(set(tokens)) == 2
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not any(token.encode() in content for token in tokens)
    columns = [row[1] for row in sqlite3.connect(tmp_path / FILE).execute("PRAGMA table_info(raters)")]
    assert columns == ["number", "id", "token_hash"]


def test_what_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no study: make one with latentshift study make"):
        Store(tmp_path)
    (tmp_path / FILE).write_bytes(b"something else" * 100)
    with pytest.raises(ValueError, match="can't be read as a study"):
        Store(tmp_path)
    (tmp_path / FILE).unlink()
    sqlite3.connect(tmp_path / FILE).execute("CREATE TABLE t (x)")
    with pytest.raises(ValueError, match="another program's"):
        Store(tmp_path)


@contextmanager
def as_another_user() -> Iterator[None]:
    """Without the right of root to write anywhere."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions are other ones here")
def test_a_study_in_a_folder_that_takes_no_files_is_refused_with_a_way_out() -> None:
    with tempfile.TemporaryDirectory() as temporary:  # tmp_path is closed to others
        Path(temporary).chmod(0o755)
        (study := Path(temporary) / "study").mkdir()
        make(study)
        for path, mode in ((study / FILE, 0o644), (study, 0o555)):
            path.chmod(mode)
        with (
            as_another_user(),
            pytest.raises(PermissionError, match=f"{study} is not writable; copy the study to a folder that is$"),
        ):
            Store(study)
        study.chmod(0o755)


def votes(question: str, table: Sequence[str], pair: str = "AB", swapped: bool = False) -> list[Answer]:
    """Answers by comparison: '11212' are three votes for the first system and two for the second."""
    named = {"1": "first", "2": "second", "0": "neither"}
    return [
        Answer(unit, "vote", f"p{unit}", *pair, f"r{n}", question, named[vote], swapped, 0, None, None)  # type: ignore[arg-type]
        for unit, row in enumerate(table)
        for n, vote in enumerate(row)
    ]


def test_majorities_with_their_interval() -> None:
    table = votes("quality", ["11111", "11122", "22212", "11220", "11", "00011"])
    found, other = majority_table([*table, *votes("faithfulness", ["11111"])], 5)
    assert (found.question, found.first, found.second) == ("quality", "A", "B")
    assert (found.first_wins, found.second_wins, found.undecided, found.incomplete) == (2, 1, 2, 1)
    assert found.share == pytest.approx(2 / 3)
    assert found.interval == pytest.approx((0.2077, 0.9385), abs=1e-4)  # Wilson, of 2 in 3
    assert other.share == 1 and other.kappa is None and other.alpha is None


def test_agreement_is_of_the_right_answers() -> None:
    full, split = majority_table(votes("q", ["111", "222"]) + votes("s", ["1112", "2221", "11"]), 3)
    assert full.kappa == 1 and full.alpha == 1
    assert split.kappa is None and split.alpha is not None and split.incomplete == 3


def test_strengths_from_answers() -> None:
    answers = votes("q", ["1112"]) + votes("q", ["1112"], "BC") + votes("q", ["0000"], "AC")
    strengths = system_strengths(answers, "q", ["A", "B", "C"])
    assert strengths["B"] == pytest.approx(0, abs=1e-8) and strengths["A"] == pytest.approx(-strengths["C"])
    with pytest.raises(ValueError, match="A never won against D"):
        system_strengths(answers, "q", ["A", "B", "C", "D"])


def test_strengths_have_intervals_over_prompts() -> None:
    rng = np.random.default_rng(0)
    strengths = {"A": 0.8, "B": 0.0, "C": -0.8}
    answers, covered = [], 0
    for pair in ("AB", "BC", "AC"):
        wins = 1 / (1 + np.exp(strengths[pair[1]] - strengths[pair[0]]))
        answers += votes("q", ["".join("1" if rng.random() < wins else "2" for _ in range(5)) for _ in range(40)], pair)
    intervals = strength_intervals(answers, "q", list("ABC"))
    assert intervals == strength_intervals(reversed(answers), "q", list("ABC"))
    for name, (low, high) in (intervals or {}).items():
        assert low < system_strengths(answers, "q", list("ABC"))[name] < high and 0.1 < high - low < 1
        covered += low < strengths[name] < high
    assert covered == 3
    assert strength_intervals([each for each in answers if each.comparison < 9], "q", list("ABC")) is None
    one_sided = [replace(each, choice="first") if each.first == "A" else each for each in answers]
    assert strength_intervals(one_sided, "q", list("ABC")) is None


def test_a_preference_for_the_left_is_seen() -> None:
    found = left_share(votes("q", ["1120"]) + votes("q", ["2221"], swapped=True))
    assert (found.left, found.n) == (5, 7)


class Raters:
    """Raters that answer at once, each in a process of its own; at the end of a ``with`` none is left."""

    def __init__(self, folder: Path, tokens: Sequence[str]) -> None:
        self.folder, self.tokens = folder, tokens
        self.running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Raters:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.running:
            process.kill()
            process.wait()

    def start(self, rater: int, later: float = 0) -> subprocess.Popen[bytes]:
        command = [sys.executable, RATER, self.folder, self.tokens[rater], self.notes(rater), str(later)]
        self.running.append(subprocess.Popen(list(map(str, command)), env=os.environ))
        return self.running[-1]

    def notes(self, rater: int) -> Path:
        return self.folder / f"notes-{rater}"

    def confirmed(self, rater: int) -> list[str]:
        """The answers that were confirmed to a rater; a killed one may leave a line without its end."""
        if not self.notes(rater).exists():
            return []
        return [line for line in self.notes(rater).read_text().split("\n")[:-1] if line]

    def wait_for_answers(self, rater: int, process: subprocess.Popen[bytes], enough: int) -> None:
        """Until so many are confirmed to a rater, or its process has ended."""
        wait_for(lambda: len(self.confirmed(rater)) >= enough or process.poll() is not None, pause=0.001)


def kill_study(folder: Path, *, prompts: int, raters: int, kills: int) -> None:
    """Raters answer at once, some are killed and come back, one never does; then check every answer."""
    make(folder, prompts=prompts, raters_each=5, lease_seconds=600)
    with Store(folder) as store:
        tokens = store.add_raters(raters)
    gone = raters - 1  # killed, and never comes back
    with Raters(folder, tokens) as group:
        processes = [group.start(rater) for rater in range(raters)]
        for kill in range(kills):
            rater = gone if kill == 0 else kill % (raters - 1)
            enough = 3 if kill < raters else 3 * (kill // raters + 1)
            group.wait_for_answers(rater, processes[rater], enough)
            processes[rater].send_signal(signal.SIGKILL)
            processes[rater].wait()
            if rater != gone:
                processes[rater] = group.start(rater)
        for rater in range(raters - 1):
            assert processes[rater].wait(PATIENCE) == 0
        for rater in range(raters - 1):  # the lease of the one who is gone has ended
            assert group.start(rater, later=3600).wait(PATIENCE) == 0
            with Store(folder) as store:
                if store.progress() == (5 * prompts, 5 * prompts):
                    break
        confirmed = [tuple(line.split()) for rater in range(raters) for line in group.confirmed(rater)]
    with Store(folder) as store:
        answers = store.answers()
    assert set(Counter(each.comparison for each in answers).values()) == {5}
    assert len(answers) == 5 * prompts
    assert max(Counter((each.comparison, each.rater) for each in answers).values()) == 1
    assert len(set(confirmed)) == len(confirmed)
    stored = stored_sides(folder)
    assert set(confirmed) <= stored
    # What was stored, and killed before its note, is at most one for each kill.
    assert len(stored) - len(confirmed) <= kills


def stored_sides(folder: Path) -> set[tuple[str, ...]]:
    rows = sqlite3.connect(folder / FILE).execute(
        "SELECT a.id, (choices.choice = 'second') = a.swapped FROM choices JOIN assignments a ON a.id = assignment"
    )
    return {(str(number), "left" if left else "right") for number, left in rows}


def test_killed_raters_lose_no_confirmed_answer(tmp_path: Path) -> None:
    kill_study(tmp_path, prompts=60, raters=8, kills=5)


@pytest.mark.slow
def test_ten_thousand_answers_by_fifty_raters(tmp_path: Path) -> None:
    kill_study(tmp_path, prompts=2000, raters=50, kills=25)
