"""What was measured outlives a kill at any byte, and the metrics are the same for any split over workers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from latentshift.data.rejected import Rejected
from latentshift.evaluation.metrics.frechet import frechet_distance
from latentshift.evaluation.metrics.moments import Moments
from latentshift.evaluation.protocols import interval_kinds, streamed_rows
from latentshift.evaluation.protocols.measure import Measurer
from latentshift.evaluation.protocols.plan import Item
from latentshift.evaluation.protocols.readings import Readings
from latentshift.evaluation.protocols.readings_files import DoneCounter, Reading
from latentshift.evaluation.protocols.readings_writer import ReadingsWriter
from latentshift.evaluation.protocols.result import rejected_of
from latentshift.evaluation.protocols.run import Worker, check_complete, measure_plan
from latentshift.evaluation.protocols.summary import summarize
from stand_in_extractors import noise_video, stand_ins

COUNT = 23
ITEMS = [Item(prompt=f"a red star {index}", seed=100 + index) for index in range(COUNT)]
REJECTED = 5
MEASURER = Measurer(stand_ins())


def make(items: Iterable[tuple[int, Item]]):
    for index, item in items:
        video = Rejected("not-finite", "it is not finite") if index == REJECTED else noise_video(item.seed)
        yield index, item, video, None


def measure(folder: Path, number: int = 0, count: int = 1) -> None:
    measure_plan(folder, ITEMS, make, MEASURER, Worker(number, count), "measuring")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    measure(folder)
    return folder


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Readings:
    folder = tmp_path_factory.mktemp("reference")
    items = [Item(file=f"{index}.mp4") for index in range(17)]
    measure_plan(
        folder,
        items,
        lambda wanted: ((index, item, noise_video(1000 + index), None) for index, item in wanted),
        MEASURER,
        Worker(),
        "reference",
    )
    return Readings(folder, len(items))


def metrics(folder: Path, reference: Readings):
    return summarize(Readings(folder, COUNT), MEASURER.infos, reference).metrics


@pytest.mark.parametrize(("kind", "again"), [("timed-out", True), ("out-of-memory", True), ("damaged", False)])
def test_what_a_limit_stopped_is_tried_again_and_what_is_damaged_is_not(kind, again: bool, tmp_path: Path) -> None:
    asked: list[list[int]] = []

    def make_but(stopped: tuple[int, ...]):
        def made(items: Iterable[tuple[int, Item]]):
            wanted = list(items)
            asked.append([index for index, _ in wanted])
            for index, item in wanted:
                yield index, item, Rejected(kind, "no") if index in stopped else noise_video(item.seed), None

        return made

    items = ITEMS[:4]
    for stopped in ((1, 2), (2,), ()):
        measure_plan(tmp_path, items, make_but(stopped), MEASURER, Worker(), "measuring")
        rejected = list(rejected_of(Readings(tmp_path, 4)))
        assert len(rejected) == len(stopped if again else (1, 2))
        assert all(each.reason == ("no; the same command tries it again" if again else "no") for each in rejected)
    assert asked == ([[0, 1, 2, 3], [1, 2], [2]] if again else [[0, 1, 2, 3], [], []])
    readings = Readings(tmp_path, 4)
    assert readings.done.all() and len(readings.measured) == (4 if again else 2) == len(readings.with_rows("i3d"))


def test_rows_come_back_as_they_were(whole: Path) -> None:
    readings = Readings(whole, COUNT)
    assert readings.done.all() and len(readings.measured) == COUNT - 1 and REJECTED not in readings.measured
    for index, rows in zip(readings.measured, readings.rows("i3d", 3, readings.measured), strict=True):
        expected = MEASURER(int(index), ITEMS[index], noise_video(100 + int(index)))[1]["i3d"]
        assert rows.tobytes() == expected.tobytes()
    assert readings.frames == 4 and readings.size == "8x8"
    (rejected,) = readings.rejected()
    assert (rejected.index, rejected.rejected) == (REJECTED, "it is not finite")
    assert readings.reading(3).prompt == "a red star 3" and readings.reading(3).seed == 103


@pytest.mark.parametrize("workers", [2, 4])
def test_any_number_of_workers_gives_the_same_numbers(tmp_path: Path, whole: Path, reference, workers: int) -> None:
    one = metrics(whole, reference)
    assert [each.name for each in one] == [
        "FID", "KID", "FVD", "KVD", "C3D-IS", "CLIPSIM", "CLIP-CMMD", "frame consistency", "amount of motion"
    ]  # fmt: skip
    for number in reversed(range(workers)):  # each sees what those before it have done
        left = np.flatnonzero(~Readings(tmp_path, COUNT).done)
        assert len(left) > 0
        measure(tmp_path, number, workers) if number == workers - 1 else measure(tmp_path, 0, number + 1)
    while not Readings(tmp_path, COUNT).done.all():
        measure(tmp_path)
    assert len(list(tmp_path.glob("*.jsonl"))) >= 2 or workers == 1
    assert metrics(tmp_path, reference) == one


def test_a_kill_at_any_byte_costs_one_video(tmp_path: Path, whole: Path, reference: Readings) -> None:
    """Files cut anywhere, as a kill leaves them: rows are written before the line that tells of them."""
    one = metrics(whole, reference)
    rng = np.random.default_rng(0)
    lines = (whole / "worker-000.jsonl").read_bytes()
    for number in range(6):
        folder = Path(shutil.copytree(whole, tmp_path / str(number)))
        cut = int(rng.integers(len(lines)))
        (folder / "worker-000.jsonl").write_bytes(lines[:cut])
        complete = lines[:cut].count(b"\n")
        for rows in folder.glob("*.f32"):  # some rows of the next video may be there, or a part of one
            told = max(
                (end(line, rows.stem.partition(".")[2]) for line in lines[:cut].splitlines()[:complete]), default=0
            )
            width = MEASURER.widths[rows.stem.partition(".")[2]]
            content = rows.read_bytes()
            rows.write_bytes(content[: told * width * 4 + int(rng.integers(0, 30))])
        assert Readings(folder, COUNT).done.sum() == complete
        measure(folder)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
            path.name: path.read_bytes() for path in whole.iterdir()
        }
        assert metrics(folder, reference) == one


def end(line: bytes, extractor: str) -> int:
    first, count, _ = json.loads(line).get("rows", {}).get(extractor, (0, 0, 0))
    return first + count


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("worker-000.jsonl", lambda content: b"{}\n" + content, "line 1 is damaged"),
        ("worker-000.jsonl", lambda content: content.replace(b'"index": 1,', b'"index": 99,'), "of another plan"),
        ("worker-000.i3d.f32", lambda content: b"\1" + content[1:], "worker-000.i3d.f32 is damaged"),
        ("worker-000.i3d.f32", lambda content: content[:-4], "worker-000.i3d.f32 is damaged"),
        (
            "worker-000.jsonl",
            lambda content: content.replace(b'"i3d": [0, 1', b'"i3d": [0, 1000000000000'),
            "worker-000.i3d.f32 is damaged",
        ),
    ],
)
def test_damage_is_one_sentence(tmp_path: Path, whole: Path, reference: Readings, name: str, change, said: str) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "damaged"))
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    with pytest.raises(ValueError, match=said):
        metrics(folder, reference)


def test_two_processes_can_not_be_the_same_worker(tmp_path: Path) -> None:
    with ReadingsWriter(tmp_path, 0, {}), pytest.raises(ValueError, match="another process is writing"):
        ReadingsWriter(tmp_path, 0, {})


def test_counting_follows_what_is_written(tmp_path: Path) -> None:
    counter = DoneCounter(tmp_path)
    assert counter.count() == 0
    with ReadingsWriter(tmp_path, 0, {}) as first, ReadingsWriter(tmp_path, 1, {}) as second:
        first.append(Reading(0, rejected="no"), {})
        second.append(Reading(1, rejected="no"), {})
        assert counter.count() == 2
        first.append(Reading(2, rejected="no"), {})
        assert counter.count() == 3
    with pytest.raises(ValueError, match="1 of 4 videos of clips are not measured yet"):
        check_complete(Readings(tmp_path, 4), "clips")
    with pytest.raises(ValueError, match="none of the 3 videos of clips can be used"):
        check_complete(Readings(tmp_path, 3), "clips")


def test_too_many_to_resample_have_the_same_values(whole: Path, reference: Readings, monkeypatch) -> None:
    """Beyond the bounds on memory only the intervals are found in another way, and kernels see a sample."""
    few = {each.name: each for each in metrics(whole, reference)}
    monkeypatch.setattr(streamed_rows, "_MOST_NUMBERS", 10)
    monkeypatch.setattr(streamed_rows, "_MOST_KERNEL_ROWS", 40)
    many = {each.name: each for each in metrics(whole, reference)}
    for name in ("FID", "FVD", "C3D-IS"):
        assert many[name].interval_kind == interval_kinds.JACKKNIFE
        assert few[name].interval_kind == interval_kinds.BOOTSTRAP
        assert many[name].value == pytest.approx(few[name].value, rel=1e-9)
        low, high = many[name].interval
        assert low < many[name].value < high
    assert many["KID"].n == 10 and "uniform sample of 10 of 22 generated videos" in " ".join(many["KID"].warnings)


def test_videos_that_repeat_one_another_are_told_of_also_where_rows_are_streamed(tmp_path: Path, monkeypatch) -> None:
    """As a system makes that has one video a prompt, whatever the seed, where prompts come several times."""
    items = [Item(prompt=f"a red star {index % 18}", seed=index) for index in range(20)]

    def of_prompt(wanted: Iterable[tuple[int, Item]]):
        for index, item in wanted:
            yield index, item, noise_video(int(item.prompt.split()[-1])), None

    measure_plan(tmp_path, items, of_prompt, MEASURER, Worker(), "measuring")
    readings = Readings(tmp_path, len(items))
    said = "2 of 20 generated videos repeat another one."
    for most, repeats in ((2**23, 1), (10, 1), (2**23, 2)):
        monkeypatch.setattr(streamed_rows, "_MOST_NUMBERS", most)
        made = {each.name: each for each in summarize(readings, MEASURER.infos, readings, repeats=repeats).metrics}
        for name in ("FID", "FVD", "C3D-IS"):
            assert made[name].warnings.count(said) == 1, (name, most, repeats)
        assert "2 of 20 reference videos repeat another one." in made["FVD"].warnings
        assert "CLIPSIM" in made and said not in made["CLIPSIM"].warnings  # a mean over prompts counts each as it is


def test_repeats_are_parts_of_the_plan(whole: Path, reference: Readings) -> None:
    """FVD over two repeats is the mean of the distances of the plan's halves."""
    readings = Readings(whole, COUNT)
    made = {each.name: each for each in summarize(readings, MEASURER.infos, reference, repeats=2).metrics}
    indices = readings.measured
    halves = [indices[indices * 2 // COUNT == number] for number in range(2)]

    def moments(side: Readings, chosen) -> Moments:
        sums = Moments(3)
        for rows in side.rows("i3d", 3, chosen):
            sums.update(rows, videos=1)
        return sums

    theirs = moments(reference, reference.measured)
    values = [frechet_distance(moments(readings, half), theirs, covariance="N") for half in halves]
    assert made["FVD"].value == pytest.approx(np.mean(values), rel=1e-9)
    assert made["FVD"].n == COUNT - 1 and made["FVD"].interval_kind == interval_kinds.REPEATS
    score = made["C3D-IS"]
    assert score.interval_kind == interval_kinds.REPEATS and (score.repeats, made["FVD"].repeats) == (2, 2)
    assert score.interval[0] == 1 < score.value < score.interval[1]  # Student's of two would begin below any score
    assert score.deviation >= 0 and made["FVD"].deviation == pytest.approx(np.std(values), rel=1e-9)
