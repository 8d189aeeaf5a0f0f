"""The shift with replicate padding, not trained, beside the stock image pipelines: it keeps their images."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, LDMTextToImagePipeline
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel

from latentshift import LatentShiftPipeline, ShiftConfig
from latentshift.diffusion.samplers import make_sampler
from latentshift.frame_context import frames_independent
from latentshift.models.conditioning.text import build_word_tokenizer
from latentshift.settings import PADDINGS, Padding
from latentshift.shift import install
from tiny_models import TEXT_WIDTH, TINY_BERT, TOKENS, base_scheduler, tiny_unet, tiny_vae

REPLICATE = {"padding": "replicate"}
NOISE = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
Pair = tuple[LatentShiftPipeline, DiffusionPipeline]


def save_ldm(folder: Path) -> Path:
    """A base that the stock LDM pipeline accepts: it reads 77 tokens, and it multiplies by 1 / scaling_factor where we
    divide by it, which gives the same bits for a power of two."""
    vae = tiny_vae()
    vae.register_to_config(scaling_factor=0.25)
    torch.manual_seed(0)
    LDMTextToImagePipeline(
        vqvae=vae,
        bert=LDMBertModel(LDMBertConfig(**{**TINY_BERT, "max_position_embeddings": 77})).eval(),
        tokenizer=build_word_tokenizer(["red", "star"], 77),
        unet=tiny_unet(),
        scheduler=base_scheduler(),
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["ldm", "sd1", "sd2", "sdxl"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved image pipeline of each family."""
    if request.param == "ldm":
        return save_ldm(tmp_path_factory.mktemp("ldm77"))
    return request.getfixturevalue(f"{request.param}_folder")


@pytest.fixture(scope="module")
def pair(folder: Path) -> Pair:
    """Ours with replicate padding, and the stock pipeline."""
    pipelines = LatentShiftPipeline.from_pretrained(folder, shift=REPLICATE), DiffusionPipeline.from_pretrained(folder)
    for each in pipelines:
        each.set_progress_bar_config(disable=True)
    return pipelines


def is_ldm(pipeline: DiffusionPipeline) -> bool:
    return isinstance(pipeline, LDMTextToImagePipeline)


def seeded(stock: DiffusionPipeline) -> torch.Generator:
    """Of one seed; the stock LDM pipeline gives its scheduler no generator, so that noise comes from the global one."""
    return (torch.default_generator if is_ldm(stock) else torch.Generator()).manual_seed(1)


def images_of(stock: DiffusionPipeline, **options: Any) -> np.ndarray:
    """Of the stock pipeline, (count, H, W, 3) in [0, 1], or uint8."""
    side = 64 if is_ldm(stock) else 16  # which takes every autoencoder for one of 8x
    options = {"num_inference_steps": 3, "output_type": "np", **options}
    return np.stack([np.asarray(image) for image in stock(height=side, width=side, **options).images])


def video_of(ours: LatentShiftPipeline, **options: Any) -> np.ndarray:
    """Of our pipeline, (F, H, W, 3) in [0, 1], or uint8."""
    options = {"num_inference_steps": 3, "output_type": "np", **options}
    return np.stack([np.asarray(frame) for frame in ours("red star", **options).frames[0]])


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "euler-a", "dpm++"])
def test_one_frame_is_the_stock_pipelines_image(pair: Pair, sampler: str) -> None:
    ours, stock = pair
    if is_ldm(stock) and sampler == "euler-a":
        pytest.skip("the stock LDM pipeline does not scale the latents as this sampler needs it")
    ours.scheduler = make_sampler(sampler, ours.scheduler)
    stock.scheduler = copy.deepcopy(ours.scheduler)
    for guidance in (1.0, 5.0):
        for kind in ("np", "pil"):
            options = {"guidance_scale": guidance, "output_type": kind}
            image = images_of(stock, prompt="red star", generator=seeded(stock), **options)
            frame = video_of(ours, num_frames=1, generator=seeded(stock), **options)
            assert np.ptp(image) > 0 and np.array_equal(frame, image)


def rows_are_alike(frames: np.ndarray) -> bool:
    return np.array_equal(frames, frames[:1].repeat(len(frames), axis=0))


def test_equal_frames_are_that_many_stock_images(pair: Pair) -> None:
    ours, stock = pair
    ours.scheduler = make_sampler("ddim", ours.scheduler)
    stock.scheduler = copy.deepcopy(ours.scheduler)
    options = {"guidance_scale": 5.0}
    image = images_of(stock, prompt="red star", latents=NOISE, **options)
    for count in (2, 5, 16):
        noise = NOISE.repeat(count, 1, 1, 1)
        video = video_of(ours, num_frames=count, latents=noise[None], **options)
        many = {"prompt": ["red star"] * count} if is_ldm(stock) else {"num_images_per_prompt": count}
        images = images_of(stock, **{"prompt": "red star", **many}, latents=noise, **options)
        # In one batch of the same size the sums are those of the stock pipeline, bit for bit, if the libraries round
        # all rows of a batch alike, which AVX2 kernels do not; a batch of another size is rounded differently.
        if rows_are_alike(images):
            assert np.array_equal(video, images)
        np.testing.assert_allclose(video, image.repeat(count, axis=0), atol=5e-6, rtol=0)


def test_what_the_paddings_make_of_the_image_model(folder: Path) -> None:
    ours = LatentShiftPipeline.from_pretrained(folder, shift=None)
    ours.set_progress_bar_config(disable=True)
    ours.scheduler = make_sampler("ddim", ours.scheduler)
    noise = torch.randn(1, 3, 4, 8, 8, generator=torch.Generator().manual_seed(5))

    def make(latents: torch.Tensor) -> np.ndarray:
        return video_of(ours, latents=latents, num_frames=latents.shape[1])

    clips = (noise[:, :1], noise[:, :1].repeat(1, 3, 1, 1, 1), noise)  # an image, a still, a video
    expected = [make(each) for each in clips]

    def kept() -> list[bool]:
        image, still, video = (make(each) for each in clips)
        tolerance = 0 if rows_are_alike(expected[1]) else 5e-6
        return [
            np.array_equal(image, expected[0]),
            np.allclose(still, expected[1], rtol=0, atol=tolerance),
            np.array_equal(video, expected[2]),
        ]

    for padding in PADDINGS:
        ours.set_shift({"padding": padding})
        assert kept() == [padding != "zeros", padding != "zeros", False]
        with frames_independent(ours.unet):  # the image model whatever the padding
            assert kept() == [True] * 3
    ours.set_method("latent-vdm")  # not trained, its layers add nothing
    assert kept() == [True] * 3


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("padding", ["replicate", "circular"])
def test_a_call_of_the_unet_is_the_stock_unets_bit_for_bit(
    padding: Padding, dtype: torch.dtype, memory_format: torch.memory_format
) -> None:
    stock = tiny_unet().to(dtype, memory_format=memory_format)
    unet = install(copy.deepcopy(stock), ShiftConfig(padding=padding))
    frames = torch.randn(2, 4, 8, 8, dtype=dtype).repeat_interleave(3, dim=0).contiguous(memory_format=memory_format)
    text = torch.randn(2, TOKENS, TEXT_WIDTH, dtype=dtype).repeat_interleave(3, dim=0)

    def gradients(model: torch.nn.Module, **options: int) -> list[torch.Tensor]:
        model.zero_grad(set_to_none=True)
        predicted = model(frames, 7, text, **options).sample
        predicted.float().square().mean().backward()
        return [predicted.detach(), *(parameter.grad.clone() for parameter in model.parameters())]

    expected = gradients(stock)
    for name, one, other in zip(("output", *dict(stock.named_parameters())), gradients(unet), expected, strict=True):
        assert torch.equal(one, other), name
    predicted, *found = gradients(unet, num_frames=3)
    assert torch.equal(predicted, expected[0])
    tolerance = 1e-4 if dtype == torch.float32 else 0.1  # the frames' gradients are added in another order
    for one, other in zip(found, expected[1:], strict=True):
        assert (one.float() - other.float()).norm() <= tolerance * other.float().norm() + 1e-8
