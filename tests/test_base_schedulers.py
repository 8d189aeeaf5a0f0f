"""The schedule of a base: samplers and training keep it, or the base is refused."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import get_args

import diffusers
import pytest
import torch
from diffusers.utils import DummyObject

from changed_base import QUAD, UNCLIPPED, ZERO_SNR, assert_same_image, both, both_saved, video_recipe, with_scheduler
from latentshift import LatentShiftPipeline
from latentshift.diffusion.noise import add_noise, timestep_weight
from latentshift.diffusion.sampler_names import SAMPLERS
from latentshift.diffusion.samplers import make_sampler, paper_sampler
from latentshift.diffusion.schedulers import KNOWN_SCHEDULERS, bound_to_weights, settings_of
from latentshift.models.storage.meta_init import meta_components
from latentshift.settings import Weighting
from latentshift.training.models.build import prepare_video_model

# The schedule: each sampler works on the base's own ᾱ and prediction type, or is refused.

SCHEDULES = {
    "linear": ("DDIMScheduler", {"clip_sample": False}),
    "scaled linear": ("PNDMScheduler", {**QUAD, "skip_prk_steps": True}),
    "cosine": ("DDIMScheduler", {"beta_schedule": "squaredcos_cap_v2", "clip_sample": False}),
    "sigmoid": ("DDPMScheduler", {"beta_schedule": "sigmoid", "clip_sample": False}),
    "laplace": ("DDPMScheduler", {"beta_schedule": "laplace", "clip_sample": False}),
    "exponential": ("HeunDiscreteScheduler", {"beta_schedule": "exp"}),
    "trained betas": ("DDIMScheduler", {"trained_betas": [0.01] * 1000, "clip_sample": False}),
    "other defaults": ("HeunDiscreteScheduler", {}),
    "fewer timesteps": ("EulerDiscreteScheduler", {**QUAD, "num_train_timesteps": 500}),
    "velocity": ("EulerDiscreteScheduler", {**QUAD, "prediction_type": "v_prediction"}),
    "clean latents": ("DDIMScheduler", {**UNCLIPPED, "prediction_type": "sample"}),
    "zero SNR": ("DDIMScheduler", {**UNCLIPPED, **ZERO_SNR}),
    "zero SNR, Euler": ("EulerDiscreteScheduler", {**QUAD, **ZERO_SNR}),
    "clipped": ("DDIMScheduler", {**UNCLIPPED, "clip_sample": True, "clip_sample_range": 0.5}),
    "thresholded": ("DPMSolverMultistepScheduler", {**QUAD, "thresholding": True, "sample_max_value": 1.5}),
}
REFUSED = {
    ("clean latents", "euler-a"): "prediction type",
    ("clean latents", "heun"): "prediction type",
    **{("clipped", name): "clip_sample" for name in ("dpm++", "euler", "euler-a", "unipc")},
    **{("thresholded", name): "thresholding" for name in ("euler", "euler-a", "heun")},
}


def scheduler_of(case: str):
    kind, settings = SCHEDULES[case]
    return getattr(diffusers, kind)(**settings)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("case", SCHEDULES)
def test_a_sampler_keeps_the_bases_schedule_or_is_refused(case: str, name: str) -> None:
    base = scheduler_of(case)
    if (case, name) in REFUSED:
        with pytest.raises(ValueError, match=f"the sampler .* can't be used for this model: .*{REFUSED[case, name]}"):
            make_sampler(name, base)
        return
    made = make_sampler(name, base)
    assert type(made).__name__ == SAMPLERS[name]
    floor = 2.0**-24
    torch.testing.assert_close(
        made.alphas_cumprod.clamp(min=floor), base.alphas_cumprod.clamp(min=floor), rtol=1e-6, atol=floor
    )
    for setting in ("prediction_type", "num_train_timesteps"):
        assert made.config[setting] == base.config[setting]
    for setting in ("clip_sample", "thresholding"):
        assert made.config.get(setting, False) == base.config.get(setting, False)
    if base.config.get("clip_sample"):
        assert made.config.clip_sample_range == base.config.clip_sample_range
    # A perfect prediction leads back to the clean latents: what is predicted is read as what it is.
    made.set_timesteps(25)
    clean, noise = (
        torch.full((1, 1, 4, 2, 2), 0.3),
        torch.randn(1, 1, 4, 2, 2, generator=torch.Generator().manual_seed(0)),
    )
    latents = noise * made.init_noise_sigma
    generator = torch.Generator().manual_seed(1)
    for timestep in made.timesteps:
        scaled = made.scale_model_input(latents, timestep)
        alpha = base.alphas_cumprod[int(timestep)].clamp(min=1e-7)
        a, s = alpha.sqrt(), (1 - alpha).sqrt()
        guess = (scaled - a * clean) / s
        kind = made.config.prediction_type
        output = {"epsilon": guess, "v_prediction": a * guess - s * clean, "sample": clean}[kind]
        options = {"generator": generator} if "generator" in made.step.__code__.co_varnames else {}
        latents = made.step(output, timestep, latents, **options).prev_sample
    assert torch.isfinite(latents).all()
    torch.testing.assert_close(latents, clean, atol=0.06, rtol=0)


@pytest.mark.parametrize("case", SCHEDULES)
def test_training_is_on_the_bases_schedule(case: str) -> None:
    base = scheduler_of(case)
    ours = make_sampler("ddpm", base)
    total = base.config.num_train_timesteps
    clean, noise = torch.randn(4, 1, 4, 2, 2), torch.randn(4, 1, 4, 2, 2)
    steps = torch.tensor([0, total // 3, total // 2, total - 1])
    noisy, target = add_noise(ours, clean, noise, steps)
    alphas = base.alphas_cumprod.clone()
    if base.config.get("rescale_betas_zero_snr"):
        alphas[-1] = 0  # Euler divides by it and puts 2^-24 in its place
    alpha = alphas[steps].reshape(4, 1, 1, 1, 1)
    torch.testing.assert_close(noisy, alpha.sqrt() * clean + (1 - alpha).sqrt() * noise)
    velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
    wanted = {"epsilon": noise, "v_prediction": velocity, "sample": clean}[base.config.prediction_type]
    torch.testing.assert_close(target, wanted)
    for weighting in get_args(Weighting):
        assert torch.isfinite(timestep_weight(ours, steps, weighting, 5.0)).all()


@pytest.mark.parametrize(
    ("family", "kind", "settings"),
    [
        ("sd1", "DDIMScheduler", {**UNCLIPPED, **ZERO_SNR}),
        ("sd1", "DDIMScheduler", {**UNCLIPPED, "prediction_type": "sample"}),
        ("sd1", "DDIMScheduler", {"beta_schedule": "squaredcos_cap_v2", "clip_sample": False}),
        ("sd1", "HeunDiscreteScheduler", {"beta_schedule": "exp"}),
        ("sd1", "DDIMScheduler", {**UNCLIPPED, "clip_sample": True}),  # which StableDiffusionPipeline turns off
        ("sdxl", "DDIMScheduler", {**UNCLIPPED, "clip_sample": True, "clip_sample_range": 0.5}),
        ("sdxl", "DDIMScheduler", {**UNCLIPPED, "thresholding": True, "sample_max_value": 1.2}),
        ("sdxl", "DDIMScheduler", {**UNCLIPPED, "set_alpha_to_one": False}),
    ],
)
def test_the_sampler_of_a_base_makes_the_stock_image(
    request: pytest.FixtureRequest, tmp_path: Path, family: str, kind: str, settings: dict
) -> None:
    base = request.getfixturevalue(f"{family}_folder")
    name, spacing = ("ddim", "trailing") if kind == "DDIMScheduler" else ("heun", "linspace")
    ours, stock = both(with_scheduler(base, tmp_path / "base", kind, timestep_spacing=spacing, **settings))
    ours.scheduler = make_sampler(name, ours.scheduler)  # from the paper's DDPM, with nothing lost on the way
    assert_same_image(ours, stock)


# Schedulers that belong to the weights: kept in sampling, refused in training and under another sampler's name.

BOUND = {
    "EDM, solver": ("EDMDPMSolverMultistepScheduler", {}),
    "EDM, Euler": ("EDMEulerScheduler", {"sigma_max": 40.0}),
    "EDM, velocity": ("EDMDPMSolverMultistepScheduler", {"prediction_type": "v_prediction"}),
    "consistency": ("LCMScheduler", QUAD),
    "trajectory consistency": ("TCDScheduler", QUAD),
    "flow matching": (
        "DPMSolverMultistepScheduler",
        {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0},
    ),
    "continuous": (
        "EulerDiscreteScheduler",
        {"timestep_type": "continuous", "prediction_type": "v_prediction", "sigma_min": 0.02, "sigma_max": 100.0}
        | {"use_karras_sigmas": True},
    ),
}


@pytest.mark.parametrize("case", BOUND)
def test_a_scheduler_of_the_weights_is_kept(sdxl_folder: Path, tmp_path: Path, case: str) -> None:
    kind, settings = BOUND[case]
    folder = with_scheduler(sdxl_folder, tmp_path / "base", kind, **settings)
    ours, stock = both(folder)
    assert bound_to_weights(kind, ours.scheduler.config)
    assert_same_image(ours, stock)
    ours.save_pretrained(tmp_path / "saved")
    assert_same_image(both_saved(tmp_path / "saved"), stock)
    for name in (name for name, sampler in SAMPLERS.items() if sampler != kind):
        with pytest.raises(ValueError, match=f"the sampler {name.replace('+', '.')} can't be used for this model: its"):
            make_sampler(name, ours.scheduler)
    with pytest.raises(ValueError, match="this model can't be trained: its"):
        prepare_video_model(video_recipe(folder), ours)
    with pytest.raises(ValueError, match="this model can't be trained: its"):  # so says a dry run
        prepare_video_model(video_recipe(folder), LatentShiftPipeline(**meta_components(str(folder))))


@pytest.mark.parametrize(
    "kind",
    [
        "FlowMatchEulerDiscreteScheduler",
        "IPNDMScheduler",
        "DDPMWuerstchenScheduler",
        "UnCLIPScheduler",
    ],
)
def test_a_scheduler_that_is_not_known_is_refused(sd1_folder: Path, tmp_path: Path, kind: str) -> None:
    folder = with_scheduler(sd1_folder, tmp_path / "base", kind)
    for opened in (LatentShiftPipeline.from_pretrained, meta_components):
        with pytest.raises(ValueError, match=f"scheduler_config.json: the scheduler is a {kind}; latentshift knows"):
            opened(str(folder))
    pipeline = LatentShiftPipeline.from_pretrained(sd1_folder)
    pipeline.scheduler = getattr(diffusers, kind)()
    with pytest.raises(ValueError, match=f"the scheduler is a {kind}"):
        pipeline("red star")


def test_a_scheduler_whose_noise_has_no_seed_is_refused(sd1_folder: Path) -> None:
    pipeline = LatentShiftPipeline.from_pretrained(sd1_folder)
    pipeline.scheduler = type("DPMSolverSDEScheduler", (diffusers.DDIMScheduler,), {})()
    with pytest.raises(ValueError, match="draws noise that no seed decides"):
        pipeline("red star")


@pytest.mark.parametrize("name", SAMPLERS)
def test_zero_snr_with_noise_prediction_is_sampled_or_refused(sd1_folder: Path, tmp_path: Path, name: str) -> None:
    settings = {**UNCLIPPED, "rescale_betas_zero_snr": True}
    pipeline = LatentShiftPipeline.from_pretrained(
        with_scheduler(sd1_folder, tmp_path / "base", "DDIMScheduler", **settings)
    )
    pipeline.scheduler = make_sampler(name, pipeline.scheduler)
    options = {"num_frames": 1, "num_inference_steps": 3, "output_type": "latent"}
    if name in ("ddpm", "ddim"):
        with pytest.raises(ValueError, match="can't begin at zero terminal SNR"):
            pipeline("red star", **options)
        return
    assert torch.isfinite(pipeline("red star", **options).frames).all()


@pytest.mark.parametrize("kind", sorted(KNOWN_SCHEDULERS))
def test_the_settings_of_a_scheduler_are_those_of_its_class(kind: str) -> None:
    if isinstance(getattr(diffusers, kind), DummyObject):
        pytest.skip(f"{kind} needs a library that is not installed")
    parameters = inspect.signature(getattr(diffusers, kind).__init__).parameters.values()
    assert settings_of(kind) == {each.name for each in parameters if each.kind is not each.VAR_KEYWORD} - {"self"}


@pytest.mark.parametrize("base", sorted(KNOWN_SCHEDULERS))
def test_every_known_scheduler_gives_way_to_every_sampler_or_to_none(base: str) -> None:
    if isinstance(getattr(diffusers, base), DummyObject):
        pytest.skip(f"{base} needs a library that is not installed")
    scheduler = getattr(diffusers, base)()
    bound = bound_to_weights(base, scheduler.config)
    assert (
        paper_sampler(scheduler) is scheduler if bound else type(paper_sampler(scheduler)).__name__ == "DDPMScheduler"
    )
    for name, kind in SAMPLERS.items():
        takes_clip = "clip_sample" in inspect.signature(getattr(diffusers, kind)).parameters
        if bound or (scheduler.config.get("clip_sample") and not takes_clip):
            with pytest.raises(ValueError, match=f"the sampler {re.escape(name)} can't be used for this model"):
                make_sampler(name, paper_sampler(scheduler))
            continue
        made = make_sampler(name, paper_sampler(scheduler))
        assert type(made).__name__ == kind
        torch.testing.assert_close(made.alphas_cumprod, scheduler.alphas_cumprod)


def test_thresholds_are_of_whole_videos(sd1_folder: Path) -> None:
    pipeline = LatentShiftPipeline.from_pretrained(sd1_folder, shift=None)
    pipeline.scheduler = diffusers.DDIMScheduler(**UNCLIPPED, thresholding=True, sample_max_value=5.0)
    step = pipeline.scheduler
    step.set_timesteps(2)
    frames = torch.randn(1, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    frames[:, 1] *= 4  # a frame of more contrast: its own threshold would be another
    bound = torch.quantile(frames.abs().flatten(), step.config.dynamic_thresholding_ratio).clamp(1, 5)
    torch.testing.assert_close(step._threshold_sample(frames), frames.clamp(-bound, bound) / bound)
