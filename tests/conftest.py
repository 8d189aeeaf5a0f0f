"""Fixtures that the tests share.

Heavy libraries are imported where they are used: with pytest-xdist the process that hands out the tests reads this
file too, and runs none.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

# Before torch is imported: the tests share their machine, and their numbers should not depend on its cores.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["LATENTSHIFT_FEATURES"] = ""  # no test finds what another one or the user has computed
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")

import pytest

gc.disable()  # until all tests are collected: imports make objects that stay


LONG = ("processes", "reproduce", "bench_ladder", "kill_training", "frame_chunks", "image_pipelines", "video_pipeline")
"""Files that take longest. They come first, so that of two workers none is left with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    first = [f"test_{name}" for name in LONG]
    items.sort(key=lambda item: item.path.stem not in first)


def pytest_collection_finish() -> None:
    """Let the garbage collector leave out what was imported: else it is looked through dozens of times."""
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def ldm_folder(tmp_path_factory: pytest.TempPathFactory):
    """A stock LDMTextToImagePipeline, saved by diffusers."""
    from diffusers import LDMTextToImagePipeline

    from tiny_models import base_scheduler, tiny_bert, tiny_tokenizer, tiny_unet, tiny_vae

    folder = tmp_path_factory.mktemp("ldm")
    LDMTextToImagePipeline(
        vqvae=tiny_vae(), bert=tiny_bert(), tokenizer=tiny_tokenizer(), unet=tiny_unet(), scheduler=base_scheduler()
    ).save_pretrained(folder)
    return folder


def _stable_diffusion(folder, prediction_type: str):
    from diffusers import StableDiffusionPipeline

    from tiny_models import base_scheduler, stock_vae, tiny_clip, tiny_tokenizer, tiny_unet

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
    from diffusers import StableDiffusionXLPipeline
    from transformers import CLIPTextModelWithProjection

    from tiny_models import TEXT_WIDTH, base_scheduler, stock_vae, tiny_clip, tiny_tokenizer, tiny_unet

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
    from latentshift.cli.app import main

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


@pytest.fixture(scope="module")
def text_video():
    """``latentshift.video`` of a tiny Stable Diffusion: 3 frames from a prompt. Its pipeline is not for changing."""
    import latentshift
    from tiny_pipelines import tiny_pipeline

    return latentshift.video(tiny_pipeline("StableDiffusionPipeline"), 3)


@pytest.fixture(scope="module")
def image_video():
    """The same from a prompt and pictures."""
    import latentshift
    from tiny_pipelines import tiny_pipeline

    return latentshift.video(tiny_pipeline("StableDiffusionImg2ImgPipeline"), 3)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three shipped recipes of the sprites, scaled down, run one after the other."""
    from latentshift.training.run import run
    from tiny_runs import tiny

    folder = tmp_path_factory.mktemp("runs")
    for stage in ("autoencoder", "image", "video"):
        run(tiny(stage, folder), quiet=True)
    return folder


@pytest.fixture(scope="session")
def sprites_base(ldm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny, untrained image model whose videos have the sprites' shape: 16 frames of 32 pixels."""
    from latentshift import LatentShiftPipeline
    from tiny_models import SMALLEST, sprites_vae, tiny_unet

    folder = tmp_path_factory.mktemp("model") / "sprites-base"
    pipeline = LatentShiftPipeline.from_pretrained(ldm_folder, shift=None)
    pipeline.register_modules(unet=tiny_unet(**SMALLEST), vae=sprites_vae())
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sprites_model(sprites_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a video model."""
    from latentshift import LatentShiftPipeline

    folder = tmp_path_factory.mktemp("model") / "sprites"
    LatentShiftPipeline.from_pretrained(sprites_base, shift={"fold": 3}).save_pretrained(folder)
    return folder


@pytest.fixture
def few_calibration_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies read 32 true clips in place of 512 to calibrate the sprite reader, which has tests of its own."""
    from latentshift.evaluation.sprites import scores

    monkeypatch.setattr(scores, "_CALIBRATION_CLIPS", 32)
