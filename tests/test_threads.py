"""Several threads on one U-Net, and other calls between a forward pass and its backward pass."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch.utils.checkpoint import checkpoint

from latentshift import LatentShiftPipeline, default_frames, frames_independent, install, remove
from latentshift.frame_context import checkpoint_with_frames, frame_context
from latentshift.models.latent_vdm import TemporalAttention, install_attention
from tiny_models import ONE_LEVEL, TEXT_WIDTH, TOKENS, tiny_unet

FRAMES = 12  # of a batch: whole videos of 4, 3 and 2 frames


def shifted(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    return install(unet)


def attended(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    temporal = TemporalAttention.for_unet(unet)
    for parameter in temporal.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return install_attention(unet, temporal)


def predict(unet: torch.nn.Module, **kwargs: int) -> torch.Tensor:
    x = torch.randn(FRAMES, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return unet(x, 7, torch.ones(FRAMES, TOKENS, TEXT_WIDTH), **kwargs).sample


def gradients(unet: UNet2DConditionModel, predicted: torch.Tensor) -> list[torch.Tensor]:
    parameters = [*unet.parameters()]
    computed = torch.autograd.grad(predicted.square().mean(), parameters, allow_unused=True)
    return [each for each in computed if each is not None]


def not_checkpointed(unet: UNet2DConditionModel) -> None:
    pass


def checkpointed(unet: UNet2DConditionModel) -> None:
    unet.enable_gradient_checkpointing()


def reentrant(unet: UNet2DConditionModel) -> None:
    unet.enable_gradient_checkpointing(lambda block, *args: checkpoint(block, *args, use_reentrant=True))


class CheckpointedBlock(torch.nn.Module):
    """A block in a wrapper that checkpoints it, as torch.distributed has."""

    def __init__(self, block: torch.nn.Module, checkpoint_fn: Callable) -> None:
        super().__init__()
        self.block, self.checkpoint_fn = block, checkpoint_fn

    def forward(self, *args: object) -> torch.Tensor:
        return self.checkpoint_fn(self.block, *args)


def wrap_blocks(unet: UNet2DConditionModel, checkpoint_fn: Callable) -> None:
    for level in (*unet.down_blocks, *unet.up_blocks):
        for place, block in enumerate(level.resnets):
            level.resnets[place] = CheckpointedBlock(block, checkpoint_fn)


def wrapped(unet: UNet2DConditionModel) -> None:
    wrap_blocks(unet, checkpoint_with_frames(unet))


@pytest.mark.parametrize("method", [shifted, attended])
@pytest.mark.parametrize("prepare", [not_checkpointed, checkpointed, reentrant, wrapped])
def test_a_call_with_another_count_may_come_between_forward_and_backward(method: Callable, prepare: Callable) -> None:
    unet = method(tiny_unet()).train()
    expected = {frames: gradients(unet, predict(unet, num_frames=frames)) for frames in (4, 2)}
    assert not all(torch.equal(four, two) for four, two in zip(expected[4], expected[2], strict=True))
    prepare(unet)
    x = torch.zeros(1, requires_grad=True)  # reentrant checkpointing needs an input with a gradient
    unet.conv_in.register_forward_hook(lambda module, inputs, output: output + 0 * x.sum())
    four = predict(unet, num_frames=4)
    two = predict(unet, num_frames=2)
    with default_frames(unet, 3), frames_independent(unet):
        predict(unet)
    for frames, predicted in ((4, four), (2, two)):
        unet.zero_grad()
        predicted.square().mean().backward()
        computed = [each.grad for each in unet.parameters() if each.grad is not None]
        torch.testing.assert_close(computed, expected[frames], rtol=1e-4, atol=1e-6)


def test_independent_frames_stay_so_when_they_are_recomputed() -> None:
    unet = shifted(tiny_unet()).train()
    stock = tiny_unet().train()
    unet.enable_gradient_checkpointing()
    with frames_independent(unet):
        predicted = predict(unet, num_frames=4)
    torch.testing.assert_close(gradients(unet, predicted), gradients(stock, predict(stock)))


def test_a_recomputation_that_does_not_know_the_count_is_refused() -> None:
    unet = shifted(tiny_unet()).train()
    wrap_blocks(unet, partial(checkpoint, use_reentrant=False))
    predicted = predict(unet, num_frames=4)
    predict(unet, num_frames=2)
    with pytest.raises(RuntimeError, match="number of frames is not known"):
        gradients(unet, predicted)


def test_after_a_call_that_failed_no_count_is_left() -> None:
    unet = shifted(tiny_unet())
    with pytest.raises(ValueError, match="does not divide"):
        predict(unet, num_frames=5)
    with pytest.raises(RuntimeError, match="number of frames is not known"):
        frame_context(unet).num_frames  # noqa: B018


def test_checkpointing_is_the_stock_one_after_removal() -> None:
    unet = tiny_unet().train()
    unet.enable_gradient_checkpointing()
    functions = [module.__dict__.get("_gradient_checkpointing_func") for module in unet.modules()]
    predict(shifted(unet), num_frames=4)
    copied = remove(copy.deepcopy(unet))
    remove(unet)
    assert [module.__dict__.get("_gradient_checkpointing_func") for module in unet.modules()] == functions
    torch.testing.assert_close(gradients(copied, predict(copied)), gradients(unet, predict(unet)))


def together(*works: Callable[[], object]) -> Iterator[object]:
    """Results of works that begin in as many threads at one moment."""
    begin = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> object:
        begin.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        yield from pool.map(run, works)


@pytest.mark.parametrize("method", [shifted, attended])
def test_two_threads_train_one_unet_with_different_counts(method: Callable) -> None:
    unet = method(tiny_unet(**ONE_LEVEL)).train()
    unet.enable_gradient_checkpointing()

    def train(frames: int, rounds: int) -> list[list[torch.Tensor]]:
        return [gradients(unet, predict(unet, num_frames=frames)) for _ in range(rounds)]

    expected = [train(frames, 1)[0] for frames in (4, 2)]
    for rounds, one in zip(together(partial(train, 4, 20), partial(train, 2, 20)), expected, strict=True):
        for computed in rounds:
            torch.testing.assert_close(computed, one)


@pytest.mark.parametrize("count", [0, -1, 2.0, "4", float("nan")])
def test_a_count_that_is_none_is_refused(count: object) -> None:
    unet = shifted(tiny_unet())
    with pytest.raises(ValueError, match="num_frames must be a whole number of 1 or more"):
        predict(unet, num_frames=count)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_frames must be"), default_frames(unet, count):  # type: ignore[arg-type]
        pass


def test_defaults_belong_to_their_thread() -> None:
    unet = shifted(tiny_unet())
    with torch.no_grad():
        expected = predict(unet, num_frames=1)
        with default_frames(unet, 4), frames_independent(unet), ThreadPoolExecutor(1) as pool:
            assert not torch.equal(predict(unet), expected)
            assert torch.equal(pool.submit(lambda: predict(unet).detach()).result(), expected)


@pytest.mark.parametrize("method", [shifted, attended])
def test_a_compiled_unet_is_one_graph_for_each_count_in_any_thread(method: Callable) -> None:
    unet = method(tiny_unet(**ONE_LEVEL, mid_block_type=None))  # the compiler's time is that of its blocks
    compiled = torch.compile(unet, backend="eager", fullgraph=True)

    def check(counts: tuple[int, ...]) -> None:
        with torch.no_grad():
            for frames in counts:
                assert torch.equal(predict(compiled, num_frames=frames), predict(unet, num_frames=frames))

    check((4, 2))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(check, (2, 4)).result()
    check((4,))


@pytest.fixture
def pipeline(sd1_folder: Path) -> LatentShiftPipeline:
    loaded = LatentShiftPipeline.from_pretrained(sd1_folder)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def generate(pipeline: LatentShiftPipeline, frames: int, seed: int, **kwargs: object) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    options = {"num_inference_steps": 2, "height": 16, "width": 16, "output_type": "latent"}
    return pipeline("red star", num_frames=frames, generator=generator, **{**options, **kwargs}).frames


def test_two_pipelines_on_one_unet_in_two_threads_are_equal_to_one_after_the_other(
    pipeline: LatentShiftPipeline,
) -> None:
    parts = {name: part for name, part in pipeline.components.items() if name != "scheduler"}
    settings = {"shift": pipeline.config.shift}
    other = LatentShiftPipeline(**parts, scheduler=copy.deepcopy(pipeline.scheduler), **settings)
    other.set_progress_bar_config(disable=True)
    assert other.unet is pipeline.unet

    def rounds(pipeline: LatentShiftPipeline, frames: int) -> list[torch.Tensor]:
        return [generate(pipeline, frames, seed % 2) for seed in range(100)]

    expected = [[generate(pipeline, frames, seed) for seed in (0, 1)] for frames in (4, 2)]
    for videos, right in zip(together(partial(rounds, pipeline, 4), partial(rounds, other, 2)), expected, strict=True):
        for seed, video in enumerate(videos):
            assert torch.equal(video, right[seed % 2])


def test_one_pipeline_in_two_threads_at_once_is_refused(pipeline: LatentShiftPipeline) -> None:
    expected = generate(pipeline, 2, 0)
    sharing = LatentShiftPipeline(**pipeline.components, shift=pipeline.config.shift)  # the scheduler too
    refused = []

    def call_again(*step: object) -> dict:
        with ThreadPoolExecutor(1) as pool:
            for busy in (pipeline, sharing):
                refused.append(str(pool.submit(generate, busy, 2, 0).exception()))
        return {}

    assert torch.equal(generate(pipeline, 2, 0, callback_on_step_end=call_again), expected)
    assert len(refused) == 4 and all("is generating already" in each for each in refused)
    assert torch.equal(generate(sharing, 2, 0), expected)


def test_a_pipeline_is_free_again_after_a_failure_and_can_be_copied_and_saved(
    pipeline: LatentShiftPipeline, tmp_path: Path
) -> None:
    expected = generate(pipeline, 2, 0)
    with pytest.raises(ValueError, match="num_frames"):
        generate(pipeline, 0, 0)
    for again in (copy.deepcopy(pipeline), pickle.loads(pickle.dumps(pipeline))):
        again.set_progress_bar_config(disable=True)
        assert torch.equal(generate(again, 2, 0), expected)
    pipeline.save_pretrained(tmp_path)
    again = LatentShiftPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert torch.equal(generate(again, 2, 0), expected)


def test_decoding_in_float32_for_a_while_does_not_reach_another_thread(pipeline: LatentShiftPipeline) -> None:
    with torch.no_grad():
        for parameter in pipeline.vae.decoder.conv_in.parameters():
            parameter.mul_(1e4)  # overflows in float16, and not in float32
    pipeline.vae.half()
    latents = torch.randn(1, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    other = LatentShiftPipeline(**pipeline.components, shift=pipeline.config.shift)

    def decode(pipeline: LatentShiftPipeline) -> list[torch.Tensor]:
        with torch.no_grad():
            return [pipeline.decode(latents) for _ in range(20)]

    (expected, *_) = decode(pipeline)
    for frames in together(partial(decode, pipeline), partial(decode, other)):
        assert all(torch.equal(each, expected) for each in frames)
    assert pipeline.vae.dtype == torch.float16
