"""Latent-VDM against a plain loop, and on real U-Nets."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from latentshift.frame_context import frame_context, frames_independent
from latentshift.models.latent_vdm import (
    TemporalAttention,
    TemporalSelfAttention,
    attention_of,
    install_attention,
    remove_attention,
)
from latentshift.models.storage.families import FAMILIES, unet_config
from latentshift.shift import install, remove
from tiny_models import ONE_LEVEL, TEXT_WIDTH, TOKENS, tiny_unet


def call(unet: UNet2DConditionModel, x: torch.Tensor, **kwargs: object) -> torch.Tensor:
    text = torch.linspace(-1, 1, TOKENS * TEXT_WIDTH, dtype=x.dtype).reshape(1, TOKENS, TEXT_WIDTH)
    with torch.no_grad():
        return unet(x, 7, text.expand(len(x), -1, -1), **kwargs).sample


def awake(temporal: TemporalAttention, seed: int = 0) -> TemporalAttention:
    """With weights as after some training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in temporal.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return temporal


def plain_loop(layer: TemporalSelfAttention, video: torch.Tensor) -> torch.Tensor:
    """One video (F, N, C), pixel by pixel, head by head, frame by frame."""
    frames, pixels, width = video.shape
    size = width // layer.heads
    out = torch.zeros_like(video)
    for n in range(pixels):
        rows = layer.norm(video[:, n])
        query, key, value = layer.to_q(rows), layer.to_k(rows), layer.to_v(rows)
        joined = torch.zeros(frames, width, dtype=video.dtype)
        for head in range(layer.heads):
            part = slice(head * size, (head + 1) * size)
            for i in range(frames):
                logits = []
                for j in range(frames):
                    distance = max(-layer.max_distance, min(layer.max_distance, j - i))
                    bias = layer.distance_bias[head, distance + layer.max_distance]
                    logits.append(query[i, part] @ key[j, part] / math.sqrt(size) + bias)
                weights = torch.stack(logits).softmax(dim=0)
                joined[i, part] = sum(weights[j] * value[j, part] for j in range(frames))
        out[:, n] = layer.to_out(joined)
    return out


@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_a_layer_is_attention_along_time_with_relative_positions(num_frames: int) -> None:
    temporal = awake(TemporalAttention(widths=[6], heads=[2], max_distance=3)).double()
    layer = temporal.layers[0]
    x = torch.randn(2 * num_frames, 3, 6, dtype=torch.float64)
    with torch.no_grad():
        expected = torch.cat([plain_loop(layer, video) for video in x.split(num_frames)])
        torch.testing.assert_close(layer(x, num_frames), expected)


def test_a_batch_that_is_not_whole_videos_is_refused() -> None:
    layer = TemporalSelfAttention(6, 2, 3)
    with pytest.raises(ValueError, match="does not divide into videos"):
        layer(torch.zeros(4, 3, 6), 3)


def test_it_begins_as_the_image_model_bit_for_bit() -> None:
    unet, stock = tiny_unet(), tiny_unet()
    keys = list(unet.state_dict())
    install_attention(unet, TemporalAttention.for_unet(unet))
    assert list(unet.state_dict()) == keys
    x = torch.randn(6, 4, 8, 8)
    assert torch.equal(call(unet, x, num_frames=3), call(stock, x))


def test_frames_meet_in_every_transformer_block_and_can_be_kept_apart() -> None:
    unet, stock = tiny_unet(), tiny_unet()
    temporal = awake(TemporalAttention.for_unet(unet))
    install_attention(unet, temporal)
    assert attention_of(unet) is temporal and attention_of(stock) is None
    x = torch.randn(6, 4, 8, 8)
    video = call(unet, x, num_frames=3)
    threes = torch.cat([call(unet, each, num_frames=3) for each in x.split(3)])
    torch.testing.assert_close(video, threes)
    assert not torch.allclose(video, call(stock, x))
    with frames_independent(unet):
        assert torch.equal(call(unet, x, num_frames=3), call(stock, x))
    seen = []
    for layer in temporal.layers:
        layer.register_forward_hook(lambda *given: seen.append(given[0]))
    changed = x.clone()
    changed[0] += 1.0
    difference = (call(unet, changed, num_frames=3) - video).abs().amax(dim=(1, 2, 3))
    assert (difference[:3] > 0).all() and not difference[3:].any()  # all frames of its own video
    blocks = [module for module in unet.modules() if type(module).__name__ == "BasicTransformerBlock"]
    assert len(set(seen)) == len(temporal.layers) == len(blocks)
    remove_attention(unet)
    assert frame_context(unet) is None
    assert torch.equal(call(unet, x), call(stock, x))


def test_the_sum_is_that_of_a_block_with_a_temporal_layer_in_it() -> None:
    unet = tiny_unet().double()
    temporal = awake(TemporalAttention.for_unet(unet)).double()
    install_attention(unet, temporal)
    block = next(module for module in unet.modules() if type(module).__name__ == "BasicTransformerBlock")
    twin = copy.deepcopy(remove_attention(copy.deepcopy(unet)))
    plain = next(module for module in twin.modules() if type(module).__name__ == "BasicTransformerBlock")
    x = torch.randn(6, 16, 8, dtype=torch.float64)
    text = torch.randn(6, TOKENS, TEXT_WIDTH, dtype=torch.float64)
    with torch.no_grad(), frame_context(unet).with_num_frames(num_frames=3):
        h = x + plain.attn1(plain.norm1(x))
        h = h + temporal.layers[0](h, 3)
        h = h + plain.attn2(plain.norm2(h), encoder_hidden_states=text)
        h = h + plain.ff(plain.norm3(h))
        torch.testing.assert_close(block(x, encoder_hidden_states=text), h)


def test_gradients_are_the_same_under_checkpointing_and_compiling() -> None:
    def gradients(prepare: Callable[[UNet2DConditionModel], torch.nn.Module]) -> torch.Tensor:
        unet = tiny_unet(**ONE_LEVEL, mid_block_type=None).train()  # the compiler's time is that of its blocks
        temporal = awake(TemporalAttention.for_unet(unet)).train()
        install_attention(unet, temporal)
        x = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        prepare(unet)(x, 7, torch.zeros(6, TOKENS, TEXT_WIDTH), num_frames=3).sample.square().mean().backward()
        assert all(parameter.grad.any() for parameter in temporal.parameters())
        return torch.cat([parameter.grad.flatten() for parameter in temporal.parameters()])

    def checkpointed(unet: UNet2DConditionModel) -> torch.nn.Module:
        unet.enable_gradient_checkpointing()
        return unet

    plain = gradients(lambda unet: unet)
    torch.testing.assert_close(gradients(checkpointed), plain)
    torch.testing.assert_close(gradients(lambda unet: torch.compile(unet, backend="aot_eager")), plain)


def test_layers_are_saved_and_loaded_by_themselves(tmp_path: Path) -> None:
    unet = tiny_unet()
    temporal = awake(TemporalAttention.for_unet(unet))
    temporal.save_pretrained(tmp_path)
    again = TemporalAttention.from_pretrained(tmp_path)
    x = torch.randn(6, 4, 8, 8)
    expected = call(install_attention(unet, temporal), x, num_frames=3)
    remove_attention(unet)
    assert torch.equal(call(install_attention(unet, again), x, num_frames=3), expected)


def test_the_shift_and_attention_know_of_each_other() -> None:
    unet = tiny_unet()
    x = torch.randn(6, 4, 8, 8)
    shifted = call(install(unet), x, num_frames=3)
    install_attention(unet, TemporalAttention.for_unet(unet))
    assert torch.equal(call(unet, x, num_frames=3), shifted)  # asleep, it adds nothing
    with pytest.raises(ValueError, match="installed on this U-Net already"):
        install_attention(unet, TemporalAttention.for_unet(unet))
    remove(unet)
    assert torch.equal(call(unet, x, num_frames=3), call(tiny_unet(), x))
    remove_attention(unet)
    with pytest.raises(ValueError, match="not installed"):
        remove_attention(unet)
    with pytest.raises(ValueError, match="no transformer blocks"):
        TemporalAttention.for_unet(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="of another U-Net"):
        install_attention(unet, TemporalAttention(widths=[8], heads=[2]))


def test_full_size_has_the_papers_parameters() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**unet_config(FAMILIES["ldm"]))
        temporal = TemporalAttention.for_unet(unet)
    count = sum(parameter.numel() for module in (unet, temporal) for parameter in module.parameters())
    assert abs(count - 921_900_000) < 200_000  # the paper's 0.92 B (Tab. 4)
    assert len(temporal.layers) == 16
