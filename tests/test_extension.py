"""Longer clips: extensions of the pipeline and of ``generate --extend``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latentshift import LatentShiftPipeline
from latentshift.diffusion.noise import paper_scheduler
from latentshift.video import read_metadata, read_video
from tiny_models import ONE_LEVEL, tiny_bert, tiny_tokenizer, tiny_unet, tiny_vae
from tiny_pipelines import seeds

FRAMES, OVERLAP = 4, 2
PROMPTS = ["red star", "on black"]


@pytest.fixture(scope="module")
def pipe() -> LatentShiftPipeline:
    parts = {"vae": tiny_vae(), "text_encoder": tiny_bert(), "tokenizer": tiny_tokenizer()}
    unet = tiny_unet(**ONE_LEVEL)
    pipe = LatentShiftPipeline(**parts, unet=unet, scheduler=paper_scheduler(), num_frames=FRAMES, noise_share=0.5)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make(pipe: LatentShiftPipeline, prompt: Any, generators: Any, **arguments: Any) -> torch.Tensor:
    """A clip and two extensions."""
    options = {"num_inference_steps": 2, "output_type": "latent", "generator": generators}
    clip = pipe(prompt, **options, **{k: v for k, v in arguments.items() if k == "num_videos_per_prompt"}).frames
    return pipe.extend(clip, prompt, num_extensions=2, overlap=OVERLAP, **options, **arguments).frames


def test_a_clip_goes_on_from_its_last_latents_and_keeps_them(pipe: LatentShiftPipeline) -> None:
    clip = pipe("red star", num_inference_steps=2, output_type="latent", generator=seeds(0)).frames
    longer = make(pipe, "red star", seeds(0))
    assert longer.shape[1] == FRAMES + 2 * (FRAMES - OVERLAP)
    assert torch.equal(longer[:, :FRAMES], clip)
    # Each extension is a call whose first frames are known, with noise that follows that of the call before.
    generators = seeds(0)
    options = {"num_inference_steps": 2, "output_type": "latent", "generator": generators}
    pipe("red star", **options)
    for begin in (FRAMES - OVERLAP, 2 * (FRAMES - OVERLAP)):
        known = {frame: longer[0, begin + frame] for frame in range(OVERLAP)}
        made = pipe("red star", keyframes=known, **options).frames
        assert torch.equal(longer[:, begin : begin + FRAMES], made)
    assert not torch.allclose(longer[0, 4], longer[0, 6], atol=1e-3)


def test_each_video_is_the_one_made_alone(pipe: LatentShiftPipeline) -> None:
    together = make(pipe, PROMPTS, seeds(0, 1, 2, 3), num_videos_per_prompt=2)
    for number in range(4):
        alone = make(pipe, PROMPTS[number // 2], seeds(number))
        assert torch.equal(alone[0], together[number])


def test_what_comes_out_is_as_of_a_call(pipe: LatentShiftPipeline) -> None:
    latents = make(pipe, "red star", seeds(0))
    clip = latents[:, :FRAMES]
    options = {"num_inference_steps": 2, "overlap": 3, "num_frames": 5}
    images = pipe.extend(clip, "red star", generator=seeds(1), **options).frames
    (array,) = pipe.extend(clip, "red star", generator=seeds(1), output_type="np", return_dict=False, **options)
    assert [len(images), len(images[0])] == [1, FRAMES + 2] and array.shape == (1, FRAMES + 2, 16, 16, 3)
    pixels = np.stack([np.asarray(image) for image in images[0]])
    assert np.abs(pixels - array[0] * 255).max() <= 0.5 + 1e-3
    half = pipe.extend(clip, "red star", num_inference_steps=2, output_type="latent").frames
    assert half.shape[1] == FRAMES + FRAMES // 2  # by default


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_extensions": 0}, "num_extensions must be 1 or more, not 0"),
        ({"overlap": 4}, "overlap must be from 1 to 3, below the 4 frames of a call, not 4"),
        ({"overlap": 0}, "overlap must be from 1 to 3"),
        ({"num_frames": 8, "overlap": 5}, "goes on from latents .* of 5 frames or more"),
        ({"height": 16}, "extend has no height: the clip decides them"),
        ({"keyframes": {}}, "extend has no keyframes"),
        ({"video": None}, "extend has no video"),
        ({"output_type": "mp4"}, "output_type must be one of pil, np, pt, latent"),
        ({"generator": seeds(0, 1)}, "2 generators were given for 1 videos"),
    ],
)
def test_a_mistake_is_one_sentence(pipe: LatentShiftPipeline, arguments: dict[str, Any], message: str) -> None:
    clip = torch.zeros(1, FRAMES, 4, 8, 8)
    with pytest.raises(ValueError, match=message):
        pipe.extend(clip, "red star", num_inference_steps=2, **arguments)


def test_a_clip_of_another_kind_and_a_loop_are_refused(pipe: LatentShiftPipeline) -> None:
    for clip in (torch.zeros(1, FRAMES, 3, 16, 16), torch.zeros(FRAMES, 4, 8, 8)):
        with pytest.raises(ValueError, match=r"extend goes on from latents \(B, F, 4, h, w\)"):
            pipe.extend(clip, "red star")
    with pytest.raises(ValueError, match="the clip to go on from has values that are not finite"):
        pipe.extend(torch.full((1, FRAMES, 4, 8, 8), torch.nan), "red star")
    with pytest.raises(ValueError, match=r"goes on from latents, .* not a list"):
        pipe.extend([[]], "red star")
    with pytest.raises(ValueError, match="2 prompts"):
        pipe.extend(torch.zeros(3, FRAMES, 4, 8, 8), PROMPTS, num_inference_steps=2)
    loop, images = (LatentShiftPipeline.from_pipe(pipe, shift=each) for each in ({"padding": "circular"}, None))
    for other, message in ((loop, "circular padding is a loop"), (images, "and this pipeline has neither")):
        with pytest.raises(ValueError, match=message):
            other.extend(torch.zeros(1, FRAMES, 4, 8, 8), "red star")


def test_an_interrupted_extension_is_the_last(pipe: LatentShiftPipeline) -> None:
    def interrupt(pipe: Any, step: int, timestep: Any, tensors: dict) -> dict:
        pipe._interrupt = True
        return tensors

    clip = torch.zeros(1, FRAMES, 4, 8, 8)
    options = {"num_extensions": 3, "num_inference_steps": 3, "output_type": "latent"}
    assert pipe.extend(clip, "red", callback_on_step_end=interrupt, **options).frames.shape[1] == FRAMES + FRAMES // 2


def test_generate_goes_on_with_the_seed_and_says_so_in_the_file(cli, model: Path) -> None:
    words = ("generate", "red", "--model", model, "--steps", 2, "--seed", 7, "--dtype", "float32")
    code, _, err = cli(*words, "-o", "long.gif", "--extend", 2, "--overlap", 1)
    assert (code, err) == (0, "")
    pipe = LatentShiftPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 2, "generator": torch.Generator().manual_seed(7)}
    clip = pipe("red", output_type="latent", **options).frames
    made = pipe.extend(clip, "red", num_extensions=2, overlap=1, **options).frames[0]
    frames, _ = read_video(Path("long.gif"))
    assert frames.shape[0] == len(made) == 4 + 2 * 3
    cli(*words, "-o", "short", "--extend", 1)
    assert np.array_equal(read_video(Path("short"))[0][:4], np.stack([np.asarray(frame) for frame in made[:4]]))
    metadata = read_metadata(Path("long.gif"))
    assert (metadata["frames"], metadata["extend"], metadata["overlap"]) == (4, 2, 1)
