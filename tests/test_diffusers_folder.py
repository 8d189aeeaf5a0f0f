"""Our folders in plain ``DiffusionPipeline.from_pretrained``: with the package, and as exported without it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, UNet2DConditionModel
from diffusers.utils import dynamic_modules_utils

from latentshift import LatentShiftPipeline
from latentshift.models.storage import standalone_pipeline
from latentshift.models.storage.export_diffusers import export_diffusers
from waiting import PATIENCE


def video(pipeline: Any, **options: Any) -> np.ndarray:
    pipeline.set_progress_bar_config(disable=True)
    few = {"num_inference_steps": 2, "num_frames": 3, "guidance_scale": 3.0, "output_type": "np"}
    few["generator"] = torch.Generator().manual_seed(1)
    return pipeline(["red star", "black"], **{**few, **options}).frames


def test_diffusers_finds_the_class_of_our_folders(model: Path) -> None:
    plain = DiffusionPipeline.from_pretrained(model)
    ours = LatentShiftPipeline.from_pretrained(model)
    assert type(plain) is LatentShiftPipeline and plain.config.shift == ours.config.shift
    assert np.array_equal(video(plain), video(ours))


def test_the_class_is_there_when_diffusers_is_imported_later() -> None:
    code = (
        "import sys, latentshift; assert 'diffusers' not in sys.modules; import diffusers;"
        "assert type(diffusers).__name__ == 'WithOurPipeline' and 'latentshift.pipeline' not in sys.modules;"
        "print(diffusers.__name__, hasattr(diffusers, 'NoSuchPipeline'))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.split() == ["diffusers", "False"], run.stderr


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("sd1", {"shift": {"padding": "circular", "place": "conv2", "blocks": "decoder"}, "noise_share": 0.7}),
        ("sdxl", {"shift": {"padding": "replicate", "direction": "first_from_future"}}),
        ("ldm", {"shift": {"place": "block", "direction": "past_only", "fold": 4}}),
        ("sd2", {"shift": None}),
    ],
)
def test_an_exported_folder_makes_the_same_videos_without_the_package(
    family: str, settings: dict, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    ours = LatentShiftPipeline.from_pretrained(request.getfixturevalue(f"{family}_folder"), num_frames=5, **settings)
    folder = tmp_path / "exported"
    export_diffusers(ours, folder)
    assert Path(ours.unet.config._name_or_path).is_dir()  # which `latentshift.video` finds the settings by
    for file in folder.rglob("*.json"):
        assert str(tmp_path.parent) not in file.read_text(encoding="utf-8"), file  # nor of the base model
    with pytest.raises(ValueError, match="trust_remote_code"):
        DiffusionPipeline.from_pretrained(folder)
    plain = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    assert type(plain).__module__.startswith("diffusers_modules.") and plain.config.num_frames == 5
    np.testing.assert_allclose(video(plain), video(ours), atol=1e-5)
    options = {"negative_prompt": "red", "height": 32, "width": 16, "num_frames": 1, "guidance_scale": 1.5}
    np.testing.assert_allclose(video(plain, **options), video(ours, **options), atol=1e-5)
    images = video(plain, output_type="pil", num_frames=2)
    assert [len(each) for each in images] == [2, 2] and images[0][0].size == (16, 16)
    with pytest.raises(ValueError, match="num_frames must be a whole number of 1 or more"):
        video(plain, num_frames=0)
    again = LatentShiftPipeline.from_pretrained(folder)  # without running its code
    assert again.config.shift == ours.config.shift and again.config.noise_share == ours.config.noise_share
    assert plain.config.num_inference_steps == again.config.num_inference_steps == 100
    _, info = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]


def standalone(model: Path, **settings: Any) -> standalone_pipeline.LatentShiftPipeline:
    pipeline = LatentShiftPipeline.from_pretrained(model)
    pipeline.set_shift(None)
    parts = {name: getattr(pipeline, name) for name in ("vae", "text_encoder", "tokenizer", "unet", "scheduler")}
    return standalone_pipeline.LatentShiftPipeline(**parts, **settings)


def test_pipelines_of_one_unet_do_not_change_each_other(model: Path) -> None:
    first = standalone(model)
    images = standalone(model, shift=None)
    of_video, of_images = video(first), video(images)
    second = type(first)(**first.components)
    assert np.array_equal(video(second), of_video) and np.array_equal(video(first), of_video)
    images = type(first)(**first.components, shift=None)
    assert np.array_equal(video(images), of_images) and not np.allclose(of_images, of_video, atol=1e-3)
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in first.unet.modules())


def test_calls_with_other_frame_counts_in_two_threads_of_one_unet(model: Path) -> None:
    pipelines = [standalone(model)]
    scheduler = type(pipelines[0].scheduler).from_config(pipelines[0].scheduler.config)
    pipelines.append(type(pipelines[0])(**{**pipelines[0].components, "scheduler": scheduler}))
    counts = (4, 2)
    alone = [video(each, num_frames=count) for each, count in zip(pipelines, counts, strict=True)]
    barrier = threading.Barrier(2)

    def wait_for_the_other(*_: Any) -> None:
        barrier.wait(PATIENCE)

    pipelines[0].unet.register_forward_pre_hook(wait_for_the_other)
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda each, count: video(each, num_frames=count), pipelines, counts))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)


def test_without_a_generator_the_seed_is_torchs(model: Path) -> None:
    made = []
    for pipeline in (standalone(model), LatentShiftPipeline.from_pretrained(model)):
        torch.manual_seed(5)
        made.append(video(pipeline, generator=None))
    np.testing.assert_allclose(made[0], made[1], atol=1e-5)


def test_a_list_of_negative_prompts_has_one_for_each_video(model: Path) -> None:
    pipeline = standalone(model)
    both = video(pipeline, negative_prompt=["blue", None])
    assert np.array_equal(both[0], video(pipeline, negative_prompt="blue")[0])
    assert np.array_equal(both[1], video(pipeline)[1]) and not np.array_equal(both[0], video(pipeline)[0])
    for wrong in (["blue"], [["red star", "blue"]] * 2, 3):
        with pytest.raises(ValueError, match="negative_prompt must be a sentence or a list of 2"):
            video(pipeline, negative_prompt=wrong)


def test_arguments_that_the_file_refuses(model: Path) -> None:
    pipeline = standalone(model)
    for wrong, words in (
        ({"num_frames": 1.5}, r"num_frames must be a whole number of 1 or more, not 1\.5"),
        ({"num_inference_steps": 0}, "num_inference_steps must be a whole number of 1 or more, not 0"),
        ({"height": 0}, "height must be a whole number"),
        ({"guidance_scale": float("nan")}, "guidance_scale must be a finite number of 0 or more, not nan"),
        ({"guidance_scale": -1}, "guidance_scale must be a finite number of 0 or more"),
        ({"guidance_scale": 1, "negative_prompt": "blue"}, "negative_prompt has no effect without guidance"),
        ({"latents": torch.full((2, 2, 4, 8, 8), torch.nan)}, "the U-Net made values that are not finite"),
        ({"eta": 0.5}, r"eta must be 0 to 1, and 0 with a scheduler that has none, not 0\.5"),
        ({"generator": 7}, r"generator must be a torch\.Generator or a list of 2, not 7"),
    ):
        with pytest.raises(ValueError, match=words):
            video(pipeline, **{"num_frames": 2, **wrong})
    with pytest.raises(ValueError, match="prompt must be a sentence or a list of sentences"):
        pipeline(None)
    torch.nn.init.constant_(pipeline.vae.decoder.conv_out.bias, torch.inf)
    with pytest.raises(ValueError, match="the autoencoder made values that are not finite"):
        video(pipeline, num_frames=2)


def test_parts_that_the_file_makes_no_videos_with_are_refused(model: Path) -> None:
    pipeline = standalone(model, noise_share=0.5)
    schedule = pipeline.scheduler.config
    pipeline.scheduler = DDIMScheduler.from_config({**schedule, "clip_sample": False, "thresholding": True})
    with pytest.raises(ValueError, match=r"clips the predicted latents \(thresholding\).*noise_share 0.5"):
        video(pipeline)
    video(pipeline, num_frames=1)
    pipeline.unet.compile()
    with pytest.raises(ValueError, match=r"torch\.compile"):
        video(pipeline)
    ours = LatentShiftPipeline.from_pretrained(model)
    pipeline.register_modules(unet=ours.unet)
    with pytest.raises(ValueError, match="latentshift has shifted this U-Net already"):
        video(pipeline)


def test_an_exported_folder_loads_where_the_package_is_not_installed(model: Path, tmp_path: Path) -> None:
    export_diffusers(LatentShiftPipeline.from_pretrained(model), tmp_path / "exported")
    # Nor what takes seconds to import and diffusers does without.
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('latentshift', 'bitsandbytes', 'peft')));"
        "from diffusers import DiffusionPipeline;"
        "pipeline = DiffusionPipeline.from_pretrained(sys.argv[1], trust_remote_code=True);"
        "options = {'num_inference_steps': 1, 'num_frames': 2, 'output_type': 'np'};"
        "print(*pipeline('red star', **options).frames.shape, [name for name in sys.modules if 'latentshift.' in name])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "exported")]
    run = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    )
    assert run.stdout == "1 2 16 16 3 []\n", run.stderr


def test_the_exported_file_imports_nothing_of_the_package(model: Path, tmp_path: Path) -> None:
    tree = ast.parse(Path(standalone_pipeline.__file__).read_text(encoding="utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    roots = {str(name).partition(".")[0] for name in imported} - set(sys.stdlib_module_names)
    assert roots == {"PIL", "diffusers", "numpy", "torch"}
    pipeline = LatentShiftPipeline.from_pretrained(model)
    pipeline.set_method("latent-vdm")
    with pytest.raises(ValueError, match="Latent-VDM's temporal layers can't be exported"):
        export_diffusers(pipeline, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_the_command_exports_the_same_folder(cli: Any, model: Path, tmp_path: Path) -> None:
    code, printed, complaint = cli("export", model, "--to", "diffusers", "-o", "for-anyone")
    assert (code, printed) == (0, "for-anyone\n"), complaint
    export_diffusers(LatentShiftPipeline.from_pretrained(model), tmp_path / "expected")
    made, files = (
        {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "for-anyone", tmp_path / "expected")
    )
    assert made == files and Path("pipeline.py") in made
    for file in files:
        assert (tmp_path / "for-anyone" / file).read_bytes() == (tmp_path / "expected" / file).read_bytes(), file
    code, _, complaint = cli("export", model, "--to", "diffusers", "-o", "for-anyone")
    assert code == 1 and "for-anyone exists already" in complaint
