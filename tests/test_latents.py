"""Encoded clips: what was killed ends as what was not, and what is read is what was written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from latentshift.caption_embedding import CaptionEmbedding
from latentshift.data.footage.framing import Framing
from latentshift.data.footage.window import Window
from latentshift.data.latents.encode import DecodeTask, Views, encode_shards, make_shard
from latentshift.data.latents.latent_dataset import LatentDataset
from latentshift.data.latents.partial_shard import PartialShard
from latentshift.data.latents.resolve import resolve_source
from latentshift.data.latents.spec import LatentSpec, manifest_path, rejected_path, shard_path, write_spec
from latentshift.data.manifest import Manifest, RejectedRow, Row, write_manifest
from latentshift.data.rejected import Rejected
from latentshift.data.rejected_list import RejectedList
from latentshift.data.sources import FolderSource, SpritesSource
from latentshift.data.worker_pool import WorkerLimits

ROWS = 10
IMAGES = (2, 7)


def spec_of(digest: str) -> LatentSpec:
    return LatentSpec(
        digest, "autoencoder", "float32", "text", Window(frames=2), Framing(8, 8), views=3, clips_per_shard=6
    )


def views(tasks: Iterator[DecodeTask]) -> Iterator[tuple[DecodeTask, Views | Rejected]]:
    for task in tasks:
        frames = 1 if task.index in IMAGES else 2
        pixels = np.random.default_rng(task.index).integers(256, size=(3, frames, 8, 8, 3), dtype=np.uint8)
        yield task, Rejected("damaged", "broken") if task.index == 4 else Views(pixels, short=task.index == 5)


def frames(view: np.ndarray) -> np.ndarray:
    return view.transpose(0, 3, 1, 2).astype(np.float32) / 7


def text(caption: str) -> CaptionEmbedding:
    return CaptionEmbedding(np.full((4, 5), len(caption), dtype=np.float32))


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    rows = (
        Row(f"/{k}.{'png' if k in IMAGES else 'mp4'}", tuple("x" * (k + n + 1) for n in range(1 + k % 2)), "test")
        for k in range(ROWS)
    )
    write_manifest(tmp_path / "manifest.jsonl", iter(rows), print)
    return Manifest(tmp_path / "manifest.jsonl")


def make(
    folder: Path, manifest: Manifest, stop: int | None = None, encode_text: Callable[[str], CaptionEmbedding] = text
) -> Path:
    folder.mkdir(exist_ok=True)
    manifest_path(folder).write_bytes(manifest.path.read_bytes())
    spec = spec_of(manifest.digest)
    write_spec(folder, spec)
    for number in range(2):
        for done in make_shard(folder, spec, manifest, number, views, frames, encode_text):
            if stop is not None and number * spec.clips_per_shard + done == stop:
                return folder
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_shard_holds_its_rows(tmp_path: Path, manifest: Manifest) -> None:
    folder = make(tmp_path / "out", manifest)
    first = load_file(shard_path(folder, 0))
    assert first["rows"].tolist() == [0, 1, 2, 3, 5] and first["places"].tolist() == [0, 1, -1, 2, 3]
    assert first["moments"].shape == (4, 3, 2, 3, 8, 8) and first["images"].shape == (1, 3, 1, 3, 8, 8)
    # Each distinct caption once, the empty one first.
    assert first["text"][:, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7] and first["text"].shape == (8, 4, 5)
    assert first["text_of"].tolist() == [1, 2, 3, 3, 4, 5, 6, 7] and first["text_ends"].tolist() == [1, 3, 4, 6, 8]
    facts = json.loads(shard_path(folder, 0).with_suffix(".json").read_text())
    assert (facts["clips"], facts["images"]) == (4, 1)
    refused = [{"name": "/4.mp4", "kind": "damaged", "reason": "broken"}]
    encoded = LatentDataset(folder)
    assert facts["refused"] == refused and list(encoded.rejected()) == [RejectedRow(**refused[0])]
    assert facts["short"] == ["/5.mp4"] == encoded.short
    assert load_file(shard_path(folder, 1))["rows"].tolist() == [6, 7, 8, 9]


@pytest.mark.parametrize("stop", range(1, ROWS + 1))
@pytest.mark.parametrize("torn", [0, 1, 5, 300])
def test_interrupted_encoding_resumes_to_the_same_shards(
    tmp_path: Path, manifest: Manifest, stop: int, torn: int
) -> None:
    make(tmp_path / "whole", manifest)
    make(tmp_path / "broken", manifest, stop=stop)
    for partial in (tmp_path / "broken").glob("*.partial"):
        partial.write_bytes(partial.read_bytes()[: -torn or None])
    make(tmp_path / "broken", manifest)
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


def test_what_is_read_is_what_was_written(tmp_path: Path, manifest: Manifest) -> None:
    clips = LatentDataset(make(tmp_path / "out", manifest))
    assert (clips.size(2), clips.size(1), clips.size(3)) == (7, 9, 0)
    kept = [index for index in range(ROWS) if index != 4 and index not in IMAGES]
    written = dict.fromkeys(range(ROWS))
    for task, result in views(DecodeTask(k, manifest[k], spec_of("")) for k in range(ROWS)):
        written[task.index] = getattr(result, "frames", None)
    seen_views, seen_captions = set(), set()
    for draw in range(40):
        for number, index in enumerate(kept):
            sample = clips.request(2, number, (draw,)).read()
            equal = [np.array_equal(sample.content, frames(view).astype(np.float16)) for view in written[index]]
            assert sum(equal) == 1 and sample.caption in manifest[index].captions
            assert sample.text.tokens[0, 0] == len(sample.caption) and sample.empty.tokens[0, 0] == 0
            seen_views.add((index, equal.index(True)))
            seen_captions.add((index, sample.caption))
    assert len(seen_views) == 3 * len(kept) and len(seen_captions) == sum(1 + index % 2 for index in kept)
    for number, index in enumerate(IMAGES):
        sample = clips.request(1, len(kept) + number, (0,)).read()
        assert any(np.array_equal(sample.content, frames(view).astype(np.float16)) for view in written[index])
        assert clips.caption(1, len(kept) + number) == manifest[index].captions[0]
    assert clips.request(1, 3, (1,)).read().content.shape == (1, 3, 8, 8)


def test_a_pooled_embedding_is_packed_in_the_shard_alone(tmp_path: Path, manifest: Manifest) -> None:
    def with_pooled(caption: str) -> CaptionEmbedding:
        return CaptionEmbedding(np.full((4, 5), len(caption), np.float32), np.full(3, -len(caption), np.float32))

    folder = make(tmp_path / "out", manifest, encode_text=with_pooled)
    packed = load_file(shard_path(folder, 0))["text"]
    assert packed.shape == (8, 5, 5) and not packed[:, 4, 3:].any()
    sample = LatentDataset(folder, pooled_width=3).request(2, 0, (0,)).read()
    for embedding, length in ((sample.text, len(sample.caption)), (sample.empty, 0)):
        assert embedding.tokens.shape == (4, 5) and (embedding.tokens == length).all()
        assert embedding.pooled.shape == (3,) and (embedding.pooled == -length).all()


def test_bytes_that_have_changed_are_noticed(tmp_path: Path, manifest: Manifest) -> None:
    folder = make(tmp_path / "out", manifest)
    path = shard_path(folder, 0)
    stored = bytearray(path.read_bytes())
    place = stored.find(load_file(path)["moments"][2].tobytes())
    stored[place + 7] ^= 1
    path.write_bytes(stored)
    clips = LatentDataset(folder)
    assert clips.request(2, 1, (0,)).read()
    with pytest.raises(Rejected, match="are not those that were written; delete that file and encode again"):
        clips.request(2, 2, (0,)).read()
    path.write_bytes(stored[:-1])
    with pytest.raises(ValueError, match="delete it and encode again"):
        LatentDataset(folder)
    path.unlink()
    with pytest.raises(ValueError, match=r"is not finished: it lacks shard-00000\.safetensors"):
        LatentDataset(folder)


def test_clips_of_another_making_are_refused(tmp_path: Path) -> None:
    clips, folder = tmp_path / "clips", tmp_path / "out"
    clips.mkdir()
    for name in ("a", "b"):
        (clips / f"{name}.mp4").write_bytes(b"no video")
        (clips / f"{name}.txt").write_text(name)
    source, spec = FolderSource(path=clips), spec_of("")
    resolve_source(folder, source, spec)
    assert not list(encode_shards(folder, frames, text, WorkerLimits(1)))[2:]
    before = contents(folder)
    assert len(resolve_source(folder, source, spec)) == 2
    for changed, what in (({"autoencoder": "other"}, "autoencoder was 'autoencoder'"), ({"views": 2}, "views was 3")):
        with pytest.raises(ValueError, match=f"holds clips of other settings: {what} and is now"):
            resolve_source(folder, source, dataclasses.replace(spec, **changed))
    (clips / "b.mp4").write_bytes(b"no video either")
    with pytest.raises(ValueError, match=r"b\.mp4 is another file than it was; .* encode with --retry"):
        resolve_source(folder, source, spec)
    assert contents(folder) == before
    resolve_source(folder, source, spec, retry=True)  # it had been refused: what comes of it now is what counts
    assert not list(folder.glob("shard-*"))
    assert (
        next(make_shard(folder, LatentSpec.read(folder), Manifest(manifest_path(folder)), 0, views, frames, text)) == 1
    )
    (path,) = folder.glob("shard-*")
    with PartialShard(path) as partial:
        partial.append(b'{"name": "b", "kind": "timed-out", "reason": "it took long"}')
    resolve_source(folder, source, spec, retry=True)  # half made shards too
    assert not list(folder.glob("shard-*"))
    (clips / "new.mp4").write_bytes(b"a video without a caption")
    resolve_source(folder, source, spec)
    assert [Path(each.name).name for each in RejectedList(rejected_path(folder))] == ["new.mp4"]
    (clips / "b.txt").write_text("c")
    with pytest.raises(ValueError, match=r"b\.mp4 is another row than it was; choose another folder"):
        resolve_source(folder, source, spec, retry=True)


def test_a_clip_of_the_same_length_is_another_clip(tmp_path: Path) -> None:
    clip = tmp_path / "clips" / "a.mp4"
    clip.parent.mkdir()
    clip.write_bytes(b"one")
    clip.with_suffix(".txt").write_text("a")
    folder, source, spec = tmp_path / "shards", FolderSource(path=clip.parent), spec_of("")
    before = resolve_source(folder, source, spec).path.read_bytes()
    assert resolve_source(folder, source, spec).path.read_bytes() == before
    clip.write_bytes(b"two")
    with pytest.raises(ValueError, match=r"a\.mp4 is another file than it was"):
        resolve_source(folder, source, spec)
    # A folder of before 2026-11-26 noted the length alone: what it does not say is not compared, and it stays as it is.
    (row,) = Manifest(manifest_path(folder))
    manifest_path(folder).write_text(dataclasses.replace(row, file_hash=None).to_json() + "\n")
    old = Manifest(manifest_path(folder))
    write_spec(folder, spec_of(old.digest))
    assert resolve_source(folder, source, spec).digest == old.digest


def test_two_processes_do_not_make_one_shard(tmp_path: Path, manifest: Manifest) -> None:
    folder = make(tmp_path / "out", manifest, stop=2)
    spec = LatentSpec.read(folder)
    one = make_shard(folder, spec, manifest, 0, views, frames, text)
    assert next(one) == 2
    with pytest.raises(ValueError, match=r"another process is writing .*shard-00000\.partial"):
        next(make_shard(folder, spec, manifest, 0, views, frames, text))
    assert list(one)[-1] == 6
    assert contents(make(tmp_path / "out", manifest)) == contents(make(tmp_path / "alone", manifest))


def test_the_sprites_world_is_a_source_like_any_other(tmp_path: Path) -> None:
    from latentshift.data.sprites import Sprites

    source = SpritesSource(path=Path(), clips=5, seed=3)
    window, framing = Window(), Framing(32, 32)
    folder = tmp_path / "out"
    spec = LatentSpec("", "a", "float32", None, window, framing)
    assert len(resolve_source(folder, source, spec)) == 5
    assert sum(encode_shards(folder, frames, None, WorkerLimits(workers=1))) == 5
    clips, world = LatentDataset(folder, first_frame_share=0.5), Sprites(size=32, seed=3)
    captions = set()
    for index in range(5):
        pixels, sprite = world[index]
        sample = clips.request(16, index, (0,)).read()
        assert np.array_equal(sample.content, frames(pixels).astype(np.float16))
        assert sample.caption == sprite.caption() and sample.text is None
        for draw in range(20):
            image = clips.request(1, index, (draw,)).read()
            shown = [k for k in range(16) if np.array_equal(image.content[0], sample.content[k])]
            captions.add(image.caption)
            assert image.caption == sprite.caption(with_motion=False) or 0 in shown  # where the motion begins
    assert len(captions) == 10
    spinning = [row.captions[0] for row in SpritesSource(path=Path(), clips=99, motions="spinning,circling").entries()]
    assert 10 < len(spinning) < 35 and all("spinning" in each or "circling" in each for each in spinning)
    with pytest.raises(ValueError, match="sprites know no motion 'flying'"):
        list(SpritesSource(path=Path(), motions=["flying"]).entries())
    other = SpritesSource(path=Path(), clips=6, seed=3)
    with pytest.raises(ValueError, match="holds clips of other settings: of 5 rows, where there are 6 now"):
        resolve_source(folder, other, spec)
    assert len(LatentDataset(folder)._clips) == 2  # nothing of it was touched
