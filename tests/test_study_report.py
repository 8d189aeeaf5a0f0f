"""The commands of a study before and after the raters: make, invite, result, and what the report says."""

from __future__ import annotations

import csv
import json
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentshift.document.html_page import to_html
from latentshift.document.markdown import to_markdown
from latentshift.document.media import MediaBudget
from latentshift.evaluation.estimates import wilson_interval
from latentshift.study.database import create_database
from latentshift.study.design import write_design
from latentshift.study.invitation import INVITATION, read_invitation
from latentshift.study.records import Assignment
from latentshift.study.report import StudyReport, make_report
from latentshift.study.report_document import report_document
from latentshift.study.settings import StudySettings
from latentshift.study.store import Store
from latentshift.video import write_video
from report_results import metric, write_result

PROMPTS = ["a red star", "a blue dot", "a ring"]


def answered(
    folder: Path, systems: list[str], choose: Callable[[Assignment, dict[str, str]], str], **settings: Any
) -> None:
    """A study without clips whose raters choose by the pair and the system of each file."""
    folder.mkdir(exist_ok=True)
    database = create_database(folder)
    suffixes = {system: dict.fromkeys(PROMPTS, ".mp4") for system in systems}
    chosen = StudySettings(**{"raters_each": 3, "check_every": 2, **settings})
    clips = write_design(database, chosen, PROMPTS, suffixes, broken=1, identical=1)
    database.close()
    system = {clip.file: "broken" if clip.broken else clip.system for clip in clips}
    with Store(folder) as store:
        for token in store.add_raters(3):
            while (pair := store.next_assignment(token)) is not None:
                side: Any = choose(pair, system)
                store.answer(token, pair.id, {each.name: side for each in store.settings.questions}, seconds=1)


def prefer(*order: str) -> Callable[[Assignment, dict[str, str]], str]:
    """Choose the system that comes first; the left video of equals."""
    return lambda pair, system: "left" if order.index(system[pair.left]) <= order.index(system[pair.right]) else "right"


def report_of(folder: Path) -> StudyReport:
    with Store(folder) as store:
        return make_report(store)[0]


def html_of(report: StudyReport) -> str:
    return to_html(report_document(report), MediaBudget(Path()))


def test_a_study_is_made_rated_and_told(cli: Any, tmp_path: Path) -> None:
    for number, system in enumerate(("ours", "theirs")):
        for place, prompt in enumerate(PROMPTS):
            frames = np.random.default_rng(10 * number + place).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
            write_video(tmp_path / system / f"{place}.webp", frames, metadata={"prompt": prompt})
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    words = ("--prompts", "prompts.txt", "-o", "study", "--raters", 2, "--question", "motion=Which moves better?")
    assert cli("study", "make", "ours", "rivals=theirs", *words) == (
        0,
        "3 comparisons by 2 raters each: 6 pairs to answer\nstudy\n",
        "",
    )
    assert cli("study", "result", "study")[2].startswith("error: study has no answers yet: let raters answer")
    code, links, _ = cli("study", "invite", "study", "--raters", 2, "--url", "https://study.example.org/here")
    assert code == 0 and all(link.startswith("https://study.example.org/here/#") for link in links.splitlines())
    with Store(Path("study")) as store:
        for link in links.splitlines():
            token = link.partition("#")[2]
            while (pair := store.next_assignment(token)) is not None:
                store.answer(token, pair.id, {"motion": "left"})
        pairs = len({(each.rater, each.comparison) for each in store.answers()})
    code, printed, complaint = cli("study", "result", "study")
    assert (code, complaint) == (0, "") and "6 of 6 answers, by 2 raters" in printed
    assert "Latent-Shift over CogVideo: motion (%) –; cited: An et al., 2023" in printed
    found = Path("study/result")
    names = ["answers.csv", "report.html", "report.json", "report.md", "tables"]  # no plots: nothing is decided
    assert sorted(path.name for path in found.iterdir()) == names
    rows = list(csv.DictReader((found / "answers.csv").open()))
    assert len(rows) == pairs and {row["question"] for row in rows} == {"motion"}
    report = json.loads((found / "report.json").read_text())
    assert report["systems"] == ["ours", "rivals"] and report["answers"]["given"] == 6
    assert cli("study", "result", "study", "-o", "elsewhere")[0] == 0 and Path("elsewhere/report.md").exists()


def test_a_report_has_the_share_its_interval_and_the_papers_row(tmp_path: Path) -> None:
    answered(tmp_path, ["A", "B"], prefer("A", "B", "broken"))
    report = report_of(tmp_path)
    text = to_markdown(report_document(report), Path())
    # 3 of 3 decided for the first; Wilson's lower bound is n / (n + z²).
    row = "100.0 (43.9 … 100.0) | 100.0 (43.9 … 100.0) | 3, 3 | this study |"
    assert f"| A over B<sup>[1](#warning-1)</sup> | {row}" in text
    assert "| Latent-Shift over CogVideo | 58.0 | 62.9 | – | cited: An et al., 2023, arXiv 2304.08477 |" in text
    (note,) = report.notes
    assert note.endswith("which is preferred: quality, A over B; faithfulness, A over B.") and report.strengths == {}
    values = json.loads(report.to_json())
    assert values["majority"][0]["share"] == 1 and values["paper"]["rows"][0]["values"]["Quality"]["value"] == 56.4
    assert set(values["votes"]["all"][0]) >= {"first_votes", "raters"}


def test_a_study_stands_in_the_papers_table_beside_other_results(cli: Any, tmp_path: Path) -> None:
    answered(tmp_path / "study", ["A", "B"], prefer("A", "B", "broken"))
    other = StudySettings().questions[:1]
    answered(tmp_path / "second", ["<b>", "C"], prefer("C", "<b>", "broken"), questions=other)
    for name in ("study", "second"):
        assert cli("study", "result", tmp_path / name)[0] == 0
    write_result(tmp_path / "msrvtt", "ours", (metric("FID", 20.0, warnings=("Few clips.",)),))
    results = [tmp_path / "study/result", tmp_path / "msrvtt", tmp_path / "second/result"]
    assert cli("evaluate", "report", *results, "-o", "report") == (0, "report/report.html\n", "")
    table = Path("report/tables/table-3.csv").read_text()
    rows = {row["Comparison"]: row for row in csv.DictReader(table.splitlines())}
    assert list(rows) == ["A over B", "<b> over C", "Latent-VDM over CogVideo", "Latent-Shift over CogVideo"]
    assert rows["A over B"]["quality (%)"] == "100.0" and rows["A over B"]["Decided"] == "3, 3"
    assert float(rows["A over B"]["quality (%) low"]) == pytest.approx(100 * wilson_interval(3, 3)[0])
    assert rows["<b> over C"]["quality (%)"] == "0.0" and rows["<b> over C"]["faithfulness (%)"] == "–"
    assert rows["Latent-Shift over CogVideo"]["Source"].startswith("cited: An et al.")
    assert Path("report/tables/table-1.csv").exists() and "<b> over" not in Path("report/report.html").read_text()
    assert "do not tell which is preferred: quality, A over B" in Path("report/report.md").read_text()
    assert "**FID of ours**: Few clips." in Path("report/report.md").read_text()  # and not the study's
    assert cli("evaluate", "report", results[0], "-o", "alone")[0] == 0  # a study is enough
    assert "<h2" in Path("alone/report.html").read_text()
    for name in ("one", "two"):
        assert cli("study", "result", tmp_path / "study", "-o", name)[0] == 0
    assert cli("evaluate", "report", "one", "two", "-o", "same")[0] == 0
    plot = Path("same/plots/share-1.svg").read_text()
    assert all(plot.count(f">Study {place}, A over B <tspan") == 1 for place in (1, 2))
    assert "study one</tspan>" in plot and "study two</tspan>" in plot
    assert "Study 1" not in Path("alone/plots/share-1.svg").read_text()
    assert "is given twice" in cli("evaluate", "report", results[0], results[0], "-o", "twice")[2]
    report = json.loads((results[0] / "report.json").read_text())
    for change, said in (({"format": None}, "run `latentshift study result` again"), ({"majority": [1]}, "no study's")):
        (results[0] / "report.json").write_text(json.dumps(report | change))
        code, _, complaint = cli("evaluate", "report", *results, "-o", "bad")
        assert code == 1 and said in complaint and complaint.count("\n") == 1


def test_a_report_says_what_its_numbers_must_be_read_with(tmp_path: Path) -> None:
    careless = iter([True, True, False])  # of each rater at the broken twin

    def choose(pair: Assignment, system: dict[str, str]) -> str:
        if "broken" not in (system[pair.left], system[pair.right]):
            return "left"
        return "left" if (system[pair.left] == "broken") == next(careless) else "right"

    answered(tmp_path, ["A", "B"], choose)
    report = report_of(tmp_path)
    notes = "\n".join(report.notes)
    assert "2 of 3 raters failed an attention check" in notes
    assert "The left video was chosen in 100.0 % of answers" in notes
    assert "which is preferred: quality, A over B" in notes
    assert [(row.question, row.raters) for row in report.votes] == [("quality", 3), ("faithfulness", 3)]
    assert [(row.question, row.raters) for row in report.votes_attentive] == [("quality", 1), ("faithfulness", 1)]


def test_three_systems_have_strengths_or_the_reason_why_not(tmp_path: Path) -> None:
    answered(tmp_path / "one", ["A", "B", "C"], prefer("A", "B", "C", "broken"))
    report = report_of(tmp_path / "one")
    assert "never won against" in str(report.strengths["quality"])
    assert "undetermined" in report.to_json() and "never won against" in to_html(
        report_document(report), MediaBudget(Path())
    )
    answered(tmp_path / "two", ["A", "B", "C"], lambda pair, system: "left" if pair.prompt == "a ring" else "right")
    strengths = report_of(tmp_path / "two").strengths["quality"]
    assert isinstance(strengths, dict) and sum(strengths.values()) == pytest.approx(0, abs=1e-9)


def test_the_page_holds_all_it_shows_and_no_name_becomes_markup(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>|`x`"
    answered(tmp_path, [name, "B"], prefer(name, "B", "broken"))
    report = report_of(tmp_path)
    html, text = html_of(report), to_markdown(report_document(report), Path())
    assert "<script>alert" not in html and "&lt;script&gt;alert(1)" in html and "<script>" not in text
    sources = re.findall(r"""(?:src|href)=["']([^"']*)""", html)
    assert all(each.startswith("#") for each in sources)
    assert html.count("<circle") == 2 + 4  # a share for each of two questions, and the paper's two of each
    rows = [line for line in text.splitlines() if line.startswith("| &lt;script")]
    assert rows and len(re.findall(r"(?<!\\)\|", rows[0])) == 6


def test_the_secret_of_the_link_stays_the_same_and_is_its_owners(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no study"):
        read_invitation(tmp_path)
    create_database(tmp_path).close()
    first = read_invitation(tmp_path)
    assert read_invitation(tmp_path) == first and len(first) >= 20
    assert stat.S_IMODE((tmp_path / INVITATION).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []
    (tmp_path / INVITATION).write_text("short")
    with pytest.raises(ValueError, match="does not hold the secret"):
        read_invitation(tmp_path)


def test_serving_without_its_libraries_says_what_to_install(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_database(tmp_path).close()
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, _, complaint = cli("study", "serve", tmp_path)
    assert (code, complaint) == (1, "error: latentshift study serve needs uvicorn: pip install 'latentshift[study]'\n")


def test_agreement_stands_with_its_intervals_in_every_file(cli: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PROMPTS", [f"a red star {number}" for number in range(12)])
    draws = np.random.default_rng(0)
    answered(tmp_path / "study", ["A", "B"], lambda pair, system: "left" if draws.random() < 0.6 else "right")
    assert cli("study", "result", tmp_path / "study", "-o", "found")[0] == 0
    row = json.loads(Path("found/report.json").read_text())["majority"][0]
    low, high = row["kappa_interval"]
    assert low < row["kappa"] < high and row["alpha_interval"][0] < row["alpha"] < row["alpha_interval"][1]
    shown = next(csv.DictReader(Path("found/tables/agreement.csv").read_text().splitlines()))
    assert (float(shown["Fleiss' κ low"]), float(shown["Fleiss' κ high"])) == (low, high)
    assert f"{row['kappa']:.2f} [{low:.2f}, {high:.2f}]" in Path("found/tables/agreement.tex").read_text()
    assert f"{row['kappa']:.2f} ({low:.2f} … {high:.2f})" in Path("found/report.md").read_text()
