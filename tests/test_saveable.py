"""A pipeline that is saved can be loaded again, or is refused before a file is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload
from peft import LoraConfig

from latentshift import LatentShiftPipeline

LORA = LoraConfig(r=2, target_modules=["to_q", "q_proj"], init_lora_weights=False)


def _fuse(pipeline: LatentShiftPipeline) -> None:
    pipeline.unet.add_adapter(LORA)
    pipeline.unet.fuse_lora()


def _merge(pipeline: LatentShiftPipeline) -> None:
    _fuse(pipeline)
    pipeline.unet.unload_lora()


def _compile(pipeline: LatentShiftPipeline) -> None:
    pipeline.unet = torch.compile(pipeline.unet, backend="eager")
    pipeline.text_encoder = torch.compile(pipeline.text_encoder, backend="eager")


def _widen(pipeline: LatentShiftPipeline) -> None:
    pipeline.unet.conv_in = torch.nn.Conv2d(5, 8, 3, padding=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pipeline: pipeline.unet.add_adapter(LORA), r"the unet has a LoRA in it \(default\).*fuse_lora\(\)"),
        (lambda pipeline: pipeline.text_encoder.add_adapter(LORA), r"the text_encoder has a LoRA in it \(default\)"),
        (_fuse, r"the unet has a LoRA in it"),
        (_widen, r"the unet does not match its configuration \(conv_in.weight differs\)"),
        (lambda pipeline: pipeline.unet.fuse_qkv_projections(), r"to_qkv.weight differs"),
        (lambda pipeline: cpu_offload(pipeline.vae, torch.device("cpu")), r"the weights of the vae are offloaded"),
    ],
)
def test_what_could_not_be_loaded_is_not_written(
    change: Callable[[LatentShiftPipeline], object], message: str, sd1_folder: Path, tmp_path: Path
) -> None:
    pipeline = LatentShiftPipeline.from_pretrained(sd1_folder)
    change(pipeline)
    with pytest.raises(ValueError, match=message):
        pipeline.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("change", [_merge, _compile, lambda pipeline: pipeline.set_method("latent-vdm")])
@pytest.mark.parametrize("variant", [None, "fp16"])
def test_what_is_written_is_read_as_it_was(
    change: Callable[[LatentShiftPipeline], object], variant: str | None, sd1_folder: Path, tmp_path: Path
) -> None:
    pipeline = LatentShiftPipeline.from_pretrained(sd1_folder)
    change(pipeline)
    pipeline.save_pretrained(tmp_path, variant=variant)
    again = LatentShiftPipeline.from_pretrained(tmp_path, variant=variant)
    for name in ("unet", "text_encoder", "vae", "temporal"):
        part = getattr(pipeline, name)
        if part is None:
            assert getattr(again, name) is None
            continue
        before, after = getattr(part, "_orig_mod", part).state_dict(), getattr(again, name).state_dict()
        assert before.keys() == after.keys() and all(torch.equal(value, after[key]) for key, value in before.items())


def test_pickled_weights_are_not_written(sd1_folder: Path, tmp_path: Path) -> None:
    pipeline = LatentShiftPipeline.from_pretrained(sd1_folder)
    with pytest.raises(ValueError, match="supports safetensors only"):
        pipeline.save_pretrained(tmp_path / "new", safe_serialization=False)
    assert not (tmp_path / "new").exists()
