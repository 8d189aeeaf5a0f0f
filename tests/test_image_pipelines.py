"""Every stock image pipeline makes videos: the same promises for each of them, on tiny real parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import MultiAdapter
from diffusers.models.controlnets.multicontrolnet import MultiControlNetModel

import latentshift
from latentshift.frame_context import frames_independent
from latentshift.image_pipelines.stock import TESTED, make_pictures
from tiny_models import tiny_unet
from tiny_pipelines import (
    clip,
    face,
    mask,
    picture,
    seeds,
    tiny_adapter,
    tiny_controlnet,
    tiny_pipeline,
    with_ip_adapter,
)

F = 3
REPLICATE = {"padding": "replicate"}
DOCS = Path(__file__).parents[1] / "docs" / "pipelines.md"


@dataclass(frozen=True)
class Case:
    """A pipeline and a way to call it.

    Attributes:
        label: what a user would call it, in the table of docs/pipelines.md.
        pipeline: its class in diffusers.
        pictures: arguments that take pictures, each with how many of them belong together (several ControlNets).
        options: other arguments of the call.
        parts: makes components that differ from the usual ones.
        change: is done to the pipeline once it is made.
    """

    label: str
    pipeline: str
    pictures: dict[str, int] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    parts: Callable[[], dict[str, Any]] = dict
    change: Callable[[Any], Any] = lambda pipe: pipe

    def build(self) -> Any:
        pipe = tiny_pipeline(self.pipeline, **self.parts())
        return self.change(pipe) or pipe

    def clips(self, seed: int, count: int) -> dict[str, list[Any]]:
        """For each argument a list of clips, one for each condition; of ``count`` pictures."""
        made = {}
        for number, (name, conditions) in enumerate(self.pictures.items()):
            if name == "mask_image":
                made[name] = [[mask(10 * seed + index) for index in range(count)]]
            elif name == "ip_adapter_image_embeds":
                made[name] = [[face(10 * seed + index) for index in range(count)]]
            else:
                made[name] = [clip(10 * seed + number + 5 * each, count) for each in range(max(conditions, 1))]
        return made

    def arguments(self, clips: list[dict[str, list[Any]]]) -> dict[str, Any]:
        """The call's, for the clips of each prompt."""
        arguments = dict(self.options)
        for name, conditions in self.pictures.items():
            if conditions:
                arguments[name] = [[each[name][number] for each in clips] for number in range(conditions)]
            else:
                arguments[name] = [each[name][0] for each in clips]
        return arguments


def two_controlnets() -> dict[str, Any]:
    unet = tiny_unet()
    return {"unet": unet, "controlnet": MultiControlNetModel([tiny_controlnet(unet, seed) for seed in (0, 1)])}


def two_adapters() -> dict[str, Any]:
    unet = tiny_unet()
    return {"unet": unet, "adapter": MultiAdapter([tiny_adapter(unet, seed) for seed in (0, 1)])}


def with_freeu(pipe: Any) -> None:
    pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)


def nine_channels() -> dict[str, Any]:
    return {"nine_channels": True}


ONE = {"image": 0}
STARTS = {**ONE, "mask_image": 0}
CONTROLLED = {**ONE, "control_image": 0}
CASES = [
    Case("text, SD", "StableDiffusionPipeline", options={"negative_prompt": "black"}),
    Case("text, SD with FreeU", "StableDiffusionPipeline", change=with_freeu),
    Case("text, SDXL", "StableDiffusionXLPipeline", options={"negative_prompt": "black"}),
    Case("text, LDM", "LDMTextToImagePipeline", options={"height": 64, "width": 64}),  # it thinks its VAE is 8×
    Case("image to video, SD", "StableDiffusionImg2ImgPipeline", ONE, {"strength": 0.7}),
    Case("image to video, SDXL", "StableDiffusionXLImg2ImgPipeline", ONE, {"strength": 0.7}),
    Case("inpainting, SD", "StableDiffusionInpaintPipeline", STARTS),
    Case("inpainting, SD, 9 channels", "StableDiffusionInpaintPipeline", STARTS, parts=nine_channels),
    Case("inpainting, SDXL", "StableDiffusionXLInpaintPipeline", STARTS),
    Case("inpainting, SDXL, 9 channels", "StableDiffusionXLInpaintPipeline", STARTS, parts=nine_channels),
    Case("ControlNet, SD", "StableDiffusionControlNetPipeline", ONE),
    Case("ControlNet, SD, guess mode", "StableDiffusionControlNetPipeline", ONE, {"guess_mode": True}),
    Case("two ControlNets, SD", "StableDiffusionControlNetPipeline", {"image": 2}, parts=two_controlnets),
    Case("ControlNet and image, SD", "StableDiffusionControlNetImg2ImgPipeline", CONTROLLED, {"strength": 0.7}),
    Case("two ControlNets and image, SD", "StableDiffusionControlNetImg2ImgPipeline",
         {**ONE, "control_image": 2}, {"strength": 0.7}, two_controlnets),
    Case("ControlNet and inpainting, SD", "StableDiffusionControlNetInpaintPipeline", {**STARTS, **CONTROLLED}),
    Case("ControlNet, SDXL", "StableDiffusionXLControlNetPipeline", ONE),
    Case("ControlNet and image, SDXL", "StableDiffusionXLControlNetImg2ImgPipeline", CONTROLLED, {"strength": 0.7}),
    Case("ControlNet and inpainting, SDXL", "StableDiffusionXLControlNetInpaintPipeline", {**STARTS, **CONTROLLED}),
    Case("one condition of a ControlNet union, SDXL", "StableDiffusionXLControlNetUnionPipeline", {"control_image": 0},
         {"control_mode": 1}),
    Case("two conditions of a ControlNet union, SDXL", "StableDiffusionXLControlNetUnionPipeline",
         {"control_image": 2}, {"control_mode": [1, 3]}),
    Case("T2I-Adapter, SD", "StableDiffusionAdapterPipeline", ONE),
    Case("two T2I-Adapters, SD", "StableDiffusionAdapterPipeline", {"image": 2},
         {"adapter_conditioning_scale": [1.0, 0.5]}, two_adapters),
    Case("T2I-Adapter, SDXL", "StableDiffusionXLAdapterPipeline", ONE),
    Case("IP-Adapter, SD", "StableDiffusionPipeline", {"ip_adapter_image": 0}, change=with_ip_adapter),
    Case("two IP-Adapters, SD", "StableDiffusionPipeline", {"ip_adapter_image": 2},
         change=lambda pipe: with_ip_adapter(pipe, 2)),
    Case("IP-Adapter Plus, SD", "StableDiffusionPipeline", {"ip_adapter_image": 0},
         change=lambda pipe: with_ip_adapter(pipe, kind="plus")),
    Case("IP-Adapter FaceID, SD", "StableDiffusionPipeline", {"ip_adapter_image_embeds": 1},
         change=lambda pipe: with_ip_adapter(pipe, kind="faceid")),
    Case("IP-Adapter Plus, SDXL", "StableDiffusionXLPipeline", {"ip_adapter_image": 0},
         change=lambda pipe: with_ip_adapter(pipe, kind="plus")),
    Case("IP-Adapter FaceID, SDXL", "StableDiffusionXLPipeline", {"ip_adapter_image_embeds": 1},
         change=lambda pipe: with_ip_adapter(pipe, kind="faceid")),
    Case("IP-Adapter and ControlNet, SDXL", "StableDiffusionXLControlNetPipeline", {**ONE, "ip_adapter_image": 0},
         change=with_ip_adapter),
    Case("PAG, SD", "StableDiffusionPAGPipeline", options={"pag_scale": 2.0}),
    Case("PAG and image, SD", "StableDiffusionPAGImg2ImgPipeline", ONE, {"pag_scale": 2.0, "strength": 0.7}),
    Case("PAG and inpainting, SD", "StableDiffusionPAGInpaintPipeline", STARTS, {"pag_scale": 2.0}),
    Case("PAG and ControlNet, SD", "StableDiffusionControlNetPAGPipeline", ONE, {"pag_scale": 2.0}),
    Case("PAG, ControlNet and inpainting, SD", "StableDiffusionControlNetPAGInpaintPipeline",
         {**STARTS, **CONTROLLED}, {"pag_scale": 2.0}),
    Case("PAG, SDXL", "StableDiffusionXLPAGPipeline", options={"pag_scale": 2.0}),
    Case("PAG and image, SDXL", "StableDiffusionXLPAGImg2ImgPipeline", ONE, {"pag_scale": 2.0, "strength": 0.7}),
    Case("PAG and inpainting, SDXL", "StableDiffusionXLPAGInpaintPipeline", STARTS, {"pag_scale": 2.0}),
    Case("PAG and ControlNet, SDXL", "StableDiffusionXLControlNetPAGPipeline", ONE, {"pag_scale": 2.0}),
    Case("PAG, ControlNet and image, SDXL", "StableDiffusionXLControlNetPAGImg2ImgPipeline", CONTROLLED,
         {"pag_scale": 2.0, "strength": 0.7}),
    Case("InstructPix2Pix, SD", "StableDiffusionInstructPix2PixPipeline", ONE, {"image_guidance_scale": 1.5}),
    Case("InstructPix2Pix, SDXL", "StableDiffusionXLInstructPix2PixPipeline", ONE, {"image_guidance_scale": 1.5}),
    Case("LCM, SD", "LatentConsistencyModelPipeline", {}, {"original_inference_steps": 50}),
    Case("LCM and image, SD", "LatentConsistencyModelImg2ImgPipeline", ONE,
         {"original_inference_steps": 50, "strength": 0.7}),
    Case("text, SDXL, modular", "StableDiffusionXLModularPipeline"),
    Case("image to video, SDXL, modular", "StableDiffusionXLModularPipeline", ONE, {"strength": 0.7}),
    Case("inpainting, SDXL, modular", "StableDiffusionXLModularPipeline", STARTS, {"strength": 0.7}),
]  # fmt: skip


OTHERS: dict[str, Callable[[int], Any]] = {"mask_image": mask, "ip_adapter_image_embeds": face}


def make(pipe: latentshift.VideoPipeline, prompts: list[str], **arguments: Any) -> np.ndarray:
    return pipe(prompts, **{"num_inference_steps": 2, "output_type": "np", **arguments}).frames


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_promises_of_every_pipeline(case: Case) -> None:
    pipe = case.build()
    one = case.clips(1, 1)

    # A video of one frame, with a padding that leaves it alone, is the image pipeline's image
    unwrapped = {name: value if case.pictures[name] else value[0] for name, value in one.items()}
    if any(case.pictures.values()):
        unwrapped = {name: [clip[0] for clip in one[name]] if case.pictures[name] else one[name][0] for name in one}
    options = {**case.options, **unwrapped, "num_inference_steps": 2, "generator": seeds(1)[0]}
    stock = make_pictures(pipe, {"prompt": "red star", **options}, "np")[0][0]
    video = latentshift.video(pipe, F, shift=REPLICATE)
    frame = make(video, ["red star"], num_frames=1, generator=seeds(1), **case.arguments([one]))
    assert np.ptp(stock) > 0 and np.array_equal(frame[0, 0], stock)

    # Two videos in one call are what each is alone
    clips = [case.clips(seed, F) for seed in (2, 3)]
    prompts = ["red star", "black background"]
    together = make(video, prompts, generator=seeds(1, 2), videos_per_call=2, **case.arguments(clips))
    alone = make(video, prompts[1:], generator=seeds(2), **case.arguments(clips[1:]))
    assert together.shape == (2, F, *stock.shape) and not np.allclose(together[0], together[1], atol=1e-3)
    np.testing.assert_allclose(together[1], alone[0], atol=2e-5, rtol=0)

    # A picture of one frame acts on that frame, and through the shift on its neighbours
    for name in case.pictures:
        changed = [{key: [list(clip) for clip in value] for key, value in each.items()} for each in clips]
        changed[1][name][-1][1] = OTHERS.get(name, picture)(77)
        for independent in (True, False) if name == next(iter(case.pictures)) else (True,):
            options = {"generator": seeds(1, 2), "videos_per_call": 2}
            if independent:
                with frames_independent(pipe.unet):
                    before = make(video, prompts, **options, **case.arguments(clips))
                    options["generator"] = seeds(1, 2)
                    after = make(video, prompts, **options, **case.arguments(changed))
            else:
                before, after = together, make(video, prompts, **options, **case.arguments(changed))
            differs = (before != after).any(axis=(2, 3, 4))
            expected = np.zeros((2, F), dtype=bool)
            expected[1, 1 if independent else slice(None)] = True
            assert np.array_equal(differs, expected), (name, independent)


class EnoughError(Exception):
    """Ends a call of which enough has been seen."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_frames_share_the_noise_of_every_pipeline(case: Case) -> None:
    """The first latents that a network sees are β (α x_0 + σ L η), with the L of each share.

    The frames' mean in L η is r times that in η, and what differs from it s times, whatever the picture x_0 is.
    """
    pipe = case.build()
    seen: list[torch.Tensor] = []

    def see(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append((args[0] if args else kwargs["sample"])[: 2 * F, :4].unflatten(0, (2, F)))
        raise EnoughError

    first = getattr(pipe, "controlnet", None) or pipe.unet
    network = getattr(first, "nets", [first])[0]
    network.register_forward_pre_hook(see, with_kwargs=True)
    clips = [case.clips(seed, F) for seed in (2, 3)]
    options = {"videos_per_call": 2, "num_inference_steps": 4, **case.arguments(clips)}
    of_shares = []
    for share in (0.0, 1.0, 3.0):
        options["generator"] = seeds(1, 2)
        with pytest.raises(EnoughError):
            make(latentshift.video(pipe, F, noise_share=share), ["red star", "black background"], **options)
        mean = seen[-1].mean(dim=1, keepdim=True)
        own = 1 / (1 + share**2)
        of_shares.append(((mean, (own + F * (1 - own)) ** 0.5), (seen[-1] - mean, own**0.5)))
    for (none, least), (one, scale), (three, most) in zip(*of_shares, strict=True):
        assert (one - none).abs().max() > 0.1
        torch.testing.assert_close(
            (one - none) / (scale - least), (three - none) / (most - least), atol=1e-5, rtol=1e-4
        )


def table() -> str:
    """What is tested, for docs/pipelines.md."""
    rows = ["| what | pipeline of diffusers | a picture for each frame |", "|---|---|---|"]
    rows += [
        f"| {case.label} | `{case.pipeline}` | {', '.join(f'`{name}`' for name in case.pictures) or 'none'} |"
        for case in CASES
    ]
    return "\n".join(rows) + "\n"


def test_the_table_in_the_docs_is_what_is_tested() -> None:
    assert {case.pipeline for case in CASES} == TESTED
    assert table() in DOCS.read_text(encoding="utf-8"), f"in docs/pipelines.md belongs:\n{table()}"
