"""``latentshift.video``: what it refuses, whatever the image pipeline."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    StableDiffusionPipeline,
)
from diffusers.callbacks import PipelineCallback, SDCFGCutoffCallback
from diffusers.models.attention_processor import FusedAttnProcessor2_0
from diffusers.models.controlnets.multicontrolnet import MultiControlNetModel
from peft import LoraConfig
from PIL import Image

import latentshift
from latentshift import LatentShiftPipeline, VideoPipeline
from latentshift.frame_context import default_frames
from latentshift.settings import ShiftConfig
from latentshift.shift import shift_of
from tiny_models import TEXT_WIDTH, TOKENS, tiny_unet
from tiny_pipelines import (
    FACE,
    SIDE,
    clip,
    mask,
    picture,
    seeds,
    tiny_adapter,
    tiny_controlnet,
    tiny_pipeline,
    with_ip_adapter,
)

F = 3
REPLICATE = {"padding": "replicate"}
FEW = {"num_inference_steps": 2, "output_type": "np"}


@pytest.fixture(scope="module")
def control_video() -> VideoPipeline:
    return latentshift.video(tiny_pipeline("StableDiffusionControlNetPipeline"), F)


def test_a_batch_that_is_not_whole_videos_is_refused(text_video: VideoPipeline) -> None:
    pipe = text_video.pipe
    with default_frames(pipe.unet, 2, 2), pytest.raises(ValueError, match="batch of 2 frames while 2 videos of 2"):
        pipe("red star", **FEW)
    with default_frames(pipe.unet, 2, 2), pytest.raises(ValueError, match="batch of 6 frames"):
        pipe("red star", num_images_per_prompt=3, **FEW)


def test_a_refusal_leaves_the_pipeline_as_it_was() -> None:
    pipe = tiny_pipeline("StableDiffusionControlNetPipeline")
    other = tiny_unet()
    latentshift.install(other, ShiftConfig(padding="circular"))
    for also, words in (
        ([pipe.controlnet, torch.nn.Linear(1, 1)], "Linear has no ResNet blocks"),
        (torch.nn.Linear(1, 1), "Linear has no ResNet blocks"),
        ([pipe.controlnet, other], "installed with other settings"),
        (["controlnet"], "also takes modules with ResNet blocks, .* not a str"),
        (None, "also takes modules .* not a NoneType"),
    ):
        with pytest.raises(ValueError, match=words):
            latentshift.video(pipe, F, also=also)
        assert shift_of(pipe.unet) is None and shift_of(pipe.controlnet) is None
    video = latentshift.video(pipe, F, also=pipe.controlnet)  # one, and no list
    assert shift_of(pipe.unet) == shift_of(pipe.controlnet) == ShiftConfig()
    video.remove()
    assert shift_of(pipe.unet) is None and shift_of(pipe.controlnet) is None


def test_masks_that_pipelines_would_misread_are_refused() -> None:
    inpaint = latentshift.video(tiny_pipeline("StableDiffusionInpaintPipeline"), F)
    black, see_through = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 255)), mask()
    see_through.info["transparency"] = 0
    deep = Image.new("I;16", (SIDE, SIDE), 300)  # white to a pipeline
    for value, words in (
        (black, r'alpha channel: give .*getchannel\("A"\)'),
        ([*[mask()] * (F - 1), black.convert("LA")], "alpha channel"),
        (see_through, "alpha channel"),
        (deep, "mode I;16"),
    ):
        with pytest.raises(ValueError, match=f"mask_image has a picture .*{words}"):
            inpaint("red star", image=picture(1), mask_image=value, **FEW)
    taken = [each(black.convert("RGBA")) for each in (lambda i: i.getchannel("A"), lambda i: i.convert("L"))]
    whole, nothing = (
        inpaint("red star", image=picture(1), mask_image=value, generator=seeds(1), **FEW).frames for value in taken
    )
    assert not np.array_equal(whole, nothing)


def test_other_numbers_of_pictures_are_refused_by_name(
    image_video: VideoPipeline, control_video: VideoPipeline
) -> None:
    two = ["red star", "black"]

    def refused(video: VideoPipeline, prompts: Any, value: Any, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            video(prompts, image=value, **FEW)

    refused(image_video, "red star", clip(1, F - 1), "image has 2 pictures: give one, or a clip of 3$")
    refused(control_video, "red star", clip(1, F + 1), "image has 4 pictures")
    refused(
        image_video, two, clip(1, 6), "image has 6 pictures: give one, or a clip of 3; or that for each of 2 prompts"
    )
    refused(image_video, two, [clip(1, F), clip(2, 2)], "clip 1 of image has 2 pictures")
    refused(image_video, two, [clip(1, F)] * 3, "image has 3 clips")
    refused(image_video, ["red star"] * F, clip(1, F), "may be a clip or one for each")
    refused(image_video, "red star", [], "empty")
    refused(image_video, "red star", np.zeros((4, F, SIDE, SIDE, 3), np.float32), "image has 4 clips")


def test_pictures_that_no_pipeline_should_be_given_are_refused(image_video: VideoPipeline) -> None:
    ones = np.ones((SIDE, SIDE, 3), np.float32)
    for value, words in (
        (picture(1).convert("RGBA"), "alpha"),
        (np.ones((SIDE, SIDE, 4), np.float32), "alpha"),
        ([*clip(1, F - 1), picture(1, SIDE + 2)], "differ in size"),
        ((255 * ones).astype(np.uint8), "divide them by 255"),
        (255 * ones, "numbers from 255 to 255"),
        (ones * np.nan, "not finite"),
        ([*clip(1, F - 1), ones], "mixes"),
        (ones[0], "shape"),
        (ones.transpose(2, 0, 1), "image has pictures of 16 channels: arrays are"),
        (torch.from_numpy(ones), "image has pictures of 16 channels: arrays are .*, tensors"),
        ("picture.png", "is a str"),
        (Image.new("F", (SIDE, SIDE)), "mode F"),
    ):
        with pytest.raises(ValueError, match=words):
            image_video("red star", image=value, **FEW)
    grey = picture(1).convert("L")
    expected = image_video("red star", image=grey.convert("RGB"), generator=seeds(1), **FEW).frames
    assert np.array_equal(image_video("red star", image=grey, generator=seeds(1), **FEW).frames, expected)


def test_embeddings_that_an_ip_adapter_does_not_take_are_refused() -> None:
    def refused(video: Any, words: str, **given: Any) -> None:
        with pytest.raises(ValueError, match=words):
            video("red star", num_frames=F, **given, **FEW)

    for kind, shape in (("plain", (2, 1, 16)), ("plus", (2, 1, 5, 16)), ("faceid", (2, 1, 1, FACE))):
        pipe = tiny_pipeline("StableDiffusionPipeline")
        ours = LatentShiftPipeline.from_pipe(pipe)
        video = latentshift.video(pipe, F)
        for each in (pipe, ours):
            with_ip_adapter(each, kind=kind)
        for make in (video, ours):
            refused(make, "an IP-Adapter is loaded: give ip_adapter_image")
            refused(make, "has 1 rows: it needs two rows", ip_adapter_image_embeds=[torch.zeros(1, *shape[1:])])
            one = [torch.zeros(1, *shape[1:])]
            assert make("red star", ip_adapter_image_embeds=one, num_frames=2, guidance_scale=1.0, **FEW)
            refused(make, "has 2 rows: it needs one", ip_adapter_image_embeds=[torch.zeros(shape)], guidance_scale=1.0)
            wide = [torch.zeros(*shape[:-1], 9)]
            refused(make, r"has the shape .*9\): this IP-Adapter takes", ip_adapter_image_embeds=wide)
            refused(make, "has a str: it takes tensors", ip_adapter_image_embeds=["a"])
            if kind == "plus":
                flat = [torch.zeros(2, 5, 16)]
                refused(make, r"takes \(2, n, tokens, 16\), or with frames", ip_adapter_image_embeds=flat)
            if kind == "faceid":
                refused(make, "an IP-Adapter FaceID does not look at pictures", ip_adapter_image=picture(1))
                with pytest.raises(ValueError, match="which may be of all frames or of each of 2"):
                    make("red star", num_frames=2, ip_adapter_image_embeds=[torch.zeros(2, 2, 1, FACE)], **FEW)
    with_ip_adapter(pipe, kind="faceid-plus")
    refused(video, "an IP-Adapter FaceID Plus is not for videos", ip_adapter_image_embeds=[torch.zeros(2, 1, FACE)])


def test_sizes_that_disagree_are_refused() -> None:
    inpaint = latentshift.video(tiny_pipeline("StableDiffusionInpaintPipeline"), F)
    with pytest.raises(ValueError, match="image is 20×20 pixels and mask_image 16×16"):
        inpaint("red star", image=picture(1, 20), mask_image=mask(), **FEW)
    with pytest.raises(ValueError, match="image is 16×16 pixels and height is 32"):
        inpaint("red star", image=picture(1), mask_image=mask(), height=32, **FEW)


def test_arguments_that_mean_nothing_for_a_video_are_refused(text_video: VideoPipeline) -> None:
    for arguments, words in (
        ({"num_images_per_prompt": 2}, "pass num_videos_per_prompt"),
        ({"guidance_rescale": 0.7}, "guidance_rescale is not for videos"),
        ({"strength": 0.5}, "StableDiffusionPipeline has no argument strength"),
        ({"generator": seeds(1, 2)}, "2 generators were given for 1 videos"),
        ({"latents": torch.zeros(1, 4, 8, 8)}, r"latents must have the shape \(1, 3, C, h, w\)"),
        ({"negative_prompt": ["a", "b"]}, "negative_prompt has 2 sentences for 1 prompts"),
        ({"negative_prompt_embeds": torch.zeros(3, TOKENS, TEXT_WIDTH)}, "negative_prompt_embeds has 3 rows"),
        ({"num_frames": 0}, "num_frames must be"),
        ({"num_videos_per_prompt": 0}, "num_videos_per_prompt must be"),
        ({"videos_per_call": 0}, "videos_per_call must be"),
        ({"prompt": []}, "prompt must be"),
        ({"prompt": None}, "prompt must be"),
        ({"ip_adapter_image": picture(1)}, "no IP-Adapter is loaded"),
        ({"clip_skip": 1}, "clip_skip does not work in StableDiffusionPipeline"),
    ):
        with pytest.raises(ValueError, match=words):
            text_video(**{"prompt": "red star", **arguments}, **FEW)
    before = text_video.pipe.scheduler
    text_video.pipe.scheduler = DDIMScheduler(thresholding=True)
    try:
        with pytest.raises(ValueError, match="thresholding is not for videos"):
            text_video("red star", **FEW)
    finally:
        text_video.pipe.scheduler = before


def test_a_wrong_type_or_range_is_refused_by_name(image_video: VideoPipeline, control_video: VideoPipeline) -> None:
    one, given = {"image": picture(1)}, {**FEW, "prompt": "red star"}
    for name, values, words in (
        ("guidance_scale", ["7", True, float("nan")], "guidance_scale must be a finite number"),
        ("guidance_scale", [-1], "guidance_scale must be a finite number of 0 or more"),
        ("strength", ["0.7", True], "strength must be a finite number"),
        ("strength", [1.5, 0 - 1], "strength must be a number from 0 to 1"),
        ("eta", ["a", True], "eta must be a finite number"),
        ("eta", [2], "eta must be a number from 0 to 1"),
        ("num_inference_steps", ["7", True, 2.5], "num_inference_steps must be a whole number"),
        ("num_inference_steps", [0], "num_inference_steps must be a whole number of 1 or more"),
        ("num_videos_per_prompt", [True, "1"], "num_videos_per_prompt must be a whole number"),
        ("videos_per_call", [True, 1.5], "videos_per_call must be a whole number"),
        ("decode_frame_by_frame", ["no", 0], "decode_frame_by_frame must be True or False"),
        ("return_dict", ["no", None], "return_dict must be True or False"),
        ("output_type", ["mp4", 3], "output_type must be one of"),
        ("callback_on_step_end", [3, object], "callback_on_step_end must be a function"),
        ("callback_on_step_end_tensor_inputs", ["latents"], "must be a list of names"),
        ("cross_attention_kwargs", [3, ["a"]], "cross_attention_kwargs must be a dict"),
        ("timesteps", [3, "321"], "timesteps must be a list of numbers"),
        ("prompt_embeds", [[1.0], "a"], "prompt_embeds must be a tensor"),
    ):
        for value in values:
            with pytest.raises(ValueError, match=words):
                image_video(**{**given, **one, name: value})
    for name, values, words in (
        ("guess_mode", ["no"], "guess_mode must be True or False"),
        ("control_guidance_end", ["a", True, [], ["a"]], "control_guidance_end must be a finite number, or a list"),
        ("controlnet_conditioning_scale", ["1", True], "controlnet_conditioning_scale must be a finite number"),
    ):
        for value in values:
            with pytest.raises(ValueError, match=words):
                control_video(**{**given, **one, name: value})
    xl = latentshift.video(tiny_pipeline("StableDiffusionXLPipeline"), F)
    for skipped in (-1, 2):
        with pytest.raises(ValueError, match="clip_skip must be 0 to 1 for this model"):
            xl("red star", clip_skip=skipped, **FEW)
    with pytest.raises(ValueError, match="guidance_rescale must be a number from 0 to 1"):
        xl("red star", guidance_rescale=3, num_frames=1, **FEW)
    same = [
        control_video(**given, **one, controlnet_conditioning_scale=scale, generator=seeds(1)) for scale in (1, 1.0)
    ]
    assert np.array_equal(same[0].frames, same[1].frames)
    for options, words in (
        ({"untested": "yes"}, "untested must be True or False"),
        ({"shift": 3}, "shift must be a ShiftConfig, or a dict of its settings, not a int"),
        ({"num_frames": True}, "num_frames must be a whole number"),
    ):
        with pytest.raises(ValueError, match=words):
            latentshift.video(image_video.pipe, **options)


def test_parts_of_another_base_are_refused() -> None:
    wide = tiny_unet(cross_attention_dim=24)
    with pytest.raises(ValueError, match="ControlNet is of another base: its cross_attention_dim is 24"):
        latentshift.video(tiny_pipeline("StableDiffusionControlNetPipeline", controlnet=tiny_controlnet(wide)))
    nets = MultiControlNetModel([tiny_controlnet(tiny_unet()), tiny_controlnet(wide)])
    with pytest.raises(ValueError, match="another base"):
        latentshift.video(tiny_pipeline("StableDiffusionControlNetPipeline", controlnet=nets))
    large = tiny_adapter(tiny_unet(block_out_channels=(8, 24)))
    with pytest.raises(ValueError, match=r"T2I-Adapter is of another base: its channels are \(8, 24\)"):
        latentshift.video(tiny_pipeline("StableDiffusionAdapterPipeline", adapter=large))


def test_what_is_no_image_pipeline_with_a_unet_is_refused(text_video: VideoPipeline, model: Any) -> None:
    class Transformer(DiffusionPipeline):
        def __init__(self, transformer: Any) -> None:
            super().__init__()
            self.register_modules(transformer=transformer)

        def __call__(self) -> None: ...

    for value, words in (
        (text_video.pipe.unet, "takes an image pipeline"),
        (LatentShiftPipeline.from_pretrained(model), "makes videos by itself"),
        (Transformer(tiny_unet()), "has a transformer"),
        (tiny_pipeline("StableDiffusionPanoramaPipeline"), "keeps the frames of a video is not tested"),
    ):
        with pytest.raises(ValueError, match=words):
            latentshift.video(value)
    with pytest.raises(ValueError, match="installed with other settings"):
        latentshift.video(text_video.pipe, shift=REPLICATE)

    class Mine(StableDiffusionPipeline):
        """A user's own, made from a tested one."""

    mine = Mine(**text_video.pipe.components, requires_safety_checker=False)
    assert latentshift.video(mine).num_frames == 16
    assert latentshift.video(tiny_pipeline("StableDiffusionPanoramaPipeline"), untested=True).num_frames == 16


def test_an_adapter_that_joint_projections_pass_by_is_refused() -> None:
    pipe = tiny_pipeline("StableDiffusionPipeline")
    video = latentshift.video(pipe, F)

    def frames() -> np.ndarray:
        return np.asarray(video("red star", generator=seeds(1), **FEW).frames)

    def refused(words: str, **options: Any) -> None:
        with pytest.raises(ValueError, match=words):
            video("red star", **options, **FEW)

    def add_lora() -> None:
        torch.manual_seed(0)
        pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False), "style")

    before = frames()
    pipe.fuse_qkv_projections()
    np.testing.assert_allclose(frames(), before, atol=1e-5)
    add_lora()
    refused("a LoRA in the attention has no effect beside fuse_qkv_projections")
    pipe.fuse_lora()
    refused("weights were changed after fuse_qkv_projections, as by fuse_lora")
    pipe.unload_lora_weights()
    refused("weights were changed after fuse_qkv_projections")
    pipe.unfuse_qkv_projections()
    merged = frames()
    assert not np.allclose(merged, before, atol=1e-3)
    pipe.fuse_qkv_projections()
    np.testing.assert_allclose(frames(), merged, atol=1e-5)
    pipe.unfuse_qkv_projections()
    add_lora()
    pipe.fuse_qkv_projections()
    refused("a LoRA in the attention has no effect")
    ours = LatentShiftPipeline.from_pipe(pipe)
    ours.unet.set_attn_processor(FusedAttnProcessor2_0())  # its own loaders refuse before that
    with pytest.raises(ValueError, match="a LoRA in the attention has no effect"):
        ours("red star", **FEW)
    pipe.disable_lora()
    np.testing.assert_allclose(frames(), merged, atol=1e-5)
    pipe.unload_lora_weights()
    pipe.unfuse_qkv_projections()

    with_ip_adapter(pipe)
    given = {"ip_adapter_image": picture(1)}
    with_picture = video("red star", generator=seeds(1), **given, **FEW).frames
    pipe.fuse_qkv_projections()
    refused("an IP-Adapter is loaded, and fuse_qkv_projections or", **given)
    pipe.unfuse_qkv_projections()
    assert np.array_equal(video("red star", generator=seeds(1), **given, **FEW).frames, with_picture)
    pipe.unload_ip_adapter()
    pipe.fuse_qkv_projections()
    with_ip_adapter(pipe)  # its own attention is not fused then
    after = video("red star", generator=seeds(1), **given, **FEW).frames
    np.testing.assert_allclose(after, with_picture, atol=1e-5)
    pipe.unfuse_qkv_projections()
    refused("an IP-Adapter is loaded, and fuse_qkv_projections or", **given)
    pipe.unload_ip_adapter()
    np.testing.assert_allclose(frames(), merged, atol=1e-5)


def test_a_callback_that_replaces_the_unet_is_refused() -> None:
    pipe = tiny_pipeline("StableDiffusionPipeline")
    video, before = latentshift.video(pipe, F), pipe.unet
    seen: list[tuple[int, ...]] = []

    def replace(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        pipe.unet = copy.deepcopy(before)
        return {}

    class Blank(PipelineCallback):
        tensor_inputs = ["latents"]  # noqa: RUF012

        def callback_fn(self, pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            seen.append(tuple(tensors["latents"].shape))
            return {"latents": tensors["latents"] * 0}

    with pytest.raises(ValueError, match=r"a callback has replaced pipe\.unet"):
        video("red star", callback_on_step_end=replace, **FEW)
    pipe.unet = before
    with pytest.raises(ValueError, match="a callback must return a dict of tensors by name"):
        video("red star", callback_on_step_end=lambda *given: 3, **FEW)
    with pytest.raises(ValueError, match=f"a callback has made prompt_embeds of length 1 for {F} frames: keep a row"):
        video("red star", callback_on_step_end=SDCFGCutoffCallback(cutoff_step_ratio=0.0), **FEW)
    plain = video("red star", generator=seeds(1), **FEW).frames
    silent = video("red star", generator=seeds(1), callback_on_step_end=lambda *given: None, **FEW).frames
    assert np.array_equal(plain, silent)
    assert not video("red star", callback_on_step_end=Blank(), **{**FEW, "output_type": "latent"}).frames.any()
    assert [each[0] for each in seen] == [F, F]
