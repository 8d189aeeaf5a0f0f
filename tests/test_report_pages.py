"""Pages, tables and plots of results: what they say, and that no text of a user becomes a part of them."""

from __future__ import annotations

import csv
import io
import re
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from latentshift.document.markdown import escape_markdown
from latentshift.document.media import MediaBudget
from latentshift.document.numbers import format_interval, format_number
from latentshift.document.plot import Plot, PlotRow, to_svg
from latentshift.document.table import Cell, Table, number_cell
from latentshift.document.table_files import to_csv, to_latex
from latentshift.evaluation.report.comparability import BIAS, differences
from latentshift.evaluation.report.pages import write_comparison_pages, write_result_pages
from latentshift.evaluation.report.paper_tables import PAPER_TABLES, REFERENCES, TABLE_4
from latentshift.evaluation.report.results import load_results
from report_results import HOSTILE, PROMPTS, metric, write_result

OURS = (metric("FID", 20.5), metric("CLIPSIM", 0.2811, interval=(0.28, 0.283)))
THEIRS = (metric("FID", 25.25, n=50, samples=800, extractor_sha256="cd" * 32), metric("CLIPSIM", 0.25))


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages of two results."""
    folder = tmp_path_factory.mktemp("results")
    ours = write_result(folder / "ours", "ours", OURS)
    theirs = write_result(folder / "theirs", HOSTILE, THEIRS)
    write_comparison_pages([ours, theirs], folder / "report")
    return folder / "report"


def test_the_page_needs_nothing_but_itself_and_runs_nothing_of_a_user(compared: Path) -> None:
    page = Page((compared / "report.html").read_text())
    assert len(page.all("script")) == 1 and not page.all("link") and not page.all("iframe")
    sources = [each["src"] for tag in ("video", "img", "script") for each in page.all(tag) if "src" in each]
    assert len(sources) == 12 and all(source.startswith("data:video/mp4;base64,") for source in sources)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", (compared / "report.html").read_text())
    assert page.text.count(HOSTILE) >= 5  # name of a system, prompt, setting, rejected file: as they are
    (policy,) = [each["content"] for each in page.all("meta") if each.get("http-equiv")]
    assert policy.startswith("default-src 'none'")
    anchors = {each["id"] for _, each in page.elements if "id" in each}
    links = {each["href"].removeprefix("#") for each in page.all("a")}
    assert {"settings-1", "settings-2"} <= links <= anchors  # numbers lead to the settings that made them


def test_cited_rows_stand_beside_ones_own(compared: Path) -> None:
    with (compared / "tables" / "table-1.csv").open() as file:
        rows = {row["Method"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["GODIVA", "NÜWA", "CogVideo", "Make-A-Video", "Latent-VDM", "Latent-Shift", "ours", HOSTILE]
    assert rows["NÜWA"]["FID ↓"] == "47.68" and rows["NÜWA"]["Source"].startswith("cited: Wu et al., ECCV 2022")
    own = rows["ours"]
    assert (float(own["FID ↓"]), float(own["FID ↓ low"])) == (20.5, OURS[0].interval[0])
    assert own["Source"] == "this result, N = 100" and rows["GODIVA"]["FID ↓"] == "–"


def test_what_must_not_be_compared_is_said_and_nothing_is_called_the_best(compared: Path) -> None:
    text = (compared / "report.md").read_text()
    said = [line for line in text.splitlines() if "can't be compared" in line]
    assert len(said) == 2 and all(": FID can't be compared" in line for line in said)
    assert "the videos differ (100 and 50)" in text and "SHA-256 abababababab…" in text
    assert text.count(BIAS[:40]) == 1
    assert re.search(r"\| CLIPSIM ↑ \| \*\*\[0.2811\]\(#settings-1\)\*\*", text)  # comparable, and better
    assert re.search(r"\| FID ↓ \| \[20.50\]", text)


def test_a_number_without_an_interval_is_not_called_the_best(tmp_path: Path) -> None:
    few, many = metric("KID", 0.1, interval=None, n=4), metric("KID", 9.0)
    folders = [write_result(tmp_path / name, name, (each,)) for name, each in (("few", few), ("many", many))]
    text = write_comparison_pages(folders, tmp_path / "page").with_suffix(".md").read_text()
    assert "| KID ↓ | [0.1000](#settings-1) |" in text and "**[" not in text


def test_shares_at_another_number_of_videos_may_be_compared(tmp_path: Path) -> None:
    share = metric("motion (seen)", 50.0, unit="%", interval_kind="Wilson", extractor=None, n_reference=None)
    folders = [
        write_result(tmp_path / "a", "a", (share,)),
        write_result(tmp_path / "b", "b", (share.model_copy(update={"n": 20, "samples": 20}),)),
    ]
    assert differences(load_results(folders)) == []


def test_unbiased_numbers_at_another_number_of_videos_may_be_compared_and_other_true_videos_are_told(
    tmp_path: Path,
) -> None:
    few = {"n": 50, "samples": 800, "n_reference": 90}
    settings = {"size": "64x64", "prompts_sha256": "1" * 64, "reference_sha256": "2" * 64}
    metrics = (metric("FID", 20.0), metric("KID", 0.5), metric("CLIPSIM", 0.3))
    fewer = tuple(
        metric(each.name, 2 * each.value, **{**few, "n_reference": each.n_reference and 90}) for each in metrics
    )
    write_result(tmp_path / "a", "a", metrics, settings=settings)
    write_result(tmp_path / "b", "b", fewer, settings=settings)
    pair = load_results([tmp_path / "a", tmp_path / "b"])
    assert {each.metrics for each in differences(pair)} == {("FID",)}
    write_comparison_pages([tmp_path / "a", tmp_path / "b"], tmp_path / "page")
    text = (tmp_path / "page" / "report.md").read_text()
    assert text.count(BIAS[:40]) == 1 and re.search(r"\| KID ↓ \| \*\*\[0.5000\]", text)
    other = {**settings, "prompts_sha256": "3" * 64, "reference_sha256": "4" * 64}
    write_result(tmp_path / "c", "c", metrics, settings=other)
    found = {
        each.what.split(" differ")[0]: each.metrics
        for each in differences(load_results([tmp_path / "a", tmp_path / "c"]))
    }
    assert found == {"the prompts": ("FID", "KID", "CLIPSIM"), "the true videos": ("FID", "KID")}
    del other["prompts_sha256"], other["reference_sha256"]  # of an earlier version: not known, and not claimed
    write_result(tmp_path / "d", "d", metrics, settings=other)
    assert differences(load_results([tmp_path / "a", tmp_path / "d"])) == []


def test_repeats_are_shown_as_such_with_their_spread(tmp_path: Path) -> None:
    inception = metric(
        "C3D-IS", 92.0, better="higher", n=20_480, samples=20_480, n_reference=None, repeats=10, deviation=0.25
    )
    fvd = metric("FVD", 300.0, n=20_479, samples=20_479, repeats=10)
    folder = write_result(tmp_path / "a", "ours", (inception, fvd), protocol="ucf101")
    text = write_result_pages(folder).with_suffix(".md").read_text()
    assert "this result, N = 10 × 2,048 and N = 20,479 in 10 repeats" in text and "20,480" not in text
    assert "population standard deviation 0.2500" in text


def test_one_result_is_a_page_of_its_own_beside_its_report(tmp_path: Path) -> None:
    folder = write_result(tmp_path / "one", "one", OURS)
    assert write_result_pages(folder) == folder / "report.html"
    page = Page((folder / "report.html").read_text())
    assert "N = 100" in page.text and "latentshift evaluate msrvtt DATA --model one" in page.text
    assert "What could not be used" in page.text and len(page.all("video")) == len(PROMPTS)
    assert "](clips/0.mp4)" in (folder / "report.md").read_text()
    assert sorted(path.name for path in (folder / "tables").iterdir()) == [
        f"{name}.{kind}" for name in ("msrvtt-all", "table-1") for kind in ("csv", "tex")
    ]


def test_a_warning_of_several_metrics_is_said_once_and_examples_tell_what_they_were_ranked_by(tmp_path: Path) -> None:
    few = ("10 videos are few.",)
    metrics = tuple(each.model_copy(update={"warnings": few}) for each in OURS)
    text = write_result_pages(write_result(tmp_path / "a", "one", metrics)).with_suffix(".md").read_text()
    assert text.count("10 videos are few.") == 1 and "**FID, CLIPSIM**: 10 videos are few." in text
    assert "The best by CLIPSIM first" in text
    (result,) = load_results([tmp_path / "a"])
    plain = tuple(each.model_copy(update={"values": {"amount of motion": 1.0}}) for each in result.report.videos)
    text = write_result_pages(write_result(tmp_path / "b", "one", OURS, videos=plain)).with_suffix(".md").read_text()
    assert "none is called good" in text


def test_no_warning_is_lost_and_numbers_bear_the_marks_of_theirs(tmp_path: Path) -> None:
    """One line above the numbers, the sentences folded away at the end, and a mark beside each number that has some."""
    fid = metric("FID", 20.0, warnings=("few samples", HOSTILE))
    metrics = (fid, metric("CLIPSIM", 0.25), metric("KID", 0.01, warnings=("few samples",)))
    one = write_result(tmp_path / "a", "a", metrics, notes=("a note on the whole",), rejected=())
    two = write_result(tmp_path / "b", "b", (metric("FID", 9.0, n=50, warnings=("of b alone",)),), rejected=())
    write_result_pages(one)
    write_comparison_pages([one, two], tmp_path / "both")
    sentences = ["few samples", HOSTILE, "a note on the whole"]
    for folder, said, tops in (
        (one, sentences, "3 warnings"),
        (tmp_path / "both", [*sentences, "of b alone", "the videos differ (100 and 50)"], "5 warnings"),
    ):
        html, markdown = (folder / "report.html").read_text(), (folder / "report.md").read_text()
        page = Page(html)
        listed = html[html.index('<details id="warnings"') :]
        for sentence in said:
            assert escape(sentence) in listed and escape_markdown(sentence) in markdown.partition("## <a id")[2]
            assert Page(html[html.index("</h1>") : html.index("<table")]).text.count(sentence) == 0
        assert page.text.index(tops) < page.text.index("20.00") < page.text.index("few samples")
        assert markdown.index(f"> [{tops}](#warnings)") < markdown.index("20.00") < markdown.index("few samples")
        ids = {each["id"] for _, each in page.elements if "id" in each}
        assert {each["href"].removeprefix("#") for each in page.all("a")} <= ids
        assert len([each for each in ids if each.startswith("warning-")]) == int(tops[0])
        assert page.all("details")[-1] == {"id": "warnings", "class": "more"}  # and not open
    alone = (one / "report.md").read_text()
    assert "**[20.00](#settings-1)**<sup>[1](#warning-1) [2](#warning-2)</sup> FID ↓" in alone
    assert re.search(r"\| KID ↓ \| \[0.0100\]\(#settings-1\)<sup>\[1\]\(#warning-1\)</sup>", alone)
    assert re.search(r"\| CLIPSIM ↑ \| \[0.2500\]\(#settings-1\) ", alone)  # without a mark
    both = (tmp_path / "both" / "report.md").read_text()
    assert re.search(r"\| FID ↓ \| \[20.00\][^|]*\[1\]\(#warning-1\)[^|]*\| \[9.00\][^|]*\[1\]\(#warning-1\)", both)
    assert "**FID, KID of a**: few samples" in both and "a: a note on the whole" in both
    latex = (tmp_path / "both" / "tables" / "table-1.tex").read_text()
    assert "% warning: FID, KID of a: few samples\n" in latex and "% warning: a and b: FID can't be compared" in latex
    assert "a note on the whole" not in latex and "few samples" not in latex.partition("\\end{table}")[0]
    with (tmp_path / "both" / "tables" / "table-1.csv").open() as file:
        rows = {row["Method"]: row["warnings"] for row in csv.DictReader(file)}
    assert "FID, KID of a: few samples | " in rows["a"] and "of b alone" in rows["b"] and rows["GODIVA"] == ""
    assert rows["b"].startswith("1. a and b: FID can't be compared")
    svg = (tmp_path / "both" / "plots" / "table-1-fid.svg").read_text()
    assert re.search(r'>a <tspan class="mark" dy="-4">1 2 3</tspan>', svg) and escape(HOSTILE) in svg
    ElementTree.fromstring(svg)
    assert re.search(r"FID ↓, Table 1 \(grey: cited\)<sup>\[1\]\(#warning-1\) \[2\]", both)
    many = metric("FID", 20.0, warnings=tuple(f"warning of {number}" for number in range(6)))
    page = Page(write_result_pages(write_result(tmp_path / "many", "many", (many,))).read_text())
    beside = [each for each in page.all("a") if "title" in each][:4]  # of the tile: three, and one for the rest
    assert [each["href"] for each in beside] == [f"#warning-{number}" for number in range(1, 5)]
    assert beside[0]["title"] == "warning of 0" and beside[3]["title"] == "and warnings 4, 5, 6"
    write_result_pages(write_result(tmp_path / "c", "c", OURS, rejected=()))
    assert "#warning" not in (tmp_path / "c" / "report.md").read_text()
    write_result_pages(write_result(tmp_path / "d", "d", OURS))
    assert "1 file or caption could not be used" in (tmp_path / "d" / "report.md").read_text()


def test_images_as_frozen_videos_stand_in_table_5_too(tmp_path: Path) -> None:
    from latentshift.evaluation.report.schema import System

    frozen = write_result(tmp_path / "f", "image model", OURS, system=System(name="image model", kind="frozen images"))
    write_result_pages(frozen)
    assert {"table-1.tex", "table-5.tex"} <= {path.name for path in (frozen / "tables").iterdir()}


def test_a_score_of_frames_does_not_stand_among_those_of_clips(tmp_path: Path) -> None:
    inception, c3d = metric("IS", 8.0, better="higher"), metric("C3D-IS", 90.0, better="higher")
    rows = []
    for name, metrics in (("frames", (inception, metric("FVD", 300.0))), ("clips", (inception, c3d))):
        write_comparison_pages([write_result(tmp_path / name, name, metrics, protocol="ucf101")], tmp_path / "page")
        with (tmp_path / "page" / "tables" / "table-2.csv").open() as file:
            rows.append(list(csv.DictReader(file))[-1])
    assert [row["IS ↑"] for row in rows] == ["–", "90.0"] and rows[0]["FVD ↓"] != "–"


def test_every_model_of_a_cost_comparison_stands_in_table_4(tmp_path: Path) -> None:
    parts = {"unet": 872_300_484, "autoencoder": 83_653_863, "text_encoder": 581_994_042, "overall": 1_537_948_389}
    row = {"method": "Latent-Shift", "parameters": parts, "video_seconds": {"value": 20.0, "low": 19.0, "high": 22.0}}
    facts = {"protocol": "cost", "videos": (), "cost": {"rows": [row, {**row, "method": "AnimateDiff"}]}}
    folder = write_result(tmp_path / "cost", "here", (), **facts)
    write_result_pages(folder)
    with (folder / "tables" / "table-4.csv").open() as file:
        *_, ours, peer = csv.DictReader(file)
    assert (peer["Method"], float(ours["T2V core (billion)"])) == ("AnimateDiff (own)", 0.872300484)
    assert [float(ours[f"Speed (s) ↓{bound}"]) for bound in ("", " low", " high")] == [20.0, 19.0, 22.0]
    assert {path.name for path in (folder / "plots").iterdir()} == {"table-4-overall.svg", "table-4-speed.svg"}
    speed = (folder / "plots" / "table-4-speed.svg").read_text()
    assert "AnimateDiff" in speed and "CogVideo" not in speed  # the paper's seconds are of another machine
    del parts["unet"]
    with pytest.raises(ValueError, match=r"is no comparison of costs: rows\.0\.parameters\.unet: is required"):
        write_result_pages(write_result(tmp_path / "broken", "here", (), **facts))


def test_mistakes(tmp_path: Path) -> None:
    folder = write_result(tmp_path / "one", "one", OURS)
    with pytest.raises(ValueError, match="is given twice"):
        write_comparison_pages([folder, tmp_path / "one" / ".." / "one"], tmp_path / "report")
    with pytest.raises(ValueError, match="holds a result, whose own pages would be overwritten"):
        write_comparison_pages([folder], folder)
    with pytest.raises(ValueError, match=r"there is no folder .*none"):
        write_comparison_pages([folder, tmp_path / "none"], tmp_path / "report")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ValueError, match=r"there is no folder .*loop"):
        write_comparison_pages([folder, tmp_path / "loop"], tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_two_results_of_one_name_are_told_apart(tmp_path: Path) -> None:
    folders = [write_result(tmp_path / each, "bundled", OURS) for each in ("a", "b")]
    assert [each.label for each in load_results(folders)] == [f"bundled ({folder})" for folder in folders]


def test_clips_beyond_the_budget_are_links_and_none_leads_out_of_the_folder(tmp_path: Path) -> None:
    folder = write_result(tmp_path / "one result", "one", OURS)
    (result,) = load_results([folder])
    first = folder / "clips" / "0.mp4"
    media = MediaBudget(tmp_path / "report", page_bytes=first.stat().st_size)
    assert media.source(first).startswith("data:video/mp4")
    assert media.source(folder / "clips" / "1.mp4") == "../one%20result/clips/1.mp4"
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"secret")
    first.unlink()
    first.symlink_to(secret)
    assert result.clip(result.report.videos[0]) is None
    assert media.source(folder / "report.json") is None  # no type that a page plays


def test_plots_are_to_scale() -> None:
    rows = (PlotRow("a <b>", 50.0, (25.0, 75.0), marks=(1, 2, 3, 4, 5)), PlotRow("b", 0.0, kind="cited"))
    svg = ElementTree.fromstring(to_svg(Plot("p", 'p & "q"', rows, "%", end=100.0)))
    name = "{http://www.w3.org/2000/svg}"
    bar, none = svg.findall(f"{name}rect")
    width = {"0": 1.0, "100": 99.0}  # percent of the plot
    assert float(bar.get("x").rstrip("%")) == width["0"] and float(bar.get("width").rstrip("%")) == pytest.approx(49.0)
    assert float(none.get("width").rstrip("%")) == 0
    whisker = next(line for line in svg.findall(f"{name}line") if line.get("class") == "whisker")
    assert [float(whisker.get(end).rstrip("%")) for end in ("x1", "x2")] == pytest.approx([25.5, 74.5])
    ticks = [text.text for text in svg.findall(f"{name}text") if text.get("class") == "faint"]
    assert ticks == ["0", "20", "40", "60", "80", "100"]
    values = [each.text for each in svg.iter(f"{name}tspan") if each.get("font-weight")]
    marks = [each.text for each in svg.iter(f"{name}tspan") if each.get("class") == "mark"]
    assert values == ["50.0", "0.0"] and marks == ["1 2 3 +2"]
    assert svg.get("aria-label") == 'p & "q": a <b> 50.0 %, b 0.0 %'


def test_a_long_label_of_a_plot_keeps_both_ends() -> None:
    rows = [PlotRow(f"autoencoded true clips, motions that may last, {count} frames", 1.0) for count in (32, 64)]
    svg = to_svg(Plot("p", "p", tuple(rows)))
    assert all(re.search(rf">autoencoded true clips?.{{0,2}}…[^<]* {count} frames<", svg) for count in (32, 64))


@pytest.mark.parametrize("values", [(0.2402, 0.3049), (81.25, 700.0), (5.0, 5.0), (0.0, 0.0), (-3.0, 2.0)])
def test_dots_lie_within_the_axis(values: tuple[float, float]) -> None:
    rows = tuple(PlotRow(str(value), value) for value in values)
    svg = ElementTree.fromstring(to_svg(Plot("p", "p", rows, bars=False)))
    places = [float(dot.get("cx").rstrip("%")) for dot in svg.iter("{http://www.w3.org/2000/svg}circle")]
    assert all(1.0 <= place <= 99.0 for place in places) and (places[0] < places[1]) == (values[0] < values[1])


def test_tables_as_latex_and_csv() -> None:
    row = (Cell("50% of A_B & C\\D ≥ #1"), number_cell(1 / 3, (0.25, 0.5)), number_cell(None))
    table = Table("t", "What_is it", ("Method", "FID ↓", "IS"), (row, (Cell("=1+1"), Cell(), Cell("7", 7.0))))
    latex = to_latex(table)
    assert r"50\% of A\_B \& C\textbackslash{}D ≥ \#1 & 0.3333 [0.2500, 0.5000] & -- \\" in latex
    assert r"\caption{What\_is it}" in latex and r"Method & FID $\downarrow$ & IS \\" in latex
    odd = to_latex(Table("t", "κ", ("Method", "*"), ((Cell("[a] <b>|c"), number_cell(2.0, (1.0, 3.0))),)))
    assert "\\caption{$\\kappa$}" in odd and r"Method & {*} \\" in odd
    assert "{[}a] \\textless{}b\\textgreater{}\\textbar{}c & 2.00 [1.00, 3.00] " in odd
    named = to_csv(Table("t", "", ("Method", "=A1"), ((Cell("a"), number_cell(2.0, (1.0, 3.0))),)))
    assert named.splitlines()[0] == "Method,'=A1,'=A1 low,'=A1 high"
    names, first, second = csv.reader(io.StringIO(to_csv(table)))
    assert names == ["Method", "FID ↓", "FID ↓ low", "FID ↓ high", "IS"]
    assert [float(each) for each in first[1:4]] == [1 / 3, 0.25, 0.5] and second == ["'=1+1", "–", "", "", "7.0"]


def test_the_papers_rows_add_up() -> None:
    """Table 4's parts give its overall size, and everything that is cited is told where from."""
    for row in TABLE_4.rows:
        parts = sum(each.value for name, each in row.values.items() if name not in ("Overall", "Speed"))
        assert parts == pytest.approx(row.values["Overall"].value, abs=0.01)
    assert [len(table.rows) for table in PAPER_TABLES] == [6, 11, 2, 5, 3]
    for table in PAPER_TABLES:
        names = {column.name for column in table.columns}
        for row in table.rows:
            assert row.source and set(row.values) <= names
    assert {row.reference for table in PAPER_TABLES for row in table.rows} - {None} == set(REFERENCES)


def test_numbers_have_the_decimals_of_the_field() -> None:
    assert [format_number(value) for value in (360.04, 15.23, 0.2773, None)] == ["360.0", "15.23", "0.2773", "–"]
    assert format_number(57420.4) == "57,420" and format_number(1234.5) == "1,234.5"
    assert format_number(66.32, "%") == "66.3" and format_interval(66.32, (60.71, 71.5), "%") == "60.7 … 71.5"
