"""A U-Net pass in chunks of frames is the pass over all of them, for every family, padding and length."""

from __future__ import annotations

import re
import weakref
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from latentshift import LatentShiftPipeline
from latentshift.diffusion.condition import TextCondition
from latentshift.diffusion.sampler_names import SAMPLERS
from latentshift.diffusion.samplers import make_sampler
from latentshift.frame_context import frame_context, frames_independent
from latentshift.models.denoiser import default_frame_chunk, denoise, share_text
from latentshift.models.frame_chunks import Ends
from latentshift.models.latent_vdm import TemporalAttention, install_attention
from latentshift.models.storage.families import FAMILIES
from latentshift.pipeline import NotFiniteError
from latentshift.settings import DIRECTIONS, PADDINGS, Padding, ShiftConfig
from latentshift.shift import edges, install, is_shifted, temporal_shift
from latentshift.video import as_clip, read_video
from tiny_models import TEXT_WIDTH, TOKENS, narrow_family_unet, tiny_unet

STEP = torch.tensor(7)


def video_unet(padding: Padding = "zeros", **settings: Any) -> UNet2DConditionModel:
    """In float64, whose rounding is far below what a wrong neighbour does."""
    unet = tiny_unet().double()
    share_text(unet)
    return install(unet, ShiftConfig(padding=padding, **settings))


def noise(videos: int, frames: int, channels: int = 4) -> torch.Tensor:
    return torch.randn(videos, frames, channels, 8, 8, dtype=torch.float64)


def texts(videos: int) -> TextCondition:
    return TextCondition(torch.randn(videos, TOKENS, TEXT_WIDTH, dtype=torch.float64))


def assert_same(actual: torch.Tensor, expected: torch.Tensor) -> None:
    assert expected.std() > 0.01
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("padding", PADDINGS)
def test_the_shift_of_a_part_with_its_neighbours_edges_is_that_part_of_the_shift(
    padding: Padding, memory_format: torch.memory_format, direction: str
) -> None:
    config = ShiftConfig(padding=padding, direction=direction)
    whole = torch.randn(2 * 6, 7, 3, 2)
    parts = [
        part.flatten(0, 1).contiguous(memory_format=memory_format) for part in whole.unflatten(0, (2, 6)).split(2, 1)
    ]
    around = [edges(part, 2, config) for part in parts]
    ring = padding == "circular"
    shifted = [
        temporal_shift(
            part,
            2,
            config,
            before=around[index - 1][1] if ring or index > 0 else None,
            after=around[(index + 1) % 3][0] if ring or index < 2 else None,
        )
        for index, part in enumerate(parts)
    ]
    assert all(part.is_contiguous(memory_format=memory_format) for part in shifted)
    together = torch.cat([part.unflatten(0, (2, 2)) for part in shifted], dim=1).flatten(0, 1)
    assert torch.equal(together, temporal_shift(whole, 6, config))


@torch.no_grad()
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("frames", "chunk"), [(2, 1), (7, 1), (7, 3), (8, 4), (8, 8), (9, 8), (20, 2)])
def test_chunks_are_the_whole_pass(padding: Padding, frames: int, chunk: int) -> None:
    unet, latents, text = video_unet(padding), noise(2, frames), texts(2)
    expected = denoise(unet, latents, STEP, text)
    assert_same(denoise(unet, latents, STEP, text, frame_chunk=chunk), expected)
    with frames_independent(unet):  # nothing to wait for
        alone = denoise(unet, latents, STEP, text)
        assert_same(denoise(unet, latents, STEP, text, frame_chunk=chunk), alone)
    assert (alone - expected).abs().max() > 1e-3
    assert_same(denoise(unet, latents, STEP, text), expected)  # and a call after it is as before


@torch.no_grad()
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(
    "settings",
    [
        {"place": "conv2"},
        {"place": "block"},
        {"blocks": "encoder"},
        {"place": "block", "blocks": "decoder", "direction": "past_only"},
        {"fold": 2, "place": "conv2", "direction": "first_from_future"},
    ],
    ids=str,
)
def test_chunks_are_the_whole_pass_wherever_the_shift_sits(padding: Padding, settings: dict[str, Any]) -> None:
    unet, latents, text = video_unet(padding, **settings), noise(2, 7), texts(2)
    expected = denoise(unet, latents, STEP, text)
    with frames_independent(unet):
        assert (denoise(unet, latents, STEP, text) - expected).abs().max() > 1e-3
    assert_same(denoise(unet, latents, STEP, text, frame_chunk=3), expected)


@torch.no_grad()
def test_in_a_ring_it_does_not_matter_where_the_chunks_begin() -> None:
    unet, latents, text = video_unet("circular"), noise(1, 7), texts(1)
    rolled = denoise(unet, latents.roll(2, dims=1), STEP, text, frame_chunk=3)
    assert_same(rolled, denoise(unet, latents, STEP, text).roll(2, dims=1))


@torch.no_grad()
@pytest.mark.parametrize("padding", ["zeros", "circular"])
@pytest.mark.parametrize("family", FAMILIES)
def test_chunks_are_the_whole_pass_of_every_family(family: str, padding: Padding) -> None:
    unet = install(narrow_family_unet(family).double().eval(), ShiftConfig(padding=padding))
    pooled, sizes = torch.randn(1, TEXT_WIDTH, dtype=torch.float64), torch.tensor([[8.0, 8, 0, 0, 8, 8]])
    text = TextCondition(texts(1).tokens, pooled, sizes)
    for shared in (False, True):  # one text a frame, one a video
        if shared:
            share_text(unet)
        latents = noise(1, 5)
        expected = denoise(unet, latents, STEP, text)
        assert_same(denoise(unet, latents, STEP, text, frame_chunk=2), expected)


@torch.no_grad()
@pytest.mark.parametrize(("padding", "most"), [("zeros", 1), ("replicate", 1), ("circular", 2)])
def test_chunks_under_way_do_not_grow_with_the_frames(padding: Padding, most: int) -> None:
    unet = video_unet(padding)
    layers = sum(is_shifted(module) for module in unet.modules())
    calls = Counter[str]()

    def begin(*_: object) -> None:
        calls["now"] += 1
        calls["most"] = max(calls["most"], calls["now"])

    def end(*_: object) -> None:
        calls["now"] -= 1

    unet.register_forward_pre_hook(begin)
    unet.register_forward_hook(end)
    for frames in (3 * layers, 6 * layers):
        calls.clear()
        denoise(unet, noise(1, frames), STEP, texts(1), frame_chunk=1)
        assert calls == {"now": 0, "most": most * layers + 1}


class OwnNeighbour:
    """One end of frames whose other end is the same process: what one hands over the other receives."""

    def __init__(self, events: list[str], name: str) -> None:
        self.sent: list[torch.Tensor] = []
        self.peer: OwnNeighbour
        self.events = events
        self.name = name

    def hand_over(self, outgoing: torch.Tensor, like: torch.Tensor) -> Callable[[], torch.Tensor]:
        layer = len(self.sent)
        self.sent.append(outgoing.clone())
        self.events.append(f"{self.name} sends")

        def wait() -> torch.Tensor:
            self.events.append(f"{self.name} waits")
            return self.peer.sent[layer]  # an IndexError if the process waits for what it has not sent yet

        return wait


def own_neighbours() -> tuple[Ends, list[str]]:
    events: list[str] = []
    first, last = OwnNeighbour(events, "first"), OwnNeighbour(events, "last")
    first.peer, last.peer = last, first
    return Ends(first.hand_over, last.hand_over), events


@torch.no_grad()
@pytest.mark.parametrize(("frames", "chunk"), [(7, 7), (7, 4), (7, 3), (9, 1), (30, 1)])
def test_edges_from_elsewhere_are_there_when_they_are_waited_for(frames: int, chunk: int) -> None:
    """Whatever the number of chunks, and without having all of them under way."""
    unet, latents, text = video_unet("circular"), noise(2, frames), texts(2)
    layers = sum(is_shifted(module) for module in unet.modules())
    ends, events = own_neighbours()
    calls, most = 0, 0

    def count(step: int) -> None:
        nonlocal calls, most
        calls += step
        most = max(most, calls)

    unet.register_forward_pre_hook(lambda *_: count(1))
    unet.register_forward_hook(lambda *_: count(-1))
    made = denoise(unet, latents, STEP, text, frame_chunk=chunk, ends=ends)
    assert most <= 2 * layers + 1
    assert Counter(events) == dict.fromkeys(("first sends", "first waits", "last sends", "last waits"), layers)
    assert_same(made, denoise(unet, latents, STEP, text))


@torch.no_grad()
def test_while_one_edge_is_on_the_way_the_other_frames_are_at_work() -> None:
    unet = video_unet("circular")
    layers = sum(is_shifted(module) for module in unet.modules())
    ends, events = own_neighbours()
    denoise(unet, noise(1, 6), STEP, texts(1), frame_chunk=3, ends=ends)
    between = ["first waits", "first sends", "last waits", "last sends"] * (layers - 1)
    assert events == ["first sends", "last sends", *between, "first waits", "last waits"]


class MishapError(Exception):
    pass


@torch.no_grad()
@pytest.mark.parametrize("kind", [MishapError, KeyboardInterrupt])
def test_a_failure_in_one_chunk_ends_them_all_and_leaves_the_unet_as_it_was(kind: type[BaseException]) -> None:
    unet, latents, text = video_unet(), noise(1, 9), texts(1)
    expected = denoise(unet, latents, STEP, text)
    alive = weakref.WeakSet[torch.Tensor]()
    calls = 0

    def fail(_module: object, _args: object, output: torch.Tensor) -> None:
        nonlocal calls
        alive.add(output)
        calls += 1
        if calls == 5:
            raise kind

    hook = unet.conv_in.register_forward_hook(fail)  # whose output is a skip connection
    with pytest.raises(kind) as caught:
        denoise(unet, latents, STEP, text, frame_chunk=1)
    assert calls == 5 and len(alive) == 1  # which the traceback holds
    del caught
    hook.remove()
    context = frame_context(unet)
    assert context is not None and context.exchange is None
    with pytest.raises(RuntimeError, match="outside a call"):
        _ = context.num_frames
    assert_same(denoise(unet, latents, STEP, text, frame_chunk=2), expected)


@torch.no_grad()
def test_autocast_and_inference_mode_reach_every_chunk() -> None:
    unet, latents, text = video_unet().float(), noise(1, 20).float(), TextCondition(texts(1).tokens.float())
    dtypes = set()
    unet.mid_block.resnets[0].conv1.register_forward_hook(
        lambda module, args, output: dtypes.add((output.dtype, output.is_inference()))
    )
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        expected = denoise(unet, latents, STEP, text)
        chunked = denoise(unet, latents, STEP, text, frame_chunk=4)
    assert dtypes == {(torch.bfloat16, True)}
    torch.testing.assert_close(chunked, expected, rtol=0, atol=0.02)


def test_calls_in_other_threads_and_between_chunks_do_not_meet() -> None:
    unet, text = video_unet(), texts(1)
    clips = [noise(1, frames) for frames in (5, 9, 12, 14)]

    @torch.no_grad()
    def make(clip: torch.Tensor, chunk: int | None = None) -> torch.Tensor:
        return denoise(unet, clip, STEP, text, frame_chunk=chunk)

    expected = [make(clip) for clip in clips]
    with ThreadPoolExecutor(4) as pool:
        for chunk in (1, 3):
            for made, wanted in zip(pool.map(partial(make, chunk=chunk), clips), expected, strict=True):
                assert_same(made, wanted)


BAD_CHUNKS = [
    (0, "frame_chunk must be a whole number from 1 to the video's 4 frames, not 0"),
    (-2, "frame_chunk must be a whole number from 1 to the video's 4 frames, not -2"),
    (5, "frame_chunk must be a whole number from 1 to the video's 4 frames, not 5"),
    (1.5, "frame_chunk must be a whole number from 1 to the video's 4 frames, not 1.5"),
]


@torch.no_grad()
@pytest.mark.parametrize(("chunk", "message"), BAD_CHUNKS)
def test_chunks_that_are_refused(chunk: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        denoise(video_unet(), noise(1, 4), STEP, texts(1), frame_chunk=chunk)


def test_unets_that_have_to_see_all_frames_at_once() -> None:
    def refused(unet: torch.nn.Module, reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            denoise(unet, noise(1, 4), STEP, texts(1), frame_chunk=2)
        assert default_frame_chunk(unet, 1000, 64) == 1000

    refused(video_unet(), "chunks are for sampling")
    with torch.no_grad():
        unet = video_unet()
        install_attention(unet, TemporalAttention.for_unet(unet))
        refused(unet, "temporal attention looks at all frames at once")
        refused(torch.compile(video_unet(), backend="eager"), "compiled U-Net")
        unet = video_unet()
        unet.forward = torch.compile(unet.forward, backend="eager")
        refused(unet, "compiled U-Net")
        unet = video_unet()
        unet.mid_block.compile(backend="eager")
        refused(unet, "compiled U-Net")
        for kind in ("block_level", "leaf_level"):
            unet = video_unet()
            unet.enable_group_offload(torch.device("cpu"), offload_type=kind, num_blocks_per_group=1)
            refused(unet, "group offloading moves blocks away")
        unet = video_unet()
        unet.compile_repeated_blocks(backend="eager")  # transformer blocks alone
        assert [default_frame_chunk(unet, frames, 31**2) for frames in (1, 64, 65, 1000)] == [1, 64, 16, 16]
        assert [default_frame_chunk(unet, frames, 32**2) for frames in (64, 65)] == [64, 8]
        latents, text = noise(1, 4), texts(1)
        assert_same(denoise(unet, latents, STEP, text, frame_chunk=2), denoise(unet, latents, STEP, text))


@pytest.fixture(scope="module")
def pipeline(model: Path) -> LatentShiftPipeline:
    pipeline = LatentShiftPipeline.from_pretrained(model)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def make(pipeline: LatentShiftPipeline, **options: object) -> torch.Tensor:
    """Latents of two prompts' videos; DDPM and others draw noise in every step."""
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    defaults = {"num_frames": 7, "num_inference_steps": 4, "guidance_scale": 3.0, "output_type": "latent"}
    return pipeline(["red star", "star"], generator=generators, **{**defaults, **options}).frames


def assert_same_video(actual: torch.Tensor, expected: torch.Tensor) -> None:
    assert expected.std() > 0.1
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)  # float32, over the steps of a sampler


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_video_in_chunks_is_the_video(pipeline: LatentShiftPipeline, sampler: str) -> None:
    pipeline.scheduler = make_sampler(sampler, pipeline.scheduler)
    assert_same_video(make(pipeline, frame_chunk=3), make(pipeline))


@pytest.mark.parametrize(
    ("chunk", "settings"), [(2, {"guidance_scale": 1.0}), (4, {"negative_prompt": "black"}), (1, {"num_frames": 2})]
)
@pytest.mark.parametrize("padding", PADDINGS)
def test_a_video_in_chunks_is_the_video_whatever_the_settings(
    pipeline: LatentShiftPipeline, padding: Padding, chunk: int, settings: dict[str, object]
) -> None:
    pipeline.scheduler = make_sampler("ddpm", pipeline.scheduler)
    pipeline.set_shift({"padding": padding})
    settings = {"num_inference_steps": 2, **settings}
    for share in (0.0, 2.0):  # noise that frames share
        pipeline.set_noise_share(share)
        assert_same_video(make(pipeline, frame_chunk=chunk, **settings), make(pipeline, **settings))
    pipeline.set_noise_share(0.0)
    pipeline.set_shift({})


def test_decoding_goes_in_the_same_chunks(pipeline: LatentShiftPipeline) -> None:
    sizes = []
    hook = pipeline.vae.decoder.register_forward_hook(lambda module, args, output: sizes.append(len(output)))
    whole = make(pipeline, output_type="pt")
    chunked = make(pipeline, output_type="pt", frame_chunk=3)
    hook.remove()
    assert sizes == [7, 7, 3, 3, 1, 3, 3, 1]
    torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-4)


def test_a_long_video_goes_in_chunks_by_itself(pipeline: LatentShiftPipeline) -> None:
    frames = []
    hook = pipeline.unet.conv_in.register_forward_hook(lambda module, args, output: frames.append(len(output)))
    make(pipeline, num_frames=67, num_inference_steps=2)
    hook.remove()
    guided = 2
    assert max(frames) == 16 * guided and sum(frames) == 2 * 67 * 2 * guided


def test_the_command_line_takes_a_chunk(cli, model: Path) -> None:
    words = ("generate", "red star", "--model", model, "--steps", 2, "--frames", 5, "--seed", 1, "--dtype", "float32")
    assert cli(*words, "-o", "whole.webp")[0] == cli(*words, "--frame-chunk", 2, "-o", "chunks.webp")[0] == 0
    whole, chunks = (read_video(Path(name))[0].astype(int) for name in ("whole.webp", "chunks.webp"))
    assert np.ptp(whole) > 0 and np.abs(chunks - whole).max() <= 1  # a rounding at the edge of a level


def test_decoded_chunks_are_the_clip(pipeline: LatentShiftPipeline) -> None:
    (latents, _), whole = make(pipeline), make(pipeline, output_type="pil")[0]
    for size, sizes in ((None, [7]), (3, [3, 3, 1])):
        chunks = list(pipeline.decode_clip(latents, size))
        assert [len(chunk) for chunk in chunks] == sizes
        clip = np.concatenate(chunks)
        assert clip.dtype == np.uint8 and np.ptp(clip) > 0
        assert np.abs(clip.astype(int) - as_clip(whole)).max() <= (size is not None)
    with pytest.raises(NotFiniteError, match="the autoencoder made values"):
        list(pipeline.decode_clip(latents * torch.nan))
