"""``bench generate`` and ``evaluate cost``: the compared video models, what is counted of them and what is timed."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch.nn.functional import group_norm, scaled_dot_product_attention, silu

from latentshift.benchmarks.generation.cost import GenerationCost, Measured, count_all
from latentshift.benchmarks.generation.exported_models import export_models, with_runtimes
from latentshift.benchmarks.generation.image_base import open_base
from latentshift.benchmarks.generation.operator_kinds import KINDS
from latentshift.benchmarks.generation.parameters_and_flops import Count, count
from latentshift.benchmarks.generation.pass_profile import profile_kinds
from latentshift.benchmarks.generation.peers import build_video_model
from latentshift.benchmarks.generation.rows import count_rows, time_rows
from latentshift.benchmarks.generation.settings import GenerationSettings, parse_runtimes
from latentshift.benchmarks.naive_shift import naive_shift
from latentshift.benchmarks.own_process import in_own_process
from latentshift.benchmarks.report import Estimate
from latentshift.benchmarks.timing import spread, take_turns
from latentshift.cli import comparison
from latentshift.evaluation.report.paper_tables import AUTOENCODER, CORE, TABLE_4, TEXT_ENCODER
from latentshift.evaluation.report.schema import read_report
from latentshift.models.precision import fast_dtype
from latentshift.shift import temporal_shift
from launch import Processes, command_line, wait_until
from tiny_models import TEXT_WIDTH, TOKENS, tiny_unet
from waiting import PATIENCE, wait_for

WIDTHS = (8, 16)  # of the tiny U-Net
FRAMES = 3
needs_runtimes = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime", "openvino")),
    reason="ONNX or OpenVINO is not installed: pip install 'latentshift[onnx,openvino]'",
)


@pytest.fixture
def no_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes little is timed twice, and not for more than half a second."""
    monkeypatch.setattr(comparison, "_QUICK_SECONDS", 0.0)


def test_the_naive_shift_is_the_shift() -> None:
    hidden = torch.randn(2 * FRAMES, 8, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(naive_shift(hidden, FRAMES), temporal_shift(hidden, FRAMES))


def test_parameters_at_the_papers_size_are_the_papers() -> None:
    ldm = open_base("ldm")
    ours, theirs = (count(ldm, name, 2, 1) for name in ("latent-shift", "latent-vdm"))
    widths = [320] * 5 + [640] * 5 + [1280] * 6
    assert theirs.added == sum(4 * width**2 + 3 * width + 8 * 31 for width in widths) and ours.added == 0
    cited = {row.method: row.values for row in TABLE_4.rows}
    for counted, printed in ((ours, cited["Latent-Shift"]), (theirs, cited["Latent-VDM"])):
        parts = {CORE: counted.unet, AUTOENCODER: counted.autoencoder, TEXT_ENCODER: counted.text_encoder}
        assert {name: round(part / 1e9, 2) for name, part in parts.items()} == {
            name: printed[name].value for name in parts
        }


def test_operations_differ_by_the_text_that_is_not_repeated(ldm_folder: Path) -> None:
    image = open_base(str(ldm_folder))
    stock, ours = (count(image, name, FRAMES, 2) for name in ("stock-2d", "latent-shift"))
    widths = [WIDTHS[0]] * 3 + [WIDTHS[1]]  # of the cross-attentions
    text = sum(2 * 2 * TOKENS * TEXT_WIDTH * width for width in widths)  # keys and values, of one text
    assert stock.flops - ours.flops == 2 * (FRAMES - 1) * text
    assert ours.flops == 2 * count(image, "latent-shift", FRAMES, 1).flops
    assert count(image, "stock-2d", 2 * FRAMES, 1).flops == stock.flops


def test_operations_are_those_of_products_convolutions_and_attention(ldm_folder: Path) -> None:
    counted = count(open_base(str(ldm_folder)), "latent-shift", FRAMES, 1)
    kinds = {kind for kind, flops in counted.flops_by_kind.items() if flops}
    assert kinds == {"convolution", "matrix product", "attention"}
    assert sum(counted.flops_by_kind.values()) == counted.flops


def test_a_profile_knows_the_kind_of_what_takes_time() -> None:
    hidden = torch.randn(1, 32, 64, 64)
    product = torch.randn(512, 512)
    for kind, call in {
        "convolution": lambda: torch.conv2d(hidden, torch.ones(32, 32, 3, 3)),
        "matrix product": lambda: product @ product,
        "attention": lambda: scaled_dot_product_attention(hidden, hidden, hidden),
        "normalisation": lambda: group_norm(hidden, 4),
        "activation": lambda: silu(hidden),
        "copy": lambda: torch.cat([hidden, hidden]),
        "other": lambda: hidden + hidden,
    }.items():
        call()
        seconds = profile_kinds(call, torch.device("cpu"))
        assert list(seconds) == list(KINDS)
        taken = {name for name, value in seconds.items() if value > 0}
        assert kind in taken <= {kind, "copy", "other"}


def test_a_report_does_not_take_a_results_place(cli, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{}")
    code, _, err = cli("bench", "generate", "--report", tmp_path)
    assert code != 0 and "holds a result of evaluate" in err


def test_a_model_that_can_not_be_built_like_the_base_is_named() -> None:
    with pytest.raises(ValueError, match="ModelScope's 3-D U-Net can't be built like this image model: "):
        build_video_model("modelscope", tiny_unet(layers_per_block=[1, 2]), FRAMES)


def test_turns_are_taken_round_by_round_and_spread_is_median_and_ends() -> None:
    taken = []
    calls = [lambda number, name=name: taken.append((number, name)) or number for name in "ab"]
    assert take_turns(calls, 2) == [[0, 1], [0, 1]] and taken == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]
    assert spread([3.0, 1.0, 2.0]) == Estimate(2.0, 1.0, 3.0)


def test_a_process_that_dies_is_told_in_a_sentence() -> None:
    with pytest.raises(
        ValueError, match="the process that was to do a pass ended without an answer, most likely killed"
    ):
        in_own_process("a pass", os._exit, 9)


_WAITING = """
from latentshift.benchmarks import own_process
own_process._PRELOADED = "json"  # nothing heavy
work = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
own_process.in_own_process("wait", exec, work)
"""


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_process_ends_with_the_one_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", _WAITING], stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        pid = int(caller.stdout.readline())
        assert is_there(pid)
        caller.kill()
        caller.wait(PATIENCE)
        wait_for(lambda: not is_there(pid))


def test_seconds_of_a_video_are_measured_or_the_sum_of_its_parts() -> None:
    settings = GenerationSettings("ldm", ("latent-shift",), 16, 100, 7.5, "cpu", "float32", 1, 1, whole=False)

    def measured(middle: float, low: float, high: float) -> Measured:
        return Measured(Estimate(9.0, 9.0, 9.0), Estimate(middle, low, high), 5, None)

    one, text, decoding = measured(2.0, 1.5, 3.0), measured(0.5, 0.25, 1.0), measured(10.0, 8.0, 12.0)
    rates = {"float32": 1e9, "bfloat16": 3e9}, {"float32": 2e9, "bfloat16": 1e9}
    cost = GenerationCost(settings, {"latent-shift": one}, text, decoding, *rates, {})
    assert cost.video("latent-shift").seconds == Estimate(210.5, 158.25, 313.0)
    assert cost.video("latent-shift").how == "extrapolated from 5 passes" and cost.device_peak == 3e9
    whole = replace(cost, videos={"latent-shift": measured(205.0, 204.0, 206.0)}).video("latent-shift")
    assert whole.seconds == Estimate(205.0, 204.0, 206.0) and whole.how == "measured"


ON_CPU = GenerationSettings("ldm", ("stock-2d",), FRAMES, 2, 7.5, "cpu", "bfloat16", 1, 1, whole=True)


def test_runtimes_are_those_that_are_there_or_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentshift.export.manifest.find_spec", lambda name: None if name == "openvino" else name)
    missing = r"needs openvino: pip install 'latentshift\[openvino\]'"
    there = with_runtimes(ON_CPU, None, quick=False)
    assert there.runtimes == ("onnx",) and re.search(missing, there.left_out["openvino"])
    for quick, device, reason in ((True, "cpu", "--quick makes no exports"), (False, "cuda", "this run is on cuda")):
        none = with_runtimes(replace(ON_CPU, device=device), None, quick=quick)
        assert none.runtimes == () and all(reason in each for each in none.left_out.values())
    assert with_runtimes(ON_CPU, parse_runtimes("onnx"), quick=True).runtimes == ("onnx",)
    assert with_runtimes(ON_CPU, parse_runtimes("none"), quick=False).left_out == {}
    with pytest.raises(ValueError, match="--runtimes onnx runs on the CPU, and not on cuda: add --device cpu"):
        with_runtimes(replace(ON_CPU, device="cuda"), ("onnx",), quick=False)
    for words, sentence in (
        ("openvino", missing),
        ("tflite", "there is no runtime 'tflite' to compare: choose from onnx, openvino, none"),
        ("onnx,none", "--runtimes none stands alone"),
    ):
        with pytest.raises(ValueError, match=sentence):
            parse_runtimes(words)


def test_a_model_that_is_not_exported_is_left_out_with_the_reason(ldm_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "onnx").write_text("no export")
    settings = replace(ON_CPU, base=str(ldm_folder), runtimes=("onnx",), left_out={"openvino": "it is missing"})
    counts = count_all(settings)
    exports, left_out = export_models(settings, counts, tmp_path)
    assert exports == {} and "exists, and is no export that could be replaced" in left_out.pop("onnx")
    assert left_out == {"openvino": "it is missing"}
    large = {"latent-shift": replace(counts["latent-shift"], unet=10**13)}
    _, left_out = export_models(settings, large, tmp_path / "new")
    assert re.fullmatch(
        r"the model is too large to be exported here: its weights alone take 78\d{3}\.\d GiB .* are free",
        left_out["onnx"],
    )
    assert not (tmp_path / "new").exists()


def test_an_export_is_a_row_beside_the_others() -> None:
    second, settings = Estimate(1.0, 1.0, 1.0), replace(ON_CPU, runtimes=("onnx", "openvino"), whole=False)
    passes = {
        name: Measured(Estimate(value, value, value), Estimate(value, value, value), 2, None)
        for name, value in (("stock-2d", 2.0), ("onnx", 4.0), ("openvino", 1.0))
    }
    part = Measured(second, second, 1, None)
    cost = GenerationCost(settings, passes, part, part, {"bfloat16": 1e12}, {"bfloat16": 1e12}, {})
    counts = {name: Count(1, 0, 1, 1, flops, {}) for name, flops in (("stock-2d", 6 * 10**9), ("latent-shift", 10**9))}
    rows = list(time_rows(counts, cost))
    of_passes = {row["one_pass"]: row for row in rows if "one_pass" in row}
    named = ["stock 2-D U-Net a frame", "Latent-Shift, ONNX Runtime, float32", "Latent-Shift, OpenVINO"]
    assert list(of_passes) == named  # ONNX Runtime does not calculate in bfloat16
    assert [row["gflop_a_s"] for row in of_passes.values()] == [3.0, 0.25, 1.0]
    assert [row["to_first_row"] for row in of_passes.values()] == [1.0, 2.0, 0.5]
    hows = [row["how"] for row in rows if "whole_video" in row]
    of_ours = "extrapolated from 2 passes"
    assert hows == [of_ours, *[f"{of_ours}; text and decoding: PyTorch's"] * 2]
    assert [row["parameters"] for row in count_rows(settings, counts)] == named[:1]


@pytest.mark.slow
@needs_runtimes
@pytest.mark.parametrize("base", ["ldm_folder", "sdxl_folder"])
def test_exports_take_turns_with_the_other_video_models(
    cli, base: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    options = ("--models", "latent-shift", "--quick", "--frames", FRAMES, "--steps", 2, "--dtype", "float32")
    files = ("--json", tmp_path / "rows.json", "--report", tmp_path / "report")
    folder = request.getfixturevalue(base)
    code, _, err = cli("bench", "generate", folder, *options, "--runtimes", "openvino,onnx", *files)
    assert code == 0, err
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    exported = ["Latent-Shift, OpenVINO", "Latent-Shift, ONNX Runtime"]
    assert [row["export"] for row in rows if "export" in row] == exported
    assert all(0 < row["greatest_difference"] < 1e-3 for row in rows if "export" in row)
    for table in ("one_pass", "whole_video"):
        assert [row[table] for row in rows if table in row] == ["Latent-Shift", *exported]
    assert [row["how"] for row in rows if "whole_video" in row] == ["measured once"] * 3
    text = (tmp_path / "report" / "report.md").read_text()
    assert "and exports (Latent-Shift, OpenVINO; Latent-Shift, ONNX Runtime), in turns" in text


@pytest.mark.slow
def test_compiled_models_take_turns_with_the_others(cli, ldm_folder: Path, tmp_path: Path, no_repeats: None) -> None:
    options = (
        "--models",
        "stock-2d,stock-2d-compiled,latent-shift-compiled,latent-shift-frozen",
        "--quick",
        "--frames",
        FRAMES,
    )
    code, _, err = cli(
        "bench", "generate", ldm_folder, *options, "--steps", 2, "--videos", 2, "--json", tmp_path / "rows.json"
    )
    assert code == 0 and "Dynamo" not in err, err
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    compiled = [
        "stock 2-D U-Net a frame, compiled",
        "Latent-Shift, compiled",
        "Latent-Shift, compiled with its weights",
    ]
    names = ["stock 2-D U-Net a frame", *compiled]
    for table in ("parameters", "one_pass", "whole_video"):
        assert [row[table] for row in rows if table in row] == names
    assert [row["share_of_a_pass"] for row in rows if "share_of_a_pass" in row] == names[:1]
    for row in (row for row in rows if "whole_video" in row):
        assert row["videos_at_once"] == 2 and row["seconds_a_video"] == pytest.approx(row["seconds"]["value"] / 2)


def test_several_videos_at_once_have_several_times_the_operations(ldm_folder: Path) -> None:
    one = replace(ON_CPU, base=str(ldm_folder), models=("latent-shift", "latent-shift-compiled"))
    flops = [
        {name: each.flops for name, each in count_all(settings).items()} for settings in (one, replace(one, videos=3))
    ]
    assert flops[0] == {"latent-shift": flops[0]["latent-shift"], "latent-shift-compiled": flops[0]["latent-shift"]}
    assert flops[1] == {name: 3 * value for name, value in flops[0].items()}


def cost_quickly(*words: str) -> None:
    comparison._QUICK_SECONDS = 0.0  # as no_repeats does
    command_line("evaluate", "cost", *words)


def test_cost_is_killed_resumed_and_a_report_with_the_papers_rows_beside(
    cli, ldm_folder: Path, tmp_path: Path, no_repeats: None
) -> None:
    options = [str(ldm_folder), "--quick", "--extrapolate", "--frames", str(FRAMES), "--steps", "50"]
    timings = tmp_path / "cost" / "timings.jsonl"
    with Processes(cost_quickly, *options, "-o", str(tmp_path / "cost")) as run:
        wait_until(run, lambda: timings.exists() and timings.read_text().count("\n") >= 2)
        run.kill()  # SIGKILL, while a turn is taken in a process of its own
    before = timings.read_bytes()
    assert not (tmp_path / "cost" / "report.json").exists()
    code, out, err = cli("evaluate", "cost", *options, "-o", tmp_path / "cost")
    assert code == 0 and "is not timed again; delete the file to start anew" in err, err
    assert timings.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    lines = timings.read_text().splitlines(keepends=True)
    turns = [json.loads(line)[0] for line in lines]
    names = ["latent-shift", "latent-vdm", "animatediff", "modelscope"]
    assert turns[:6] == [*(f"pass {name}" for name in names), "text", "decoding"]
    assert len(set(turns)) == len(turns) and all(each.startswith(("product", "convolution")) for each in turns[6:])
    report = read_report(tmp_path / "cost")
    assert report.protocol == "cost" and report.system.name == "Latent-Shift"
    rows = {row["name"]: row for row in report.cost["rows"]}  # type: ignore[attr-defined]
    assert list(rows) == names
    assert rows["latent-shift"]["parameters"]["added"] == 0 < rows["latent-vdm"]["parameters"]["added"]
    own = rows["latent-shift"]
    parts = [report.cost[part]["value"] for part in ("text_seconds", "decoding_seconds")]  # type: ignore[attr-defined]
    seconds = report.metric("seconds a video")
    assert seconds is not None and "no whole video" in seconds.warnings[0] and "--rounds 3" in seconds.warnings[1]
    assert seconds.variant.startswith(own["how"])
    assert seconds.value == pytest.approx(sum(parts) + 50 * own["pass_seconds"]["value"])
    text = (tmp_path / "cost" / "report.md").read_text()
    assert "28.62" in text and "AnimateDiff's motion U-Net" in text and str(tmp_path / "cost") in out
    with (tmp_path / "cost" / "tables" / "passes-settings-1.csv").open() as file:
        table = {row["Method"]: row for row in csv.DictReader(file)}
    added = rows["animatediff"]["parameters"]["added"] / 1e6
    assert float(table["AnimateDiff's motion U-Net"]["Added parameters (million)"]) == added
    assert float(table["Latent-Shift"]["Later passes (s)"]) == own["pass_seconds"]["value"]

    # Turns that were all taken in one go give the same report.
    (tmp_path / "unbroken").mkdir()
    (tmp_path / "unbroken" / "timings.jsonl").write_text("".join(lines))
    code, _, err = cli("evaluate", "cost", *options, "-o", tmp_path / "unbroken")
    assert code == 0, err
    unbroken = read_report(tmp_path / "unbroken")
    assert (unbroken.metrics, unbroken.cost) == (report.metrics, report.cost)  # type: ignore[attr-defined]

    timings.write_text("".join(lines[:-1]) + lines[-1][:20])  # a kill while the last turn was written
    assert cli("evaluate", "cost", *options, "-o", tmp_path / "cost")[0] == 0
    again = timings.read_text().splitlines(keepends=True)
    assert again[:-1] == lines[:-1] and json.loads(again[-1])[:2] == json.loads(lines[-1])[:2]
    timings.write_text("[]\n" + "".join(lines))
    code, _, err = cli("evaluate", "cost", *options, "-o", tmp_path / "cost")
    assert code == 1 and "timings.jsonl line 1 is damaged: delete the file" in err
    code, _, err = cli("evaluate", "cost", *options, "--guidance", 1, "-o", tmp_path / "cost")
    assert code == 1 and "other settings: guidance was 7.5 and is now 1.0; choose another output folder" in err


def test_a_pass_a_video_and_a_start_are_timed_in_one_run(
    cli, sdxl_folder: Path, tmp_path: Path, no_repeats: None
) -> None:
    options = ("--models", "latent-shift,modelscope", "--quick", "--frames", FRAMES, "--size", 24, "--steps", 2)
    options = (*options, "--dtype", "float32")
    files = ("--json", tmp_path / "rows.json", "--report", tmp_path / "report")
    code, out, err = cli("bench", "generate", sdxl_folder, *options, *files)
    assert code == 0, err
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    tables = [next(iter(row)) for row in rows]
    peaks = len({torch.float32, fast_dtype("cpu")})  # also in the dtype that is fast here
    shares = ["share_of_a_pass", "share_of_peak_within"]
    pairs = ["device_at_its_best"] * 2 * peaks + ["same_for_all"] * 2
    assert tables == ["parameters", *["left_out"] * 3, "one_pass", *shares, *pairs, "whole_video", *["start"] * 4]
    assert "--quick makes no exports unless asked with --runtimes onnx" in out
    assert "ModelScope's 3-D U-Net can't be built like this image model: its transformers" in out
    of = {name: [row for row in rows if name in row] for name in tables}
    (kinds,) = of["share_of_a_pass"]
    assert sum(kinds[kind.replace(" ", "_")] for kind in KINDS) == pytest.approx(1)
    best = max(row["gflop_a_s"] for row in of["device_at_its_best"])
    assert of["one_pass"][0]["share_of_peak"] == pytest.approx(of["one_pass"][0]["gflop_a_s"] / best)
    assert of["share_of_peak_within"][0]["of_the_whole_pass"] == of["one_pass"][0]["share_of_peak"]
    report = tmp_path / "report"
    assert str(report / "report.html") in out
    text = (report / "report.md").read_text()
    assert "| Latent-Shift |" in text and f"{FRAMES} frames of 24×24 pixels" in text and "Share of a pass" in text
    plots = {path.name: ElementTree.parse(path).getroot().get("aria-label", "") for path in report.glob("plots/*")}
    assert set(plots) == {"passes.svg", "videos.svg", "peak.svg", "kinds.svg"}
    assert all(kind in plots["kinds.svg"] for kind in KINDS) and all(f"plots/{name}" in text for name in plots)
    assert [row["how"] for row in of["whole_video"]] == ["measured once"]
    assert of["one_pass"][0]["to_first_row"] == 1.0 and all(row["memory_gib"] > 0 for row in of["one_pass"])
    assert all(row["seconds"]["value"] > 0 for row in of["start"])
