"""Prompts that change over the frames: what each frame hears, in the pipeline and in ``generate --prompt-at``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0

from latentshift import LatentShiftPipeline
from latentshift.models.conditioning.prompt_schedule import frame_weights
from latentshift.models.conditioning.prompts import Prompts
from latentshift.video import read_metadata, read_video
from test_keyframes import make
from tiny_pipelines import tiny_pipeline

FRAMES = 4
CPU = torch.device("cpu")
RED, BLACK = "red star", "on black"


def run(pipe: LatentShiftPipeline, prompt: Any = RED, **arguments: Any) -> torch.Tensor:
    count = (len(prompt) if isinstance(prompt, list) else 1) * arguments.get("num_videos_per_prompt", 1)
    generators = [torch.Generator().manual_seed(seed) for seed in range(count)]
    defaults = {"num_inference_steps": 3, "output_type": "latent", "generator": generators}
    return pipe(prompt, **{**defaults, **arguments}).frames


@pytest.fixture(scope="module")
def pipe() -> LatentShiftPipeline:
    return make()


@pytest.fixture(scope="module")
def xl() -> LatentShiftPipeline:
    made = LatentShiftPipeline.from_pipe(tiny_pipeline("StableDiffusionXLPipeline"), num_frames=FRAMES)
    made.set_progress_bar_config(disable=True)
    return made


def test_sentences_are_mixed_in_the_frames_between_them() -> None:
    between = frame_weights([1, 3], 6, loop=False)
    assert between.tolist() == [[1, 0], [1, 0], [0.5, 0.5], [0, 1], [0, 1], [0, 1]]
    loop = frame_weights([1, 3], 6, loop=True)
    expected = [[0.75, 0.25], [1, 0], [0.5, 0.5], [0, 1], [0.25, 0.75], [0.5, 0.5]]
    torch.testing.assert_close(loop, torch.tensor(expected))
    assert frame_weights([0, 2], 4, loop=True).tolist() == [[1, 0], [0.5, 0.5], [0, 1], [0.5, 0.5]]
    assert frame_weights([0, 1, 2], 3, loop=False).tolist() == torch.eye(3).tolist()


@pytest.mark.parametrize("which", ["pipe", "xl"])
def test_the_embeddings_are_those_of_the_sentences(which: str, request: pytest.FixtureRequest) -> None:
    encoders = request.getfixturevalue(which).text_encoders
    first, last = (encoders.encode([each], CPU) for each in (RED, BLACK))
    prompts = Prompts.of([{0: RED, -1: BLACK}, "red"], BLACK).for_frames(FRAMES, loop=False)
    text, negative = prompts.encode(encoders, CPU, None, 1.0)
    assert text.tokens.shape == negative.tokens.shape == (2, FRAMES, 12, encoders.width)
    for frame in range(FRAMES):
        share = frame / (FRAMES - 1)
        torch.testing.assert_close(text.tokens[0, frame], torch.lerp(first.tokens, last.tokens, share)[0])
        torch.testing.assert_close(text.tokens[1, frame], encoders.encode(["red"], CPU).tokens[0])
        if which == "xl":
            torch.testing.assert_close(text.pooled[0, frame], torch.lerp(first.pooled, last.pooled, share)[0])


@pytest.mark.parametrize("which", ["pipe", "xl"])
def test_one_sentence_throughout_is_the_plain_call(which: str, request: pytest.FixtureRequest) -> None:
    pipe = request.getfixturevalue(which)
    options = {"guidance_scale": 3.0, "negative_prompt": BLACK}
    plain = run(pipe, RED, **options)
    assert torch.equal(run(pipe, {0: RED, 2: RED}, **options), plain)
    # The same on the way that texts of frames take, with guidance and in chunks.
    text = pipe.text_encoders.encode([RED], CPU).with_frames(FRAMES)
    embeds = {"prompt_embeds": text.tokens, "pooled_prompt_embeds": text.pooled}
    for chunk in (None, 3):
        torch.testing.assert_close(run(pipe, None, **embeds, frame_chunk=chunk, **options), plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("sharing", [True, False])
def test_without_the_shift_each_frame_is_the_image_of_its_own_text(sharing: bool) -> None:
    pipe = make(shift=None)
    if not sharing:  # stock attention, which takes a text for each frame
        pipe.unet.set_attn_processor(AttnProcessor2_0())
    noise = torch.randn(1, FRAMES, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    video = run(pipe, {0: RED, 3: BLACK}, latents=noise, negative_prompt={0: "red", 3: "star"})
    for frame, (text, negative) in {0: (RED, "red"), 3: (BLACK, "star")}.items():
        alone = run(pipe, text, latents=noise[:, frame : frame + 1], num_frames=1, negative_prompt=negative)
        torch.testing.assert_close(video[:, frame], alone[:, 0], atol=1e-4, rtol=1e-4)


def test_prompts_that_change_beside_others_that_do_not(pipe: LatentShiftPipeline) -> None:
    prompts: list[Any] = [{0: RED, 3: BLACK}, "red", {1: BLACK, -1: "star"}]
    together = run(pipe, prompts, num_videos_per_prompt=2)
    for number in range(6):
        alone = run(pipe, prompts[number // 2], generator=torch.Generator().manual_seed(number))
        torch.testing.assert_close(alone[0], together[number], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(together[0], run(pipe, RED)[0], atol=1e-3)
    parts = run(pipe, prompts[0], frame_chunk=2)
    torch.testing.assert_close(parts[0], together[0], atol=1e-4, rtol=1e-4)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "outside": ({"prompt": {0: RED, 4: BLACK}}, "prompt names frame 4, and the video has 4: choose from 0 to 3"),
    "twice": ({"prompt": {3: RED, -1: BLACK}}, "prompt names frame 3 of the video twice: give it one sentence"),
    "empty": ({"prompt": {}}, "prompt is an empty dict: give a sentence for frame 0"),
    "key": ({"prompt": {"0": RED}}, "prompt has the key '0': it must be the number of a frame"),
    "value": ({"prompt": {0: 7}}, r"prompt\[0\] must be a sentence, not a int"),
    "listed": ({"prompt": [RED, {1: None}]}, r"prompt\[1\] must be a sentence, not a NoneType"),
    "negative": ({"negative_prompt": {9: RED}}, "negative_prompt names frame 9, and the video has 4"),
    "unicode": ({"prompt": {0: "a d\udcf6g"}}, r"prompt\[0\]"),
    "frames": ({"prompt": None, "prompt_embeds": torch.zeros(1, 3, 12, 16)}, "prompt_embeds are of 3 frames, and the"),
    "shape": ({"prompt": None, "prompt_embeds": torch.zeros(1, 4, 12, 9)}, r"\(P, F, L, 16\) for each frame, not"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_one_sentence(pipe: LatentShiftPipeline, case: str) -> None:
    arguments, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        run(pipe, **arguments)


def test_generate_makes_what_python_makes_and_says_so_in_the_file(cli, model: Path) -> None:
    code, _, err = cli(
        "generate", "red", "--model", model, "--steps", 2, "--seed", 7, "--dtype", "float32", "-o", "frames", "--loop",
        "--prompt-at", "1=black", "--prompt-at", "-1=a star",
    )  # fmt: skip
    assert code == 0 and "warning" not in err
    pipe = LatentShiftPipeline.from_pretrained(model, shift={"padding": "circular"})
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(7)
    made = pipe({0: "red", 1: "black", 3: "a star"}, num_inference_steps=2, generator=generator).frames[0]
    assert np.array_equal(read_video(Path("frames"))[0], np.stack([np.asarray(frame) for frame in made]))
    assert read_metadata(Path("frames"))["prompt_at"] == {"1": "black", "-1": "a star"}
