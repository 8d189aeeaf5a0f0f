"""The image models that compared video models are built like: of which inputs, in which sizes, and what has memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from latentshift.benchmarks.generation import memory_needed
from latentshift.benchmarks.generation.image_base import open_base
from latentshift.benchmarks.generation.parameters_and_flops import count
from latentshift.benchmarks.generation.peers import build_video_model
from latentshift.benchmarks.generation.settings import VIDEO_MODELS, GenerationSettings
from latentshift.diffusion.condition import TextCondition
from latentshift.memory.trace import peak_memory
from tiny_models import TEXT_WIDTH, TOKENS

FRAMES = 3
ON_CPU = GenerationSettings("ldm", ("stock-2d",), FRAMES, 2, 7.5, "cpu", "bfloat16", 1, 1, whole=True)


def predicted(folder: Path, name: str, change: Callable[[TextCondition], TextCondition] | None = None) -> torch.Tensor:
    torch.manual_seed(0)
    base = open_base(str(folder))
    model = build_video_model(name, base.unet, FRAMES)
    torch.manual_seed(0)
    latents, text = torch.randn(2, FRAMES, 4, 8, 8), base.random_text(2)
    assert text.tokens.shape == (2, TOKENS, base.unet.config.cross_attention_dim)
    with torch.no_grad():
        return model(latents, torch.tensor(500), text if change is None else change(text))


def another_pooled(text: TextCondition) -> TextCondition:
    assert text.pooled is not None and text.pooled.shape == (2, TEXT_WIDTH)
    return replace(text, pooled=text.pooled + 1)


@pytest.mark.parametrize("base", ["ldm_folder", "sdxl_folder"])
def test_every_model_is_built_at_one_width_and_called_alike(base: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(base)
    names = [name for name in VIDEO_MODELS if not (base == "sdxl_folder" and name == "modelscope")]
    outputs = {name: predicted(folder, name) for name in names}
    assert {tuple(each.shape) for each in outputs.values()} == {(2, FRAMES, 4, 8, 8)}
    torch.testing.assert_close(outputs["latent-shift"], outputs["naive-shift"], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(outputs["latent-shift"], outputs["stock-2d"], atol=1e-3)
    # Its layers begin by adding nothing.
    torch.testing.assert_close(outputs["latent-vdm"], outputs["stock-2d"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["stock-2d", "latent-shift", "latent-vdm", "animatediff"])
def test_sdxls_pooled_text_and_sizes_reach_each_model(sdxl_folder: Path, name: str) -> None:
    plain = predicted(sdxl_folder, name)
    for change in (another_pooled, lambda text: text.with_sizes((16, 16, 4, 4, 16, 16))):
        assert not torch.allclose(predicted(sdxl_folder, name, change), plain, atol=1e-6)


def test_sdxl_is_counted_at_its_published_size() -> None:
    sdxl = open_base("sdxl")
    assert sdxl.side == 1024 and sdxl.latent_shape(2) == (2, 4, 128, 128)
    counted = count(sdxl, "stock-2d", 1, 1)
    assert (counted.unet, counted.added) == (2_567_463_684, 0)
    assert round(counted.text_encoder / 1e6) == 123 + 695 and round(counted.autoencoder / 1e6) == 84
    assert counted.flops == pytest.approx(6.76e12, rel=1e-3)  # a pass of one picture, as published


def test_a_base_of_more_inputs_is_refused(sd1_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(sd1_folder, tmp_path / "distilled")
    config = json.loads((folder / "unet" / "config.json").read_text())
    (folder / "unet" / "config.json").write_text(json.dumps({**config, "time_cond_proj_dim": 8}))
    with pytest.raises(ValueError, match="takes more than latents, a timestep, a text and SDXL's sizes"):
        open_base(str(folder))


def test_a_size_that_is_none_of_the_bases_is_refused(cli, sdxl_folder: Path) -> None:
    for size in (15, -16, 0):
        code, _, err = cli("bench", "generate", sdxl_folder, "--size", size, "--quick")
        assert code == 1 and f"--size must be multiples of 2 and 4 or more for this model, not {size}x{size}" in err


def test_a_model_without_memory_or_of_another_kind_is_left_out(
    ldm_folder: Path, sdxl_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def free(value: int) -> None:
        monkeypatch.setattr(memory_needed, "available_memory", lambda: memory_needed.BESIDE + value)

    both = replace(ON_CPU, base=str(ldm_folder), models=("latent-shift", "modelscope"), whole=False)
    base = open_base(str(ldm_folder))
    ours, theirs = (
        weights + 2 * activations
        for weights, activations in (memory_needed.pass_memory(both, base, name) for name in both.models)
    )
    assert ours < theirs
    free(ours)
    fitting = memory_needed.leave_out_models(both)
    assert fitting.models == ("latent-shift",) and fitting.decoded_at_once is None
    sentence = "a pass of ModelScope's 3-D U-Net takes about 0.7 GiB of memory, and 0.7 GiB are free: try fewer"
    assert fitting.left_out["modelscope"].startswith(sentence)
    with pytest.raises(ValueError, match="or leave modelscope out with --models"):
        memory_needed.check_models(both)
    free(0)
    with pytest.raises(ValueError, match="no video model is left to compare: a pass of Latent-Shift takes about"):
        memory_needed.leave_out_models(both)
    free(2**30)
    assert memory_needed.leave_out_models(both) == memory_needed.check_models(both) == both
    xl = memory_needed.leave_out_models(replace(both, base=str(sdxl_folder)))
    assert xl.models == ("latent-shift",) and "no pooled text and sizes" in xl.left_out["modelscope"]


def test_frames_are_decoded_as_many_at_once_as_there_is_memory_for(ldm_folder: Path) -> None:
    settings = replace(ON_CPU, base=str(ldm_folder), num_frames=16)
    base, step = open_base(settings.base), 2**15
    found = [memory_needed.decoded_at_once(settings, base, memory_needed.BESIDE + step * n) for n in (5, 8, 16, 32)]
    assert found == [1, 4, 8, None]
    with pytest.raises(ValueError, match=r"decoding a frame takes about 0.7 GiB .* choose a smaller --size"):
        memory_needed.decoded_at_once(settings, base, memory_needed.BESIDE)


def test_memory_of_a_pass_is_what_a_real_one_allocates(sdxl_folder: Path) -> None:
    settings = replace(ON_CPU, dtype="float32", base=str(sdxl_folder))
    base = open_base(settings.base)
    for name in ("stock-2d", "latent-shift", "latent-vdm", "animatediff"):
        weights, activations = memory_needed.pass_memory(settings, base, name)
        model = build_video_model(name, base.unet, FRAMES)
        assert weights == 4 * model.num_parameters
        latents, text = torch.randn(2, *base.latent_shape(FRAMES)), base.random_text(2)
        with torch.no_grad():
            model(latents, torch.tensor(500), text)  # the shift keeps memory from one pass for the next
            assert activations == peak_memory(partial(model, latents, torch.tensor(500), text))
