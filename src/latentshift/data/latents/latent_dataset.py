"""A folder of encoded clips as a training dataset."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from latentshift.data.dataset import Sample, choose_caption, choose_frames
from latentshift.data.latents.shard import Shard
from latentshift.data.latents.spec import LatentSpec, manifest_path, num_shards, rejected_path, shard_info, shard_path
from latentshift.data.manifest import Manifest, RejectedRow
from latentshift.data.rejected_list import RejectedList
from latentshift.data.sample_order import LazyRng

_MAX_OPEN = 128  # shards; each keeps a file open


class LatentDataset:
    """A folder of shards as a :class:`latentshift.data.dataset.ClipDataset`; used by one process.

    Args:
        folder: of finished shards; ``short`` names the clips whose video is shorter than the window.
        first_frame_share: share of single frames of clips that are the clip's first, with the clip's caption.
        pooled_width: of the text encoders' pooled embedding, to unpack the captions' embeddings; None if it has none.

    Raises:
        ValueError: if it is no folder of shards, is not finished, or a shard's file has another size.
    """

    encoded = True

    def __init__(self, folder: Path, first_frame_share: float = 0.0, pooled_width: int | None = None) -> None:
        self.folder = folder
        self.first_frame_share = first_frame_share
        self.pooled_width = pooled_width
        self.spec = LatentSpec.read(folder)
        manifest = Manifest(manifest_path(folder))
        if manifest.digest != self.spec.manifest:
            raise ValueError(f"{manifest.path} is not the one that {folder} was encoded from")
        self._rejected = RejectedList(rejected_path(folder))
        self.rejected_by_kind = self._rejected.by_kind.copy()
        self.captions_rejected = self._rejected.captions
        self._incomplete: list[int] = []
        self.short: list[str] = []
        clips, images = [0], [0]
        for number in range(num_shards(self.spec, manifest)):
            info = self._checked_info(number)
            if info["refused"]:
                self._incomplete.append(number)
                self.rejected_by_kind.update(each["kind"] for each in info["refused"])
            self.short += info["short"]
            clips.append(clips[-1] + info["clips"])
            images.append(images[-1] + info["images"])
        self._clips, self._images = clips, images  # cumulative counts: before each shard, then the total
        self._open: OrderedDict[int, Shard] = OrderedDict()
        self._verified: defaultdict[int, bytearray] = defaultdict(lambda: bytearray(self.spec.clips_per_shard))
        self._lock = Lock()  # a thread prefetches samples while the main thread reads captions

    def size(self, num_frames: int) -> int:
        """The number of samples of ``num_frames`` frames: clips, and for single frames images too."""
        clips = self._clips[-1] if num_frames <= self.spec.window.frames else 0
        return clips + (self._images[-1] if num_frames == 1 else 0)

    @property
    def images(self) -> int:
        """How many of the single-frame samples are images."""
        return self._images[-1]

    def rejected(self) -> Iterator[RejectedRow]:
        """The rejected entries of the source, then the clips that could not be encoded."""
        yield from self._rejected
        for number in self._incomplete:
            yield from (RejectedRow(**each) for each in shard_info(self.folder, number)["refused"])

    def caption(self, num_frames: int, index: int) -> str:
        """The (first) caption of sample ``index`` among those of ``num_frames`` frames."""
        number, place, image = self._locate(num_frames, index)
        shard = self.shard(number)
        captions, image_captions = shard.captions(shard.entry(place, image))
        return (image_captions if num_frames == 1 and image_captions else captions)[0]

    def request(self, num_frames: int, index: int, place: tuple[int, ...]) -> LatentRequest:
        """A request for sample ``index`` of ``num_frames`` frames, with the random stream of ``place``."""
        return LatentRequest(self, *self._locate(num_frames, index), num_frames, place)

    def shard(self, number: int) -> Shard:
        """An open shard; the least recently used one is closed if too many are open."""
        with self._lock:
            shard = self._open.get(number)
            if shard is None:
                shard = self._open[number] = Shard(
                    shard_path(self.folder, number), self._verified[number], self.pooled_width
                )
                if len(self._open) > _MAX_OPEN:
                    self._open.popitem(last=False)
            self._open.move_to_end(number)
            return shard

    def _locate(self, num_frames: int, index: int) -> tuple[int, int, bool]:
        """The shard's number, the position in it, and whether it is an image."""
        clips = self._clips[-1]
        image = num_frames == 1 and index >= clips
        starts, within = (self._images, index - clips) if image else (self._clips, index)
        number = bisect_right(starts, within) - 1
        return number, within - starts[number], image

    def _checked_info(self, number: int) -> dict[str, Any]:
        path = shard_path(self.folder, number)
        try:
            info = shard_info(self.folder, number)
            size = path.stat().st_size
        except OSError:
            raise ValueError(f"{self.folder} is not finished: it lacks {path.name}; encode again to go on") from None
        except ValueError:
            raise ValueError(f"{path.with_suffix('.json')} is damaged; delete it and {path.name}, and encode") from None
        if size != info["bytes"]:
            raise ValueError(f"{path} has {size} bytes and should have {info['bytes']}; delete it and encode again")
        return info


@dataclass(slots=True)
class LatentRequest:
    """A request for one sample of one shard."""

    dataset: LatentDataset
    number: int
    place: int
    image: bool
    num_frames: int
    rng_key: tuple[int, ...]

    @property
    def name(self) -> str:
        """Its name in reports."""
        return f"{'image' if self.image else 'clip'} {self.place} of {shard_path(self.dataset.folder, self.number)}"

    def read(self) -> Sample:
        """The sample.

        Raises:
            Rejected: if the bytes differ from those that were written.
        """
        shard = self.dataset.shard(self.number)
        entry = shard.entry(self.place, self.image)
        rng = LazyRng(self.rng_key)
        view = rng.below(self.dataset.spec.views)
        first, clip_caption = choose_frames(
            rng, shard.num_frames(entry), self.num_frames, self.dataset.first_frame_share
        )
        captions, image_captions = shard.captions(entry)
        number = choose_caption(rng, len(captions), len(captions) + len(image_captions), clip_caption)
        return Sample(
            content=shard.moments(entry, view, first, self.num_frames),
            caption=(captions + image_captions)[number],
            text=shard.text(entry, number),
            empty=shard.empty,
        )
