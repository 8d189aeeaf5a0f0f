"""Tiny real models that the tests share: every class is the one that users load, only smaller."""

from __future__ import annotations

import os
import sys
from fractions import Fraction
from pathlib import Path

# Before torch is imported: the tests share their machine, and their numbers should not depend on its cores.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["LATENTSHIFT_FEATURES"] = ""  # no test finds what another one or the user has computed
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")

import av
import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    LDMTextToImagePipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from latentshift.cli.app import main
from latentshift.models.autoencoder import build_autoencoder
from latentshift.models.text import build_word_tokenizer

TEXT_WIDTH = 16
TOKENS = 12


def tiny_unet(seed: int = 0, **changes: object) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    settings: dict[str, object] = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "attention_head_dim": 2,
        "cross_attention_dim": TEXT_WIDTH,
        "norm_num_groups": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    return UNet2DConditionModel(**{**settings, **changes}).eval()


TINY_VDM_PARAMETERS = sum(4 * width**2 + 3 * width + 2 * 31 for width in (8, 8, 8, 16))
"""Of :func:`tiny_unet`'s temporal attention, in blocks of these widths: to_q, to_k, to_v and to_out, whose bias is one
more width beside two of the norm, and biases of two heads for the distances -15 … 15."""

ONE_LEVEL: dict[str, object] = {
    "block_out_channels": (8,),
    "down_block_types": ("CrossAttnDownBlock2D",),
    "up_block_types": ("CrossAttnUpBlock2D",),
}
"""Changes of :func:`tiny_unet` where a test needs a U-Net, and not one that scales."""


def tiny_vae(seed: int = 0) -> AutoencoderKL:
    torch.manual_seed(seed)
    vae = build_autoencoder(channels=(8, 8), layers_per_block=1, latent_channels=4, norm_groups=4, size=16)
    return vae.eval()


def stock_vae(seed: int = 0) -> AutoencoderKL:
    """With attention in its middle, as Stable Diffusion's."""
    torch.manual_seed(seed)
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        sample_size=16,
    ).eval()


def tiny_tokenizer():
    return build_word_tokenizer(["red", "star", "circling", "on", "black", "background"], TOKENS)


TINY_BERT = {
    "vocab_size": len(tiny_tokenizer()),
    "max_position_embeddings": TOKENS,
    "encoder_layers": 2,
    "encoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "head_dim": 8,
    "d_model": TEXT_WIDTH,
}


def tiny_bert(seed: int = 0, **changes: object) -> LDMBertModel:
    torch.manual_seed(seed)
    return LDMBertModel(LDMBertConfig(**{**TINY_BERT, **changes})).eval()


def tiny_clip(seed: int = 0, kind: type[torch.nn.Module] = CLIPTextModel) -> torch.nn.Module:
    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=len(tiny_tokenizer()),
        hidden_size=TEXT_WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        projection_dim=TEXT_WIDTH,
        bos_token_id=2,
        eos_token_id=3,
    )
    return kind(config).eval()


def base_scheduler(prediction_type: str = "epsilon") -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=8.5e-4,
        beta_end=1.2e-2,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type=prediction_type,
    )


@pytest.fixture(scope="session")
def ldm_folder(tmp_path_factory: pytest.TempPathFactory):
    """A stock LDMTextToImagePipeline, saved by diffusers."""
    folder = tmp_path_factory.mktemp("ldm")
    LDMTextToImagePipeline(
        vqvae=tiny_vae(), bert=tiny_bert(), tokenizer=tiny_tokenizer(), unet=tiny_unet(), scheduler=base_scheduler()
    ).save_pretrained(folder)
    return folder


def _stable_diffusion(folder, prediction_type: str):
    StableDiffusionPipeline(
        vae=stock_vae(),
        text_encoder=tiny_clip(),
        tokenizer=tiny_tokenizer(),
        unet=tiny_unet(),
        scheduler=base_scheduler(prediction_type),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sd1_folder(tmp_path_factory: pytest.TempPathFactory):
    """A stock StableDiffusionPipeline with epsilon prediction, saved by diffusers."""
    return _stable_diffusion(tmp_path_factory.mktemp("sd1"), "epsilon")


@pytest.fixture(scope="session")
def sd2_folder(tmp_path_factory: pytest.TempPathFactory):
    """A stock StableDiffusionPipeline with v-prediction, saved by diffusers."""
    return _stable_diffusion(tmp_path_factory.mktemp("sd2"), "v_prediction")


@pytest.fixture(scope="session")
def sdxl_folder(tmp_path_factory: pytest.TempPathFactory):
    """A stock StableDiffusionXLPipeline, saved by diffusers."""
    folder = tmp_path_factory.mktemp("sdxl")
    sizes = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4}
    StableDiffusionXLPipeline(
        vae=stock_vae(),
        text_encoder=tiny_clip(),
        text_encoder_2=tiny_clip(1, CLIPTextModelWithProjection),
        tokenizer=tiny_tokenizer(),
        tokenizer_2=tiny_tokenizer(),
        unet=tiny_unet(
            cross_attention_dim=2 * TEXT_WIDTH, projection_class_embeddings_input_dim=TEXT_WIDTH + 6 * 4, **sizes
        ),
        scheduler=base_scheduler(),
        add_watermarker=False,
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Run ``latentshift`` in an empty folder; returns (exit code, what was printed, what was complained)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LATENTSHIFT_DEBUG", raising=False)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["latentshift", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture(scope="session")
def model(ldm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny latentshift folder."""
    from latentshift import LatentShiftPipeline

    folder = tmp_path_factory.mktemp("model") / "tiny"
    LatentShiftPipeline.from_pretrained(ldm_folder, num_frames=4).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three shipped recipes of the sprites, scaled down, run one after the other."""
    from latentshift.training.run import run
    from tiny_runs import tiny

    folder = tmp_path_factory.mktemp("runs")
    for stage in ("autoencoder", "image", "video"):
        run(tiny(stage, folder), quiet=True)
    return folder


def write_video_at(path: Path, times: np.ndarray, frames: list[np.ndarray], **settings: object) -> Path:
    """A video whose frames are shown at these times (seconds)."""
    base = Fraction(1, 90_000)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(90_000, 3000), options={"crf": "8", "g": "12"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.time_base = "yuv420p", base
        stream.codec_context.time_base = base
        for key, value in settings.items():
            setattr(stream.codec_context, key, value)
        for when, pixels in zip(times, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(when / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def sprites_model(ldm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny, untrained model whose clips have the sprites' shape: 16 frames of 32 pixels."""
    from latentshift import LatentShiftPipeline

    folder = tmp_path_factory.mktemp("model") / "sprites"
    pipeline = LatentShiftPipeline.from_pretrained(ldm_folder)
    pipeline.register_modules(unet=tiny_unet(sample_size=16, **ONE_LEVEL))
    pipeline.set_shift({"fold": 3})
    pipeline.save_pretrained(folder)
    return folder
