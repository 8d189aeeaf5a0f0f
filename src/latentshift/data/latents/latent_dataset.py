"""A folder of encoded clips as a set to learn from."""

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
from latentshift.data.latents.spec import LatentSpec, left_out_path, manifest_path, num_shards, shard_facts, shard_path
from latentshift.data.manifest import Manifest, RejectedRow
from latentshift.data.rejected_list import RejectedList
from latentshift.data.sample_order import Choices

_MOST_OPEN = 128  # shards; each holds a file open


class LatentDataset:
    """A folder of shards as a set of clips (:class:`latentshift.data.dataset.ClipSet`); used by one process.

    Args:
        folder: that holds them, all of them made; ``short`` names the clips whose video was shorter than the window.
        still_share: how many of the single frames of clips are the clip's first, captioned as the clip.

    Raises:
        ValueError: if the folder is none, or is not finished, or a shard is not as long as it was.
    """

    encoded = True

    def __init__(self, folder: Path, still_share: float = 0.0) -> None:
        self.folder = folder
        self.still_share = still_share
        self.plan = LatentSpec.read(folder)
        manifest = Manifest(manifest_path(folder))
        if manifest.digest != self.plan.manifest:
            raise ValueError(f"{manifest.path} is not the one that {folder} was encoded from")
        self._left_out = RejectedList(left_out_path(folder))
        self.refused_by_kind = self._left_out.by_kind.copy()
        self.captions_left_out = self._left_out.captions
        self._lacking: list[int] = []
        self.short: list[str] = []
        clips, images = [0], [0]
        for number in range(num_shards(self.plan, manifest)):
            facts = self._checked(number)
            if facts["refused"]:
                self._lacking.append(number)
                self.refused_by_kind.update(each["kind"] for each in facts["refused"])
            self.short += facts["short"]
            clips.append(clips[-1] + facts["clips"])
            images.append(images[-1] + facts["images"])
        self._clips, self._images = clips, images  # before each shard, and in all
        self._open: OrderedDict[int, Shard] = OrderedDict()
        self._verified: defaultdict[int, bytearray] = defaultdict(lambda: bytearray(self.plan.clips_per_shard))
        self._lock = Lock()  # samples are read ahead in a thread while captions are asked for

    def size(self, num_frames: int) -> int:
        """How many samples of so many frames there are: clips, and for single frames images too."""
        clips = self._clips[-1] if num_frames <= self.plan.window.frames else 0
        return clips + (self._images[-1] if num_frames == 1 else 0)

    @property
    def images(self) -> int:
        """How many of the single frames are images."""
        return self._images[-1]

    def refused(self) -> Iterator[RejectedRow]:
        """Everything that the source left out, and then what could not be encoded."""
        yield from self._left_out
        for number in self._lacking:
            yield from (RejectedRow(**each) for each in shard_facts(self.folder, number)["refused"])

    def caption(self, num_frames: int, index: int) -> str:
        """What is said of sample ``index`` of so many frames; of several captions the first."""
        number, place, image = self._where(num_frames, index)
        shard = self.shard(number)
        captions, image_captions = shard.captions(shard.entry(place, image))
        return (image_captions if num_frames == 1 and image_captions else captions)[0]

    def ask(self, num_frames: int, index: int, place: tuple[int, ...]) -> LatentRequest:
        """For sample ``index`` of so many frames, with the draws of ``place``."""
        return LatentRequest(self, *self._where(num_frames, index), num_frames, place)

    def shard(self, number: int) -> Shard:
        """A shard, opened if it is not; the one that was not asked for the longest is closed for it."""
        with self._lock:
            found = self._open.get(number)
            if found is None:
                found = self._open[number] = Shard(shard_path(self.folder, number), self._verified[number])
                if len(self._open) > _MOST_OPEN:
                    self._open.popitem(last=False)
            self._open.move_to_end(number)
            return found

    def _where(self, num_frames: int, index: int) -> tuple[int, int, bool]:
        """The shard's number, the place in it, and whether it is an image."""
        clips = self._clips[-1]
        image = num_frames == 1 and index >= clips
        starts, within = (self._images, index - clips) if image else (self._clips, index)
        number = bisect_right(starts, within) - 1
        return number, within - starts[number], image

    def _checked(self, number: int) -> dict[str, Any]:
        path = shard_path(self.folder, number)
        try:
            facts = shard_facts(self.folder, number)
            size = path.stat().st_size
        except OSError:
            raise ValueError(f"{self.folder} is not finished: it lacks {path.name}; encode again to go on") from None
        except ValueError:
            raise ValueError(f"{path.with_suffix('.json')} is damaged; delete it and {path.name}, and encode") from None
        if size != facts["bytes"]:
            raise ValueError(f"{path} has {size} bytes and should have {facts['bytes']}; delete it and encode again")
        return facts


@dataclass(slots=True)
class LatentRequest:
    """One sample out of one shard."""

    clips: LatentDataset
    number: int
    place: int
    image: bool
    num_frames: int
    draws: tuple[int, ...]

    @property
    def name(self) -> str:
        """What reports call it."""
        return f"{'image' if self.image else 'clip'} {self.place} of {shard_path(self.clips.folder, self.number)}"

    def read(self) -> Sample:
        """The sample.

        Raises:
            Rejected: for bytes that are not those that were written.
        """
        shard = self.clips.shard(self.number)
        entry = shard.entry(self.place, self.image)
        choices = Choices(self.draws)
        view = choices.among(self.clips.plan.views)
        first, told = choose_frames(choices, shard.num_frames(entry), self.num_frames, self.clips.still_share)
        captions, image_captions = shard.captions(entry)
        number = choose_caption(choices, len(captions), len(captions) + len(image_captions), told)
        return Sample(
            content=shard.moments(entry, view, first, self.num_frames),
            caption=(captions + image_captions)[number],
            text=shard.text(entry, number),
            empty=shard.empty,
        )
