"""Keyframes of the pipeline and of ``generate --keyframe``: what frames show, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from latentshift import LatentShiftPipeline
from latentshift.cli.generate.keyframe_option import KeyframeOption, parse_keyframe
from latentshift.diffusion.noise import paper_scheduler
from latentshift.diffusion.samplers import make_sampler
from latentshift.models.autoencoder import mean_latents
from latentshift.video import read_metadata, read_video
from latentshift.video.picture import read_picture
from tiny_models import ONE_LEVEL, tiny_bert, tiny_tokenizer, tiny_unet, tiny_vae
from tiny_pipelines import SIDE, picture, tiny_pipeline

FRAMES = 4


def make(sampler: str = "dpm++", **settings: Any) -> LatentShiftPipeline:
    parts = {"vae": tiny_vae(), "text_encoder": tiny_bert(), "tokenizer": tiny_tokenizer()}
    scheduler = make_sampler(sampler, paper_scheduler())
    pipe = LatentShiftPipeline(**parts, unet=tiny_unet(**ONE_LEVEL), scheduler=scheduler, num_frames=FRAMES, **settings)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def pipe() -> LatentShiftPipeline:
    return make()


def run(pipe: LatentShiftPipeline, prompt: str | list[str] = "red star", **arguments: Any) -> torch.Tensor:
    count = 1 if isinstance(prompt, str) else len(prompt)
    generators = [
        torch.Generator().manual_seed(seed) for seed in range(count * arguments.get("num_videos_per_prompt", 1))
    ]
    defaults = {"num_inference_steps": 3, "output_type": "latent", "generator": generators}
    return pipe(prompt, **{**defaults, **arguments}).frames


def latents_of(pipe: LatentShiftPipeline, image: Image.Image) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        return mean_latents(pipe.vae, pixels)[0]


def test_keyframes_are_in_the_video_and_change_the_frames_beside_them(pipe: LatentShiftPipeline) -> None:
    first, last = picture(1), picture(2)
    video = run(pipe, keyframes={0: first, -1: last})
    torch.testing.assert_close(video[0, 0], latents_of(pipe, first))
    torch.testing.assert_close(video[0, -1], latents_of(pipe, last))
    free = run(pipe)
    assert all(not torch.allclose(video[0, frame], free[0, frame], atol=1e-3) for frame in range(FRAMES))
    # Whatever the picture is given as, and as latents.
    array = np.asarray(first, dtype=np.float32) / 255
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    grey = run(pipe, keyframes={0: np.full((SIDE, SIDE, 1), 0.5, dtype=np.float32)})
    torch.testing.assert_close(grey, run(pipe, keyframes={0: np.full((SIDE, SIDE, 3), 0.5, dtype=np.float32)}))
    for given in (array, tensor, tensor * 2 - 1, latents_of(pipe, first)):
        torch.testing.assert_close(run(pipe, keyframes={0: given, FRAMES - 1: last}), video, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["StableDiffusionPipeline", "StableDiffusionXLPipeline"])
def test_keyframes_of_stable_diffusion(kind: str) -> None:
    pipe = LatentShiftPipeline.from_pipe(tiny_pipeline(kind), num_frames=FRAMES)
    pipe.scheduler = make_sampler("dpm++", pipe.scheduler)
    pipe.set_progress_bar_config(disable=True)
    video, free = run(pipe, keyframes={0: picture(1)}), run(pipe)
    torch.testing.assert_close(video[0, 0], latents_of(pipe, picture(1)))
    assert not torch.allclose(video[0, 1], free[0, 1], atol=1e-3)


def test_each_prompt_has_its_own_keyframe_and_each_video_is_the_one_made_alone(pipe: LatentShiftPipeline) -> None:
    prompts, pictures = ["red star", "on black"], [picture(1), picture(2)]
    together = run(pipe, prompts, keyframes={1: pictures, -1: picture(3)}, num_videos_per_prompt=2)
    for number in range(4):
        prompt = number // 2
        alone = run(
            pipe, prompts[prompt], keyframes={1: pictures[prompt], -1: picture(3)},
            generator=torch.Generator().manual_seed(number),
        )  # fmt: skip
        assert torch.equal(alone[0], together[number])
    assert torch.equal(together[0, 1], together[1, 1]) and not torch.equal(together[1, 1], together[2, 1])


@pytest.mark.parametrize("sampler", ["ddpm", "euler"])
def test_shared_noise_chunks_of_frames_and_guidance_keep_the_keyframe(sampler: str) -> None:
    pipe = make(sampler, noise_share=1.0)
    options = {"keyframes": {2: picture(1)}, "guidance_rescale": 0.7, "guidance_scale": 3.0}
    video = run(pipe, **options)
    torch.testing.assert_close(video[0, 2], latents_of(pipe, picture(1)))
    torch.testing.assert_close(run(pipe, frame_chunk=1, **options), video, atol=1e-4, rtol=1e-3)
    seen = []

    def on_step(pipe: Any, step: int, timestep: Any, tensors: dict) -> dict:
        seen.append(tensors["latents"])
        return tensors

    assert torch.equal(run(pipe, callback_on_step_end=on_step, **options), video) and len(seen) == 3


def test_a_strength_of_its_own_or_for_all(pipe: LatentShiftPipeline) -> None:
    keys = {0: picture(1), -1: picture(2)}
    whole, weak = run(pipe, keyframes=keys), run(pipe, keyframes=keys, keyframe_strength=0.4)
    assert not torch.allclose(weak[0, 0], whole[0, 0], atol=1e-2)
    own = run(pipe, keyframes=keys, keyframe_strength={FRAMES - 1: 0.4})
    assert torch.equal(own[0, 0], whole[0, 0]) and not torch.allclose(own[0, -1], whole[0, -1], atol=1e-2)
    assert torch.equal(run(pipe, keyframes={0: picture(1)}, keyframe_strength=0.0), run(pipe))
    assert torch.equal(run(pipe, keyframes={}), run(pipe))


def test_half_precision_encodes_in_float32_and_leaves_the_weights(pipe: LatentShiftPipeline) -> None:
    half = make().to(torch.bfloat16)
    before = {key: value.clone() for key, value in half.vae.state_dict().items()}
    video = run(half, keyframes={0: picture(1)}, num_inference_steps=2)
    after = half.vae.state_dict()
    assert all(torch.equal(before[key], after[key]) and after[key].dtype == torch.bfloat16 for key in before)
    torch.testing.assert_close(video[0, 0], latents_of(pipe, picture(1)), atol=0.02, rtol=0.02)  # rounded weights


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "outside": ({"keyframes": {4: picture(1)}}, "keyframes names frame 4, and the video has 4: choose from 0 to 3, or"),
    "before": ({"keyframes": {-5: picture(1)}}, "names frame -5"),
    "twice": ({"keyframes": {0: picture(1), -4: picture(2)}}, "names one frame of the 4 twice, as 0 and as -4"),
    "word": ({"keyframes": {"first": picture(1)}}, "has the key 'first': it must be the number of a frame"),
    "half": ({"keyframes": {0.5: picture(1)}}, "has the key 0.5"),
    "list": ({"keyframes": [picture(1)]}, "keyframes is a list: give a dict"),
    "size": ({"keyframes": {0: picture(1, 32)}}, r"keyframes\[0\] is 32×32 pixels, and the video's frames are 16×16"),
    "alpha": ({"keyframes": {-1: picture(1, mode="RGBA")}}, r"keyframes\[-1\] has a picture with an alpha channel"),
    "count": ({"keyframes": {0: [picture(1), picture(2)]}}, r"keyframes\[0\] has 2 pictures: give one"),
    "nothing": ({"keyframes": {0: None}}, r"keyframes\[0\] is a NoneType: give PIL images, arrays or tensors"),
    "channels": ({"keyframes": {0: torch.zeros(2, SIDE, SIDE)}}, r"keyframes\[0\] has 2 channels"),
    "latents": ({"keyframes": {0: torch.zeros(4, 4, 4)}}, r"has latents of the shape \(4, 4, 4\), and a frame's are"),
    "finite": ({"keyframes": {0: torch.full((4, 8, 8), torch.nan)}}, "numbers that are not finite"),
    "strong": ({"keyframes": {0: picture(1)}, "keyframe_strength": 1.5}, "must be a number from 0 to 1, not 1.5"),
    "nan": ({"keyframes": {0: picture(1)}, "keyframe_strength": {0: float("nan")}}, "must be a number from 0 to 1"),
    "strengths": ({"keyframes": {0: picture(1)}, "keyframe_strength": {0: 1, -4: 0.5}}, "keyframe_strength names one"),
    "text": ({"keyframes": {0: picture(1)}, "keyframe_strength": "all"}, "must be a number from 0 to 1, not 'all'"),
    "none": ({"keyframe_strength": 0.5}, "keyframe_strength is of keyframes, and there are none"),
    "stray": ({"keyframes": {0: picture(1)}, "keyframe_strength": {1: 0.5}}, "names frame 1, which has no keyframe"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_one_sentence(pipe: LatentShiftPipeline, case: str) -> None:
    arguments, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        run(pipe, **arguments)


def test_frames_that_do_not_see_each_other_and_clipping_are_refused() -> None:
    pipe = make(shift=None)
    with pytest.raises(ValueError, match="known frames act on others through the temporal shift or attention"):
        run(pipe, keyframes={0: picture(1)})
    pipe = make("ddpm")
    pipe.scheduler.register_to_config(clip_sample=True)
    with pytest.raises(ValueError, match=r"clips the predicted latents \(clip_sample\)"):
        run(pipe, keyframes={0: picture(1)})


def test_an_option_is_read_from_the_right(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_keyframe("a.png:0") == KeyframeOption(Path("a.png"), 0, 1.0)
    assert parse_keyframe("C:b/a.png:-1:0.25") == KeyframeOption(Path("C:b/a.png"), -1, 0.25)
    assert parse_keyframe("12:30.png:3") == KeyframeOption(Path("12:30.png"), 3, 1.0)
    assert parse_keyframe("a:1:0") == KeyframeOption(Path("a"), 1, 0.0)
    Path("a:1").touch()  # a file decides between two readings
    assert parse_keyframe("a:1:0") == KeyframeOption(Path("a:1"), 0, 1.0)
    Path("a").touch()
    with pytest.raises(ValueError, match="can be a:1:0 or a:1:0:1: write the one that is meant"):
        parse_keyframe("a:1:0")
    for text in ("a.png", "a.png:", ":0", "a.png:first", "a.png:1.5", "a.png:0:strong", "a.png:²"):
        with pytest.raises(ValueError, match="--keyframe is PATH:FRAME or PATH:FRAME:STRENGTH"):
            parse_keyframe(text)
    with pytest.raises(ValueError, match=r"the strength of --keyframe b\.png:0:2 must be a number from 0 to 1"):
        parse_keyframe("b.png:0:2")


def test_a_picture_is_read_upright_and_in_rgb(tmp_path: Path) -> None:
    wide = picture(1).resize((24, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    wide.save(tmp_path / "turned.png", exif=exif)
    turned = read_picture(tmp_path / "turned.png", (24, 16), "frames")
    assert np.array_equal(np.asarray(turned), np.rot90(np.asarray(wide), -1))
    picture(1, mode="L").save(tmp_path / "grey.png")
    assert read_picture(tmp_path / "grey.png").mode == "RGB"
    picture(1).save(tmp_path / "moving.gif", save_all=True, append_images=[picture(2)])
    Image.fromarray(np.zeros((16, 16), dtype=np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "grey.png").read_bytes()[:80])
    (tmp_path / "words.png").write_text("no picture")
    for name, message in {
        "turned.png": "is 16x24 pixels, and the frames are 16x16: resize it",
        "moving.gif": "is an animation of 2 frames",
        "deep.png": "has pixels of the mode I;16",
        "cut.png": "can't be read as a picture",
        "words.png": "is no picture of a known kind",
        "nothing.png": "there is no file",
    }.items():
        with pytest.raises(ValueError, match=message):
            read_picture(tmp_path / name, (16, 16), "the frames")


def test_generate_makes_what_python_makes_and_says_so_in_the_file(cli, model: Path) -> None:
    picture(1).save("first:frame.png")
    picture(2).save("last.png")
    code, _, err = cli(
        "generate", "red", "--model", model, "--steps", 2, "--seed", 7, "--dtype", "float32", "-o", "frames",
        "--keyframe", "first:frame.png:0", "--keyframe", "last.png:-1:0.5",
    )  # fmt: skip
    assert (code, err) == (0, "")
    pipe = LatentShiftPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    made = pipe(
        "red", num_inference_steps=2, generator=torch.Generator().manual_seed(7),
        keyframes={0: picture(1), 3: picture(2)}, keyframe_strength={3: 0.5},
    ).frames[0]  # fmt: skip
    assert np.array_equal(read_video(Path("frames"))[0], np.stack([np.asarray(frame) for frame in made]))
    assert read_metadata(Path("frames"))["keyframes"] == ["first:frame.png:0", "last.png:-1:0.5"]
