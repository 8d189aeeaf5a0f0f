"""``latentshift.video`` of a model whose frames share noise."""

from __future__ import annotations

import copy
import sys
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, DDPMScheduler, StableDiffusionPipeline
from torch import Tensor

import latentshift
from latentshift import LatentShiftPipeline
from latentshift.diffusion.samplers import make_sampler
from latentshift.diffusion.sampling import sample
from latentshift.diffusion.shared_noise import mix_noise
from latentshift.image_pipelines.shared_noise import _modules, frames_share_noise
from latentshift.image_pipelines.stock import make_pictures
from test_image_pipelines import CASES, Case
from test_shared_noise import COVARIANCE, FRAMES, MEAN, SAMPLERS, covariance, exact_denoiser, schedule
from tiny_pipelines import clip, mask, seeds, tiny_controlnet, tiny_pipeline
from waiting import PATIENCE

F = 3
SHARE = 2.0
FEW = {"num_inference_steps": 3, "output_type": "latent"}


def with_sampler(kind: str, sampler: str, **parts: Any) -> Any:
    pipe = tiny_pipeline(kind, **parts)
    pipe.scheduler = make_sampler(sampler, pipe.scheduler)
    return pipe


def ours_of(stock: Any, share: float = SHARE) -> LatentShiftPipeline:
    """Our pipeline of a stock one's parts."""
    ours = LatentShiftPipeline.from_pipe(stock, noise_share=share, num_frames=F)
    ours.set_progress_bar_config(disable=True)
    ours.scheduler = copy.deepcopy(stock.scheduler)
    return ours


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_plain_loop_is_our_sampling_for_all_that_a_network_may_predict(
    name: str, prediction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of Gaussian data, for which tests/test_shared_noise.py holds our sampling to the closed form."""
    if prediction == "sample" and name in ("euler-a", "heun"):
        pytest.skip("its class lacks this prediction")
    kind, settings, eta = SAMPLERS[name]
    draws = torch.randn(20, 2, FRAMES, 1, 1, 1, dtype=torch.float64, generator=seeds(1)[0])

    def start() -> tuple[Any, Any]:
        scheduler = make_sampler(kind, schedule(prediction), **settings)
        scheduler.set_timesteps(5)
        drawn = iter(draws[1:])

        def prepared(shape: Any, dtype: Any = None, **others: Any) -> Tensor:
            return next(drawn).reshape(tuple(shape)).to(dtype or torch.float64)

        monkeypatch.setattr(sys.modules[type(scheduler).__module__], "randn_tensor", prepared, raising=False)
        return scheduler, exact_denoiser(MEAN, COVARIANCE, covariance(FRAMES, SHARE), scheduler)

    scheduler, denoiser = start()
    initial = draws[0] * scheduler.init_noise_sigma
    expected = sample(denoiser, scheduler, initial, seeds(2, 3), eta=eta, noise_share=SHARE)
    scheduler, denoiser = start()
    others = {"eta": eta} if "ddim" in name else {}
    pipe, given = SimpleNamespace(scheduler=scheduler), {"latents": draws[0].flatten(0, 1)}
    with frames_share_noise(pipe, given, FRAMES, SHARE) as options:
        latents = options["latents"] * scheduler.init_noise_sigma
        for timestep in scheduler.timesteps:
            seen = scheduler.scale_model_input(latents, timestep)
            predicted = denoiser(seen.unflatten(0, (2, FRAMES)), timestep).flatten(0, 1)
            latents = scheduler.step(predicted, timestep, latents, **others, return_dict=False)[0]
    made = latents.unflatten(0, (2, FRAMES))
    torch.testing.assert_close(made.double(), expected.double(), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("sampler", ["ddim", "dpm++", "heun", "unipc"])
def test_other_samplers_make_our_own_pipelines_latents_too(sampler: str) -> None:
    stock = with_sampler("StableDiffusionPipeline", sampler)
    for given in ({}, {"latents": torch.randn(1, F, 4, 8, 8, generator=seeds(3)[0])}):
        made = latentshift.video(stock, F, noise_share=SHARE)("red star", generator=seeds(1), **given, **FEW).frames
        expected = ours_of(stock)("red star", generator=seeds(1), guidance_scale=7.5, **given, **FEW).frames
        # Heun's begin at 13.5 times the noise, so that more is rounded
        torch.testing.assert_close(made, expected, atol=2e-4 if sampler == "heun" else 2e-5, rtol=1e-5)


def test_one_frame_and_the_image_pipeline_are_as_without() -> None:
    pipe = with_sampler("StableDiffusionPipeline", "ddpm")
    image = pipe("red star", generator=seeds(1), **FEW).images
    video = latentshift.video(pipe, F, shift={"padding": "replicate"}, noise_share=SHARE)
    assert torch.equal(video("red star", num_frames=1, generator=seeds(1), **FEW).frames[0], image)
    shared = video("red star", generator=seeds(1), **FEW).frames
    assert not torch.equal(shared, latentshift.video(pipe, F)("red star", generator=seeds(1), **FEW).frames)
    video.remove()
    assert "step" not in vars(pipe.scheduler)
    assert torch.equal(pipe("red star", generator=seeds(1), **FEW).images, image)


def test_a_controlnet_sees_the_frames_own_latents() -> None:
    pipe = tiny_pipeline("StableDiffusionControlNetPipeline")
    seen: dict[str, list[Tensor]] = {"net": [], "unet": []}
    for name, module in (("net", pipe.controlnet), ("unet", pipe.unet)):
        module.register_forward_pre_hook(lambda module, args, to=seen[name]: to.append(args[0]))
    noise = torch.randn(1, F, 4, 8, 8, generator=seeds(3)[0])
    latentshift.video(pipe, F, noise_share=SHARE)("red star", image=clip(1, F), latents=noise, **FEW)
    assert len(seen["net"]) == 3 and all(map(torch.equal, seen["net"], seen["unet"]))
    assert torch.equal(seen["net"][0], mix_noise(noise, SHARE)[0].repeat(2, 1, 1, 1))


def test_a_controlnet_without_effect_leaves_our_own_pipelines_video() -> None:
    text = with_sampler("StableDiffusionPipeline", "ddpm")
    silent = ControlNetModel.from_unet(text.unet, conditioning_embedding_out_channels=(4, 8))
    pipe = tiny_pipeline("StableDiffusionControlNetPipeline", unet=text.unet, controlnet=silent)
    pipe.scheduler = text.scheduler
    made = latentshift.video(pipe, F, noise_share=SHARE)("red star", image=clip(1, F), generator=seeds(1), **FEW).frames
    expected = ours_of(text)("red star", generator=seeds(1), guidance_scale=7.5, **FEW).frames
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sampler", ["ddim", "euler-a"])
def test_a_start_from_a_clip_is_our_own_pipelines(sampler: str) -> None:
    stock = with_sampler("StableDiffusionImg2ImgPipeline", sampler)
    source = torch.randn(F, 4, 8, 8, generator=seeds(5)[0])
    options = {"strength": 0.7, "guidance_scale": 3.0, "num_inference_steps": 5, "output_type": "latent"}
    made = latentshift.video(stock, F, noise_share=SHARE)("red star", image=source, generator=seeds(1), **options)
    expected = ours_of(stock)("red star", video=source[None], generator=seeds(1), **options)
    torch.testing.assert_close(made.frames, expected.frames, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("strength", [1.0, 0.7])
def test_around_masks_that_differ_the_clip_has_the_noise_that_frames_share(strength: float) -> None:
    """x_t = α x_0 + σ L η with one η for all steps, entry by entry, and x_0 in the end."""
    pipe = tiny_pipeline("StableDiffusionInpaintPipeline")
    masks = [mask(number) for number in range(F)]
    kept = 1 - torch.stack([torch.from_numpy(np.asarray(each)[::2, ::2] / 255) for each in masks])[:, None]

    def noise_of(share: float) -> list[Tensor]:
        """What the latents in each step have beside those of the last one, where they are whole by nearest pixels."""
        seen: list[tuple[int, Tensor]] = []

        def watch(pipe: Any, step: int, timestep: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            seen.append((step, tensors["latents"].clone()))
            return {}

        video = latentshift.video(pipe, F, noise_share=share)
        pictures = {"image": clip(1, F), "mask_image": masks, "strength": strength}
        options = {"generator": seeds(1), "callback_on_step_end": watch, "num_inference_steps": 4}
        frames = video("red star", **pictures, **options, output_type="latent").frames
        assert torch.equal(frames[0], seen[-1][1])
        noise = []
        timesteps = pipe.scheduler.timesteps[-len(seen) :]
        for (_, latents), after in zip(seen, timesteps[1:], strict=False):
            alpha = pipe.scheduler.alphas_cumprod[after]
            noise.append((latents - alpha.sqrt() * seen[-1][1]) / (1 - alpha).sqrt())
        return noise

    independent, shared = noise_of(0.0), noise_of(SHARE)
    assert len(shared) >= 1
    everywhere = kept.prod(dim=0, keepdim=True).bool().expand(F, 4, -1, -1)  # L needs a pixel of all frames
    assert everywhere.any()
    for own, mixed in zip(independent, shared, strict=True):
        wanted = mix_noise(own[None], SHARE)[0]
        torch.testing.assert_close(mixed[everywhere], wanted[everywhere], atol=1e-4, rtol=1e-4)
        assert not torch.allclose(mixed[everywhere], own[everywhere], atol=0.1)


WHOLE_CALLS = (  # one of each way from noise to pictures
    *("text, SDXL", "text, LDM", "text, SDXL, modular", "inpainting, SD", "inpainting, SDXL, 9 channels"),
    *("ControlNet, SD, guess mode", "two conditions of a ControlNet union, SDXL", "T2I-Adapter, SDXL"),
    *("IP-Adapter and ControlNet, SDXL", "PAG and ControlNet, SD", "InstructPix2Pix, SD", "InstructPix2Pix, SDXL"),
)
FROM_PICTURES = (  # and of each that puts noise on a picture, which ``latents`` do not stand for
    *("image to video, SD", "image to video, SDXL, modular", "inpainting, SDXL, modular"),
    *("ControlNet and image, SD", "ControlNet and inpainting, SDXL", "PAG and image, SD", "PAG and inpainting, SDXL"),
    *("PAG, ControlNet and image, SDXL", "PAG, ControlNet and inpainting, SD"),
)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.label in WHOLE_CALLS + FROM_PICTURES], ids=lambda case: case.label
)
def test_alike_frames_of_alike_noise_are_the_image_pipelines_picture(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Independent noise n / r is noise n in all frames, and DDIM, which draws no more, keeps them alike."""
    pipe = case.build()
    vae = getattr(pipe, "vae", None) or pipe.vqvae
    with torch.no_grad():  # nor does the autoencoder draw
        vae.quant_conv.weight[4:].zero_()
        vae.quant_conv.bias[4:].fill_(-30.0)
    noise = torch.randn(1, 4, 8, 8, generator=seeds(0)[0])
    r = mix_noise(torch.ones(1, F, 1, 1, 1), SHARE)[0, 0].item()
    options: dict[str, Any] = {**case.options, "num_inference_steps": 3}
    for name, count in case.pictures.items():
        pictures = [mask() if name == "mask_image" else clip(1 + each, 1)[0] for each in range(max(count, 1))]
        options[name] = pictures if count else pictures[0]
    starts: tuple[dict[str, Any], ...] = ({}, {})
    if case.label in WHOLE_CALLS:
        starts = {"latents": noise}, {"latents": noise.expand(F, -1, -1, -1)[None] / r}
    else:

        def draw(shape: Any, *args: Any, dtype: Any = None, **others: Any) -> Tensor:
            assert tuple(shape[1:]) == noise.shape[1:]
            return noise.expand(shape) / (r if shape[0] == F else 1.0)

        for module in _modules(pipe):
            monkeypatch.setattr(module, "randn_tensor", draw, raising=False)
    picture = make_pictures(pipe, {"prompt": "red star", **starts[0], **options}, "np")[0]
    options |= {**starts[1], "output_type": "np"}
    frames = latentshift.video(pipe, F, shift={"padding": "replicate"}, noise_share=SHARE)("red star", **options).frames
    np.testing.assert_allclose(frames[0], np.repeat(picture, F, axis=0), atol=2e-5, rtol=0)
    independent = latentshift.video(pipe, F)("red star", **options).frames
    assert np.abs(independent - frames).max() > 1e-3


def test_a_second_pipeline_goes_on_from_the_latents_of_the_first() -> None:
    first = tiny_pipeline("StableDiffusionXLPipeline")
    second = tiny_pipeline("StableDiffusionXLImg2ImgPipeline", unet=first.unet)
    options = {"num_inference_steps": 4, "output_type": "latent", "guidance_scale": 3.0}
    video = latentshift.video(first, F, noise_share=SHARE)
    whole = video("red star", generator=seeds(1), **options).frames
    half = video("red star", generator=seeds(1), denoising_end=0.5, **options).frames
    rest = latentshift.video(second, F, noise_share=SHARE)
    made = rest("red star", image=half, denoising_start=0.5, generator=seeds(1), **options).frames
    assert not torch.allclose(half, whole, atol=1e-2)
    torch.testing.assert_close(made, whole, atol=1e-4, rtol=1e-4)


def test_a_callback_has_the_frames_own_latents_and_may_change_them() -> None:
    video = latentshift.video(tiny_pipeline("StableDiffusionPipeline"), F, noise_share=SHARE)
    wanted = torch.randn(F, 4, 8, 8, generator=seeds(2)[0])

    def blank_the_second(pipe: Any, step: int, timestep: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        if step == 2:
            tensors["latents"][1] = 0
        return {"latents": wanted} if step == 0 else {}

    def replace_the_first(pipe: Any, step: int, timestep: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"latents": wanted} if step == 0 else {}

    made = video("red star", generator=seeds(1), callback_on_step_end=blank_the_second, **FEW).frames
    other_seed = video("red star", generator=seeds(9), callback_on_step_end=replace_the_first, **FEW).frames
    assert torch.equal(made[:, ::2], other_seed[:, ::2]) and not made[:, 1].any()  # DDIM draws only at the start


@pytest.mark.parametrize("setting", ["clip_sample", "thresholding"])
def test_a_scheduler_that_clips_is_refused_and_serves_for_images(setting: str) -> None:
    pipe = tiny_pipeline("StableDiffusionPipeline")
    pipe.scheduler = DDPMScheduler(**{"clip_sample": False, setting: True})
    video = latentshift.video(pipe, F, noise_share=SHARE)
    with pytest.raises(ValueError, match=f"clips the predicted latents \\({setting}\\).*noise_share 2"):
        video("red star", **FEW)
    assert video("red star", num_frames=1, **FEW).frames.shape == (1, 1, 4, 8, 8)


def test_calls_in_two_threads_have_each_their_own_noise() -> None:
    """At the same time: each waits for the other before its first step and in a callback."""
    shares = (SHARE, 0.0)
    videos = [latentshift.video(tiny_pipeline("StableDiffusionPipeline"), F, noise_share=share) for share in shares]
    alone = [video("red star", generator=seeds(1), **FEW).frames for video in videos]
    barrier = threading.Barrier(2, timeout=PATIENCE)
    made: dict[int, Tensor] = {}

    def wait(pipe: Any, step: int, timestep: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        barrier.wait()
        return {}

    def before_noise(encoder: Any, inputs: Any) -> None:
        barrier.wait()

    def call(number: int) -> None:
        videos[number].pipe.text_encoder.register_forward_pre_hook(before_noise)
        options = {"generator": seeds(1), "callback_on_step_end": wait}
        made[number] = videos[number]("red star", **options, **FEW).frames

    threads = [threading.Thread(target=call, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(made[number], alone[number]) for number in range(2)) and not torch.equal(*alone)


def test_noise_that_is_drawn_in_another_way_is_refused() -> None:
    class DrawsByItself(StableDiffusionPipeline):
        def prepare_latents(self, batch_size: int, *others: Any, **more: Any) -> Tensor:
            return torch.randn(batch_size, 4, 8, 8)

    parts = tiny_pipeline("StableDiffusionPipeline").components
    pipe = DrawsByItself(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    video = latentshift.video(pipe, F, noise_share=SHARE)
    with pytest.raises(ValueError, match="the noise of DrawsByItself, which frames are to share, was drawn in a way"):
        video("red star", **FEW)
    assert "step" not in vars(pipe.scheduler)
    assert video("red star", latents=torch.randn(1, F, 4, 8, 8), **FEW).frames.shape == (1, F, 4, 8, 8)


@pytest.mark.parametrize("share", [-1, 1001, float("nan"), "much", True])
def test_a_noise_share_that_is_none_is_refused(share: Any) -> None:
    with pytest.raises(ValueError, match="noise_share must be a number from 0"):
        latentshift.video(tiny_pipeline("StableDiffusionPipeline"), F, noise_share=share)


def test_the_controlnet_of_a_model_takes_its_noise_share() -> None:
    from latentshift.image_pipelines.controlnet import with_controlnet

    ours = ours_of(tiny_pipeline("StableDiffusionPipeline"))
    assert with_controlnet(ours, tiny_controlnet(ours.unet), F).noise_share == SHARE
