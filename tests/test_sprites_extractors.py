"""The shipped extractors: what their distances see, on the weights that are shipped, and how those are made."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from latentshift.data.sprites import BACKGROUNDS, COLOURS, MOTIONS, THINGS, Sprites, Track, render
from latentshift.evaluation.extractors.cache import SHIPPED
from latentshift.evaluation.extractors.extractor import Extractor
from latentshift.evaluation.extractors.known import known_extractor
from latentshift.evaluation.extractors.load import load_extractor
from latentshift.evaluation.extractors.sprites import training
from latentshift.evaluation.extractors.sprites.caption_training import train_captions
from latentshift.evaluation.extractors.sprites.networks import NetworkConfig
from latentshift.evaluation.extractors.sprites.samples import draw_clip, draw_frame
from latentshift.evaluation.metrics.frechet import frechet_distance
from latentshift.evaluation.metrics.kernel import PolynomialKernel, kernel_distance, unit_norm
from latentshift.evaluation.metrics.moments import Moments
from latentshift.evaluation.protocols.choice import choose_extractors
from latentshift.evaluation.report.schema import read_report
from latentshift.video import write_video

CLIPS = 64
NAMES = ("sprites-frames", "sprites-clips")
Clips = np.ndarray  # uint8 (CLIPS, 16, 64, 64, 3)


def true_clips(seed: int, count: int = CLIPS) -> Clips:
    world = Sprites(seed=seed)
    return np.stack([world[index][0] for index in range(count)])


def rows(extractor: Extractor, clips: Clips) -> np.ndarray:
    made = extractor(torch.from_numpy(np.ascontiguousarray(clips)))
    return made.reshape(-1, made.shape[-1])


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def extractor(name: str) -> Extractor:
    return load_extractor(name)


@pytest.fixture(scope="module")
def clips() -> Clips:
    return true_clips(71)


@pytest.fixture(scope="module")
def distance(extractor: Extractor) -> Callable[[Clips], float]:
    """Fréchet distance from other true clips."""
    reference = moments(rows(extractor, true_clips(72)))
    return lambda clips: frechet_distance(moments(rows(extractor, clips)), reference, covariance="N")


def moments(features: np.ndarray) -> Moments:
    made = Moments(features.shape[1])
    made.update(features, videos=CLIPS)
    return made


def shuffled(clips: Clips, window: int) -> Clips:
    """Frames in a random order within each window."""
    rng = np.random.default_rng(0)
    order = [np.concatenate([rng.permutation(each) for each in np.split(np.arange(16), 16 // window)]) for _ in clips]
    return np.take_along_axis(clips, np.array(order)[:, :, None, None, None], axis=1)


def frozen(clips: Clips, first: int) -> Clips:
    """The frame ``first`` stands to the end."""
    return clips[:, np.minimum(np.arange(16), first)]


def at_speed(speed: float) -> Clips:
    """The clips of the fixture, played faster or slower: their tracks at other times."""
    world, frames = Sprites(seed=71, num_frames=31), np.arange(31)
    made = []
    for index in range(CLIPS):
        sprite, track, texture = world.describe(index)
        fields = (track.x, track.y, np.maximum(track.radius, 0.05), track.angle)
        made.append(render(sprite, Track(*(np.interp(speed * frames[:16], frames, each) for each in fields)), texture))
    return np.stack(made)


def tinted(clips: Clips, levels: int) -> Clips:
    return np.clip(clips.astype(int) + np.array([levels, -levels, levels // 2]), 0, 255).astype(np.uint8)


def blurred(clips: Clips, sigma: float) -> Clips:
    return np.rint(gaussian_filter(clips.astype(np.float32), (0, 0, sigma, sigma, 0))).astype(np.uint8)


def test_a_clip_shows_what_its_sprite_says(extractor: Extractor, name: str) -> None:
    joint = load_extractor(name, output="probabilities")
    words = [list(COLOURS), THINGS, list(BACKGROUNDS)] if extractor.per == "frame" else [THINGS, MOTIONS]
    fields = ("colour", "thing", "background") if extractor.per == "frame" else ("thing", "motion")
    world = Sprites(seed=73, held_out=True)
    right = []
    for index in range(32):
        clip, sprite = world[index]
        made = rows(joint, clip[None])
        assert made.shape[1] == joint.width and np.allclose(made.sum(1), 1, atol=1e-5)
        asked = [known.index(getattr(sprite, field)) for known, field in zip(words, fields, strict=True)]
        right += (made.argmax(1) == np.ravel_multi_index(asked, [len(each) for each in words])).tolist()
    assert np.mean(right) > 0.9


def test_true_clips_are_nearer_to_true_clips_than_degraded_ones(
    extractor: Extractor, clips: Clips, distance: Callable[[Clips], float]
) -> None:
    true = distance(clips)
    for levels in ([4, 12, 36], [8, 24]):
        made = [distance(tinted(clips, each)) for each in levels]
        assert made == sorted(made) and made[-1] > 3 * true
    made = [distance(blurred(clips, each)) for each in (0.5, 1, 2)]
    assert made == sorted(made) and made[0] > true and made[-1] > 4 * true
    if extractor.per == "clip":
        for degrade, amounts, factor in ((shuffled, (4, 8, 16), 4), (frozen, (10, 5, 0), 2)):
            made = [distance(degrade(clips, each)) for each in amounts]
            assert made == sorted(made) and made[-1] > factor * true, degrade.__name__
        for speeds in ((0.75, 0.5), (1.5, 2.0)):
            made = [distance(at_speed(each)) for each in speeds]
            assert made == sorted(made) and made[-1] > 1.5 * true, speeds


def test_which_of_them_sees_the_order_of_frames(
    extractor: Extractor, clips: Clips, distance: Callable[[Clips], float]
) -> None:
    apart = abs(distance(shuffled(clips, 16)) - distance(clips))
    if extractor.per == "frame":
        assert apart < 1e-4 * distance(clips)  # what rounding leaves
    else:
        assert apart > 4 * distance(clips)


def test_the_kernel_distance_sees_it_too(extractor: Extractor, clips: Clips) -> None:
    def apart(first: Clips) -> float:
        return kernel_distance(rows(extractor, first), reference, kernel=PolynomialKernel(), estimator="unbiased")

    reference = rows(extractor, true_clips(72))
    true = apart(clips)
    for degraded in (blurred(clips, 2), tinted(clips, 36)):
        assert apart(degraded) > 4 * abs(true)


def test_rows_of_a_video_depend_on_nothing_but_the_video(extractor: Extractor, clips: Clips) -> None:
    together = extractor(torch.from_numpy(clips[:3]))
    alone = extractor(torch.from_numpy(clips[1:2]))
    assert together.dtype == np.float32 and together.shape[1:] == ((16, 64) if extractor.per == "frame" else (1, 32))
    assert np.array_equal(together[1], alone[0])


def test_larger_frames_are_stretched_first(extractor: Extractor) -> None:
    small, large = (np.stack([Sprites(seed=74, size=size)[index][0] for index in range(4)]) for size in (64, 96))
    # Texture is drawn for a size, but by the same values: the same clips but for their sampling.
    apart = np.abs(rows(extractor, large) - rows(extractor, small)).mean()
    others = np.abs(rows(extractor, small)[::-1] - rows(extractor, small)).mean()
    assert apart < 0.3 * others


def test_clips_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="reads clips of 16 frames, not 8"):
        load_extractor("sprites-clips")(torch.zeros(1, 8, 64, 64, 3, dtype=torch.uint8))


def test_captions_are_near_to_frames_that_show_what_they_say() -> None:
    pair = load_extractor("sprites-text")
    world = Sprites(seed=75)
    shown = [world[index] for index in range(24)]
    frames = unit_norm(pair(torch.from_numpy(np.stack([clip for clip, _ in shown]))).mean(1))
    captions = unit_norm(pair.text([sprite.caption() for _, sprite in shown]))
    cosines = frames @ captions.T
    assert cosines.diagonal().min() > 0.8
    for row, (_, one) in enumerate(shown):
        for column, (_, other) in enumerate(shown):
            wrong = sum(getattr(one, field) != getattr(other, field) for field in ("colour", "thing", "background"))
            assert not wrong or cosines[row, column] < 0.75, (one, other)
    # A frame shows no motion, so captions that differ in it are the same.
    sprite = shown[0][1]
    apart = pair.text([sprite.caption(), sprite.caption(with_motion=False)])
    assert unit_norm(apart)[0] @ unit_norm(apart)[1] > 0.99


def test_a_prompt_of_another_world_is_refused() -> None:
    with pytest.raises(ValueError, match="two dogs run has no word that the extractor sprites-text knows"):
        load_extractor("sprites-text").text(["two dogs run"])


def test_they_are_small_and_are_what_their_entries_say() -> None:
    files = {file for name in (*NAMES, "sprites-text") for file in known_extractor(name).files}
    for file in files:
        path = SHIPPED / file.name
        assert path.suffix in (".safetensors", ".json") and path.stat().st_size == file.size
    assert sum(file.size or 0 for file in files) <= 4e6
    assert {path.name for path in SHIPPED.iterdir()} == {"README.md", *(file.name for file in files)}


def test_no_number_of_theirs_has_the_name_of_a_published_one(cli, tmp_path: Path) -> None:
    for index, (clip, sprite) in enumerate(Sprites(seed=71)[index] for index in range(2)):
        write_video(tmp_path / "clips" / f"{index}.webp", clip, metadata={"prompt": sprite.caption()})
        write_video(tmp_path / "true" / f"{index}.webp", clip)
    words = ["evaluate", "folder", tmp_path / "clips", "--reference", tmp_path / "true", "-o", tmp_path / "result"]
    code, _, complained = cli(*words, "--extractors", "sprites", "--device", "cpu")
    assert code == 0, complained
    named = [each.name for each in read_report(tmp_path / "result").metrics]
    plain = ["FID", "KID", "IS", "FVD", "KVD", "clip-IS", "CLIPSIM", "CMMD", "frame consistency"]
    assert named == [*(f"sprites-{name}" for name in plain), "amount of motion"]


def test_the_word_sprites_chooses_every_output_of_them() -> None:
    assert choose_extractors("sprites", (), 16).keys == [
        "sprites-frames",
        "sprites-frames:probabilities",
        "sprites-clips",
        "sprites-clips:probabilities",
        "sprites-text",
    ]


# Training, with a network of a few thousand weights.
TINY = training.ExtractorRecipe(
    config=NetworkConfig((4, 4, 4, 4), 4, 8, (), 8, training.FRAME_CLASSES, training.FRAME_READINGS),
    draw=draw_frame,
    steps=6,
    batch=4,
    rate=1e-3,
    readings_weight=2,
    clean=16,
)


class StoppedError(Exception):
    pass


def test_training_is_repeatable_and_resumes_as_if_unbroken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "SAVE_EVERY", 2)

    def stopping(seed: int, index: int):
        if index >= 5 * TINY.batch:  # in the sixth step, two steps after the last saved one
            raise StoppedError
        return draw_frame(seed, index)

    for folder in ("unbroken", "again"):
        training.train_extractor("tiny", TINY, tmp_path / folder)
    with pytest.raises(StoppedError):
        training.train_extractor("tiny", replace(TINY, draw=stopping), tmp_path / "broken")
    training.train_extractor("tiny", TINY, tmp_path / "broken")
    files = {
        folder: sorted(path.relative_to(tmp_path / folder) for path in (tmp_path / folder).rglob("*"))
        for folder in ("unbroken", "again", "broken")
    }
    assert files["broken"] == files["unbroken"] == [Path("tiny.json"), Path("tiny.safetensors")]
    contents = {(tmp_path / folder / "tiny.safetensors").read_bytes() for folder in files}
    assert len(contents) == 1


def test_clips_are_trained_from_the_encoder_of_frames(tmp_path: Path) -> None:
    recipe = replace(
        TINY,
        config=replace(TINY.config, clip_channels=(8,), classes=training.CLIP_CLASSES, readings=training.CLIP_READINGS),
        draw=draw_clip,
        steps=1,
        start_from="tiny",
    )
    with pytest.raises(ValueError, match=r"tiny\.safetensors, whose encoder of frames the training starts from"):
        training.train_extractor("clips", recipe, tmp_path)
    training.train_extractor("tiny", replace(TINY, steps=1), tmp_path)
    training.train_extractor("clips", recipe, tmp_path)
    assert (tmp_path / "clips.safetensors").exists()


def test_captions_are_trained_on_the_network_of_frames(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        training.train_extractor("sprites-frames", replace(TINY, steps=1), tmp_path / folder)
        train_captions(tmp_path / folder, steps=2, batch=4)
    contents = {(tmp_path / folder / "sprites-text.safetensors").read_bytes() for folder in ("one", "two")}
    assert len(contents) == 1
    config = json.loads((tmp_path / "one" / "sprites-text.json").read_text())
    assert config["frames_sha256"] == sha256((tmp_path / "one" / "sprites-frames.safetensors").read_bytes()).hexdigest()


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tiny.state.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match="delete it to start anew"):
        training.train_extractor("tiny", TINY, tmp_path)
