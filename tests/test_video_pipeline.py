"""``latentshift.video``: what holds whatever the image pipeline, and what it refuses."""

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
    DDIMScheduler,
    DiffusionPipeline,
    LDMTextToImagePipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.callbacks import PipelineCallback
from diffusers.models.attention_processor import FusedAttnProcessor2_0
from diffusers.models.controlnets.multicontrolnet import MultiControlNetModel
from peft import LoraConfig
from PIL import Image
from transformers import CLIPImageProcessorPil

import latentshift
from latentshift import LatentShiftPipeline, VideoPipeline
from latentshift.diffusion.samplers import make_sampler
from latentshift.diffusion.schedulers import KNOWN_SCHEDULERS
from latentshift.frame_context import default_frames, frame_context
from latentshift.settings import ShiftConfig
from latentshift.shift import shift_of
from tiny_models import TEXT_WIDTH, TOKENS, tiny_unet
from tiny_pipelines import (
    FACE,
    SIDE,
    clip,
    mask,
    picture,
    tiny_adapter,
    tiny_controlnet,
    tiny_pipeline,
    with_ip_adapter,
)

F = 3
REPLICATE = {"padding": "replicate"}
FEW = {"num_inference_steps": 2, "output_type": "np"}


def seeds(*numbers: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in numbers]


@pytest.fixture(scope="module")
def text() -> VideoPipeline:
    return latentshift.video(tiny_pipeline("StableDiffusionPipeline"), F)


@pytest.fixture(scope="module")
def image() -> VideoPipeline:
    return latentshift.video(tiny_pipeline("StableDiffusionImg2ImgPipeline"), F)


@pytest.fixture(scope="module")
def control() -> VideoPipeline:
    return latentshift.video(tiny_pipeline("StableDiffusionControlNetPipeline"), F)


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
        # SDXL's second text encoder rounds a batch of prompts in another way than one prompt, and Euler scales what
        # has been mixed, or mixes what has been scaled
        rounded = base == "sdxl" or (share and sampler == "euler-a")
        np.testing.assert_allclose(wrapped, expected, rtol=0, atol=1e-5 if rounded else 0)


def test_each_video_is_the_one_made_alone_bit_for_bit(image: VideoPipeline) -> None:
    clips = [clip(1, F), clip(2, F)]
    both = image(["red star", "black"], image=clips, generator=seeds(1, 2), num_videos_per_prompt=1, **FEW).frames
    for index, prompt in enumerate(("red star", "black")):
        alone = image(prompt, image=clips[index], generator=seeds(index + 1), **FEW).frames
        assert np.array_equal(alone[0], both[index])
    four = image(["red star", "black"], image=clips, generator=seeds(1, 3, 2, 4), num_videos_per_prompt=2, **FEW).frames
    assert np.array_equal(four[[0, 2]], both)


def test_a_still_clip_gives_the_image_pipelines_picture() -> None:
    pipe = tiny_pipeline("StableDiffusionControlNetPipeline")
    condition, noise = picture(1), torch.randn(1, 4, 8, 8)
    expected = pipe("red star", image=condition, latents=noise, **FEW).images
    video = latentshift.video(pipe, F, shift=REPLICATE)
    for given in (condition, [condition] * F):
        made = video("red star", image=given, latents=noise.repeat(F, 1, 1, 1)[None], **FEW).frames
        np.testing.assert_allclose(made[0], expected.repeat(F, axis=0), atol=5e-6, rtol=0)


def test_pictures_are_taken_in_every_form(image: VideoPipeline) -> None:
    pictures = clip(1, F)
    arrays = np.stack([np.asarray(each, dtype=np.float32) / 255 for each in pictures])
    tensors = torch.from_numpy(arrays).permute(0, 3, 1, 2)

    def made(value: Any, prompts: Any = "red star") -> np.ndarray:
        count = 1 if isinstance(prompts, str) else len(prompts)
        return image(prompts, image=value, generator=seeds(*range(count)), **FEW).frames

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


def test_tensors_from_minus_one_are_known_by_the_whole_argument(image: VideoPipeline) -> None:
    clips = torch.rand(2, F, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    clips[0, 0, 0, 0, 0] = -1.0  # so the second clip, without a negative number, is in [-1, 1] too
    both = image(["red star", "black"], image=clips, generator=seeds(1, 2), **FEW).frames
    together = image(["red star", "black"], image=clips, generator=seeds(1, 2), videos_per_call=2, **FEW).frames
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


def test_outputs(text: VideoPipeline) -> None:
    def made(kind: str) -> Any:
        return text(["red star", "black"], generator=seeds(1, 2), **{**FEW, "output_type": kind}).frames

    pil, array, tensor, latents = (made(kind) for kind in ("pil", "np", "pt", "latent"))
    assert [len(each) for each in pil] == [F, F] and pil[0][0].size == (SIDE, SIDE)
    assert array.shape == (2, F, SIDE, SIDE, 3) and tensor.shape == (2, F, 3, SIDE, SIDE)
    assert latents.shape == (2, F, 4, 8, 8)
    assert np.array_equal(tensor.permute(0, 1, 3, 4, 2).numpy(), array)
    plain = text("red star", generator=seeds(1), return_dict=False, **FEW)
    assert np.array_equal(plain[0][0], array[0]) and plain[1] is None


def test_embeddings_stand_for_prompts(text: VideoPipeline) -> None:
    positive, negative = text.pipe.encode_prompt(["red star", "black"], "cpu", 1, True, ["black", "red"])
    words = text(["red star", "black"], negative_prompt=["black", "red"], generator=seeds(1, 2), **FEW).frames
    given = {"prompt_embeds": positive, "negative_prompt_embeds": negative, "generator": seeds(1, 2)}
    assert np.array_equal(text(**given, **FEW).frames, words)


# DPMSolverSDEScheduler needs torchsde, and is refused (`check_sampling`).
@pytest.mark.parametrize("kind", sorted(KNOWN_SCHEDULERS - {"DPMSolverSDEScheduler"}))
def test_every_scheduler(kind: str, text: VideoPipeline) -> None:
    before = text.pipe.scheduler
    text.pipe.scheduler = getattr(diffusers, kind).from_config(before.config)
    options = {**FEW, "num_inference_steps": 5}  # PNDM needs more than three
    try:
        both = text(["red star", "black"], generator=seeds(1, 2), videos_per_call=2, **options).frames
        alone = text("black", generator=seeds(2), **options).frames
    finally:
        text.pipe.scheduler = before
    assert np.ptp(alone) > 0
    np.testing.assert_allclose(both[1], alone[0], atol=2e-5, rtol=0)


def test_the_autoencoder_takes_one_frame_at_a_time_unless_told_otherwise(text: VideoPipeline) -> None:
    vae = text.pipe.vae
    counts: list[int] = []
    handle = vae.decoder.register_forward_hook(lambda module, inputs, output: counts.append(len(inputs[0])))
    frames = [text("red star", generator=seeds(1), decode_frame_by_frame=each, **FEW).frames for each in (True, False)]
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


def test_a_flagged_frame_blackens_its_video(text: VideoPipeline) -> None:
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


def test_a_batch_that_is_not_whole_videos_is_refused(text: VideoPipeline) -> None:
    pipe = text.pipe
    with default_frames(pipe.unet, 2, 2), pytest.raises(ValueError, match="batch of 2 frames while 2 videos of 2"):
        pipe("red star", **FEW)
    with default_frames(pipe.unet, 2, 2), pytest.raises(ValueError, match="batch of 6 frames"):
        pipe("red star", num_images_per_prompt=3, **FEW)


def test_another_pipeline_of_the_same_parts(text: VideoPipeline) -> None:
    other = StableDiffusionImg2ImgPipeline.from_pipe(text.pipe)
    other.set_progress_bar_config(disable=True)
    made = latentshift.video(other, F)("red star", image=clip(1, F), generator=seeds(1), **FEW).frames
    assert made.shape == (1, F, SIDE, SIDE, 3)
    assert text("red star", generator=seeds(1), **FEW).frames.shape == made.shape


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
    ours.set_noise_share(0.0)
    ours.set_method("latent-vdm")
    ours.save_pretrained(tmp_path / "attended")
    pipe = StableDiffusionControlNetPipeline.from_pretrained(tmp_path / "attended", **parts)
    with pytest.raises(ValueError, match="saved without the temporal shift"):
        latentshift.video(pipe, F)
    assert shift_of(latentshift.video(pipe, F, shift=REPLICATE).pipe.unet).padding == "replicate"


def test_the_shift_of_an_image_pipeline_may_sit_elsewhere() -> None:
    pipe = tiny_pipeline("StableDiffusionPipeline")
    where = {**REPLICATE, "place": "block", "blocks": "decoder", "direction": "past_only"}
    image = pipe("red star", generator=seeds(1), **FEW).images
    video = latentshift.video(pipe, 1, shift=where)
    assert shift_of(pipe.unet) == ShiftConfig.from_dict(where)
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


def test_other_numbers_of_pictures_are_refused_by_name(image: VideoPipeline, control: VideoPipeline) -> None:
    two = ["red star", "black"]

    def refused(video: VideoPipeline, prompts: Any, value: Any, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            video(prompts, image=value, **FEW)

    refused(image, "red star", clip(1, F - 1), "image has 2 pictures: give one, or a clip of 3$")
    refused(control, "red star", clip(1, F + 1), "image has 4 pictures")
    refused(image, two, clip(1, 6), "image has 6 pictures: give one, or a clip of 3; or that for each of 2 prompts")
    refused(image, two, [clip(1, F), clip(2, 2)], "clip 1 of image has 2 pictures")
    refused(image, two, [clip(1, F)] * 3, "image has 3 clips")
    refused(image, ["red star"] * F, clip(1, F), "may be a clip or one for each")
    refused(image, "red star", [], "empty")
    refused(image, "red star", np.zeros((4, F, SIDE, SIDE, 3), np.float32), "image has 4 clips")


def test_pictures_that_no_pipeline_should_be_given_are_refused(image: VideoPipeline) -> None:
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
        ("picture.png", "is a str"),
        (Image.new("F", (SIDE, SIDE)), "mode F"),
    ):
        with pytest.raises(ValueError, match=words):
            image("red star", image=value, **FEW)
    grey = picture(1).convert("L")
    expected = image("red star", image=grey.convert("RGB"), generator=seeds(1), **FEW).frames
    assert np.array_equal(image("red star", image=grey, generator=seeds(1), **FEW).frames, expected)


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


def test_arguments_that_mean_nothing_for_a_video_are_refused(text: VideoPipeline) -> None:
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
            text(**{"prompt": "red star", **arguments}, **FEW)
    before = text.pipe.scheduler
    text.pipe.scheduler = DDIMScheduler(thresholding=True)
    try:
        with pytest.raises(ValueError, match="thresholding is not for videos"):
            text("red star", **FEW)
    finally:
        text.pipe.scheduler = before


def test_a_wrong_type_or_range_is_refused_by_name(image: VideoPipeline, control: VideoPipeline) -> None:
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
                image(**{**given, **one, name: value})
    for name, values, words in (
        ("guess_mode", ["no"], "guess_mode must be True or False"),
        ("control_guidance_end", ["a", True, [], ["a"]], "control_guidance_end must be a finite number, or a list"),
        ("controlnet_conditioning_scale", ["1", True], "controlnet_conditioning_scale must be a finite number"),
    ):
        for value in values:
            with pytest.raises(ValueError, match=words):
                control(**{**given, **one, name: value})
    xl = latentshift.video(tiny_pipeline("StableDiffusionXLPipeline"), F)
    for skipped in (-1, 2):
        with pytest.raises(ValueError, match="clip_skip must be 0 to 1 for this model"):
            xl("red star", clip_skip=skipped, **FEW)
    with pytest.raises(ValueError, match="guidance_rescale must be a number from 0 to 1"):
        xl("red star", guidance_rescale=3, num_frames=1, **FEW)
    same = [control(**given, **one, controlnet_conditioning_scale=scale, generator=seeds(1)) for scale in (1, 1.0)]
    assert np.array_equal(same[0].frames, same[1].frames)
    for options, words in (
        ({"untested": "yes"}, "untested must be True or False"),
        ({"shift": 3}, "shift must be a ShiftConfig, or a dict of its settings, not a int"),
        ({"num_frames": True}, "num_frames must be a whole number"),
    ):
        with pytest.raises(ValueError, match=words):
            latentshift.video(image.pipe, **options)


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


def test_what_is_no_image_pipeline_with_a_unet_is_refused(text: VideoPipeline, model: Any) -> None:
    class Transformer(DiffusionPipeline):
        def __init__(self, transformer: Any) -> None:
            super().__init__()
            self.register_modules(transformer=transformer)

        def __call__(self) -> None: ...

    for value, words in (
        (text.pipe.unet, "takes an image pipeline"),
        (LatentShiftPipeline.from_pretrained(model), "makes videos by itself"),
        (Transformer(tiny_unet()), "has a transformer"),
        (tiny_pipeline("StableDiffusionPanoramaPipeline"), "keeps the frames of a video is not tested"),
    ):
        with pytest.raises(ValueError, match=words):
            latentshift.video(value)
    with pytest.raises(ValueError, match="installed with other settings"):
        latentshift.video(text.pipe, shift=REPLICATE)

    class Mine(StableDiffusionPipeline):
        """A user's own, made from a tested one."""

    mine = Mine(**text.pipe.components, requires_safety_checker=False)
    assert latentshift.video(mine).num_frames == 16
    assert latentshift.video(tiny_pipeline("StableDiffusionPanoramaPipeline"), untested=True).num_frames == 16


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
    plain = video("red star", generator=seeds(1), **FEW).frames
    silent = video("red star", generator=seeds(1), callback_on_step_end=lambda *given: None, **FEW).frames
    assert np.array_equal(plain, silent)
    assert not video("red star", callback_on_step_end=Blank(), **{**FEW, "output_type": "latent"}).frames.any()
    assert [each[0] for each in seen] == [F, F]


def test_textual_inversion() -> None:
    pipe = tiny_pipeline("StableDiffusionPipeline")
    torch.manual_seed(0)
    pipe.load_textual_inversion({"<mine>": 5 * torch.randn(2, TEXT_WIDTH)}, token="<mine>")
    video = latentshift.video(pipe, F)
    both = video(["red <mine>", "red"], generator=seeds(1, 1), **FEW).frames
    assert not np.allclose(both[0], both[1], atol=1e-3)
    assert np.array_equal(video("red <mine>", generator=seeds(1), **FEW).frames[0], both[0])


def test_offloading(text: VideoPipeline) -> None:
    expected = text("red star", generator=seeds(1), **FEW).frames
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
