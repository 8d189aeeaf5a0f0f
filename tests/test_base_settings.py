"""Every setting of every part of a base is honoured, as the stock pipeline honours it, or the base is refused."""

from __future__ import annotations

import copy
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline

from changed_base import NOISE, assert_same_image, both, changed, video_recipe
from latentshift import LatentShiftPipeline
from latentshift.diffusion.samplers import make_sampler
from latentshift.models.autoencoder import decode_latents, encode_moments, sample_moments
from latentshift.models.storage.base_settings import check_components
from latentshift.models.storage.meta_init import meta_components
from latentshift.training.models.build import prepare_video_model
from latentshift.training.stages.video import VideoStage
from tiny_models import TEXT_WIDTH, tiny_unet

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


def test_sdxl_is_a_pipeline_of_two_encoders(sdxl_folder: Path) -> None:
    assert isinstance(DiffusionPipeline.from_pretrained(sdxl_folder), StableDiffusionXLPipeline)
    loaded = LatentShiftPipeline.from_pretrained(sdxl_folder)
    assert loaded.config.force_zeros_for_empty_prompt
