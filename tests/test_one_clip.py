"""One-clip tuning: what ``bench one-clip`` measures where it is known, and the recipe on a real clip file, in small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from latentshift.data.sprites import NUM_FRAMES, Sprite, Track, draw_texture, render
from latentshift.evaluation.sprites.one_clip_measures import measure_one_clip
from latentshift.evaluation.sprites.prompt_looks import looks_of
from latentshift.training.recipe_file import load_recipe
from latentshift.training.run import run
from latentshift.video import write_video

RECIPE = Path(__file__).parent.parent / "recipes" / "one-clip.yaml"
CAPTION, OTHER = "a red star dancing on a navy background", "a yellow heart dancing on a black background"
TURN = np.linspace(0, 2 * np.pi, NUM_FRAMES)


def eight(size: int, *words: str, shift: float = 0.0) -> np.ndarray:
    """A thing that goes along an eight."""
    across, down = 0.45 + 0.2 * np.sin(TURN) + shift, 0.5 + 0.2 * np.sin(2 * TURN)
    path = Track(across, down, np.full(NUM_FRAMES, 0.17), np.zeros(NUM_FRAMES))
    colour, thing, background = words
    sprite = Sprite(colour, thing, "circling", background)
    return render(sprite, path, draw_texture(np.random.default_rng(0), size))


def test_the_words_of_a_prompt() -> None:
    assert looks_of(" A Red star dancing slowly on a navy background") == {
        "colour": "red",
        "thing": "star",
        "background": "navy",
    }
    for prompt, message in (
        ("a red star", "must have the form"),
        ("a pink star on a navy background", "has the colour 'pink'; sprites know red"),
        ("a red dog on a navy background", "has the thing 'dog'"),
        ("a red star on a red background", "has the background 'red'"),
    ):
        with pytest.raises(ValueError, match=message):
            looks_of(prompt)


def test_motion_and_looks_are_told_apart() -> None:
    clip, looks = eight(64, "red", "star", "navy"), looks_of(CAPTION)
    own = measure_one_clip(clip, clip, looks)
    assert own["place_error"] == own["path_error"] == 0 and own["looks"] == own["seen"] == 1
    learned_by_heart = measure_one_clip(clip, clip, looks_of(OTHER))
    assert learned_by_heart["path_error"] == 0
    assert (learned_by_heart["colour"], learned_by_heart["thing"], learned_by_heart["background"]) == (0, 0, 0)
    elsewhere = measure_one_clip(eight(64, "yellow", "heart", "black", shift=0.1), clip, looks_of(OTHER))
    assert (
        elsewhere["place_error"] == pytest.approx(0.1, abs=0.02)
        and elsewhere["path_error"] < 0.02
        and elsewhere["looks"] == 1
    )
    still = np.repeat(clip[:1], NUM_FRAMES, axis=0)
    resting = measure_one_clip(still, clip, looks)
    assert resting["path_error"] == pytest.approx(np.hypot(0.2 * np.sin(TURN), 0.2 * np.sin(2 * TURN)).mean(), abs=0.02)
    gone = np.where(np.arange(NUM_FRAMES)[:, None, None, None] < 8, clip, clip[0, :1, :1])
    assert measure_one_clip(gone, clip, looks) == {"seen": 0.5, "colour": 1, "thing": 0, "background": 1, "looks": 0}
    empty = measure_one_clip(np.broadcast_to(clip[0, :1, :1], clip.shape).copy(), clip, looks)
    assert empty["seen"] == empty["looks"] == 0 and not {"place_error", "path_error"} & set(empty)


def test_the_recipe_on_a_clip_file_and_what_is_reported(cli, sprites_model: Path, tmp_path: Path) -> None:
    clip = tmp_path / "eight.mp4"
    write_video(clip, eight(32, "red", "star", "navy"), fps=8)
    words = [
        f"data.source={clip}",
        f"data.options.caption={CAPTION}",
        f"output={tmp_path}/run",
        f"model={sprites_model}",
        "steps=2",
        "batch_size=2",
    ]
    words += ["save_every=2", "sample_every=1000", "sample_steps=2", "trackers=[]", "compute={device: cpu}"]
    words += ["lora.rank=2", "optimizer.warmup_steps=0", "optimizer.decay_steps=0"]
    run(load_recipe(RECIPE, words), quiet=True)
    lora = tmp_path / "run" / "lora.safetensors"
    command = (
        "bench", "one-clip", clip, "--prompt", CAPTION, "--other", OTHER, "--model", sprites_model,
        "--lora", lora, "--quick", "--dtype", "float32", "-o", "measured",
    )  # fmt: skip
    code, out, err = cli(*command)
    assert code == 0, err
    rows = [
        line.split("|")[1].strip() for line in out.splitlines() if line.startswith(("| untuned", "| tuned", "| the"))
    ]
    assert rows == ["untuned", "untuned", "the clip through the autoencoder", "tuned", "tuned", rows[2]]
    assert sorted(path.name for path in Path("measured/tuned").iterdir() if path.is_dir()) == [
        "a-red-star-dancing-on-a-navy-background",
        "a-yellow-heart-dancing-on-a-black-background",
    ]
    assert cli(*command)[1] == out
