"""Pipelines that share weights: what one of them does leaves the other's pictures as they were, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from diffusers import DDPMPipeline, LDMTextToImagePipeline, StableDiffusionPipeline, UNet2DModel
from peft import LoraConfig

from latentshift import LatentShiftPipeline
from latentshift.frame_context import frame_context
from latentshift.models.adapters.video_adapter import Lora, add_lora, load_adapter, save_delta, save_lora
from tiny_models import base_scheduler, tiny_unet, tiny_vae

STEPS = {"num_inference_steps": 3, "output_type": "np"}


@pytest.fixture
def stock(sd1_folder: Path) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(sd1_folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def picture(stock: StableDiffusionPipeline) -> np.ndarray:
    return stock("red star", generator=torch.Generator().manual_seed(0), height=16, width=16, **STEPS).images


def video(pipeline: LatentShiftPipeline) -> np.ndarray:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline("red star", generator=torch.Generator().manual_seed(0), num_frames=3, **STEPS).frames


def test_an_image_pipeline_is_not_changed(stock: StableDiffusionPipeline, tmp_path: Path) -> None:
    before, config = picture(stock), dict(stock.unet.config)
    processors = {name: type(each) for name, each in stock.unet.attn_processors.items()}
    made = LatentShiftPipeline.from_pipe(stock, num_frames=3, fps=5)
    assert (made.config.num_frames, made.config.fps, made.method) == (3, 5, "latent-shift")
    first = video(made)
    alone = LatentShiftPipeline.from_pretrained(stock.config._name_or_path, scheduler=made.scheduler)
    assert np.array_equal(video(alone), first)  # the same model as one that was loaded by itself
    for change in ("none", "latent-vdm", "latent-shift"):
        made.set_method(change)
        assert np.array_equal(picture(stock), before)
    made.scheduler.register_to_config(prediction_type="v_prediction")
    made.unet.register_to_config(sample_size=64)
    assert np.array_equal(picture(stock), before) and dict(stock.unet.config) == config
    assert frame_context(stock.unet) is None
    assert processors == {name: type(each) for name, each in stock.unet.attn_processors.items()}
    weights = zip(made.unet.parameters(), stock.unet.parameters(), strict=True)
    assert all(one is other for one, other in weights)  # nothing was copied
    made.save_pretrained(tmp_path)
    assert LatentShiftPipeline.from_pretrained(tmp_path).config.fps == 5


def test_another_dtype_copies_and_adapters_change_a_copy(stock: StableDiffusionPipeline, tmp_path: Path) -> None:
    before = picture(stock)
    half = LatentShiftPipeline.from_pipe(stock, dtype=torch.bfloat16)
    assert (half.dtype, stock.dtype) == (torch.bfloat16, torch.float32) and np.array_equal(picture(stock), before)

    tuned = LatentShiftPipeline.from_pretrained(stock.config._name_or_path)
    add_lora(tuned.unet, Lora(rank=2, targets=("to_q", "conv1")))
    for name, parameter in tuned.unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(parameter, 0.1)
    save_lora(tuned, Lora(rank=2, targets=("to_q", "conv1")), tmp_path / "lora.safetensors")
    moved = LatentShiftPipeline.from_pretrained(stock.config._name_or_path)
    with torch.no_grad():
        moved.unet.conv_in.weight += 0.1
        next(moved.text_encoder.parameters()).add_(0.1)
    save_delta(moved, LatentShiftPipeline.from_pipe(stock), tmp_path / "delta.safetensors")
    for kind in ("lora", "delta"):
        plain = LatentShiftPipeline.from_pipe(stock)
        other = LatentShiftPipeline.from_pipe(plain)
        first = video(plain)
        load_adapter(other, tmp_path / f"{kind}.safetensors")
        assert not np.array_equal(video(other), first)
        assert np.array_equal(video(plain), first) and np.array_equal(picture(stock), before)


def test_video_pipelines_share_weights_and_not_how_frames_meet(stock: StableDiffusionPipeline) -> None:
    one = LatentShiftPipeline.from_pipe(stock)
    one.set_method("latent-vdm")
    torch.nn.init.constant_(one.temporal.layers[0].to_out.weight, 0.1)
    first = video(one)
    other = LatentShiftPipeline.from_pipe(one)
    assert other.method == "latent-vdm" and np.array_equal(video(other), first)
    other.set_method("latent-shift")
    assert not np.array_equal(video(other), first) and np.array_equal(video(one), first)


def test_a_live_lora_and_a_compiled_unet_come_along(stock: StableDiffusionPipeline) -> None:
    stock.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "conv1"], init_lora_weights=False))
    before = picture(stock)
    first = video(LatentShiftPipeline.from_pipe(stock))
    stock.unet = torch.compile(stock.unet, backend="eager")
    assert np.array_equal(video(LatentShiftPipeline.from_pipe(stock)), first)
    stock.unet = stock.unet._orig_mod
    assert np.array_equal(picture(stock), before)
    stock.unet.disable_adapters()
    assert not np.array_equal(video(LatentShiftPipeline.from_pipe(stock)), first)


def test_the_papers_pipeline_has_other_names(ldm_folder: Path) -> None:
    stock = LDMTextToImagePipeline.from_pretrained(ldm_folder)
    made = LatentShiftPipeline.from_pipe(stock)
    assert next(made.vae.parameters()) is next(stock.vqvae.parameters())
    assert video(made).shape == (1, 3, 16, 16, 3) and frame_context(stock.unet) is None


def test_what_cannot_be_shared_is_refused(stock: StableDiffusionPipeline) -> None:
    foreign = DDPMPipeline(
        unet=UNet2DModel(
            block_out_channels=(4, 4),
            norm_num_groups=2,
            add_attention=False,
            down_block_types=("DownBlock2D",) * 2,
            up_block_types=("UpBlock2D",) * 2,
        ),
        scheduler=base_scheduler(),
    )
    with pytest.raises(ValueError, match="this DDPMPipeline has no text_encoder"):
        LatentShiftPipeline.from_pipe(foreign, unet=tiny_unet(), vae=tiny_vae())
    cpu_offload(stock.unet, execution_device=torch.device("cpu"))
    with pytest.raises(ValueError, match=r"are offloaded and can't be shared: call remove_all_hooks\(\)"):
        LatentShiftPipeline.from_pipe(stock)


def test_a_callback_ends_denoising(stock: StableDiffusionPipeline) -> None:
    """Bit for bit as the latents were then; the next call runs to its end."""
    made = LatentShiftPipeline.from_pipe(stock)
    seen: list[torch.Tensor] = []

    def stop(pipeline: LatentShiftPipeline, step: int, timestep: torch.Tensor, tensors: dict) -> dict:
        seen.append(tensors["latents"])
        pipeline._interrupt = step == 1
        assert pipeline.interrupt == (step == 1)
        return {}

    options = {"num_inference_steps": 6, "output_type": "latent", "num_frames": 2}
    stopped = made("red", callback_on_step_end=stop, **options).frames
    assert len(seen) == 2 and torch.equal(stopped, seen[-1])
    whole = made("red", callback_on_step_end=lambda *each: seen.append(each[1]) or {}, **options)
    assert seen[-1] == 5 and whole.frames.shape == stopped.shape
