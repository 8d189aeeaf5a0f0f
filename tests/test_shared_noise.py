"""Noise that frames share: its closed form, and sampling with it where the exact denoiser is known."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from latentshift import LatentShiftPipeline, bundled_model
from latentshift.diffusion.condition import TextCondition
from latentshift.diffusion.noise import paper_scheduler
from latentshift.diffusion.samplers import make_sampler
from latentshift.diffusion.sampling import sample
from latentshift.diffusion.shared_noise import mix_noise, unmix_noise
from latentshift.evaluation.sprites.study import Study
from latentshift.models.storage.meta_init import meta_components
from latentshift.settings import KEEP_IMAGE_NOISE_SHARE, MAX_NOISE_SHARE, ShiftConfig
from latentshift.shift import install
from latentshift.training.losses import DenoisingLoss, LatentBatch
from tiny_models import ONE_LEVEL, tiny_bert, tiny_tokenizer, tiny_unet, tiny_vae
from tiny_pipelines import seeds
from tiny_runs import RECIPES

SHARES = [0.0, 0.5, 1.0, 2.0, 30.0, MAX_NOISE_SHARE]


def covariance(frames: int, share: float) -> np.ndarray:
    """Of ε_f = √(a²/(1+a²)) ε_shared + √(1/(1+a²)) ε_f′."""
    common = np.full((frames, frames), share**2 / (1 + share**2))
    return common + np.eye(frames) / (1 + share**2)


def square_root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values)) @ vectors.T


def as_matrix(function: Any, frames: int, share: float) -> np.ndarray:
    """Of a linear function of frames: column g is what it makes of 1 in frame g."""
    basis = torch.eye(frames, dtype=torch.float64).reshape(frames, frames, 1, 1, 1)
    return function(basis, share).reshape(frames, frames).T.numpy()


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("frames", [1, 2, 5, 16])
def test_the_mix_is_the_square_root_of_the_covariance(frames: int, share: float) -> None:
    mixing = as_matrix(mix_noise, frames, share)
    wanted = covariance(frames, share)
    np.testing.assert_allclose(mixing @ mixing.T, wanted, atol=1e-12)
    np.testing.assert_allclose(mixing, square_root(wanted), atol=1e-12)
    np.testing.assert_allclose(as_matrix(unmix_noise, frames, share) @ mixing, np.eye(frames), atol=1e-11)


def test_the_order_of_frames_does_not_matter_and_equal_frames_stay_equal() -> None:
    noise = torch.randn(2, 5, 3, 2, 2, dtype=torch.float64)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(mix_noise(noise, 2.0)[:, order], mix_noise(noise[:, order], 2.0), atol=1e-14, rtol=0)
    still = mix_noise(noise[:, :1].expand_as(noise), 2.0)
    assert torch.equal(still, still[:, :1].expand_as(still))


def test_the_largest_share_holds_in_single_precision() -> None:
    noise = torch.randn(2, 16, 3, 4, 4, generator=seeds(0)[0])
    mixed = mix_noise(noise, MAX_NOISE_SHARE)
    exact = mix_noise(noise.double(), MAX_NOISE_SHARE)
    torch.testing.assert_close(mixed.double(), exact, atol=1e-6, rtol=1e-6)
    back = unmix_noise(mixed, MAX_NOISE_SHARE)
    torch.testing.assert_close(mix_noise(back, MAX_NOISE_SHARE), mixed, atol=2e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    noise = torch.randn(2, 16, 3, 4, 4, generator=seeds(0)[0]).to(dtype)
    for change in (mix_noise, unmix_noise):
        assert torch.equal(change(noise, 4.0), change(noise.float(), 4.0).to(dtype))


def test_one_frame_and_independent_noise_are_left_as_they_are() -> None:
    video, image = torch.randn(2, 4, 3, 2, 2), torch.randn(2, 1, 3, 2, 2)
    for change in (mix_noise, unmix_noise):
        assert change(video, 0.0) is video and change(image, 2.0) is image


def test_a_mixed_video_has_the_same_bits_in_any_company() -> None:
    noise = torch.randn(7, 5, 3, 5, 3)
    mixed = mix_noise(noise, 1.0)
    assert all(torch.equal(mixed[k], mix_noise(noise[k : k + 1], 1.0)[0]) for k in range(7))


# Sampling of Gaussian data, where the exact denoiser is known. A video is F numbers, x ~ N(μ, S).
FRAMES = 3
MEAN = np.array([0.5, -0.3, 0.9])
COVARIANCE = np.array([[1.0, 0.8, 0.5], [0.8, 1.2, 0.6], [0.5, 0.6, 0.7]])
SAMPLERS = {
    "ddpm": ("ddpm", {}, 0.0),
    "ddim": ("ddim", {}, 0.0),
    "ddim with noise": ("ddim", {}, 1.0),
    "euler": ("euler", {}, 0.0),
    "euler-a": ("euler-a", {}, 0.0),
    "heun": ("heun", {}, 0.0),
    "dpm++": ("dpm++", {}, 0.0),
    "dpm++ sde": ("dpm++", {"algorithm_type": "sde-dpmsolver++"}, 0.0),
    "unipc": ("unipc", {}, 0.0),
}


def schedule(prediction_type: str) -> DDPMScheduler:
    """One that ends in noise almost alone, so that sampling begins where the data's noise ends."""
    return DDPMScheduler(beta_schedule="linear", clip_sample=False, prediction_type=prediction_type)


def exact_denoiser(mean: np.ndarray, data: np.ndarray, noise: np.ndarray, scheduler: Any) -> Any:
    """E[ε | u], or of what is predicted, for u = α x + σ ε with x ~ N(mean, data) and ε ~ N(0, noise)."""
    log_snr = np.log(scheduler.alphas_cumprod.double() / (1 - scheduler.alphas_cumprod.double())).numpy()

    def predict(noisy: Tensor, timestep: Tensor) -> Tensor:
        snr = np.interp(float(timestep), np.arange(1000), log_snr)  # Euler's timesteps may lie between two
        alpha, sigma = np.sqrt(1 / (1 + np.exp(-snr))), np.sqrt(1 / (1 + np.exp(snr)))
        u = noisy.double().reshape(-1, FRAMES).numpy()
        gain = alpha * data @ np.linalg.inv(alpha**2 * data + sigma**2 * noise)
        clean = mean + (u - alpha * mean) @ gain.T
        epsilon = (u - alpha * clean) / sigma
        kinds = {"epsilon": epsilon, "v_prediction": alpha * epsilon - sigma * clean, "sample": clean}
        return torch.from_numpy(kinds[scheduler.config.prediction_type]).reshape(noisy.shape).to(noisy.dtype)

    return predict


def affine_map(
    patch: pytest.MonkeyPatch, name: str, steps: int, prediction: str, share: float, problem: Any
) -> np.ndarray:
    """What a sampler makes of its draws: row 0 of no noise, the others of one draw at 1, in (initial, step 1, …)."""
    kind, settings, eta = SAMPLERS[name]
    scheduler = make_sampler(kind, schedule(prediction), **settings)
    scheduler.set_timesteps(steps)
    rounds = 1 + len(scheduler.timesteps)
    draws = torch.zeros(rounds, 1 + FRAMES * rounds, FRAMES, 1, 1, 1, dtype=torch.float64)
    for number in range(rounds):
        for frame in range(FRAMES):
            draws[number, 1 + number * FRAMES + frame, frame] = 1
    drawn = iter(draws)
    start = next(drawn) * scheduler.init_noise_sigma

    def unit_noise(shape: Any, dtype: Any = None, **others: Any) -> Tensor:
        return next(drawn).to(dtype or torch.float64)

    patch.setattr(sys.modules[type(scheduler).__module__], "randn_tensor", unit_noise, raising=False)
    denoiser = exact_denoiser(*problem, scheduler)
    made = sample(denoiser, scheduler, start, [torch.Generator()] * len(start), eta=eta, noise_share=share)
    return made.double().reshape(-1, FRAMES).numpy()


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_sampling_is_that_of_the_same_problem_with_independent_noise(
    name: str, prediction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """y = L⁻¹ u has independent noise and the data N(L⁻¹ μ, L⁻¹ S L⁻¹): the samplers' maps are the same, by L."""
    if prediction == "sample" and name in ("euler-a", "heun"):
        pytest.skip("its class lacks this prediction")
    share, steps = 1.5, 7
    noise = covariance(FRAMES, share)
    mixing, unmixing = square_root(noise), np.linalg.inv(square_root(noise))
    whitened = (unmixing @ MEAN, unmixing @ COVARIANCE @ unmixing, np.eye(FRAMES))
    independent = affine_map(monkeypatch, name, steps, prediction, 0.0, whitened)
    shared = affine_map(monkeypatch, name, steps, prediction, share, (MEAN, COVARIANCE, noise))
    np.testing.assert_allclose(shared, independent @ mixing, atol=2e-4)  # Euler works in float32


@pytest.mark.parametrize("share", [1.0, 2.0])
@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_have_the_mean_and_covariance_of_the_data(
    name: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = (MEAN, COVARIANCE, covariance(FRAMES, share))

    def error(steps: int) -> tuple[float, float]:
        made = affine_map(monkeypatch, name, steps, "epsilon", share, problem)
        columns = made[1:] - made[0]
        return abs(made[0] - MEAN).max(), abs(columns.T @ columns - COVARIANCE).max()

    few, many = error(10), error(200)
    assert many[0] < 0.02 and many[1] < 0.06
    assert many[1] < few[1] / 4 or few[1] < 0.06


def pipeline_with(share: float, **others: Any) -> LatentShiftPipeline:
    parts = {"vae": tiny_vae(), "text_encoder": tiny_bert(), "tokenizer": tiny_tokenizer(), "unet": tiny_unet()}
    settings = {"scheduler": paper_scheduler(), "num_frames": 3, "noise_share": share}
    pipeline = LatentShiftPipeline(**{**parts, **settings, **others})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("sampler", ["ddpm", "euler-a"])
def test_a_seed_is_the_same_video_in_any_company_and_the_same_image(sampler: str) -> None:
    scheduler = make_sampler(sampler, paper_scheduler())
    shared, independent = pipeline_with(2.0, scheduler=scheduler), pipeline_with(0.0, scheduler=scheduler)
    options = {"num_inference_steps": 3, "output_type": "latent"}
    together = shared(["red star", "on black"], generator=seeds(5, 6), **options).frames
    for k, prompt in enumerate(["red star", "on black"]):
        assert torch.equal(shared(prompt, generator=seeds(5 + k), **options).frames[0], together[k])
    assert not torch.equal(together, independent(["red star", "on black"], generator=seeds(5, 6), **options).frames)
    images = [each("red star", generator=seeds(5), num_frames=1, **options).frames for each in (shared, independent)]
    assert torch.equal(*images)


def test_the_network_sees_the_mixed_noise_and_guidance_is_the_formula() -> None:
    """Of one step of DDIM, which is affine in the prediction."""
    seen: list[Tensor] = []

    def run(share: float, scale: float, noise: Tensor) -> Tensor:
        pipeline = pipeline_with(share, scheduler=make_sampler("ddim", paper_scheduler()))
        pipeline.unet.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        options = {"num_inference_steps": 1, "output_type": "latent", "latents": noise, "guidance_scale": scale}
        return pipeline("red star", **options).frames

    noise = torch.randn(1, 3, 4, 8, 8, generator=seeds(0)[0])
    half, towards, far = (run(2.0, scale, noise) for scale in (0.0, 1.0, 4.0))
    torch.testing.assert_close(far, half + 4 * (towards - half), atol=1e-4, rtol=1e-4)
    mixed = mix_noise(noise, 2.0)
    assert torch.equal(seen[-1], torch.cat([mixed[0], mixed[0]]))
    # DDIM draws nothing more, so that this is the video of that noise with an unmixed sampler.
    torch.testing.assert_close(far, run(0.0, 4.0, mixed), atol=1e-4, rtol=1e-4)


def test_a_callback_has_the_frames_own_latents() -> None:
    pipeline = pipeline_with(2.0)
    seen: list[Tensor] = []

    def watch(pipe: Any, step: int, timestep: Tensor, tensors: dict) -> dict:
        seen.append(tensors["latents"].clone())
        return tensors

    def last_step(change: Any) -> Any:
        return lambda pipe, step, timestep, tensors: change(tensors["latents"]) if step == 2 else {}

    def blank_the_second(latents: Tensor) -> dict:
        latents[:, 1] = 0
        return {}

    def run(callback: Any) -> Tensor:
        options = {"num_inference_steps": 3, "output_type": "latent", "generator": seeds(1)}
        return pipeline("red star", callback_on_step_end=callback, **options).frames

    alone = run(None)
    assert torch.equal(run(watch), alone) and torch.equal(seen[-1], alone)
    wanted = torch.randn(alone.shape, generator=seeds(2)[0])
    torch.testing.assert_close(run(last_step(lambda latents: {"latents": wanted})), wanted, atol=5e-5, rtol=1e-5)
    in_place = run(last_step(blank_the_second))
    torch.testing.assert_close(in_place[:, ::2], alone[:, ::2], atol=5e-5, rtol=1e-5)
    torch.testing.assert_close(in_place[:, 1], torch.zeros_like(alone[:, 1]), atol=5e-5, rtol=0)


@pytest.mark.parametrize("setting", ["clip_sample", "thresholding"])
def test_a_scheduler_that_clips_is_refused_and_serves_for_images(setting: str) -> None:
    clipping = DDPMScheduler(**{"clip_sample": False, setting: True})
    said = f"clips the predicted latents \\({setting}\\).*noise_share 2"
    with pytest.raises(ValueError, match=said):
        pipeline_with(2.0, scheduler=clipping)
    with pytest.raises(ValueError, match=said):
        pipeline_with(0.0, scheduler=clipping).set_noise_share(2)
    pipeline = pipeline_with(2.0)
    pipeline.scheduler = clipping
    with pytest.raises(ValueError, match=said):
        pipeline("red star", num_inference_steps=2)
    pipeline("red star", num_inference_steps=2, num_frames=1)


@pytest.mark.parametrize("share", [-1, 1001, float("nan"), float("inf"), "much", None, True])
def test_a_noise_share_that_is_none_is_refused(share: Any) -> None:
    with pytest.raises(ValueError, match="noise_share must be a number from 0"):
        pipeline_with(share)
    pipeline = pipeline_with(1.0)
    with pytest.raises(ValueError, match="noise_share must be a number from 0"):
        pipeline.set_noise_share(share)
    assert pipeline.config.noise_share == 1


def test_it_is_kept_with_the_model(sd1_folder: Path, tmp_path: Path) -> None:
    assert LatentShiftPipeline.from_pretrained(sd1_folder).config.noise_share == 0
    pipeline = LatentShiftPipeline.from_pretrained(sd1_folder, noise_share=2.0)
    pipeline.save_pretrained(tmp_path / "model")
    again = LatentShiftPipeline.from_pretrained(tmp_path / "model")
    assert again.config.noise_share == 2 and LatentShiftPipeline.from_pipe(again).config.noise_share == 2
    assert LatentShiftPipeline.from_pipe(again, noise_share=1.0).config.noise_share == 1
    assert LatentShiftPipeline(**meta_components(str(tmp_path / "model"))).config.noise_share == 2
    again.set_method("latent-vdm")
    assert again.config.noise_share == 2
    index = tmp_path / "model" / "model_index.json"
    settings = json.loads(index.read_text())
    del settings["noise_share"]  # a folder of before
    index.write_text(json.dumps(settings))
    assert LatentShiftPipeline.from_pretrained(tmp_path / "model").config.noise_share == 0


def test_a_study_is_of_one_share(tmp_path: Path) -> None:
    Study(pipeline_with(0.0), "model", tmp_path, 2)
    with pytest.raises(ValueError, match="noise_share was None and is now 1"):
        Study(pipeline_with(1.0), "model", tmp_path, 2)


def test_the_command_line_sets_and_shows_it(cli: Any, sd1_folder: Path) -> None:
    assert cli("init", "--base", sd1_folder, "--noise-share", 1.5, "-o", "one")[0] == 0
    assert cli("init", "--base", "one", "--padding", "circular", "-o", "two")[0] == 0
    code, out, _ = cli("info", "two", "--json")
    assert code == 0 and json.loads(out)["noise_share"] == 1.5
    code, _, err = cli("init", "--base", sd1_folder, "--noise-share", -1, "-o", "three")
    assert code == 1 and "--noise-share must be a number from 0" in err and not Path("three").exists()


def test_the_training_pair_is_the_closed_form() -> None:
    """Of the draw that is 1 in one frame and 0 in others the network gets a column of L, times σ, and is to find it."""
    frames, share, step = 4, 1.5, 700
    unet, scheduler = install(tiny_unet(**ONE_LEVEL)), paper_scheduler()
    calls: list[tuple[Tensor, Tensor]] = []
    unet.register_forward_hook(lambda module, inputs, output: calls.append((inputs[0], output[0])))
    clean = torch.randn(1, frames, 4, 4, 4, generator=seeds(0)[0])
    text = TextCondition(torch.randn(1, 12, 16, generator=seeds(1)[0]))
    root = torch.from_numpy(square_root(covariance(frames, share))).float()
    alpha = float(scheduler.alphas_cumprod[step]) ** 0.5
    for frame in range(frames):
        draw = torch.zeros_like(clean)
        draw[:, frame] = 1
        batch = LatentBatch(clean, draw, torch.tensor([step]), None, text)
        loss = DenoisingLoss(unet, None, scheduler, noise_share=share)(batch)["loss"]
        noisy, predicted = calls.pop()
        noise = root[:, frame].reshape(-1, 1, 1, 1).expand(clean.shape[1:])
        torch.testing.assert_close(noisy, alpha * clean[0] + (1 - alpha**2) ** 0.5 * noise)
        torch.testing.assert_close(loss, (predicted - noise).square().mean())


def test_training_on_single_frames_and_without_sharing_is_as_it_was() -> None:
    unet, scheduler = install(tiny_unet(**ONE_LEVEL)), paper_scheduler()
    text = TextCondition(torch.randn(2, 12, 16, generator=seeds(1)[0]))

    def loss(frames: int, **settings: float) -> Tensor:
        latents, noise = torch.randn(2, 2, frames, 4, 4, 4, generator=seeds(0)[0])
        batch = LatentBatch(latents, noise, torch.tensor([300, 900]), None, text)
        return DenoisingLoss(unet, None, scheduler, **settings)(batch)["loss"]

    assert torch.equal(loss(1), loss(1, noise_share=2.0))
    assert torch.equal(loss(3), loss(3, noise_share=0.0))
    assert not torch.equal(loss(3), loss(3, noise_share=2.0))


def test_a_kept_image_model_draws_its_image_in_every_frame_as_the_share_grows() -> None:
    """With a → ∞ all frames have one noise, √F times the mean of the draws; what differs falls as 1 / a."""
    replicate = {**ShiftConfig().to_dict(), "padding": "replicate"}
    noise = torch.randn(1, 3, 4, 8, 8, generator=seeds(0)[0])

    def run(latents: Tensor, share: float, shift: dict | None) -> Tensor:
        pipeline = pipeline_with(share, scheduler=make_sampler("ddim", paper_scheduler()), shift=shift)
        options = {"num_inference_steps": 5, "output_type": "latent", "num_frames": latents.shape[1]}
        return pipeline("red star", latents=latents, **options).frames

    image = run(noise.mean(dim=1, keepdim=True) * 3**0.5, 0.0, None)
    away = [float((run(noise, share, replicate) - image).square().mean().sqrt()) for share in (0.0, 16.0, 64.0, 1000.0)]
    assert away[0] > 5 * away[1] and away[2] == pytest.approx(away[1] / 4, rel=0.1)
    assert away[3] == pytest.approx(away[2] * 0.064, rel=0.1)


def test_init_keeps_the_image_model(cli: Any, sd1_folder: Path) -> None:
    assert cli("init", "--base", sd1_folder, "--keep-image", "-o", "kept")[0] == 0
    facts = json.loads(cli("info", "kept", "--json")[1])
    assert (facts["shift"]["padding"], facts["noise_share"]) == ("replicate", KEEP_IMAGE_NOISE_SHARE)
    assert cli("init", "--base", sd1_folder, "--keep-image", "--noise-share", 1, "--fold", 4, "-o", "one")[0] == 0
    facts = json.loads(cli("info", "one", "--json")[1])
    assert (facts["shift"]["padding"], facts["shift"]["fold"], facts["noise_share"]) == ("replicate", 4, 1)
    assert cli("init", "--base", sd1_folder, "--keep-image", "--method", "latent-vdm", "-o", "vdm")[0] == 0
    facts = json.loads(cli("info", "vdm", "--json")[1])
    assert (facts["method"], facts["shift"], facts["noise_share"]) == ("latent-vdm", None, KEEP_IMAGE_NOISE_SHARE)
    code, _, err = cli("init", "--base", sd1_folder, "--keep-image", "--padding", "zeros", "-o", "wrong")
    assert code == 1 and "--keep-image needs --padding replicate, not zeros" in err and not Path("wrong").exists()


def test_a_base_whose_file_says_that_it_clips_is_sized_as_it_is_trained(
    cli: Any, sd1_folder: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(sd1_folder, base)
    file = base / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "clip_sample": True}))
    assert not LatentShiftPipeline.from_pretrained(base).scheduler.config.clip_sample  # diffusers' class sees to it
    words = (f"model={base}", "num_frames=4", "frame_curriculum={}", "noise_share=1", "data.options.clips=4")
    code, _, errors = cli("train", RECIPES / "sprites-video.yaml", *words, "output=run", "--dry-run")
    assert code == 0, errors


def test_a_model_trained_on_clips_is_no_image_model_to_keep(cli: Any, runs: Path, model: Path) -> None:
    trained = runs / "video"
    for base in ("bundled", bundled_model(), trained):
        code, _, err = cli("init", "--base", base, "--keep-image", "-o", "new")
        assert code == 1 and f"{base} was trained on clips" in err and "name the image model" in err
    assert cli("init", "--base", model, "--keep-image", "-o", "untrained")[0] == 0
    shutil.copy(trained / "model" / "data_settings.json", "untrained")
    assert cli("init", "--base", "untrained", "--keep-image", "-o", "as-trained")[0] == 0
    assert not Path("new").exists()
