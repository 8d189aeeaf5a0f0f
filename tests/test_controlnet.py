"""ControlNets of a video model: their pictures, a new one that changes nothing, and the stage that trains one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel
from safetensors.torch import load_file

import latentshift
from latentshift import LatentShiftPipeline
from latentshift.diffusion.condition import TextCondition
from latentshift.image_pipelines.controlnet import with_controlnet
from latentshift.memory.estimate import estimate
from latentshift.models.controlnet import control, new_controlnet, trained_shift
from latentshift.models.denoiser import denoise
from latentshift.shift import shift_of
from latentshift.training.checkpoints.paths import list_checkpoints
from latentshift.training.run import run
from latentshift.training.stages.controlnet import ControlNetStage
from latentshift.video import edge_maps
from tiny_models import TEXT_WIDTH, tiny_unet
from tiny_pipelines import SDXL_UNET
from tiny_runs import CPU, batch_of, same_weights, tiny

F = 3


def test_an_upright_edge_is_as_bright_as_its_step_is_large() -> None:
    frames = np.zeros((2, 5, 6, 3), np.uint8)
    frames[0, :, 3:, 1] = 32  # half of a full step, in green
    frames[1, 2:] = 200
    made = edge_maps(frames)
    half = np.zeros((5, 6), np.uint8)
    half[:, 2:4] = 128
    full = np.zeros((5, 6), np.uint8)
    full[1:3] = 255
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made, np.stack([half, full])[..., None].repeat(3, axis=-1))
    with pytest.raises(ValueError, match=r"edges are of frames, uint8 \(F, H, W, 3\), not float64 \(5, 6, 3\)"):
        edge_maps(np.zeros((5, 6, 3)))


def inputs(width: int = TEXT_WIDTH) -> tuple[torch.Tensor, torch.Tensor, TextCondition, torch.Tensor]:
    torch.manual_seed(0)
    text = TextCondition(torch.randn(2, 5, width), torch.randn(2, TEXT_WIDTH)).with_sizes((16, 16, 0, 0, 16, 16))
    return torch.randn(2, F, 4, 8, 8), torch.tensor([3, 700]), text, torch.rand(2, F, 3, 16, 16)


def opened(controlnet: ControlNetModel) -> ControlNetModel:
    """With weights in place of its zeros."""
    torch.manual_seed(0)
    ends = (*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block)
    for end in (*ends, controlnet.controlnet_cond_embedding.conv_out):
        torch.nn.init.normal_(end.weight, std=0.5)
    return controlnet.eval()


@pytest.mark.parametrize("sdxl", [False, True])
@torch.no_grad()
def test_a_new_controlnet_changes_nothing_and_acts_where_it_has_weights(sdxl: bool) -> None:
    unet = latentshift.install(tiny_unet(**(SDXL_UNET if sdxl else {})))
    latents, timesteps, text, condition = inputs(2 * TEXT_WIDTH if sdxl else TEXT_WIDTH)
    alone = denoise(unet, latents, timesteps, text)
    net = new_controlnet(unet, 2)
    added = control(net, latents, timesteps, text, condition)
    assert torch.equal(denoise(unet, latents, timesteps, text, controls=added), alone)
    added = control(opened(net), latents, timesteps, text, condition)
    assert not torch.allclose(denoise(unet, latents, timesteps, text, controls=added), alone)
    with pytest.raises(ValueError, match="residuals are for all frames in one call"):
        denoise(unet, latents, timesteps, text, frame_chunk=1, controls=added)


@torch.no_grad()
def test_frames_meet_in_a_controlnet_with_the_shift_alone() -> None:
    unet = latentshift.install(tiny_unet())
    net = opened(new_controlnet(unet, 2))
    latents, timesteps, text, condition = inputs()
    other = condition.clone()
    other[0, 0] = 1 - other[0, 0]
    for shifted, reached in ((False, [True, False, False]), (True, [True, True, True])):
        if shifted:
            latentshift.install(net)
        before, after = (
            control(net, latents, timesteps, text, each)["mid_block_additional_residual"].unflatten(0, (2, F))
            for each in (condition, other)
        )
        differs = [not torch.equal(one, two) for one, two in zip(before[0], after[0], strict=True)]
        assert differs == reached
        torch.testing.assert_close(before[1], after[1])


@pytest.fixture(scope="module")
def trained(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped recipe scaled down, interrupted once."""
    output = tmp_path_factory.mktemp("controlnet") / "run"
    run(tiny("controlnet", runs, f"output={output}", "steps=2"), quiet=True)
    run(tiny("controlnet", runs, f"output={output}"), quiet=True)
    return output


def test_the_stage_trains_a_stock_controlnet_and_nothing_else(runs: Path, trained: Path) -> None:
    weights = load_file(list_checkpoints(trained / "checkpoints")[-1] / "weights.safetensors")
    assert all(name.startswith("controlnet.") for name in weights)
    made, report = ControlNetModel.from_pretrained(trained / "controlnet", output_loading_info=True)
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert trained_shift(made) is None
    before = ControlNetStage(tiny("controlnet", runs), CPU).controlnet
    moved = [not torch.equal(one, two) for one, two in zip(before.parameters(), made.parameters(), strict=True)]
    assert all(moved)
    assert (trained / "samples" / "step-00000004.png").exists()


def test_the_stage_resumes_bit_for_bit(runs: Path, trained: Path, tmp_path: Path) -> None:
    run(tiny("controlnet", runs, f"output={tmp_path}/whole"), quiet=True)
    same_weights(trained, tmp_path / "whole")


def test_its_pictures_are_the_edges_of_its_frames(runs: Path) -> None:
    stage = ControlNetStage(tiny("controlnet", runs), CPU)
    batch = batch_of(stage, 1)
    frames = [sample.content for sample in next(stage.data.loader.batches()).samples]
    assert batch.condition is not None and batch.condition.shape == (2, 4, 3, 32, 32)
    expected = np.stack([edge_maps(each) for each in frames])
    np.testing.assert_allclose(batch.condition.movedim(2, -1).numpy() * 255, expected, atol=1e-4)


def test_a_controlnet_trained_with_the_shift_is_used_with_it(runs: Path, tmp_path: Path) -> None:
    run(tiny("controlnet", runs, f"output={tmp_path}/run", "shift_controlnet=true", "steps=1"), quiet=True)
    made = ControlNetModel.from_pretrained(tmp_path / "run" / "controlnet")
    pipeline = LatentShiftPipeline.from_pretrained(runs / "video" / "model")
    assert trained_shift(made) == pipeline.config.shift and shift_of(made) is None
    with pytest.raises(ValueError, match="was trained with frames that meet in it: pass also="):
        with_controlnet(pipeline, made, 4, shifted=False)
    assert shift_of(made) is None
    video = with_controlnet(pipeline, made, 4)
    assert shift_of(made) == shift_of(video.pipe.unet)
    edges = np.zeros((4, 32, 32, 3), np.float32)
    frames = video("a red star", image=edges, num_inference_steps=2, output_type="np").frames
    assert frames.shape == (1, 4, 32, 32, 3) and np.isfinite(frames).all()
    video.remove()
    pipeline.set_shift({"padding": "circular"})
    with pytest.raises(ValueError, match="was trained with another shift"):
        with_controlnet(pipeline, made, 4)


def test_an_image_models_controlnet_learns_from_single_frames(sd1_folder: Path, tmp_path: Path) -> None:
    words = (f"model={sd1_folder}", f"output={tmp_path}/run", "steps=1", "data.frames=1")
    with pytest.raises(ValueError, match="frames do not meet in the base: set num_frames=1"):
        run(tiny("controlnet", tmp_path, *words), quiet=True)
    recipe = tiny("controlnet", tmp_path, *words, "num_frames=1")
    run(recipe, quiet=True)
    assert (tmp_path / "run" / "controlnet" / "config.json").exists()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["dropped_steps"] == 0
    parts = {part.name: part for part in estimate(recipe, CPU).parts}
    assert parts["unet"].trained == 0 and parts["controlnet"].trained == parts["controlnet"].parameters


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("data.encode=true", "made of a clip's pixels, and sprites is to be encoded once: set encode to false"),
        ("prediction_type=epsilon", "is trained for what its model predicts; leave prediction_type out"),
        ("compile=true", "compile is not for stage controlnet"),
        ("shift_controlnet=true num_frames=1", "single frames have none to meet"),
        ("condition=depth", "condition: must be 'edges'"),
    ],
)
def test_settings_that_do_not_hold_are_refused(words: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        tiny("controlnet", tmp_path, *words.split())


def test_it_is_trained_and_shown_with_the_noise_of_its_base(runs: Path, tmp_path: Path) -> None:
    pipeline = LatentShiftPipeline.from_pretrained(runs / "video" / "model", noise_share=1.0)
    pipeline.save_pretrained(tmp_path / "shared")
    recipe = tiny("controlnet", runs, f"model={tmp_path}/shared", f"output={tmp_path}/run", "steps=2", "sample_every=2")
    stage = ControlNetStage(recipe, CPU)
    assert stage.objective.noise_share == 1
    run(recipe, quiet=True)
    assert list((tmp_path / "run").glob("samples/*.png"))


def test_bases_that_can_have_none_are_refused(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has 1, 2 layers per block, and a ControlNet of diffusers has one number"):
        new_controlnet(tiny_unet(layers_per_block=[1, 2]), 2)
    pipeline = LatentShiftPipeline.from_pretrained(runs / "video" / "model")
    pipeline.set_method("latent-vdm")
    pipeline.save_pretrained(tmp_path / "attention")
    with pytest.raises(ValueError, match="has Latent-VDM's temporal layers"):
        ControlNetStage(tiny("controlnet", runs, f"model={tmp_path}/attention"), CPU)


def test_a_run_of_a_controlnet_is_no_model(trained: Path, cli) -> None:
    code, _, complaint = cli("info", trained)
    assert code == 1 and "is a run that made a ControlNet, and no model" in complaint
