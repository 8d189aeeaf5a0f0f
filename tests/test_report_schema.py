"""``report.json``: a round trip, and what a reader need not check."""

from __future__ import annotations

import json

import pytest

from latentshift.evaluation.report.schema import Example, Metric, Rejected, Report, System, read_report, write_report

REPORT = Report(
    protocol="folder",
    command="latentshift evaluate folder clips -o result",
    date="2026-11-26",
    latentshift="0.1",
    system=System(name="CogVideo", kind="clips"),
    settings={"n": 2, "frames": 16},
    metrics=(Metric(name="FVD", value=1.5, interval=(1.0, 2.0), n=2, samples=2, warnings=("few",)),),
    rejected=(Rejected(file="a.mp4", reason="it can't be decoded"),),
    videos=(Example(index=0, prompt="a <b>", file="clips/0.mp4", values={"CLIPSIM": 0.25}),),
    parts=[{"part": "seen"}],
)


def test_a_report_is_read_as_it_was_written(tmp_path):
    write_report(tmp_path, REPORT)
    read = read_report(tmp_path)
    assert read == REPORT
    assert read.model_extra == {"parts": [{"part": "seen"}]}
    assert read.metric("FVD").value == 1.5 and read.metric("FID") is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "other/1"}, "format"),
        ({"metrics": [{"name": "FVD", "value": float("nan"), "n": 2, "samples": 2}]}, "value"),
        ({"videos": [{"index": 0, "prompt": "", "file": "../../etc/passwd"}]}, "lead out of its folder"),
        ({"videos": [{"index": 0, "prompt": "", "file": "javascript:alert(1)"}]}, "lead out of its folder"),
        ({"system": {"name": "x", "kind": "unknown"}}, "kind"),
        ({"metrics": [{"name": "FVD", "value": 1, "interval": [2, 1], "n": 2, "samples": 2}]}, "ends before it begins"),
    ],
)
def test_a_wrong_report_is_refused_with_its_name(tmp_path, change, said):
    values = json.loads(REPORT.model_dump_json())
    (tmp_path / "report.json").write_text(json.dumps(values | change))
    with pytest.raises(ValueError, match=said) as error:
        read_report(tmp_path)
    assert str(tmp_path / "report.json") in str(error.value) and "\n" not in str(error.value)
