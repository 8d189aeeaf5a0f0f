"""Skip connections that wait in another memory: the same bits, and of them the device holds what is being used."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest
import torch
from diffusers import UNet2DConditionModel

import latentshift.pipeline as pipeline_module
from latentshift import LatentShiftPipeline, bundled_model
from latentshift.diffusion.condition import TextCondition
from latentshift.memory.fake_tensors import fake_tensors
from latentshift.memory.long_video import pass_memory
from latentshift.models.denoiser import denoise
from latentshift.models.skip_offload import offloaded_skips
from latentshift.models.storage.families import FAMILIES
from latentshift.settings import PADDINGS, Padding, ShiftConfig
from latentshift.shift import install, is_shifted
from tiny_models import TEXT_WIDTH, TOKENS, narrow_family_unet, tiny_unet

STEP = torch.tensor(7)


def shifted_family_unet(name: str, padding: Padding = "zeros") -> UNet2DConditionModel:
    return install(narrow_family_unet(name).eval(), ShiftConfig(padding=padding))


def text(device: str = "cpu") -> TextCondition:
    tokens, pooled = torch.randn(1, TOKENS, TEXT_WIDTH, device=device), torch.randn(1, TEXT_WIDTH, device=device)
    return TextCondition(tokens, pooled, torch.tensor([[8.0, 8, 0, 0, 8, 8]], device=device))


@torch.no_grad()
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_no_bit_changes(family: str, padding: Padding) -> None:
    unet, latents, condition = shifted_family_unet(family, padding), torch.randn(1, 7, 4, 16, 16), text()
    for chunk in (2, 7):
        expected = denoise(unet, latents, STEP, condition, frame_chunk=chunk)
        with offloaded_skips(unet):
            assert torch.equal(denoise(unet, latents, STEP, condition, frame_chunk=chunk), expected)
            unet.enable_freeu(0.9, 0.2, 1.2, 1.4)  # changes skip connections where they are taken
            freed = denoise(unet, latents, STEP, condition, frame_chunk=chunk)
        assert torch.equal(denoise(unet, latents, STEP, condition, frame_chunk=chunk), freed)
        assert not torch.equal(freed, expected)
        unet.disable_freeu()
        assert torch.equal(denoise(unet, latents, STEP, condition, frame_chunk=chunk), expected)


def conv_in_and_down_blocks(unet: UNet2DConditionModel) -> list[torch.nn.Module]:
    return [unet.conv_in, *unet.down_blocks]


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_all_of_them_go_to_the_other_device_and_come_back(family: str) -> None:
    """Fake tensors have devices, and refuse operations on two of them."""
    with fake_tensors():
        unet = shifted_family_unet(family)
        left, taken = list[str](), list[str]()

        def note(_module: object, _args: object, output: Any) -> None:
            skips = (output,) if isinstance(output, torch.Tensor) else output[1]
            left.extend(skip.device.type for skip in skips)

        with offloaded_skips(unet, torch.device("meta")):
            for module in conv_in_and_down_blocks(unet):
                module.register_forward_hook(note)  # behind those that offload
            for block in unet.up_blocks:
                for layer in block.resnets:
                    layer.register_forward_pre_hook(lambda _, args: taken.append(args[0].device.type))
            made = denoise(unet, torch.empty(1, 5, 4, 16, 16), STEP, text(), frame_chunk=2)
    assert made.device.type == "cpu"
    count = sum(len(block.resnets) for block in unet.up_blocks)
    assert left == ["meta"] * (3 * count) and taken == ["cpu"] * (3 * count)


@contextmanager
def counting_skips(unet: UNet2DConditionModel, most: dict[str, int]) -> Iterator[None]:
    """How many of the skip connections that were made on the device are alive at most, when a layer begins."""
    alive = WeakSet[torch.Tensor]()

    def made(_module: object, _args: object, output: Any) -> None:
        for skip in (output,) if isinstance(output, torch.Tensor) else output[1]:
            alive.add(skip)

    def count(*_: object) -> None:
        most["skips"] = max(most.get("skips", 0), len(alive))

    handles = [module.register_forward_hook(made) for module in conv_in_and_down_blocks(unet)]
    handles += [module.register_forward_pre_hook(count) for module in unet.modules() if is_shifted(module)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def test_chunks_that_wait_keep_none_but_what_their_layer_works_on() -> None:
    unet, latents, condition = shifted_family_unet("ldm"), torch.randn(1, 40, 4, 16, 16), text()
    layers = sum(is_shifted(layer) for part in (unet.down_blocks, unet.mid_block) for layer in part.modules())
    kept, offloaded = dict[str, int](), dict[str, int]()
    with counting_skips(unet, kept):
        denoise(unet, latents, STEP, condition, frame_chunk=1)
    with counting_skips(unet, offloaded), offloaded_skips(unet):
        denoise(unet, latents, STEP, condition, frame_chunk=1)
    # On the way down one is the input of the layer that a chunk is in, and one that of its block.
    assert offloaded["skips"] <= layers + len(unet.down_blocks)
    assert kept["skips"] > 8 * offloaded["skips"]


def test_the_estimate_knows() -> None:
    model = str(bundled_model())
    kept, offloaded = (pass_memory(model, 20, 1, "zeros", torch.float32, offload_skips=each) for each in (False, True))
    assert 0.3 * kept < offloaded < 0.7 * kept


@torch.no_grad()
def test_other_threads_and_calls_of_single_layers_are_as_ever() -> None:
    unet, latents, condition = install(tiny_unet()), torch.randn(1, 3, 4, 8, 8), text()
    kinds = list[str]()
    with offloaded_skips(unet):
        unet.up_blocks[0].register_forward_pre_hook(
            lambda _, args, kwargs: kinds.append(type(kwargs["res_hidden_states_tuple"]).__name__), with_kwargs=True
        )
        denoise(unet, latents, STEP, condition)
        with ThreadPoolExecutor(1) as other:
            other.submit(torch.no_grad()(denoise), unet, latents, STEP, condition).result()
        sample = torch.randn(1, 4, 8, 8)
        assert sample.device == unet.conv_in(sample).device
    denoise(unet, latents, STEP, condition)
    assert kinds == ["_Offloaded", "tuple", "tuple"]


@torch.no_grad()
@pytest.mark.parametrize("kind", [MemoryError, KeyboardInterrupt])
def test_a_failure_leaves_the_unet_as_it_was(kind: type[BaseException]) -> None:
    unet, latents, condition = install(tiny_unet()), torch.randn(1, 5, 4, 8, 8), text()

    def hooks() -> int:
        return sum(len(each._forward_hooks) + len(each._forward_pre_hooks) for each in unet.modules())

    def fail(*_: object) -> None:
        raise kind

    before = hooks()
    handle = unet.up_blocks[0].register_forward_hook(fail)
    with pytest.raises(kind), offloaded_skips(unet):
        denoise(unet, latents, STEP, condition, frame_chunk=2)
    handle.remove()
    assert hooks() == before


FEW = {"num_frames": 5, "num_inference_steps": 4, "guidance_scale": 3.0, "output_type": "latent"}


@pytest.mark.parametrize(
    "settings", [{}, {"deep_cache_interval": 2}, {"deep_cache_interval": 2, "deep_cache_branch": 1}]
)
def test_a_video_is_the_video(model: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, int]) -> None:
    pipe = LatentShiftPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    # As on a GPU: here copies go from memory to memory.
    monkeypatch.setattr(pipeline_module, "check_skip_offload", lambda *_: None)
    used = list[bool]()
    seen = offloaded_skips
    monkeypatch.setattr(pipeline_module, "offloaded_skips", lambda unet: used.append(True) or seen(unet))

    def make(**options: Any) -> torch.Tensor:
        return pipe("red star", generator=torch.Generator().manual_seed(3), **FEW, **settings, **options).frames

    expected = make(frame_chunk=2)
    assert expected.std() > 0.1 and not used
    assert torch.equal(make(frame_chunk=2, offload_skips=True), expected)
    assert used


def test_where_it_has_no_effect_it_is_refused(model: Path, cli) -> None:
    pipe = LatentShiftPipeline.from_pretrained(model)
    with pytest.raises(ValueError, match="moves skip connections from a GPU's memory"):
        pipe("red star", frame_chunk=2, offload_skips=True, **FEW)
    code, _, err = cli("generate", "red star", "--model", model, "--frames", 100, "--offload-skips")
    if not torch.cuda.is_available():
        assert code == 1 and "this model is on the CPU: leave it out" in err
