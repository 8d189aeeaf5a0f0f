"""What ``LatentShiftPipeline`` takes as its peers in diffusers do: on one frame it does with it what they do."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, EulerDiscreteScheduler
from peft import LoraConfig

from latentshift import LatentShiftPipeline
from latentshift.diffusion.condition import TextCondition
from latentshift.diffusion.guidance import with_guidance
from tiny_models import TEXT_WIDTH, TOKENS
from tiny_pipelines import picture

Pair = tuple[LatentShiftPipeline, Any]
FEW = {"num_inference_steps": 2, "output_type": "np", "guidance_scale": 5.0}


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def pair(request: pytest.FixtureRequest) -> Pair:
    """Ours with replicate padding, and the stock pipeline, with one sampler."""
    folder: Path = request.getfixturevalue(f"{request.param}_folder")
    ours = LatentShiftPipeline.from_pretrained(folder, shift={"padding": "replicate"})
    stock = DiffusionPipeline.from_pretrained(folder)
    ours.scheduler = copy.deepcopy(stock.scheduler)
    for each in (ours, stock):
        each.set_progress_bar_config(disable=True)
    return ours, stock


def both(pair: Pair, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Our frame and the stock pipeline's image of one seed."""
    ours, stock = pair
    options = {**FEW, **options}
    frame = ours(num_frames=1, generator=torch.Generator().manual_seed(1), **options).frames[0, 0]
    return frame, stock(generator=torch.Generator().manual_seed(1), **options).images[0]


def is_xl(pair: Pair) -> bool:
    return pair[0].text_encoder_2 is not None


def given_embeddings(pair: Pair) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    width = 2 * TEXT_WIDTH if is_xl(pair) else TEXT_WIDTH
    names = ("prompt_embeds", "negative_prompt_embeds")
    tokens = {name: torch.randn(1, TOKENS, width) for name in names}
    pooled = {name.replace("prompt", "pooled_prompt"): torch.randn(1, TEXT_WIDTH) for name in names}
    return tokens | (pooled if is_xl(pair) else {})


def test_embeddings_in_place_of_sentences(pair: Pair) -> None:
    frame, image = both(pair, **given_embeddings(pair))
    assert np.array_equal(frame, image)
    ours, stock = pair
    words = {"negative_prompt": "red", "clip_skip": 1} if is_xl(pair) else {"negative_prompt": "red"}
    made = dict(zip(given_embeddings(pair), ours.encode_prompt(["red star", "black"], **words), strict=True))
    options = {**FEW, "num_frames": 2}
    by_words = ours(["red star", "black"], **words, **options, generator=torch.Generator().manual_seed(1)).frames
    by_embeddings = ours(**made, **options, generator=torch.Generator().manual_seed(1)).frames
    assert np.array_equal(by_words, by_embeddings)
    theirs = stock.encode_prompt(["red star"], device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True)
    for own, other in zip(ours.encode_prompt("red star"), theirs, strict=True):
        torch.testing.assert_close(own, other)
    with pytest.raises(ValueError, match="encode_prompt takes sentences"):
        ours.encode_prompt({0: "red", -1: "black"})


def test_embeddings_longer_than_the_negative_ones_where_these_are_not_used(pair: Pair) -> None:
    given = given_embeddings(pair)
    options = {name: value for name, value in given.items() if "negative" not in name} | FEW | {"num_frames": 1}
    options |= {"prompt_embeds": torch.cat([given["prompt_embeds"]] * 2, dim=1), "guidance_scale": 1.0}
    frame = pair[0](**options, generator=torch.Generator().manual_seed(1)).frames
    # Attention to tokens twice is attention to them once.
    options["prompt_embeds"] = given["prompt_embeds"]
    once = pair[0](**options, generator=torch.Generator().manual_seed(1)).frames
    np.testing.assert_allclose(frame, once, atol=1e-5, rtol=0)


def test_guidance_rescale(pair: Pair) -> None:
    frame, image = both(pair, prompt="red star", guidance_rescale=0.7)
    np.testing.assert_allclose(frame, image, atol=1e-5, rtol=0)
    assert not np.allclose(frame, both(pair, prompt="red star")[0], atol=1e-3)


def test_guidance_is_rescaled_over_a_whole_video() -> None:
    torch.manual_seed(0)
    frames = torch.randn(2, 3, 4, 8, 8) * torch.tensor([1.0, 5.0, 0.2])[:, None, None, None]
    text, negative = (TextCondition(torch.full((2, 1, 1), value)) for value in (1.0, -1.0))

    def denoiser(latents: torch.Tensor, timestep: torch.Tensor, condition: TextCondition) -> torch.Tensor:
        return latents * condition.tokens[:, :, :, None, None]

    timestep = torch.tensor(1)
    plain = with_guidance(denoiser, text, negative, 3.0)(frames, timestep)
    whole = with_guidance(denoiser, text, negative, 3.0, rescale=1.0)(frames, timestep)
    torch.testing.assert_close(whole.std(dim=(1, 2, 3, 4)), frames.std(dim=(1, 2, 3, 4)))
    ratio = whole / plain  # one factor for each video, and not one for each frame
    torch.testing.assert_close(ratio, ratio[:, :1, :1, :1, :1].expand_as(ratio))


@pytest.mark.parametrize(
    ("name", "values"), [("timesteps", [900, 500, 100]), ("sigmas", [10.0, 2.0, 0.1, 0.0])], ids=["timesteps", "sigmas"]
)
def test_a_schedule_of_ones_own(pair: Pair, name: str, values: list[float]) -> None:
    before = [each.scheduler for each in pair]
    for each in pair:
        each.scheduler = EulerDiscreteScheduler.from_config(each.scheduler.config)
    try:
        frame, image = both(pair, prompt="red star", **{name: values})
        assert np.array_equal(frame, image)
        assert pair[0].num_timesteps == 3
        for array in (np.array(values), torch.tensor(values)):
            again = pair[0](
                "red star", num_frames=1, generator=torch.Generator().manual_seed(1), **{**FEW, name: array}
            )
            assert np.array_equal(again.frames[0, 0], frame)
        with pytest.raises(ValueError, match="timesteps must be whole numbers"):
            pair[0]("red star", timesteps=[900.5, 3])
        for wrong in ([], [1, 2], [5, -1], [10_000, 1] if name == "timesteps" else [2.0, 2.0]):
            with pytest.raises(ValueError, match=f"{name} must be"):
                both(pair, prompt="red star", **{name: wrong})
        with pytest.raises(ValueError, match="not both"):
            both(pair, prompt="red star", timesteps=[2, 1], sigmas=[2.0, 1.0])
    finally:
        for each, scheduler in zip(pair, before, strict=True):
            each.scheduler = scheduler
    with pytest.raises(ValueError, match=f"takes no {name}"):
        pair[0]("red star", **{name: values})


def test_clip_skip(pair: Pair) -> None:
    ours, _ = pair
    if is_xl(pair):
        frame, image = both(pair, prompt="red star", clip_skip=1)
        assert np.array_equal(frame, image)
    else:  # diffusers looks for text_model, which CLIPTextModel no longer has
        ids = ours.tokenizer("red star", padding="max_length", max_length=TOKENS, return_tensors="pt").input_ids
        states = ours.text_encoder(ids, output_hidden_states=True).hidden_states
        skipped = ours.text_encoder.final_layer_norm(states[-2])
        frame = both(pair, prompt_embeds=skipped)[1]
        options = {"num_frames": 1, "generator": torch.Generator().manual_seed(1), **FEW}
        assert np.array_equal(ours("red star", clip_skip=1, **options).frames[0, 0], frame)
    layers = 1 if is_xl(pair) else 2
    for wrong in (0, layers + 1):
        with pytest.raises(ValueError, match=f"clip_skip must be 1 to {layers}"):
            ours("red star", clip_skip=wrong)
    with pytest.raises(ValueError, match="clip_skip has no effect"):
        ours(**given_embeddings(pair), clip_skip=1)


def test_loras_are_scaled(pair: Pair) -> None:
    for each in pair:
        torch.manual_seed(0)
        each.unet.add_adapter(LoraConfig(r=2, target_modules=["conv1", "to_q"], init_lora_weights=False), "one")
        each.text_encoder.add_adapter(LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False), "one")
    try:
        full, half, none = (
            both(pair, prompt="red star", cross_attention_kwargs={"scale": scale}) for scale in (1.0, 0.5, 0.0)
        )
        for frame, image in (full, half, none):
            np.testing.assert_allclose(frame, image, atol=1e-5, rtol=0)
        assert not np.allclose(full[0], half[0], atol=1e-3) and not np.allclose(half[0], none[0], atol=1e-3)
        again = both(pair, prompt="red star")
        assert np.array_equal(again[0], full[0])
        chunked = [
            pair[0](
                "red star",
                num_frames=4,
                generator=torch.Generator().manual_seed(1),
                cross_attention_kwargs={"scale": 0.5},
                frame_chunk=chunk,
                **FEW,
            ).frames
            for chunk in (4, 2)
        ]
        np.testing.assert_allclose(*chunked, atol=1e-4, rtol=0)
    finally:
        for each in pair:
            each.unet.delete_adapters("one")
            each.text_encoder.delete_adapter("one")


def test_what_does_not_fit_is_refused(pair: Pair) -> None:
    ours, _ = pair
    given = given_embeddings(pair)
    refusals: list[tuple[dict[str, Any], str]] = [
        ({}, "prompt must be"),
        ({"prompt": "red star", **given}, "prompt or prompt_embeds, not both"),
        ({**given, "negative_prompt": "black"}, "negative_prompt or negative_prompt_embeds, not both"),
        ({**given, "negative_prompt_embeds": given["negative_prompt_embeds"].repeat(2, 1, 1)}, "2 rows for 1 prompts"),
        ({**given, "prompt_embeds": given["prompt_embeds"][..., :3]}, "prompt_embeds must have the shape"),
        ({**given, "prompt_embeds": given["prompt_embeds"][:, :3]}, "have 3 tokens and the negative ones 12"),
        ({"prompt": "red star", "pooled_prompt_embeds": torch.zeros(1, TEXT_WIDTH)}, "goes with prompt_embeds"),
        ({"prompt": "red star", "guidance_rescale": 1.5}, "guidance_rescale must be 0 to 1"),
        ({"prompt": "red star", "guidance_rescale": 0.5, "guidance_scale": 1}, "guidance_rescale has no effect"),
        ({"prompt": "red star", "negative_prompt": "black", "guidance_scale": 1}, "negative_prompt has no effect"),
        ({"prompt": "red star", "keyframe_input": "noisy"}, "keyframe_input is of keyframes, and there are none"),
        ({"prompt": "red star", "eta": 1.5}, "eta must be 0 to 1"),
        ({"prompt": 3}, "prompt must be a sentence"),
        ({"prompt": "red star", "generator": 42}, "generator must be a torch.Generator or a list of them, not 42"),
        ({"prompt": "red star", "generator": [42]}, "generator must be a torch.Generator"),
        ({"prompt": "red star", "num_frames": 2.5}, "num_frames must be a whole number, not 2.5"),
        ({"prompt": "red star", "num_inference_steps": 2.5}, "num_inference_steps must be a whole number, not 2.5"),
        ({"prompt": "red star", "height": 16.0}, "height must be a whole number, not 16.0"),
    ]
    pooled = "pooled_prompt_embeds"
    if is_xl(pair):
        refusals.append(({name: value for name, value in given.items() if name != pooled}, f"{pooled} must have"))
    else:
        refusals.append(({**given, pooled: torch.zeros(1, TEXT_WIDTH)}, "is for SDXL only"))
    for options, words in refusals:
        with pytest.raises(ValueError, match=words):
            ours(**options)


WRONG_TYPES: dict[str, tuple[list[Any], str]] = {
    "guidance_scale": (["7", True, [7]], "guidance_scale must be a finite number, not"),
    "guidance_rescale": (["a", True, None], "guidance_rescale must be a finite number, not"),
    "guidance_interval": (["ab", (True, 900)], "guidance_interval must be two timesteps"),
    "eta": (["a", True], "eta must be a finite number"),
    "num_videos_per_prompt": ([True, 1.5], "num_videos_per_prompt must be a whole number"),
    "clip_skip": ([True, "1", 1.0], "clip_skip must be a whole number"),
    "timesteps": ([3, "321", ["a"]], "timesteps must be a list of numbers"),
    "sigmas": ([3.0, ["a"]], "sigmas must be a list of numbers"),
    "cross_attention_kwargs": ([3, ["scale"], {"scale": "a"}], "cross_attention_kwargs must be a dict of settings"),
    "latents": ([3, [1.0]], "latents must be a tensor"),
    "negative_prompt_embeds": (["a", [1.0]], "negative_prompt_embeds must be a tensor"),
    "callback_on_step_end": ([3, "print", object], "callback_on_step_end must be a function"),
    "callback_on_step_end_tensor_inputs": ([3, "latents", [3]], "tensor_inputs must be a list of names"),
    "decode_chunk_size": (["2", True, 2.5], "decode_chunk_size must be a whole number"),
    "frame_chunk": (["2", True, 2.5], "frame_chunk must be a whole number"),
    "deep_cache_interval": (["2", True], "deep_cache_interval must be a whole number"),
    "original_size": ([3, "ab", (8,), (True, 8)], "original_size must be two whole numbers"),
    "return_dict": (["no", 0, None], "return_dict must be True or False"),
    "output_type": ([3, ["np"], None], "output_type must be one of"),
    "keyframes": ([{True: picture(1)}], "keyframes has the key True: it must be the number of a frame"),
    "keyframe_strength": ([True, "a"], "keyframe_strength is of keyframes"),
    "prompt": ([{True: "red star"}, 3], "prompt"),
}


def test_a_wrong_type_is_refused_by_name(model: Path) -> None:
    pipe = LatentShiftPipeline.from_pretrained(model)
    for name, (values, words) in WRONG_TYPES.items():
        for value in values:
            with pytest.raises(ValueError, match=words):
                pipe(**{"prompt": "red star", **FEW, name: value})


def test_eta_is_refused_where_a_scheduler_has_none(model: Path) -> None:
    pipe = LatentShiftPipeline.from_pretrained(model)  # the paper's DDPM
    with pytest.raises(ValueError, match="eta has no effect on DDPMScheduler"):
        pipe("red star", eta=0.5)


def test_ldm_bert_has_no_layers_to_skip(model: Path) -> None:
    with pytest.raises(ValueError, match="clip_skip is for CLIP, and the text encoder is a LDMBertModel"):
        LatentShiftPipeline.from_pretrained(model)("red star", clip_skip=1)
