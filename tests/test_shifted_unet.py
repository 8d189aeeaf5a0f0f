"""The shift in U-Nets: where it sits, what it reaches, and what it leaves alone."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig

from equation_3 import block_with_loops
from latentshift.frame_context import default_frames, frame_context, frames_independent
from latentshift.models.storage.families import FAMILIES, unet_config
from latentshift.settings import BLOCKS, DIRECTIONS, PADDINGS, PLACES, Blocks, Padding, Place
from latentshift.shift import ShiftConfig, ShiftedGroupNorm, install, is_shifted, remove, shift_of, temporal_shift
from tiny_models import TEXT_WIDTH, TOKENS, tiny_unet


def call(unet: UNet2DConditionModel, x: torch.Tensor, **kwargs: object) -> torch.Tensor:
    text = (
        torch.linspace(-1, 1, TOKENS * TEXT_WIDTH, dtype=x.dtype).reshape(1, TOKENS, TEXT_WIDTH).expand(len(x), -1, -1)
    )
    with torch.no_grad():
        return unet(x, 7, text, **kwargs).sample


@pytest.mark.parametrize("blocks", BLOCKS)
@pytest.mark.parametrize("place", PLACES)
def test_install_changes_no_key_and_remove_gives_the_image_model_back(place: Place, blocks: Blocks) -> None:
    unet = tiny_unet()
    x = torch.randn(6, 4, 8, 8)
    keys, identities = list(unet.state_dict()), [id(parameter) for parameter in unet.parameters()]
    weights = copy.deepcopy(unet.state_dict())
    image, kinds = call(unet, x), [type(module) for module in unet.modules()]
    install(unet, ShiftConfig(place=place, blocks=blocks))
    assert list(unet.state_dict()) == keys
    assert [id(parameter) for parameter in unet.parameters()] == identities
    assert not torch.equal(call(unet, x, num_frames=3), image)
    remove(unet)
    assert not any(is_shifted(module) for module in unet.modules())
    assert [type(module) for module in unet.modules()] == kinds
    assert torch.equal(call(unet, x), image)
    assert all(torch.equal(unet.state_dict()[key], weights[key]) for key in keys)


def test_every_resnet_block_is_shifted_before_its_first_convolution() -> None:
    unet = install(tiny_unet())
    blocks = [module for module in unet.modules() if type(module).__name__ == "ResnetBlock2D"]
    seen: list[bool] = []
    for block in blocks:

        def check(conv: torch.nn.Module, inputs: tuple, block: torch.nn.Module = block) -> None:
            first = inputs[0].shape[1] // 3
            # one frame: what comes from the neighbours is zero, also after SiLU and resampling
            seen.append(bool((inputs[0][:, :first] == 0).all() and (inputs[0][:, -first:] == 0).all()))

        block.conv1.register_forward_pre_hook(check)
    call(unet, torch.randn(2, 4, 8, 8))
    assert len(seen) == len(blocks) > 0 and all(seen)


@torch.no_grad()
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("place", PLACES)
def test_a_block_is_the_plain_one_with_the_loop_at_the_shifts_place(
    place: Place, padding: Padding, direction: str
) -> None:
    config = ShiftConfig(padding=padding, direction=direction, place=place)
    unet = install(tiny_unet(), config).double()
    outputs = []
    for block in (
        unet.down_blocks[0].resnets[0],
        unet.down_blocks[1].resnets[0],
    ):  # a plain skip path, and a convolved one
        x, time = torch.randn(8, 8, 3, 2, dtype=torch.float64), torch.randn(8, 32, dtype=torch.float64)
        with frame_context(unet).with_num_frames(num_frames=4):
            shifted = block(x, time)
        expected = [block_with_loops(block, *each, config) for each in zip(x.split(4), time.split(4), strict=True)]
        torch.testing.assert_close(shifted, torch.cat(expected), rtol=0, atol=1e-12)
        outputs.append(shifted)
        with frame_context(unet).with_num_frames(num_frames=4, frames_independent=True):
            assert (block(x, time) - shifted).abs().max() > 1e-2
    assert [
        block.conv_shortcut is None for block in (unet.down_blocks[0].resnets[0], unet.down_blocks[1].resnets[0])
    ] == [
        True,
        False,
    ]


def shifted_blocks(unet: torch.nn.Module) -> set[str]:
    return {
        name.removesuffix(".norm1").removesuffix(".norm2")
        for name, module in unet.named_modules()
        if is_shifted(module)
    }


@pytest.mark.parametrize("place", PLACES)
def test_encoder_and_decoder_are_all_blocks_and_each_leaves_the_other_as_it_was(place: Place) -> None:
    stock, x = tiny_unet(), torch.randn(6, 4, 8, 8)
    names = {name for name, module in stock.named_modules() if type(module).__name__ == "ResnetBlock2D"}
    shifted = {}
    for blocks in BLOCKS:
        unet = install(tiny_unet(), ShiftConfig(place=place, blocks=blocks))
        shifted[blocks] = shifted_blocks(unet)
        for name in names - shifted[blocks]:  # the very modules of a stock U-Net
            kinds = [[type(module) for module in each.get_submodule(name).modules()] for each in (unet, stock)]
            assert kinds[0] == kinds[1]
        assert not torch.equal(call(unet, x, num_frames=3), call(stock, x))
    assert shifted["encoder"] | shifted["decoder"] == shifted["all"] == names
    assert shifted["encoder"] and shifted["decoder"] and not shifted["encoder"] & shifted["decoder"]
    assert all(name.startswith("up_blocks.") for name in shifted["decoder"])
    assert not any(name.startswith("up_blocks.") for name in shifted["encoder"])


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("blocks", BLOCKS)
@pytest.mark.parametrize("place", PLACES)
def test_equal_frames_are_the_image_models_at_every_place_unless_zeros_stand_beyond_the_ends(
    place: Place, blocks: Blocks, padding: Padding
) -> None:
    stock, x = tiny_unet(), torch.randn(2, 4, 8, 8).repeat_interleave(3, dim=0)
    unet = install(tiny_unet(), ShiftConfig(padding=padding, place=place, blocks=blocks))
    for count in (1, 3):
        assert torch.equal(call(unet, x, num_frames=count), call(stock, x)) == (padding != "zeros")


@pytest.mark.parametrize("place", PLACES)
def test_what_comes_from_the_past_alone_does_not_go_back(place: Place) -> None:
    unet = install(tiny_unet(), ShiftConfig(direction="past_only", place=place)).double()
    x = torch.randn(5, 4, 8, 8, dtype=torch.float64)
    changed = x.clone()
    changed[2] += 1.0
    difference = (call(unet, changed, num_frames=5) - call(unet, x, num_frames=5)).abs().amax(dim=(1, 2, 3))
    assert difference.nonzero().flatten().tolist() == [2, 3, 4]


def test_blocks_that_a_place_is_not_for() -> None:
    scaled = tiny_unet(resnet_time_scale_shift="scale_shift")
    with pytest.raises(ValueError, match='with place "conv2": this block scales and shifts by the timestep'):
        install(scaled, ShiftConfig(place="conv2"))
    assert frame_context(scaled) is None
    install(scaled)
    replaced = tiny_unet()
    replaced.mid_block.resnets[0].forward = replaced.mid_block.resnets[0].forward
    with pytest.raises(ValueError, match=r"cannot shift mid_block.resnets.0 .* its forward was replaced"):
        install(replaced, ShiftConfig(place="block"))
    install(replaced, ShiftConfig(place="block", blocks="decoder"))


def test_a_shift_is_not_removed_from_under_a_replaced_forward() -> None:
    unet = install(tiny_unet(), ShiftConfig(place="block"))
    x = torch.randn(4, 4, 8, 8)
    expected = call(unet, x, num_frames=2)
    block = unet.mid_block.resnets[0]
    block.forward = block.forward
    with pytest.raises(ValueError, match=r"cannot remove the shift of mid_block.resnets.0: its forward was replaced"):
        remove(unet)
    assert torch.equal(call(unet, x, num_frames=2), expected)  # nothing was changed
    del block.forward
    remove(unet)


def test_a_controlnet_has_no_decoder_to_shift() -> None:
    controlnet = ControlNetModel.from_unet(tiny_unet())
    assert shifted_blocks(install(controlnet, ShiftConfig(blocks="decoder"))) == set()
    remove(controlnet)
    assert shifted_blocks(install(controlnet, ShiftConfig(blocks="encoder")))


def test_one_frame_keeps_only_the_middle_third() -> None:
    x = torch.randn(4, 9, 2, 2)
    shifted = temporal_shift(x, 1)
    assert torch.equal(shifted[:, 3:6], x[:, 3:6])
    assert not shifted[:, :3].any() and not shifted[:, 6:].any()


def test_the_frame_count_comes_with_the_call() -> None:
    unet = install(tiny_unet())
    x = torch.randn(6, 4, 8, 8)
    images = torch.cat([call(unet, frame[None], num_frames=1) for frame in x])
    torch.testing.assert_close(call(unet, x), images)
    threes = torch.cat([call(unet, video, num_frames=3) for video in x.split(3)])
    torch.testing.assert_close(call(unet, x, num_frames=3), threes)
    with default_frames(unet, 3):
        assert torch.equal(call(unet, x), call(unet, x, num_frames=3))
    assert torch.equal(call(unet, x), call(unet, x, num_frames=1))
    with pytest.raises(ValueError, match="does not divide"):
        call(unet, x, num_frames=4)


def test_frames_kept_apart_are_the_image_models() -> None:
    unet, stock = install(tiny_unet()), tiny_unet()
    x = torch.randn(6, 4, 8, 8)
    with frames_independent(unet):
        assert torch.equal(call(unet, x, num_frames=3), call(stock, x))
    assert not torch.equal(call(unet, x, num_frames=3), call(stock, x))
    with frames_independent(stock):  # they are
        call(stock, x)


def reach(unet: UNet2DConditionModel) -> tuple[int, int]:
    """How many frames (towards the future, towards the past) a change travels, block by block.

    On the way up a block's input is [hidden, skip]: what comes from the past are channels of the hidden state, what
    comes from the future are channels of the skip, which has been through fewer blocks.
    """
    later = earlier = 0
    skips = [(0, 0, unet.conv_in.out_channels)]
    for block in unet.down_blocks:
        for resnet in block.resnets:
            later, earlier = later + 1, earlier + 1
            skips.append((later, earlier, resnet.out_channels))
        if block.downsamplers:
            skips.append((later, earlier, block.resnets[-1].out_channels))
    for _ in unet.mid_block.resnets:
        later, earlier = later + 1, earlier + 1
    for block in unet.up_blocks:
        for resnet in block.resnets:
            skip_later, skip_earlier, skip_channels = skips.pop()
            # A channel's value holds its group's statistics, so a group that straddles the seam lets both through.
            channels, group = resnet.in_channels, resnet.in_channels // resnet.norm1.num_groups
            first_from_future = (channels - channels // 3) // group * group
            hidden_too = first_from_future < channels - skip_channels
            later = max(later + 1, skip_later)
            earlier = max(earlier + hidden_too, skip_earlier + 1)
    return later, earlier


@pytest.mark.parametrize("levels", [1, 2])
def test_a_change_in_one_frame_reaches_as_many_frames_as_there_are_blocks(levels: int) -> None:
    down, up = ("CrossAttnDownBlock2D", "DownBlock2D")[:levels], ("UpBlock2D", "CrossAttnUpBlock2D")[-levels:]
    unet = tiny_unet(1, block_out_channels=(8, 16)[:levels], down_block_types=down, up_block_types=up)
    install(unet).double()
    blocks = sum(type(module).__name__ == "ResnetBlock2D" for module in unet.modules())
    frames, at = 2 * blocks + 5, blocks + 2
    x = torch.randn(frames, 4, 8, 8, dtype=torch.float64)
    changed = x.clone()
    changed[at] += 1.0
    difference = (call(unet, changed, num_frames=frames) - call(unet, x, num_frames=frames)).abs().amax(dim=(1, 2, 3))
    later, earlier = reach(unet)
    assert later == blocks and earlier <= blocks
    assert difference.nonzero().flatten().tolist() == list(range(at - earlier, at + later + 1))


def test_a_change_travels_one_frame_a_block_both_ways_where_no_skip_joins() -> None:
    unet = install(tiny_unet(1)).double()
    blocks = [unet.down_blocks[0].resnets[0], *unet.mid_block.resnets]
    x = torch.randn(11, 8, 8, 8, dtype=torch.float64)
    changed = x.clone()
    changed[5] += 1.0

    def chain(z: torch.Tensor) -> torch.Tensor:
        time = torch.zeros(11, 32, dtype=torch.float64)
        z = blocks[0](z, time)
        z = torch.cat([z, z], dim=1)
        return blocks[2](blocks[1](z, time), time)

    with torch.no_grad(), frame_context(unet).with_num_frames(num_frames=11):
        difference = (chain(changed) - chain(x)).abs().amax(dim=(1, 2, 3))
    assert difference.nonzero().flatten().tolist() == list(range(5 - 3, 5 + 3 + 1))


def test_circular_videos_have_no_beginning() -> None:
    unet = install(tiny_unet(), ShiftConfig(padding="circular")).double()
    x = torch.randn(5, 4, 8, 8, dtype=torch.float64)
    rolled = call(unet, x.roll(2, dims=0), num_frames=5)
    torch.testing.assert_close(rolled, call(unet, x, num_frames=5).roll(2, dims=0))


@pytest.mark.parametrize(("place", "layer"), [("conv1", "conv1"), ("conv2", "conv2"), ("block", "conv_shortcut")])
def test_a_lora_sees_the_shifted_input(place: Place, layer: str) -> None:
    unet = install(tiny_unet(), ShiftConfig(place=place))
    x = torch.randn(6, 4, 8, 8)
    unet.add_adapter(LoraConfig(r=2, target_modules=[layer], init_lora_weights=False))
    with_lora = call(unet, x, num_frames=3)
    unet.disable_adapters()
    assert not torch.allclose(call(unet, x, num_frames=3), with_lora)
    unet.enable_adapters()
    unet.fuse_lora()  # into the weights: only equal if the LoRA path saw what the convolution sees
    torch.testing.assert_close(call(unet, x, num_frames=3), with_lora, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda unet: pickle.loads(pickle.dumps(unet))])
@pytest.mark.parametrize("place", PLACES)
def test_copies_do_not_share_the_frame_count(place: Place, duplicate: Callable) -> None:
    unet = install(tiny_unet(), ShiftConfig(place=place))
    x = torch.randn(6, 4, 8, 8)
    expected = call(unet, x, num_frames=3)
    twin = duplicate(unet)
    call(unet, x, num_frames=2)
    assert torch.equal(call(twin, x, num_frames=3), expected)
    assert torch.equal(call(remove(twin), x), call(remove(unet), x))


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(
    ("place", "memory_format"),
    [
        ("conv1", torch.contiguous_format),
        ("conv1", torch.channels_last),
        ("conv2", torch.channels_last),
        ("block", torch.contiguous_format),
    ],
)
def test_gradient_checkpointing_recomputes_with_the_frame_count(
    padding: Padding, place: Place, memory_format: torch.memory_format
) -> None:
    gradients = []
    for checkpointing in (False, True):
        unet = install(tiny_unet(), ShiftConfig(padding=padding, place=place)).train().to(memory_format=memory_format)
        if checkpointing:
            unet.enable_gradient_checkpointing()
        torch.manual_seed(0)
        x = torch.randn(6, 4, 8, 8)
        unet(x, 7, torch.zeros(6, TOKENS, TEXT_WIDTH), num_frames=3).sample.square().mean().backward()
        gradients.append(
            torch.cat([parameter.grad.flatten() for parameter in unet.parameters() if parameter.grad is not None])
        )
    torch.testing.assert_close(gradients[0], gradients[1])


def test_installing_twice_and_removing_nothing_are_refused() -> None:
    unet = install(tiny_unet())
    with pytest.raises(ValueError, match="installed on this U-Net already"):
        install(unet)
    remove(unet)
    with pytest.raises(ValueError, match="not installed"):
        remove(unet)
    with pytest.raises(ValueError, match="no ResNet blocks"):
        install(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"installed on a U-Net, as pipe.unet, and not on a str"):
        install("unet")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="and no paddings"):
        install(unet, {"paddings": "circular"})
    assert shift_of(install(unet, {"padding": "circular"})) == ShiftConfig(padding="circular")


def test_a_stock_image_pipeline_makes_a_video(sd1_folder) -> None:
    stock = StableDiffusionPipeline.from_pretrained(sd1_folder, safety_checker=None)
    stock.set_progress_bar_config(disable=True)
    install(stock.unet)
    arguments = {
        "num_inference_steps": 2,
        "output_type": "latent",
        "height": 16,
        "width": 16,
        "num_images_per_prompt": 3,
    }

    def run() -> torch.Tensor:
        return stock("red star", generator=torch.Generator().manual_seed(0), **arguments).images

    images = run()
    with default_frames(stock.unet, 3):
        video = run()
    assert video.shape == images.shape == (3, 4, 8, 8) and not torch.allclose(video, images)


def test_full_size_ldm_has_the_papers_parameters_and_the_same_keys() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**unet_config(FAMILIES["ldm"]))
    keys = list(unet.state_dict())
    install(unet)
    assert sum(parameter.numel() for parameter in unet.parameters()) == 872_300_484  # the paper's 0.87 B (Tab. 4)
    assert list(unet.state_dict()) == keys
    assert sum(isinstance(module, ShiftedGroupNorm) for module in unet.modules()) == 22
