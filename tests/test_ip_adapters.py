"""IP-Adapters in ``LatentShiftPipeline``: each frame has its own picture, and one frame is the stock image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from beside_stock import FAMILIES, FEW, frame_of, image_of, load_ours, load_stock, same
from tiny_pipelines import clip, face, picture, write_ip_adapter


@pytest.mark.parametrize("family", FAMILIES)
def test_each_frame_has_its_own_picture_of_an_ip_adapter(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(f"{family}_folder")
    ours, stock = load_ours(folder), load_stock(folder)
    plain = frame_of(ours)
    where = write_ip_adapter(ours.unet, tmp_path)
    for each in (ours, stock):
        each.load_ip_adapter(tmp_path, **where)
        each.set_ip_adapter_scale(0.7)
    pictures = clip(1, 3)
    image = image_of(stock, ip_adapter_image=pictures[0])
    assert same(frame_of(ours, ip_adapter_image=pictures[0]), image) and not same(image, plain)
    for guidance in (5.0, 1.0):
        embeds = stock.prepare_ip_adapter_image_embeds(pictures[0], None, "cpu", 1, guidance > 1)
        frames = [
            frame_of(ours, guidance_scale=guidance, **given)
            for given in ({"ip_adapter_image": pictures[0]}, {"ip_adapter_image_embeds": embeds})
        ]
        assert same(*frames)
    # Frames that do not meet are the images of their pictures.
    ours.set_shift(None)
    noise = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    options = {**FEW, "latents": noise, "num_frames": 3}
    frames = ours(["red star", "black"], ip_adapter_image=[pictures] * 2, **options).frames
    for index, own in enumerate(pictures):
        image = stock("red star", latents=noise[:1, index], ip_adapter_image=own, **FEW).images[0]
        assert same(frames[0, index], image)
    one_each = ours(["red star", "black"], ip_adapter_image=[[pictures[0]], [pictures[1]]], **options).frames
    assert same(one_each[0, 0], frames[0, 0]) and same(one_each[1, 1], frames[1, 1])
    # Where they meet, a picture reaches the others; chunks of frames are the same video.
    ours.set_shift({"padding": "zeros"})
    at_once = ours("red star", ip_adapter_image=pictures, **{**options, "latents": noise[:1]}).frames
    chunked = ours("red star", ip_adapter_image=pictures, frame_chunk=2, **{**options, "latents": noise[:1]}).frames
    assert same(at_once, chunked)
    other = [*pictures[:2], picture(77)]
    assert not same(
        ours("red star", ip_adapter_image=other, **{**options, "latents": noise[:1]}).frames[0, 0], at_once[0, 0]
    )
    ours.set_shift({"padding": "replicate"})
    with pytest.raises(ValueError, match="an IP-Adapter is loaded: give ip_adapter_image, or call unload_ip_adapter"):
        ours("red star", **FEW)
    with pytest.raises(ValueError, match="ip_adapter_image has 2 pictures: give one, or a clip of 3"):
        ours("red star", ip_adapter_image=pictures[:2], num_frames=3, **FEW)
    with pytest.raises(ValueError, match="the unet does not match its configuration"):
        ours.save_pretrained(tmp_path / "saved")
    ours.unload_ip_adapter()
    assert same(frame_of(ours), plain)
    with pytest.raises(ValueError, match="no IP-Adapter is loaded"):
        ours("red star", ip_adapter_image=pictures[0], **FEW)
    ours.save_pretrained(tmp_path / "saved")


@pytest.mark.parametrize(
    ("kind", "family"), [("plus", "sd1"), ("full", "sd1"), ("faceid", "sd1"), ("plus", "sdxl"), ("faceid", "sdxl")]
)
def test_other_kinds_of_ip_adapters(kind: str, family: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder: Path = request.getfixturevalue(f"{family}_folder")
    ours, stock = load_ours(folder), load_stock(folder)
    plain = frame_of(ours)
    where = write_ip_adapter(ours.unet, tmp_path, kind=kind)
    for each in (ours, stock):
        each.load_ip_adapter(tmp_path, **where)
    if kind == "faceid":
        embeds = [face(seed) for seed in (1, 2, 3)]
    else:
        pictures = clip(1, 3)
        assert same(frame_of(ours, ip_adapter_image=pictures[0]), image_of(stock, ip_adapter_image=pictures[0]))
        embeds = [stock.prepare_ip_adapter_image_embeds(each, None, "cpu", 1, True)[0] for each in pictures]
        assert embeds[0].shape == (2, 1, 5, 16)  # hidden states of the image encoder
    image = image_of(stock, ip_adapter_image_embeds=embeds[:1])
    assert same(frame_of(ours, ip_adapter_image_embeds=embeds[:1]), image) and not same(image, plain)
    # Frames that do not meet are the images of their own embeddings.
    ours.set_shift(None)
    noise = torch.randn(1, 3, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    for given in ([torch.stack(embeds)], [embeds]):
        frames = ours("red star", ip_adapter_image_embeds=given, latents=noise, num_frames=3, **FEW).frames
        for index, own in enumerate(embeds):
            image = stock("red star", latents=noise[:, index], ip_adapter_image_embeds=[own], **FEW).images[0]
            np.testing.assert_allclose(frames[0, index], image, atol=1e-4)
        assert not np.allclose(frames[0, 0], plain, atol=1e-2)
    if kind == "faceid":  # as diffusers' guide has it
        guide = ours("red star", ip_adapter_image_embeds=[embeds[0][:, :, None]], latents=noise, num_frames=3, **FEW)
        np.testing.assert_allclose(guide.frames[0, 0], frames[0, 0], atol=1e-4)
        assert not np.allclose(guide.frames[0, 1], frames[0, 1], atol=1e-3)
    ours.unload_ip_adapter()
    if kind == "faceid":
        ours.unload_lora_weights()
    ours.set_shift({"padding": "replicate"})
    assert same(frame_of(ours), plain)
