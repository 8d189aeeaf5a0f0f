"""``latentshift.video``: what holds whatever the image pipeline."""

from __future__ import annotations

import copy
import threading
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from accelerate import cpu_offload, cpu_offload_with_hook
from accelerate.hooks import remove_hook_from_module
from diffusers import (
    DiffusionPipeline,
    LDMTextToImagePipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.models.controlnets.multicontrolnet import MultiControlNetModel
from peft import LoraConfig
from transformers import CLIPImageProcessorPil

import latentshift
from latentshift import LatentShiftPipeline, VideoPipeline
from latentshift.diffusion.samplers import make_sampler
from latentshift.diffusion.schedulers import KNOWN_SCHEDULERS
from latentshift.frame_context import frame_context
from latentshift.settings import ShiftConfig
from latentshift.shift import shift_of
from tiny_models import TEXT_WIDTH, tiny_unet
from tiny_pipelines import (
    SIDE,
    clip,
    mask,
    picture,
    seeds,
    tiny_controlnet,
    tiny_pipeline,
    with_ip_adapter,
)

F = 3
REPLICATE = {"padding": "replicate"}
FEW = {"num_inference_steps": 2, "output_type": "np"}


@pytest.mark.parametrize("base", ["ldm", "sd1", "sd2", "sdxl"])
@pytest.mark.parametrize(("sampler", "share"), [("ddpm", 0), ("euler-a", 0), ("ddpm", 2), ("euler-a", 2)])
def test_videos_are_those_of_our_own_pipeline(
    base: str, sampler: str, share: int, request: pytest.FixtureRequest
) -> None:
    if base == "ldm":
        stock = tiny_pipeline("LDMTextToImagePipeline")
        stock.vqvae.register_to_config(scaling_factor=0.25)  # 1 / 0.25 is exact
    else:
        stock = DiffusionPipeline.from_pretrained(request.getfixturevalue(f"{base}_folder"))
        stock.set_progress_bar_config(disable=True)
    ours = LatentShiftPipeline.from_pipe(stock)
    ours.set_progress_bar_config(disable=True)
    ours.scheduler = make_sampler(sampler, ours.scheduler)
    ours.set_noise_share(float(share))
    stock.scheduler = copy.deepcopy(ours.scheduler)
    size = {"height": 64, "width": 64} if base == "ldm" else {}  # which takes every autoencoder for one of 8x
    options = {**FEW, "guidance_scale": 5.0}
    if base == "ldm" and sampler == "euler-a":
        with pytest.raises(ValueError, match="does not scale its latents as EulerAncestralDiscreteScheduler"):
            latentshift.video(stock, F)("red star", **size, **options)
        return
    for generator in (seeds(1, 2), seeds(1)[0]):
        again = [each.clone_state() for each in generator] if isinstance(generator, list) else generator.clone_state()
        video = latentshift.video(stock, F, noise_share=share)
        wrapped = video(["red star", "black"], generator=generator, **size, **options).frames
        expected = ours(["red star", "black"], num_frames=F, generator=again, decode_chunk_size=1, **options).frames
        # Text encoders may round a batch of prompts in another way than one prompt, as the processor has it: LDM's does
        # with MKL_CBWR=COMPATIBLE, and SDXL's second one everywhere. Euler scales what has been mixed, or mixes what
        # has been scaled.
        np.testing.assert_allclose(wrapped, expected, rtol=0, atol=5e-5)


def test_each_video_is_the_one_made_alone_bit_for_bit(image_video: VideoPipeline) -> None:
    clips = [clip(1, F), clip(2, F)]
    both = image_video(["red star", "black"], image=clips, generator=seeds(1, 2), num_videos_per_prompt=1, **FEW).frames
    for index, prompt in enumerate(("red star", "black")):
        alone = image_video(prompt, image=clips[index], generator=seeds(index + 1), **FEW).frames
        assert np.array_equal(alone[0], both[index])
    four = image_video(
        ["red star", "black"], image=clips, generator=seeds(1, 3, 2, 4), num_videos_per_prompt=2, **FEW
    ).frames
    assert np.array_equal(four[[0, 2]], both)


def test_a_still_clip_gives_the_image_pipelines_picture() -> None:
    pipe = tiny_pipeline("StableDiffusionControlNetPipeline")
    condition, noise = picture(1), torch.randn(1, 4, 8, 8)
    expected = pipe("red star", image=condition, latents=noise, **FEW).images
    video = latentshift.video(pipe, F, shift=REPLICATE)
    for given in (condition, [condition] * F):
        made = video("red star", image=given, latents=noise.repeat(F, 1, 1, 1)[None], **FEW).frames
        np.testing.assert_allclose(made[0], expected.repeat(F, axis=0), atol=5e-6, rtol=0)


def test_pictures_are_taken_in_every_form(image_video: VideoPipeline) -> None:
    pictures = clip(1, F)
    arrays = np.stack([np.asarray(each, dtype=np.float32) / 255 for each in pictures])
    tensors = torch.from_numpy(arrays).permute(0, 3, 1, 2)

    def made(value: Any, prompts: Any = "red star") -> np.ndarray:
        count = 1 if isinstance(prompts, str) else len(prompts)
        return image_video(prompts, image=value, generator=seeds(*range(count)), **FEW).frames

    expected = made(pictures)
    for form in (arrays, tensors, 2 * tensors - 1, list(arrays), [tensors], tuple(pictures)):
        np.testing.assert_allclose(made(form), expected, atol=2e-5, rtol=0)
    for prompts in (["red star", "black"], ["red star"] * F):
        clips = [[each] * F for each in clip(2, len(prompts))]
        one_each = made([[each[0]] for each in clips], prompts)
        assert np.array_equal(one_each, made(clips, prompts))
        assert np.array_equal(made([pictures] * len(prompts), prompts)[0], expected[0])
        if len(prompts) != F:
            assert np.array_equal(one_each, made([each[0] for each in clips], prompts))
            assert np.array_equal(made(pictures, prompts)[0], expected[0])


def test_tensors_from_minus_one_are_known_by_the_whole_argument(image_video: VideoPipeline) -> None:
    clips = torch.rand(2, F, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    clips[0, 0, 0, 0, 0] = -1.0  # so the second clip, without a negative number, is in [-1, 1] too
    both = image_video(["red star", "black"], image=clips, generator=seeds(1, 2), **FEW).frames
    together = image_video(["red star", "black"], image=clips, generator=seeds(1, 2), videos_per_call=2, **FEW).frames
    np.testing.assert_allclose(both, together, atol=2e-5, rtol=0)


def test_masks_of_whole_numbers_and_grey_conditions() -> None:
    inpaint = latentshift.video(tiny_pipeline("StableDiffusionInpaintPipeline"), F)
    holes = [np.asarray(mask(index)) > 0 for index in range(F)]
    expected = None
    for form in ([mask(index) for index in range(F)], np.stack(holes), torch.from_numpy(np.stack(holes))[:, None]):
        made = inpaint("red star", image=clip(1, F), mask_image=form, generator=seeds(1), **FEW).frames
        expected = made if expected is None else expected
        np.testing.assert_allclose(made, expected, atol=2e-5, rtol=0)
    unet = tiny_unet()
    nets = MultiControlNetModel([tiny_controlnet(unet, 0), tiny_controlnet(unet, 1)])
    control = latentshift.video(tiny_pipeline("StableDiffusionControlNetPipeline", unet=unet, controlnet=nets), F)
    grey = picture(1).convert("L")
    made = [
        control("red star", image=[each, clip(2, F)], generator=seeds(1), **FEW).frames
        for each in (grey, grey.convert("RGB"))
    ]
    assert np.array_equal(*made)


def test_outputs(text_video: VideoPipeline) -> None:
    def made(kind: str) -> Any:
        return text_video(["red star", "black"], generator=seeds(1, 2), **{**FEW, "output_type": kind}).frames

    pil, array, tensor, latents = (made(kind) for kind in ("pil", "np", "pt", "latent"))
    assert [len(each) for each in pil] == [F, F] and pil[0][0].size == (SIDE, SIDE)
    assert array.shape == (2, F, SIDE, SIDE, 3) and tensor.shape == (2, F, 3, SIDE, SIDE)
    assert latents.shape == (2, F, 4, 8, 8)
    assert np.array_equal(tensor.permute(0, 1, 3, 4, 2).numpy(), array)
    plain = text_video("red star", generator=seeds(1), return_dict=False, **FEW)
    assert np.array_equal(plain[0][0], array[0]) and plain[1] is None


def test_embeddings_stand_for_prompts(text_video: VideoPipeline) -> None:
    positive, negative = text_video.pipe.encode_prompt(["red star", "black"], "cpu", 1, True, ["black", "red"])
    words = text_video(["red star", "black"], negative_prompt=["black", "red"], generator=seeds(1, 2), **FEW).frames
    given = {"prompt_embeds": positive, "negative_prompt_embeds": negative, "generator": seeds(1, 2)}
    assert np.array_equal(text_video(**given, **FEW).frames, words)


@pytest.mark.parametrize("kind", sorted(KNOWN_SCHEDULERS - {"DPMSolverSDEScheduler"}))
def test_every_scheduler(kind: str, text_video: VideoPipeline) -> None:
    before = text_video.pipe.scheduler
    text_video.pipe.scheduler = getattr(diffusers, kind).from_config(before.config)
    options = {**FEW, "num_inference_steps": 5}  # PNDM needs more than three
    try:
        both = text_video(["red star", "black"], generator=seeds(1, 2), videos_per_call=2, **options).frames
        alone = text_video("black", generator=seeds(2), **options).frames
    finally:
        text_video.pipe.scheduler = before
    assert np.ptp(alone) > 0
    np.testing.assert_allclose(both[1], alone[0], atol=2e-5, rtol=0)


def test_the_autoencoder_takes_one_frame_at_a_time_unless_told_otherwise(text_video: VideoPipeline) -> None:
    vae = text_video.pipe.vae
    counts: list[int] = []
    handle = vae.decoder.register_forward_hook(lambda module, inputs, output: counts.append(len(inputs[0])))
    frames = [
        text_video("red star", generator=seeds(1), decode_frame_by_frame=each, **FEW).frames for each in (True, False)
    ]
    handle.remove()
    assert counts == [1] * F + [F] and not vae.use_slicing
    np.testing.assert_allclose(*frames, atol=1e-5)


def test_controls_clips_and_shift_in_the_controlnet_if_asked() -> None:
    pipe = tiny_pipeline("StableDiffusionControlNetPipeline")
    alone = latentshift.video(pipe, F)
    arguments = {"prompt": "red star", "image": clip(1, F), **FEW}
    frame_by_frame = alone(**arguments, generator=seeds(1)).frames
    assert shift_of(pipe.controlnet) is None
    also = latentshift.video(pipe, F, also=[pipe.controlnet])
    assert shift_of(pipe.controlnet) == shift_of(pipe.unet)
    assert not np.allclose(also(**arguments, generator=seeds(1)).frames, frame_by_frame, atol=1e-3)
    also.remove()
    assert shift_of(pipe.controlnet) is None and shift_of(pipe.unet) is not None
    alone.remove()
    assert frame_context(pipe.unet) is None


def test_a_flagged_frame_blackens_its_video(text_video: VideoPipeline) -> None:
    class Flags(torch.nn.Module):
        """Finds something in the second picture that it is ever shown, and blackens it as diffusers' checker does."""

        dtype, device, seen = torch.float32, torch.device("cpu"), 0

        def forward(self, clip_input: Any, images: Any) -> tuple[Any, list[bool]]:
            found = [self.seen + index == 1 for index in range(len(images))]
            self.seen += len(images)
            for index, each in enumerate(found):
                if each:
                    images[index] = 0
            return images, found

    pipe = tiny_pipeline("StableDiffusionPipeline")
    for kind in ("np", "pil", "pt"):
        pipe.register_modules(safety_checker=Flags(), feature_extractor=CLIPImageProcessorPil())
        made = latentshift.video(pipe, F)(["red star", "black"], generator=seeds(1, 2), **{**FEW, "output_type": kind})
        assert made.nsfw_content_detected == [True, False]
        first, second = (np.stack([np.asarray(frame) for frame in video]) for video in made.frames)
        assert not first.any() and all(frame.any() for frame in second)


def test_frame_counts_belong_to_calls_and_threads() -> None:
    shared = tiny_pipeline("StableDiffusionPipeline")
    pipes = [
        type(shared)(
            **{**shared.components, "scheduler": copy.deepcopy(shared.scheduler)}, requires_safety_checker=False
        )
        for _ in range(2)
    ]
    for each in pipes:
        each.set_progress_bar_config(disable=True)
    videos = [latentshift.video(each, count) for each, count in zip(pipes, (2, 5), strict=True)]

    def run(index: int) -> list[np.ndarray]:
        return [videos[index]("red star", generator=seeds(seed), **FEW).frames for seed in range(3)]

    expected = [run(0), run(1)]
    found: dict[int, list[np.ndarray]] = {}
    threads = [threading.Thread(target=lambda index=index: found.update({index: run(index)})) for index in (0, 1)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for index in (0, 1):
        assert all(map(np.array_equal, found[index], expected[index]))
    assert videos[0]("red star", num_frames=4, generator=seeds(1), **FEW).frames.shape[1] == 4
    assert not shared.vae.use_slicing


def test_another_pipeline_of_the_same_parts(text_video: VideoPipeline) -> None:
    other = StableDiffusionImg2ImgPipeline.from_pipe(text_video.pipe)
    other.set_progress_bar_config(disable=True)
    made = latentshift.video(other, F)("red star", image=clip(1, F), generator=seeds(1), **FEW).frames
    assert made.shape == (1, F, SIDE, SIDE, 3)
    assert text_video("red star", generator=seeds(1), **FEW).frames.shape == made.shape


def test_a_latentshift_model_in_a_stock_pipeline(sd1_folder: Any, tmp_path: Any) -> None:
    ours = LatentShiftPipeline.from_pretrained(sd1_folder, shift=REPLICATE, num_frames=F)
    ours.save_pretrained(tmp_path / "model")
    parts = {"controlnet": tiny_controlnet(ours.unet), "safety_checker": None, "feature_extractor": None}
    from_pipe = StableDiffusionControlNetPipeline.from_pipe(ours, **parts)
    from_folder = StableDiffusionControlNetPipeline.from_pretrained(tmp_path / "model", **parts)
    frames = []
    for pipe in (from_pipe, from_folder):
        pipe.set_progress_bar_config(disable=True)
        video = latentshift.video(pipe, F)
        assert shift_of(pipe.unet).padding == "replicate"  # as it was trained
        frames.append(video("red star", image=clip(1, F), generator=seeds(1), **FEW).frames)
    np.testing.assert_allclose(*frames, atol=1e-5)
    ours.set_noise_share(1.0)
    ours.save_pretrained(tmp_path / "sharing")
    for pipe in (
        StableDiffusionControlNetPipeline.from_pipe(ours, **parts),
        StableDiffusionControlNetPipeline.from_pretrained(tmp_path / "sharing", **parts),
    ):
        assert latentshift.video(pipe, F).noise_share == 1
        again = LatentShiftPipeline.from_pipe(pipe)  # and back: it is the model that it was
        for name in ("shift", "noise_share", "num_frames"):
            assert again.config[name] == ours.config[name]
    ours.set_noise_share(0.0)
    ours.set_method("latent-vdm")
    ours.save_pretrained(tmp_path / "attended")
    pipe = StableDiffusionControlNetPipeline.from_pretrained(tmp_path / "attended", **parts)
    with pytest.raises(ValueError, match="saved without the temporal shift"):
        latentshift.video(pipe, F)
    with pytest.raises(ValueError, match="temporal layers, which a StableDiffusionControlNetPipeline does not have"):
        LatentShiftPipeline.from_pipe(pipe)
    assert LatentShiftPipeline.from_pipe(pipe, shift=REPLICATE).method == "latent-shift"
    assert shift_of(latentshift.video(pipe, F, shift=REPLICATE).pipe.unet).padding == "replicate"


def test_the_shift_of_an_image_pipeline_may_sit_elsewhere() -> None:
    pipe = tiny_pipeline("StableDiffusionPipeline")
    where = {**REPLICATE, "place": "block", "blocks": "decoder", "direction": "past_only"}
    image = pipe("red star", generator=seeds(1), **FEW).images
    video = latentshift.video(pipe, 1, shift=where)
    assert shift_of(pipe.unet) == ShiftConfig.from_dict(where)
    assert LatentShiftPipeline.from_pipe(pipe).config.shift == where | {"fold": 3}
    assert np.array_equal(np.asarray(video("red star", generator=seeds(1), **FEW).frames)[0], np.asarray(image))
    video.remove()
    assert np.array_equal(np.asarray(pipe("red star", generator=seeds(1), **FEW).images), np.asarray(image))


def test_settings_are_those_of_the_folder_that_the_unet_came_from(sd1_folder: Any, tmp_path: Any) -> None:
    ours = LatentShiftPipeline.from_pretrained(sd1_folder, shift=REPLICATE)
    ours.save_pretrained(tmp_path / "model")
    snapshot = tmp_path / "cache" / "models--someone--tiny" / "snapshots" / ("1" * 40)  # no default cache, and no main
    ours.save_pretrained(snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "other").write_text(snapshot.name)
    offline = {"cache_dir": tmp_path / "cache", "revision": "other", "local_files_only": True}
    unet = UNet2DConditionModel.from_pretrained
    pipes = {
        "hub": StableDiffusionPipeline.from_pretrained("someone/tiny", safety_checker=None, **offline),
        "part": StableDiffusionPipeline.from_pretrained(sd1_folder, unet=unet(tmp_path / "model" / "unet")),
        "subfolder": StableDiffusionPipeline.from_pretrained(
            sd1_folder, unet=unet(tmp_path / "model", subfolder="unet")
        ),
    }
    found = {name: shift_of(latentshift.video(pipe).pipe.unet).padding for name, pipe in pipes.items()}
    assert found == dict.fromkeys(pipes, "replicate")
    (tmp_path / "model" / "model_index.json").write_text("[]")
    pipe = StableDiffusionPipeline.from_pretrained(sd1_folder, unet=unet(tmp_path / "model" / "unet"))
    with pytest.raises(ValueError, match=r"model_index\.json must hold a group of settings"):
        latentshift.video(pipe)


def test_a_class_made_from_ldms_is_ldm() -> None:
    class Mine(LDMTextToImagePipeline):
        """A user's own."""

    pipe = Mine(**tiny_pipeline("LDMTextToImagePipeline").components)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = make_sampler("ddpm", pipe.scheduler)
    options = {**FEW, "height": 64, "width": 64}
    video = latentshift.video(pipe, 1)
    first, again = (video("red star", generator=seeds(1), **options).frames for _ in range(2))
    assert np.array_equal(first, again)  # the noise of the steps is the generator's
    pipe.scheduler = make_sampler("euler", pipe.scheduler)
    with pytest.raises(ValueError, match="Mine decodes its latents in every case"):
        latentshift.video(pipe, F)("red star", output_type="latent")
    with pytest.raises(ValueError, match="Mine does not scale its latents"):
        video("red star", **options)


def test_negative_prompts_without_a_sentence() -> None:
    two = ["red star", "black"]
    sd = latentshift.video(tiny_pipeline("StableDiffusionPipeline"), 1)
    xl = latentshift.video(tiny_pipeline("StableDiffusionXLPipeline"), 1)

    def made(video: VideoPipeline, negative: Any) -> np.ndarray:
        return video(two, negative_prompt=negative, generator=seeds(1, 2), **FEW).frames

    assert np.array_equal(made(sd, ["star", None]), made(sd, ["star", ""]))
    assert np.array_equal(made(xl, [None, None]), made(xl, None))
    assert not np.array_equal(made(xl, None), made(xl, ""))  # which is why it takes not both
    with pytest.raises(ValueError, match="negative_prompt has a None beside a sentence"):
        made(xl, ["star", None])
    with pytest.raises(ValueError, match="negative_prompt must be a sentence or a list of sentences, and has a int"):
        made(sd, ["star", 2])
    with pytest.raises(ValueError, match="prompt_2 has a None"):
        xl(two, prompt_2=["star", None], **FEW)


@pytest.mark.parametrize("kind", ["plain", "plus"])
def test_pictures_of_ip_adapters(kind: str) -> None:
    pipe = tiny_pipeline("StableDiffusionPipeline")
    with_ip_adapter(pipe, 2, kind)
    video = latentshift.video(pipe, F)
    pictures = [[picture(1), picture(2, 20), picture(3)], clip(2, F)]  # which may differ in size
    given = [
        torch.stack([
            pipe.prepare_ip_adapter_image_embeds([[each], [each]], None, "cpu", 1, True)[number] for each in of_adapter
        ])
        for number, of_adapter in enumerate(pictures)
    ]  # fmt: skip
    by_pictures = video("red star", ip_adapter_image=pictures, generator=seeds(1), **FEW).frames
    by_embeddings = video("red star", ip_adapter_image_embeds=given, generator=seeds(1), **FEW).frames
    np.testing.assert_allclose(by_pictures, by_embeddings, atol=2e-5, rtol=0)
    for value, words in (
        (picture(1), "has a Image: give a list with one for each of 2"),
        ([picture(1)], "has 1 entries: give a list with one for each of 2"),
        ([clip(1, F - 1), picture(1)], "ip_adapter_image has 2 pictures"),
        ([np.zeros((8, 8, 3), np.float32), picture(1)], "give PIL images, or embeddings"),
    ):
        with pytest.raises(ValueError, match=words):
            video("red star", ip_adapter_image=value, **FEW)


def test_the_package_video_and_the_function_have_one_name() -> None:
    from latentshift import video
    from latentshift.video import to_uint8

    assert video is latentshift.video and video.to_uint8 is to_uint8


def test_loras_on_the_convolution_behind_the_shift() -> None:
    pipe = tiny_pipeline("StableDiffusionPipeline")
    video = latentshift.video(pipe, F)
    before = video("red star", generator=seeds(1), **FEW).frames
    torch.manual_seed(0)
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["conv1", "to_q"], init_lora_weights=False), "style")
    with_lora = video("red star", generator=seeds(1), **FEW).frames
    assert not np.allclose(with_lora, before, atol=1e-3)
    pipe.fuse_lora(adapter_names=["style"])
    np.testing.assert_allclose(video("red star", generator=seeds(1), **FEW).frames, with_lora, atol=1e-5)
    pipe.unfuse_lora()
    pipe.unload_lora_weights()
    np.testing.assert_allclose(video("red star", generator=seeds(1), **FEW).frames, before, atol=1e-5)


def test_textual_inversion() -> None:
    pipe = tiny_pipeline("StableDiffusionPipeline")
    torch.manual_seed(0)
    pipe.load_textual_inversion({"<mine>": 5 * torch.randn(2, TEXT_WIDTH)}, token="<mine>")
    video = latentshift.video(pipe, F)
    both = video(["red <mine>", "red"], generator=seeds(1, 1), **FEW).frames
    assert not np.allclose(both[0], both[1], atol=1e-3)
    assert np.array_equal(video("red <mine>", generator=seeds(1), **FEW).frames[0], both[0])


def test_offloading(text_video: VideoPipeline) -> None:
    expected = text_video("red star", generator=seeds(1), **FEW).frames
    for layer_by_layer in (False, True):
        pipe = tiny_pipeline("StableDiffusionPipeline")
        if not layer_by_layer:
            video = latentshift.video(pipe, F)
        if layer_by_layer:
            cpu_offload(pipe.unet, execution_device="cpu")
            with pytest.raises(ValueError, match="offloaded one by one; install the shift first"):
                latentshift.video(pipe, F)
            remove_hook_from_module(pipe.unet, recurse=True)
            video = latentshift.video(pipe, F)
            cpu_offload(pipe.unet, execution_device="cpu")
        else:
            hooks = [cpu_offload_with_hook(part, "cpu")[1] for part in (pipe.text_encoder, pipe.unet)]
        assert np.array_equal(video("red star", generator=seeds(1), **FEW).frames, expected)
        assert layer_by_layer or len(hooks) == 2
