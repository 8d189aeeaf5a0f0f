"""Exports: each graph computes what PyTorch does, for any number of frames, and a folder of them makes the video."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers.dynamic_module_utils as custom_code
from PIL import Image

from latentshift import LatentShiftPipeline
from latentshift.benchmarks.generation.exported_models import ExportedModel, time_exported_passes, time_exported_video
from latentshift.benchmarks.generation.settings import GenerationSettings
from latentshift.cli.exported import open_export, source_files, source_name
from latentshift.export import write_export
from latentshift.export.exported_pipeline import ExportedPipeline
from latentshift.export.graph import open_graph, versions, write_graph
from latentshift.export.manifest import ExportManifest, check_libraries, read_manifest, sha256_of
from latentshift.export.parts import parts_of
from latentshift.export.write_export import MAX_DIFFERENCE, check_graph_export, export_pipeline
from latentshift.files import clear_leftovers
from latentshift.models.adapters.video_adapter import Lora, add_lora
from latentshift.models.precision import fast_dtype
from tiny_models import tiny_unet

Cli = Callable[..., tuple[int, str, str]]
PROMPT = "red star on black background"

needs_onnx = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="ONNX is not installed: pip install 'latentshift[onnx]'",
)
needs_openvino = pytest.mark.skipif(
    find_spec("openvino") is None, reason="OpenVINO is not installed: pip install 'latentshift[openvino]'"
)


def quiet(pipeline: LatentShiftPipeline) -> LatentShiftPipeline:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def frames_of(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(file)) for file in sorted(folder.glob("*.png"))])


@pytest.fixture(scope="module")
def onnx_export(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the tiny LDM model, for any number of frames."""
    folder = tmp_path_factory.mktemp("export") / "onnx"
    export_pipeline(LatentShiftPipeline.from_pretrained(model), folder, "onnx", model="tiny")
    return folder


@pytest.fixture(scope="module")
def sdxl(sdxl_folder: Path) -> LatentShiftPipeline:
    pipeline = LatentShiftPipeline.from_pretrained(sdxl_folder, num_frames=4, noise_share=0.5)
    pipeline.set_shift({"padding": "circular", "direction": "first_from_future"})
    return quiet(pipeline)


@pytest.fixture(scope="module")
def openvino_export(sdxl: LatentShiftPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a tiny SDXL model, for 3 frames only."""
    folder = tmp_path_factory.mktemp("export") / "openvino"
    export_pipeline(sdxl, folder, "openvino", frames=3)
    return folder


@needs_onnx
def test_a_video_of_an_onnx_export_is_pytorchs_at_any_number_of_frames(model: Path, onnx_export: Path) -> None:
    ours, exported = quiet(LatentShiftPipeline.from_pretrained(model)), ExportedPipeline(onnx_export, "onnx")
    exported.set_progress_bar_config(disable=True)
    for frames in (1, 2, 5, 70):  # diffusers' upsampling has a case of its own for 64 frames or more
        arguments = {"num_frames": frames, "num_inference_steps": 2, "guidance_scale": 2.0, "negative_prompt": "star"}
        expected, actual = (
            each(PROMPT, generator=torch.Generator().manual_seed(1), output_type="pt", **arguments).frames
            for each in (ours, exported)
        )
        assert expected.shape == actual.shape == (1, frames, 3, 16, 16)
        assert (expected - actual).abs().max() <= MAX_DIFFERENCE
    images = exported([PROMPT] * 2, num_inference_steps=2).frames
    assert len(images) == 2 and len(images[0]) == 4 and images[0][0].size == (16, 16)


@needs_onnx
def test_a_benchmark_calls_an_export_as_a_pipeline_does(model: Path, onnx_export: Path) -> None:
    threads = torch.get_num_threads()
    settings = GenerationSettings(
        str(model), ("latent-shift",), 3, 2, 2.0, "cpu", "bfloat16", threads, 1, whole=True, repeat_seconds=0.01
    )
    export = ExportedModel(onnx_export, "onnx", "onnxruntime", 1.0, None, 1, 0.0)
    passes, video = time_exported_passes(settings, export), time_exported_video(settings, export)
    assert passes.first > 0 and sum(passes.later) >= 0.01
    assert video.first > 0 and len(video.later) == 1


@needs_onnx
def test_the_folder_says_what_it_holds_and_holds_no_pickles(model: Path, onnx_export: Path) -> None:
    manifest = read_manifest(onnx_export)
    files = {file.relative_to(onnx_export).as_posix() for file in onnx_export.rglob("*") if file.is_file()}
    assert files == {*manifest.files, "export.json"}
    assert {Path(name).suffix for name in files} <= {".onnx", ".data", ".json", ".txt"}
    assert all(sha256_of(onnx_export / name) == digest for name, digest in manifest.files.items())
    assert manifest.target == "onnx" and manifest.frames is None and manifest.source.model == "tiny"
    assert {name: set(part.differences) for name, part in manifest.parts.items()} == {
        "text_encoder": {"1"}, "decoder": {"1", "2", "4"}, "unet": {"1", "2", "4"},
    }  # fmt: skip
    assert all(value <= MAX_DIFFERENCE for part in manifest.parts.values() for value in part.differences.values())


@needs_onnx
def test_generate_uses_an_export_from_text_to_pixels(model: Path, onnx_export: Path, cli: Cli) -> None:
    common = ["--dtype", "float32", "--steps", "2", "--frames", "3", "--seed", "7", "--sampler", "euler"]
    with_export = ["--model", onnx_export, "--runtime", "onnx"]
    for words, folder in ((["--model", model], "torch"), (with_export, "onnx")):
        code, printed, errors = cli("generate", PROMPT, *words, *common, "-o", folder)
        assert code == 0 and printed == f"{folder}  (seed 7)\n", errors
    expected, actual = frames_of(Path("torch")).astype(int), frames_of(Path("onnx")).astype(int)
    assert expected.shape == (3, 16, 16, 3) and abs(expected - actual).max() <= 1
    for words, sentence in (
        (["--size", "32"], "this export makes frames of 16x16 only"),
        (["--loop"], "--loop needs an export with circular padding"),
        (["--steps", "1"], "--steps must lie between 2 and 1000, not 1"),
        (["--steps", "2000", "--sampler", "ddim"], "and 1000, not 2000"),
        (["--frame-chunk", "2"], "--frame-chunk has no effect with --runtime onnx"),
        (["--device", "cuda"], "--runtime onnx runs on the CPU, and not on cuda"),
        (["--dtype", "float16"], "--runtime onnx takes --dtype auto or float32, not float16"),
    ):
        code, printed, errors = cli("generate", PROMPT, *with_export, *words, "-o", "x")
        assert code == 1 and sentence in errors and errors.count("\n") == 1 and not Path("x").exists()
    code, _, errors = cli("generate", PROMPT, "--model", onnx_export, "--runtime", "openvino")
    assert code == 1 and f"{onnx_export} is an export for onnx, and not for openvino: use --runtime onnx" in errors
    code, _, errors = cli("info", onnx_export)
    assert code == 1 and "it is an export, which latentshift generate --model" in errors


@needs_onnx
def test_a_damaged_export_is_refused(onnx_export: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(onnx_export, folder)
    weights = folder / "unet.onnx.data"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged: unet\.onnx\.data is not the file that was written"):
        ExportedPipeline(folder, "onnx")
    weights.unlink()
    with pytest.raises(ValueError, match=r"is incomplete: unet\.onnx\.data is missing"):
        ExportedPipeline(folder, "onnx")
    for change, sentence in (
        ({"format": "latentshift-export/9"}, "is no export of latentshift-export/1: format"),
        ({"parts": {}}, "is damaged: it has no unet"),
        ({"files": {"../../outside": 64 * "0"}}, "is no export of latentshift-export/1: files"),
    ):
        values = {**json.loads((onnx_export / "export.json").read_text()), **change}
        (folder / "export.json").write_text(json.dumps(values))
        with pytest.raises(ValueError, match=sentence):
            ExportedPipeline(folder, "onnx")


@pytest.mark.slow
@needs_openvino
def test_an_openvino_export_of_sdxl_with_a_fixed_frame_count(sdxl: LatentShiftPipeline, openvino_export: Path) -> None:
    exported = ExportedPipeline(openvino_export, "openvino")
    exported.set_progress_bar_config(disable=True)
    arguments = {"num_inference_steps": 2, "guidance_scale": 3.0, "guidance_rescale": 0.5, "output_type": "latent"}
    expected, actual = (
        each(PROMPT, generator=torch.Generator().manual_seed(1), **more, **arguments).frames
        for each, more in ((sdxl, {"num_frames": 3}), (exported, {}))
    )
    assert (expected - actual).abs().max() <= MAX_DIFFERENCE * max(1.0, float(expected.abs().max()))
    with pytest.raises(ValueError, match="num_frames is 4, and this export makes videos of 3 frames only"):
        exported(PROMPT, num_frames=4)
    with pytest.raises(ValueError, match="an export takes one text for all frames of a video: give sentences"):
        exported({0: PROMPT, 2: "black"}, num_frames=3)
    assert open_export(str(openvino_export), "openvino", "auto", None).dtype == fast_dtype("cpu")
    assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]  # it reports imports to the web


@needs_openvino
def test_a_graph_that_differs_is_not_written(
    sdxl: LatentShiftPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_export, "MAX_DIFFERENCE", -1.0)
    with pytest.raises(ValueError, match=r"the exported text_encoder differs from PyTorch's by .* nothing was written"):
        export_pipeline(sdxl, tmp_path / "new" / "export", "openvino")
    assert not list(tmp_path.iterdir())


def test_a_traced_unet_takes_any_number_of_videos_and_frames(sd2_folder: Path) -> None:
    pipeline = LatentShiftPipeline.from_pretrained(sd2_folder)
    pipeline.register_modules(unet=tiny_unet(time_cond_proj_dim=8))  # guidance-distilled
    pipeline.set_shift({"padding": "replicate"})
    (part,) = [each for each in parts_of(pipeline, 16, 24, None) if each.name == "unet"]
    graph = part.trace().module()
    for videos, frames in ((1, 1), (2, 2), (1, 7), (3, 16)):
        given = part.inputs(videos, frames)
        with torch.no_grad():
            assert torch.equal(graph(**given)[0], part.module(**given)[0])


def test_what_cannot_be_exported_is_refused(model: Path, tmp_path: Path) -> None:
    pipeline = LatentShiftPipeline.from_pretrained(model)
    with pytest.raises(ValueError, match="must be multiples of 2"):
        export_pipeline(pipeline, tmp_path / "x", "aot", height=15, width=16)
    pipeline.to(torch.float16)
    with pytest.raises(ValueError, match=r"is made in float32 on the CPU, and the \w+ is in float16 on cpu"):
        check_graph_export(pipeline)
    pipeline = LatentShiftPipeline.from_pretrained(model)
    add_lora(pipeline.unet, Lora(rank=1))
    with pytest.raises(ValueError, match=r"the unet has a LoRA in it .* merge it first"):
        check_graph_export(pipeline)
    pipeline = LatentShiftPipeline.from_pretrained(model)
    pipeline.set_method("latent-vdm")
    with pytest.raises(ValueError, match="and not Latent-VDM's temporal attention"):
        check_graph_export(pipeline)
    clear_leftovers(tmp_path)
    assert not list(tmp_path.iterdir())


def export_by_hand(model: Path, folder: Path, **changes: Any) -> Path:
    """An aot export whose machine code is none: everything that is checked before it is opened is as it should be."""
    graphs = ("unet", "decoder", "text_encoder")
    folder.mkdir()
    for name in graphs:
        (folder / f"{name}.pt2").write_bytes(b"no machine code")
    for name in ("scheduler", "tokenizer"):
        shutil.copytree(model / name, folder / name)
    files = [file for file in folder.rglob("*") if file.is_file()]
    values = {
        "target": "aot", "versions": versions("aot"), "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "frames": None, "height": 16, "width": 16, "latent_channels": 4, "scale": 2, "tokens": 8, "has_sizes": False,
        "is_distilled": False, "tokenizers": ["tokenizer"],
        "settings": {"num_frames": 4, "fps": 8, "guidance_scale": 2.0, "noise_share": 0.0,
                     "force_zeros_for_empty_prompt": False, "shift": None},
        "parts": {name: {"file": f"{name}.pt2", "inputs": ["x"], "outputs": ["y"], "differences": {}}
                  for name in graphs},
        "source": {"model": None, "files": {}, "fingerprints": {}},
        "files": {file.relative_to(folder).as_posix(): sha256_of(file) for file in files},
    }  # fmt: skip
    (folder / "export.json").write_text(json.dumps({**values, **changes}))
    return folder


def test_an_export_that_this_machine_cannot_open_is_refused_in_one_sentence(
    model: Path, tmp_path: Path, cli: Cli
) -> None:
    other = export_by_hand(model, tmp_path / "version", versions={**versions("aot"), "torch": "1.0"})
    with pytest.raises(
        ValueError, match=r"is machine code for torch 1\.0, and torch .* is installed: export the model"
    ):
        read_manifest(other) and ExportedPipeline(other, "aot")
    other = export_by_hand(model, tmp_path / "cpu", cpu_capability="SVE256")
    with pytest.raises(
        ValueError, match=r"is machine code for a CPU with SVE256, and this one has .*: export the model"
    ):
        ExportedPipeline(other, "aot")
    damaged = export_by_hand(model, tmp_path / "code")
    code, printed, errors = cli("generate", PROMPT, "--model", damaged, "--runtime", "aot", "--steps", "2", "-o", "x")
    assert code == 1 and not printed and errors.count("\n") == 1 and not Path("x").exists(), errors
    assert f"AOTInductor can't open {damaged / 'unet.pt2'} (" in errors and "export the model again with" in errors


def test_nothing_of_an_export_is_opened_that_is_not_listed_or_would_run_code(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export_by_hand(model, tmp_path / "export")
    for name in ("unet.onnx.data", "tokenizer/added_tokens.json", "other/x"):
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("{}")
        shown = name.removesuffix("/x")
        with pytest.raises(ValueError, match=f"holds {shown}, which is not among the files that were written: move"):
            read_manifest(folder)
        file.unlink()
    (folder / "other").rmdir()
    read_manifest(folder)
    for left_out in ("scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json"):
        values = json.loads((folder / "export.json").read_text())
        del values["files"][left_out]
        other = export_by_hand(model, tmp_path / Path(left_out).parent, files=values["files"])
        with pytest.raises(ValueError, match=f"is damaged: {left_out} is not among its files"):
            read_manifest(other)

    config = json.loads((model / "tokenizer" / "tokenizer_config.json").read_text())
    asking = tmp_path / "asking"
    shutil.copytree(model, asking)
    config["auto_map"] = {"AutoTokenizer": ["own.Own", None]}
    (asking / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(config))
    (asking / "tokenizer" / "own.py").write_text("raise SystemExit('it was run')")
    monkeypatch.setattr(custom_code, "TIME_OUT_REMOTE_CODE", 0)
    with pytest.raises(ValueError, match=r"tokenizer_config.json asks to run code of its own \(auto_map\)"):
        ExportedPipeline(export_by_hand(asking, tmp_path / "code"), "aot")


@needs_onnx
def test_a_graph_that_its_library_cannot_make_is_refused_in_one_sentence(tmp_path: Path) -> None:
    class Determinants(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.slogdet(x)[1]  # no operator of ONNX

    program = torch.export.export(Determinants(), (torch.eye(2),))
    with pytest.raises(ValueError, match=r"ONNX Runtime can't make x\.onnx \(.*\): nothing was written") as refused:
        write_graph("onnx", program, tmp_path / "x.onnx", ("input",), ("output",))
    assert "\n" not in str(refused.value) and not list(tmp_path.iterdir())


@needs_openvino
def test_a_graph_that_its_library_cannot_run_is_refused_in_one_sentence(tmp_path: Path) -> None:
    program = torch.export.export(torch.nn.Conv2d(4, 8, 3), (torch.randn(1, 4, 8, 8),))
    write_graph("openvino", program, tmp_path / "x.xml", ("latents",), ("prediction",))
    graph = open_graph("openvino", tmp_path / "x.xml", ("latents",), "float32")
    assert graph(latents=torch.randn(1, 4, 8, 8))[0].shape == (1, 8, 6, 6)
    with pytest.raises(ValueError, match=r"OpenVINO can't run .*x\.xml \(.*\): export the model again") as refused:
        graph(latents=torch.randn(1, 5, 8, 8))  # compiled for these shapes, and so refused, at the first call
    assert "\n" not in str(refused.value)


def test_only_an_export_is_replaced(model: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "photo.jpg").write_bytes(b"a photo")
    with pytest.raises(ValueError, match="photos exists, and is no export that could be replaced: name a new folder"):
        export_pipeline(LatentShiftPipeline.from_pretrained(model), photos, "aot")
    assert (photos / "photo.jpg").read_bytes() == b"a photo"


def test_the_source_has_no_paths_and_each_lora_once(tmp_path: Path) -> None:
    loras = [tmp_path / folder / "style.safetensors" for folder in "ab"]
    for number, file in enumerate(loras):
        file.parent.mkdir()
        file.write_bytes(bytes([number]))
    files = source_files(None, None, [str(file) for file in loras], None)
    assert files == {
        "lora 1: style.safetensors with weight 1": sha256_of(loras[0]),
        "lora 2: style.safetensors with weight 1": sha256_of(loras[1]),
    }
    assert source_name(str(tmp_path / "mine") + "/", tmp_path / "mine") == "mine"
    assert source_name("bundled", tmp_path) == "bundled" and source_name("owner/model", None) == "owner/model"


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentshift.export.manifest.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"--to onnx needs onnx and onnxscript and onnxruntime: .*latentshift\[onnx\]"):
        check_libraries("onnx", "--to", to_run=False)
    with pytest.raises(ValueError, match=r"--runtime openvino needs openvino: pip install 'latentshift\[openvino\]'"):
        check_libraries("openvino", "--runtime", to_run=True)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_an_aot_export_makes_pytorchs_video(model: Path, tmp_path: Path) -> None:
    ours = quiet(LatentShiftPipeline.from_pretrained(model))
    manifest = export_pipeline(ours, tmp_path / "aot", "aot")
    assert isinstance(manifest, ExportManifest)
    exported = ExportedPipeline(tmp_path / "aot", "aot")
    exported.set_progress_bar_config(disable=True)
    for frames in (1, 5):
        expected, actual = (
            each(PROMPT, generator=torch.Generator().manual_seed(1), num_frames=frames, num_inference_steps=2,
                 output_type="pt").frames
            for each in (ours, exported)
        )  # fmt: skip
        assert (expected - actual).abs().max() <= MAX_DIFFERENCE
