"""Every setting of every part of a base is honoured, as the stock pipeline honours it, or the base is refused."""

from __future__ import annotations

import copy
import inspect
import json
import re
import shutil
from pathlib import Path
from typing import get_args

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.utils import DummyObject

from latentshift import LatentShiftPipeline
from latentshift.diffusion.noise import add_noise, timestep_weight
from latentshift.diffusion.sampler_names import SAMPLERS
from latentshift.diffusion.samplers import make_sampler, paper_sampler
from latentshift.diffusion.schedulers import KNOWN_SCHEDULERS, bound_to_weights, settings_of
from latentshift.models.autoencoder import decode_latents, encode_moments, sample_moments
from latentshift.models.storage.base_settings import check_components
from latentshift.models.storage.meta_init import meta_components
from latentshift.settings import Weighting
from latentshift.training.build import prepare_video_model
from latentshift.training.recipe_file import load_recipe
from latentshift.training.stages.video import VideoStage
from tiny_models import TEXT_WIDTH, tiny_unet

NOISE = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
QUAD = {"beta_start": 8.5e-4, "beta_end": 1.2e-2, "beta_schedule": "scaled_linear"}
UNCLIPPED = {**QUAD, "clip_sample": False}
ZERO_SNR = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}


def changed(base: Path, folder: Path, part: str, **settings: object) -> Path:
    """A copy of a saved base with settings of one part written over."""
    shutil.copytree(base, folder)
    file = folder / "model_index.json" if part == "model_index" else folder / part / "config.json"
    if part == "scheduler":
        file = folder / part / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    return folder


def with_scheduler(base: Path, folder: Path, kind: str, **settings: object) -> Path:
    """A copy of a saved base with another scheduler."""
    shutil.copytree(base, folder)
    shutil.rmtree(folder / "scheduler")
    getattr(diffusers, kind)(**settings).save_pretrained(folder / "scheduler")
    index = folder / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "scheduler": ["diffusers", kind]}))
    return folder


def both(folder: Path) -> tuple[LatentShiftPipeline, DiffusionPipeline]:
    """Ours without the shift, and the stock pipeline."""
    pipelines = LatentShiftPipeline.from_pretrained(folder, shift=None), DiffusionPipeline.from_pretrained(folder)
    for each in pipelines:
        each.set_progress_bar_config(disable=True)
    return pipelines


def assert_same_image(ours: LatentShiftPipeline, stock: DiffusionPipeline, output: str = "latent", **options) -> None:
    common = {"num_inference_steps": 4, "guidance_scale": 3.0, "output_type": output, **options}
    seeds = [torch.Generator().manual_seed(1) for _ in range(2)]
    image = stock("red star", latents=NOISE.clone(), height=16, width=16, generator=seeds[0], **common).images
    frame = ours("red star", latents=NOISE[:, None].clone(), num_frames=1, generator=seeds[1], **common).frames
    assert np.isfinite(np.asarray(image)).all()
    np.testing.assert_allclose(np.asarray(frame)[:, 0], np.asarray(image), atol=2e-5, rtol=1e-4)


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


def both_saved(folder: Path) -> LatentShiftPipeline:
    ours = LatentShiftPipeline.from_pretrained(folder)
    ours.set_progress_bar_config(disable=True)
    return ours


def video_recipe(folder: Path, output: Path | None = None):
    recipe = Path(__file__).parent.parent / "recipes" / "finetune-folder.yaml"
    words = [f"model={folder}", "data={source: sprites, options: {clips: 4}}", "batch_size=1", "compute={device: cpu}"]
    return load_recipe(recipe, [*words, *([] if output is None else [f"output={output}"])])


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


# The autoencoder: latents are scaled as the stock pipeline unscales them, in decoding, encoding and training.

STATISTICS = {"latents_mean": [-1.6, 0.1, 2.0, 0.4], "latents_std": [8.4, 3.0, 5.1, 6.0]}


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("sd1", {"scaling_factor": 0.5}),
        ("sdxl", {"scaling_factor": 0.5, **STATISTICS}),
        ("sdxl", {"force_upcast": False}),
    ],
)
def test_latents_are_unscaled_as_in_the_stock_pipeline(
    request: pytest.FixtureRequest, tmp_path: Path, family: str, settings: dict
) -> None:
    base = request.getfixturevalue(f"{family}_folder")
    ours, stock = both(changed(base, tmp_path / "base", "vae", **settings))
    for each in (ours, stock):
        each.scheduler = make_sampler("ddim", ours.scheduler)
    assert_same_image(ours, stock, output="np", num_inference_steps=2)


@pytest.mark.parametrize("settings", [{}, STATISTICS, {"scaling_factor": 0.5, **STATISTICS}])
def test_training_latents_are_those_that_decode_to_the_frame(sdxl_folder: Path, tmp_path: Path, settings: dict) -> None:
    vae = LatentShiftPipeline.from_pretrained(changed(sdxl_folder, tmp_path / "base", "vae", **settings)).vae
    frames = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        moments = encode_moments(vae, frames)
        posterior = vae.encode(frames).latent_dist
        latents = sample_moments(vae, moments, torch.zeros(2, 4, 8, 8))
    mean, deviation = (
        torch.tensor(settings.get(key, [value] * 4))[:, None, None]
        for key, value in (("latents_mean", 0.0), ("latents_std", 1.0))
    )
    scaling = settings.get("scaling_factor", 0.18215)
    torch.testing.assert_close(latents, (posterior.mean - mean) / deviation * scaling)
    pipeline = LatentShiftPipeline.from_pretrained(tmp_path / "base")
    with torch.no_grad():
        decoded = pipeline.decode(latents[None])[0]
        torch.testing.assert_close(decoded, vae.decode(posterior.mean).sample.clamp(-1, 1), atol=1e-5, rtol=1e-5)


def test_an_autoencoder_without_quantizing_convolutions(sd1_folder: Path, tmp_path: Path) -> None:
    vae = diffusers.AutoencoderKL.from_config(
        {
            **diffusers.AutoencoderKL.load_config(sd1_folder / "vae"),
            "use_quant_conv": False,
            "use_post_quant_conv": False,
        }
    )
    stock = StableDiffusionPipeline.from_pretrained(sd1_folder, vae=vae.eval())
    stock.save_pretrained(tmp_path / "base")
    ours, stock = both(tmp_path / "base")
    for each in (ours, stock):
        each.scheduler = make_sampler("ddim", ours.scheduler)
    assert_same_image(ours, stock, output="np", num_inference_steps=2)
    frames = torch.rand(1, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(encode_moments(ours.vae, frames), ours.vae.encoder(frames))


# The U-Net: what it is given, and what it carries out itself.

UNET_SETTINGS = [
    {"center_input_sample": True},
    {"flip_sin_to_cos": False, "freq_shift": 1},
    {"act_fn": "gelu"},
    {"norm_eps": 1e-3},
    {"mid_block_scale_factor": 2.0},
    {"use_linear_projection": True},
    {"upcast_attention": True},
    {"transformer_layers_per_block": 2},
    {"attention_head_dim": (2, 4)},
    {"cross_attention_norm": "layer_norm"},
    {"resnet_time_scale_shift": "scale_shift"},
    {"resnet_skip_time_act": True, "resnet_out_scale_factor": 1.4},
    {"time_embedding_type": "fourier"},
    {"time_embedding_dim": 24, "time_embedding_act_fn": "silu", "timestep_post_act": "silu"},
    {"conv_in_kernel": 1, "conv_out_kernel": 1},
    {"downsample_padding": 0},
    {"encoder_hid_dim": TEXT_WIDTH, "encoder_hid_dim_type": "text_proj", "cross_attention_dim": 24},
    {"cross_attention_dim": (TEXT_WIDTH, TEXT_WIDTH)},
    {"mid_block_type": "UNetMidBlock2D"},
    {"mid_block_type": None},
    {
        "down_block_types": ("CrossAttnDownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "CrossAttnUpBlock2D"),
    },
    {"time_cond_proj_dim": 6},
    {"time_cond_proj_dim": 7},
]


@pytest.mark.parametrize("settings", UNET_SETTINGS, ids=lambda settings: ", ".join(settings))
def test_a_setting_of_the_unet_is_honoured(sd1_folder: Path, tmp_path: Path, settings: dict) -> None:
    StableDiffusionPipeline.from_pretrained(sd1_folder, unet=tiny_unet(**settings)).save_pretrained(tmp_path / "base")
    ours, stock = both(tmp_path / "base")
    for each in (ours, stock):
        each.scheduler = make_sampler("ddim", ours.scheduler)
    assert_same_image(ours, stock, num_inference_steps=2)
    ours.set_shift({})
    video = ours("red star", num_frames=3, num_inference_steps=2, output_type="latent", generator=torch.Generator())
    assert video.frames.shape == (1, 3, 4, 8, 8)


def test_a_guidance_distilled_unet_is_given_its_guidance(sd1_folder: Path, tmp_path: Path) -> None:
    base = StableDiffusionPipeline.from_pretrained(sd1_folder, unet=tiny_unet(time_cond_proj_dim=6))
    base.save_pretrained(tmp_path / "base")
    ours, stock = both(tmp_path / "base")
    for each in (ours, stock):
        each.scheduler = make_sampler("ddim", ours.scheduler)
    results = [ours("red star", num_frames=1, num_inference_steps=2, guidance_scale=scale, output_type="latent",
                  latents=NOISE[:, None]).frames for scale in (2.0, 8.0)]  # fmt: skip
    assert not torch.equal(*results)
    with pytest.raises(ValueError, match="negative_prompt has no effect"):
        ours("red star", negative_prompt="black")
    with pytest.raises(ValueError, match="can't be trained: its U-Net is guidance-distilled"):
        prepare_video_model(video_recipe(tmp_path / "base"), ours)


# What is refused, whatever opens it: the file, the setting, its value.

FOREIGN = [
    ("sd1", "unet", {"in_channels": 9}, "in_channels is 9 (an inpainting model's); latentshift needs"),
    ("sd1", "unet", {"in_channels": 8}, "in_channels is 8"),
    ("sd1", "unet", {"in_channels": 7, "num_class_embeds": 1000}, "num_class_embeds is 1000; latentshift supports"),
    ("sd1", "unet", {"out_channels": 8}, "out_channels is 8; latentshift needs as many as in_channels, 4"),
    ("sd1", "unet", {"class_embed_type": "timestep"}, 'class_embed_type is "timestep"; latentshift supports null only'),
    ("sd1", "unet", {"class_embed_type": "projection"}, "class_embed_type"),
    ("sd1", "unet", {"addition_embed_type": "text"}, "addition_embed_type"),
    ("sd1", "unet", {"addition_embed_type": "text_time"}, "addition_embed_type"),
    ("sd1", "unet", {"addition_embed_type": "image_hint"}, "addition_embed_type"),
    ("sd1", "unet", {"encoder_hid_dim": 8, "encoder_hid_dim_type": "image_proj"}, "encoder_hid_dim_type"),
    ("sd1", "unet", {"attention_type": "gated"}, "attention_type"),
    ("sd1", "unet", {"dual_cross_attention": True}, "dual_cross_attention"),
    ("sd1", "unet", {"only_cross_attention": [False, True]}, "only_cross_attention is [false, true]"),
    ("sd1", "unet", {"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}, "mid_block_type"),
    ("sd1", "unet", {"down_block_types": ["KDownBlock2D", "DownBlock2D"]}, "down_block_types"),
    ("sd1", "unet", {"sample_size": [8, 12]}, "sample_size is [8, 12]; latentshift needs one whole number"),
    ("sd1", "unet", {"cross_attention_dim": 24}, "cross_attention_dim is 24; latentshift needs the width"),
    ("sd1", "unet", {"motion_module": True}, "motion_module is true; latentshift does not know this setting"),
    ("sdxl", "unet", {"addition_embed_type": None}, "addition_embed_type is null"),
    ("sdxl", "unet", {"projection_class_embeddings_input_dim": 44}, "projection_class_embeddings_input_dim is 44"),
    ("sd1", "vae", {"shift_factor": 0.1}, "shift_factor is 0.1"),
    ("sd1", "vae", {"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}, "supports it for SDXL only"),
    ("sdxl", "vae", {"latents_mean": [0.0] * 4}, "latents_std is null; latentshift needs both"),
    ("sdxl", "vae", {"latents_mean": [0.0] * 3, "latents_std": [1.0] * 4}, "latents_mean is [0.0, 0.0, 0.0]"),
    ("sd1", "vae", {"in_channels": 4}, "in_channels is 4; latentshift supports 3 only"),
    ("sd1", "vae", {"tiling": "always"}, 'tiling is "always"; latentshift does not know this setting'),
    ("sd1", "text_encoder", {"use_attention_mask": True}, "use_attention_mask is true"),
    ("sd1", "scheduler", {"trained_betas": [0.1, 0.2]}, "trained_betas has 2 values for num_train_timesteps = 1000"),
    ("sd1", "scheduler", {"schedule_shift": 2.0}, "schedule_shift is 2.0; latentshift does not know this setting"),
    ("sd1", "model_index", {"unet": ["diffusers", "UNet3DConditionModel"]}, "the part is UNet3DConditionModel; latent"),
    ("sd1", "model_index", {"vae": ["diffusers", "AutoencoderTiny"]}, "the part is AutoencoderTiny"),
    ("sd1", "model_index", {"text_encoder": ["transformers", "CLIPTextModelWithProjection"]}, "the part is CLIP"),
    ("sd1", "model_index", {"clip_skip": 2}, "clip_skip is 2; latentshift does not know this setting"),
    ("sdxl", "model_index", {"requires_aesthetics_score": True}, "requires_aesthetics_score is true"),
    ("sdxl", "model_index", {"text_encoder": [None, None]}, "names no text_encoder, which a StableDiff"),
]  # fmt: skip


@pytest.mark.parametrize(("family", "part", "settings", "words"), FOREIGN, ids=lambda each: str(each)[:60])
def test_a_setting_that_is_not_honoured_is_refused(
    request: pytest.FixtureRequest, tmp_path: Path, family: str, part: str, settings: dict, words: str
) -> None:
    folder = changed(request.getfixturevalue(f"{family}_folder"), tmp_path / "base", part, **settings)
    for opened in (LatentShiftPipeline.from_pretrained, meta_components):
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            opened(str(folder))
        message = str(caught.value)
        assert message.startswith(str(folder)) and words in message and "\n" not in message


def test_parts_handed_in_are_checked_too(sd1_folder: Path) -> None:
    with pytest.raises(ValueError, match="the unet: in_channels is 9"):
        LatentShiftPipeline.from_pretrained(sd1_folder, unet=tiny_unet(in_channels=9))
    parts = LatentShiftPipeline.from_pretrained(sd1_folder).components
    check_components(parts)
    with pytest.raises(ValueError, match="the scheduler: the scheduler is a FlowMatchEuler"):
        LatentShiftPipeline(**{**parts, "scheduler": diffusers.FlowMatchEulerDiscreteScheduler()})


def test_every_command_refuses_an_inpainting_model(cli, sd1_folder: Path, tmp_path: Path) -> None:
    changed(sd1_folder, tmp_path / "base", "unet", in_channels=9)
    recipe = Path(__file__).parent.parent / "recipes" / "finetune-folder.yaml"
    train = ("train", recipe, "model=base", "data={source: sprites, options: {clips: 4}}", "output=run")
    for words in (
        ("info", "base"),
        ("generate", "red star", "--model", "base"),
        ("init", "--base", "base", "-o", "new"),
        train,
        (*train, "--dry-run"),
    ):
        code, _, complained = cli(*words)
        assert code == 1 and complained.count("\n") == 1, (words, complained)
        assert "base/unet/config.json: in_channels is 9 (an inpainting model's)" in complained


def test_averaging_leaves_its_mark_on_a_configuration_and_nothing_else(sd1_folder: Path, tmp_path: Path) -> None:
    averaged = {"decay": 0.9999, "use_ema_warmup": False, "optimization_step": 10, "min_decay": 0.0, "power": 0.67}
    ours, stock = both(changed(sd1_folder, tmp_path / "base", "unet", **averaged))
    for each in (ours, stock):
        each.scheduler = make_sampler("ddim", ours.scheduler)
    assert_same_image(ours, stock, num_inference_steps=2)


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


def test_training_draws_latents_normalized(sdxl_folder: Path, tmp_path: Path) -> None:
    folder = changed(sdxl_folder, tmp_path / "base", "vae", **STATISTICS)
    plain, normalized = (
        next(VideoStage(video_recipe(base, tmp_path / name), torch.device("cpu")).batches(1)).latents
        for name, base in (("plain", sdxl_folder), ("normalized", folder))
    )
    mean, deviation = (torch.tensor(each)[:, None, None] for each in STATISTICS.values())
    torch.testing.assert_close(normalized, (plain / 0.18215 - mean) / deviation * 0.18215)


def test_sdxl_decodes_in_float32_where_its_autoencoder_says_so(sdxl_folder: Path) -> None:
    pipeline = LatentShiftPipeline.from_pretrained(sdxl_folder)
    vae = pipeline.vae.half()
    latents = torch.randn(1, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = decode_latents(copy.deepcopy(vae).float(), latents[0]).half().clamp(-1, 1)
        assert vae.config.force_upcast and torch.equal(pipeline.decode(latents)[0], expected)
        vae.register_to_config(force_upcast=False)
        assert not torch.equal(pipeline.decode(latents)[0], expected)
    assert vae.dtype == torch.float16


def test_thresholds_are_of_whole_videos(sd1_folder: Path) -> None:
    pipeline = LatentShiftPipeline.from_pretrained(sd1_folder, shift=None)
    pipeline.scheduler = diffusers.DDIMScheduler(**UNCLIPPED, thresholding=True, sample_max_value=5.0)
    step = pipeline.scheduler
    step.set_timesteps(2)
    frames = torch.randn(1, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    frames[:, 1] *= 4  # a frame of more contrast: its own threshold would be another
    bound = torch.quantile(frames.abs().flatten(), step.config.dynamic_thresholding_ratio).clamp(1, 5)
    torch.testing.assert_close(step._threshold_sample(frames), frames.clamp(-bound, bound) / bound)


def test_sdxl_is_a_pipeline_of_two_encoders(sdxl_folder: Path) -> None:
    assert isinstance(DiffusionPipeline.from_pretrained(sdxl_folder), StableDiffusionXLPipeline)
    loaded = LatentShiftPipeline.from_pretrained(sdxl_folder)
    assert loaded.config.force_zeros_for_empty_prompt
