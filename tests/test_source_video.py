"""Video to video, of the pipeline and of ``generate --video``: what is changed, from what, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from latentshift import LatentShiftPipeline
from latentshift.data.footage.named_clip import check_named_clip, read_named_clip
from latentshift.diffusion.samplers import make_sampler
from latentshift.models.call.source_video import fit_picture
from latentshift.video import read_metadata, read_video, write_video
from latentshift.video.cut import Cut
from test_keyframes import latents_of, make, run
from timed_video import write_video_at
from tiny_pipelines import SIDE, clip, picture, tiny_pipeline

FRAMES = 4
CLIP = clip(1, FRAMES)


@pytest.fixture(scope="module")
def pipe() -> LatentShiftPipeline:
    return make()


@pytest.mark.parametrize("sampler", ["ddim", "dpm++", "euler", "heun", "unipc"])
def test_one_frame_is_the_stock_image_pipelines(sampler: str) -> None:
    stock = tiny_pipeline("StableDiffusionImg2ImgPipeline")
    stock.scheduler = make_sampler(sampler, stock.scheduler)
    ours = LatentShiftPipeline.from_pipe(stock, shift=None)
    ours.set_progress_bar_config(disable=True)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    options = {"num_inference_steps": 7, "strength": 0.6, "guidance_scale": 3.0, "output_type": "latent"}
    theirs = stock("red star", image=latents, generator=torch.Generator().manual_seed(0), **options).images
    made = ours("red star", video=latents[None], generator=torch.Generator().manual_seed(0), **options).frames
    torch.testing.assert_close(made[:, 0], theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("noise_share", [0.0, 1.0])
def test_more_strength_is_more_difference_and_none_gives_the_video_back(noise_share: float) -> None:
    pipe = make(noise_share=noise_share)
    source = torch.stack([latents_of(pipe, each) for each in CLIP])[None]
    strengths = (0.0, 0.2, 0.5, 0.8, 1.0)
    videos = [run(pipe, video=CLIP, strength=strength, num_inference_steps=10) for strength in strengths]
    torch.testing.assert_close(videos[0], source, atol=1e-5, rtol=1e-4)
    differences = [float((video - source).square().mean()) for video in videos]
    assert sorted(differences) == differences and differences[1] > 1e-4 and differences[-1] > 4 * differences[1]


def test_a_video_is_taken_as_pictures_arrays_tensors_and_latents(pipe: LatentShiftPipeline) -> None:
    video = run(pipe, video=CLIP, strength=0.7)
    array = np.stack([np.asarray(each, dtype=np.float32) / 255 for each in CLIP])
    tensor = torch.from_numpy(array).permute(0, 3, 1, 2)
    source = torch.stack([latents_of(pipe, each) for each in CLIP])
    for given in (array, tensor, tensor * 2 - 1, source, source[None], [CLIP]):
        torch.testing.assert_close(run(pipe, video=given, strength=0.7), video, atol=1e-4, rtol=1e-4)
    still = run(pipe, video=CLIP[0], strength=0.7)
    assert torch.equal(still, run(pipe, video=[CLIP[0]] * FRAMES, strength=0.7)) and still.shape[1] == FRAMES
    assert run(pipe, video=clip(2, 3), strength=0.7).shape[1] == 3  # the clip says how many


def test_each_prompt_has_its_own_video_and_each_is_the_one_made_alone(pipe: LatentShiftPipeline) -> None:
    prompts, videos = ["red star", "on black"], [CLIP, clip(2, FRAMES)]
    together = run(pipe, prompts, video=videos, strength=0.7, num_videos_per_prompt=2)
    for number in range(4):
        prompt = number // 2
        generator = torch.Generator().manual_seed(number)
        alone = run(pipe, prompts[prompt], video=videos[prompt], strength=0.7, generator=generator)
        assert torch.equal(alone[0], together[number])
    again = run(pipe, prompts, video=together, strength=0.0, num_videos_per_prompt=2)  # latents, one for each video
    assert torch.equal(again, together)
    stills = run(pipe, prompts, num_frames=FRAMES, video=[[CLIP[0]], [CLIP[1]]], strength=0.7)
    assert torch.equal(run(pipe, "red star", num_frames=FRAMES, video=CLIP[0], strength=0.7)[0], stills[0])


def test_a_callback_counts_the_steps_that_are_made_and_chunks_change_nothing(pipe: LatentShiftPipeline) -> None:
    seen: list[tuple[int, int]] = []

    def watch(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append((step, pipeline.num_timesteps))
        return {}

    whole = run(pipe, video=CLIP, strength=0.5, num_inference_steps=6, callback_on_step_end=watch)
    assert seen == [(0, 3), (1, 3), (2, 3)]
    parts = run(pipe, video=CLIP, strength=0.5, num_inference_steps=6, frame_chunk=2)
    torch.testing.assert_close(parts, whole, atol=1e-4, rtol=1e-4)


def test_keyframes_take_the_places_of_frames(pipe: LatentShiftPipeline) -> None:
    key = picture(9)
    options = {"video": CLIP, "strength": 0.5, "num_inference_steps": 6}
    video, free = run(pipe, keyframes={0: key}, **options), run(pipe, **options)
    torch.testing.assert_close(video[0, 0], latents_of(pipe, key))
    assert not torch.allclose(video[0, 1], free[0, 1], atol=1e-3)
    held_once = run(pipe, keyframes={0: key}, keyframe_strength=0.1, **options)
    assert not torch.equal(held_once[0, 0], video[0, 0]) and not torch.equal(held_once[0, 1], free[0, 1])


def test_a_picture_of_another_size_is_cropped_about_its_centre() -> None:
    wide = torch.rand(3, SIDE, 3 * SIDE, generator=torch.Generator().manual_seed(0))
    assert torch.equal(fit_picture(wide, Cut(SIDE, SIDE)), wide[..., SIDE : 2 * SIDE])
    image = picture(3, 50)
    expected = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1)
    made = fit_picture(pixels, Cut(SIDE, SIDE)).permute(1, 2, 0).numpy()
    assert np.abs(made - expected).max() < 1.5 / 255
    grey = torch.full((3, SIDE, SIDE), 0.25)
    torch.testing.assert_close(fit_picture(torch.full((1, 9, 40), 0.25), Cut(SIDE, SIDE)), grey)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "few": ({"video": clip(1, 3), "num_frames": FRAMES}, "video has 3 pictures: give one, or a clip of 4"),
    "alpha": ({"video": [*CLIP[:3], picture(1, mode="RGBA")]}, "video has a picture with an alpha channel: drop it"),
    "sizes": ({"video": [*CLIP[:3], picture(1, 24)]}, "the pictures of video differ in size"),
    "range": ({"video": np.full((FRAMES, SIDE, SIDE, 3), 7.0)}, "numbers from 7 to 7: they are to be in"),
    "bytes": ({"video": np.zeros((FRAMES, SIDE, SIDE, 3), np.uint8)}, "divide them by 255"),
    "kind": ({"video": "clip.mp4"}, "video is a str: give PIL images, arrays or tensors"),
    "latents": ({"video": torch.zeros(1, FRAMES, 4, 4, 4)}, r"latents must have the shape \(1, 4, 4, 8, 8\)"),
    "listed": ({"video": [torch.zeros(4, 8, 8)] * FRAMES}, r"give them as one tensor \(F, 4, h, w\)"),
    "strong": ({"video": CLIP, "strength": 1.5}, "strength must be a number from 0 to 1"),
    "weak": ({"video": CLIP, "strength": 0.3}, r"strength 0\.3 leaves none of 3 steps: give 0, or 0\.334 or more"),
    "no colours": ({"video": np.zeros((FRAMES, SIDE, SIDE))}, "video has pictures of 16 channels: arrays are"),
    "alone": ({"strength": 0.5}, "strength is of a video to start from, and there is none"),
    "which": ({"prompt": ["red"] * 3, "video": clip(1, 3)}, "video has 3 pictures for 3 prompts: give num_frames, or"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_one_sentence(pipe: LatentShiftPipeline, case: str) -> None:
    arguments, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        run(pipe, **arguments)


def levels(count: int) -> np.ndarray:
    """Frames of one grey each, 10 apart."""
    return np.repeat(np.arange(count, dtype=np.uint8) * 10, SIDE * SIDE * 3).reshape(count, SIDE, SIDE, 3)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webp", "clip.gif"])
def test_a_clip_is_read_by_the_times_of_its_frames(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    write_video(file, levels(20), fps=20.0)
    cut = Cut(SIDE, SIDE)
    for frames, fps, start, expected in (
        (4, 20.0, None, [0, 1, 2, 3]),
        (4, 5.0, None, [0, 4, 8, 12]),  # its own speed at another rate
        (3, 10.0, 0.5, [10, 12, 14]),
        (3, 40.0, None, [0, 0, 1]),
    ):
        read = read_named_clip(file, frames, fps, cut, start)
        assert np.abs(read.mean(axis=(1, 2, 3)) - 10 * np.array(expected)).max() < 3
    with pytest.raises(
        ValueError, match=r"can't be used: it lasts .* s, and a clip takes 3 s .*: ask for fewer frames"
    ):
        read_named_clip(file, 30, 10.0, cut)
    with pytest.raises(ValueError, match="can't be used"):
        read_named_clip(file, 2, 10.0, cut, 5.0)


@pytest.mark.parametrize("fps", [3, 7, 8, 15, 24, 30])
def test_a_gif_whose_times_are_hundredths_loses_no_frame(tmp_path: Path, fps: int) -> None:
    write_video(tmp_path / "own.gif", levels(8), fps=fps)
    assert np.array_equal(read_named_clip(tmp_path / "own.gif", 8, fps, Cut(SIDE, SIDE)), levels(8))


def test_a_gif_that_is_rounded_down_has_all_its_frames_and_one_without_times_those_of_viewers(tmp_path: Path) -> None:
    first, *others = [Image.fromarray(frame) for frame in levels(8)]
    file = tmp_path / "a.gif"
    for said, fps in ((125, 8), (0, 10)):  # 0.12 s each in the file; and none
        first.save(file, save_all=True, append_images=others, duration=said)
        assert np.array_equal(read_named_clip(file, 8, fps, Cut(SIDE, SIDE)), levels(8))
        with pytest.raises(ValueError, match="ask for fewer frames, or more a second"):
            read_named_clip(file, 9, fps, Cut(SIDE, SIDE))


def test_an_animation_in_place_of_a_picture_is_refused_in_python(pipe: LatentShiftPipeline, tmp_path: Path) -> None:
    write_video(tmp_path / "a.gif", levels(4), fps=8.0)
    with Image.open(tmp_path / "a.gif") as animation:
        for arguments in ({"video": animation}, {"keyframes": {0: animation}}):
            with pytest.raises(ValueError, match=r"has an animation of 4 frames: give its frames, \[frame"):
                run(pipe, **arguments)
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(animation)]
    assert run(pipe, video=frames, strength=0.5).shape[1] == 4


def test_frames_in_a_folder_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number, frame in enumerate(levels(12)):
        Image.fromarray(frame).save(tmp_path / f"frame{number}.png")
    assert np.array_equal(read_named_clip(tmp_path, 12, 1.0, Cut(SIDE, SIDE)), levels(12))


def test_a_picture_is_turned_as_its_exif_data_say(pipe: LatentShiftPipeline) -> None:
    upright, turned = picture(1), picture(1).rotate(180)
    turned.getexif()[0x0112] = 3
    for name in ("video", "keyframes"):
        videos = [run(pipe, **{name: each if name == "video" else {0: each}}) for each in (upright, turned)]
        assert torch.equal(*videos)


def test_what_is_read_is_not_written_over(cli, model: Path) -> None:
    write_video(Path("clip.gif"), levels(4), fps=8.0)
    picture(3).save("still.png")
    Path("link.png").symlink_to("still.png")
    before = Path("clip.gif").read_bytes(), Path("still.png").read_bytes()
    command = ("generate", "red", "--model", model, "--steps", 1)
    for options in (
        ("--video", "clip.gif", "-o", "./clip.gif"),
        ("--keyframe", "still.png:0", "-o", "link.png", "--frames", 1),
        ("--video", "clip.gif", "--keyframe", "still.png:0", "-o", "a.gif", "--contact-sheet", "still.png"),
    ):
        code, _, err = cli(*command, *options)
        assert code == 1 and "the result would be written over it: choose another -o" in err
    assert before == (Path("clip.gif").read_bytes(), Path("still.png").read_bytes())


def test_a_video_with_uneven_times_and_a_folder_of_frames(tmp_path: Path) -> None:
    uneven = write_video_at(tmp_path / "uneven.mp4", np.array([0, 0.1, 0.5, 0.6]), list(levels(4)))
    read = read_named_clip(uneven, 6, 10.0, Cut(SIDE, SIDE))
    assert np.abs(read.mean(axis=(1, 2, 3)) - [0, 10, 10, 10, 10, 20]).max() < 3
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, frame in enumerate(levels(3)):
        Image.fromarray(frame).save(folder / f"{number}.png")
    (folder / "notes.txt").touch()
    assert np.array_equal(read_named_clip(folder, 2, 1.0, Cut(SIDE, SIDE)), levels(2))
    with pytest.raises(ValueError, match="frames has 3 frames, and the video 4: ask for fewer frames"):
        read_named_clip(folder, 4, 1.0, Cut(SIDE, SIDE))
    Image.new("RGBA", (SIDE, SIDE)).save(folder / "0.png")
    with pytest.raises(ValueError, match=r"0\.png can't be used: parts of it are transparent"):
        read_named_clip(folder, 2, 1.0, Cut(SIDE, SIDE))
    uneven.rename(folder / "more.mp4")
    with pytest.raises(ValueError, match=r"has videos in it \(more\.mp4\): name one of them"):
        check_named_clip(folder, None)


def test_generate_makes_what_python_makes_and_says_so_in_the_file(cli, model: Path) -> None:
    frames = np.stack([np.asarray(each) for each in CLIP])
    write_video(Path("clip.webp"), frames, fps=8.0)
    picture(3).save("still.png")
    options = ("--model", model, "--steps", 4, "--seed", 7, "--dtype", "float32", "--strength", 0.5)
    sources: dict[str, Any] = {"clip.webp": CLIP, "still.png": picture(3)}
    for source in sources:
        code, _, err = cli("generate", "red", *options, "--video", source, "-o", Path(source).stem)
        assert (code, err) == (0, "")
    code, _, err = cli("generate", "red", *options, "--video", "clip.webp", "--frames", 5)
    assert code == 1 and "it lasts 0.50 s, and a clip takes 0.625 s (5 frames at 8 a second): ask for fewer" in err
    pipe = LatentShiftPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    for source, video in sources.items():
        generator = torch.Generator().manual_seed(7)
        made = pipe("red", num_inference_steps=4, generator=generator, video=video, strength=0.5).frames[0]
        written = Path(source).with_suffix("")
        assert np.array_equal(read_video(written)[0], np.stack([np.asarray(frame) for frame in made]))
        assert {"video": source, "strength": 0.5}.items() <= read_metadata(written).items()
