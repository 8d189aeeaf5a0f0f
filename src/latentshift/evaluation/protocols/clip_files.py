"""Clips of any system as files: which there are, and the frames that are measured of each.

Files are read in worker processes, so that a broken or hostile one costs nothing but itself.
Legend of shapes: F frames, H and W pixels.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np

from latentshift.data.content import content_hash
from latentshift.data.footage.animation import is_animation
from latentshift.data.footage.framing import Framing
from latentshift.data.footage.spread import STILLS, Spread, Strip, frame_files, read_spread, read_strip
from latentshift.data.manifest import not_text
from latentshift.data.media import is_mac_file, is_media
from latentshift.data.prefetch import prefetch
from latentshift.data.rejected import Rejected
from latentshift.data.worker_pool import WorkerLimits, WorkerPool
from latentshift.evaluation.protocols.plan import Item
from latentshift.files import missing_folder
from latentshift.settings import MAX_FRAMES
from latentshift.video import read_metadata

_FIRST_FRAME = "00000.png"  # of a folder of frames, as latentshift writes one
_TEXTS = (".txt", ".csv", ".json", ".jsonl", ".md", ".yaml", ".yml", ".html")  # that lie beside clips
_UNREADABLE = "unreadable"  # begins what stands for a content
_AHEAD = 4
IMPORTS = ("av", "PIL.Image")


@dataclass(frozen=True)
class FrameChoice:
    """Which frames of a clip are measured, and at what size.

    Attributes:
        frames: F, evenly spaced over the time; 1 to ``MAX_FRAMES``.
        seconds: from the beginning of the clip that they are taken from; None: the whole clip.
        size: side of a square that the short side is resized to and the centre cut from (bicubic, antialiased); None:
            as the file is.

    Raises:
        ValueError: for values out of range.
    """

    frames: int = 16
    seconds: float | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.frames <= MAX_FRAMES:
            raise ValueError(f"--frames must be from 1 to {MAX_FRAMES:,}, not {self.frames:,}")
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise ValueError(f"--seconds must be a number above 0, not {self.seconds}")
        if self.size is not None and not 8 <= self.size <= 4096:
            raise ValueError(f"--size must be from 8 to 4096 pixels, not {self.size}")

    @property
    def spread(self) -> Spread:
        """Which frames, whatever their size."""
        return Spread(self.frames, self.seconds)


@dataclass(frozen=True)
class ClipList:
    """The clips of a folder.

    Attributes:
        items: in order of their names.
        notes: sentences on what was taken for a clip, and what for none.
    """

    items: list[Item]
    notes: list[str] = field(default_factory=list)


def list_clips(folder: Path, frames: int = 16) -> ClipList:
    """The clips of a folder and its subfolders, links to folders included.

    A video or an image is a clip, and so is a folder of frames: one that latentshift wrote (``00000.png``, …), or,
    where several frames are taken of each clip, any subfolder that holds pictures and nothing else. Hidden files are
    none; other files that are no text are counted in a note.

    Args:
        folder: of the clips.
        frames: that are taken of each.

    Raises:
        ValueError: if there is no such folder, or it holds no clip.
    """
    if not folder.is_dir():
        raise ValueError(missing_folder(folder))
    walk = _Walk(folder, frames)
    files = sorted(walk.clips())
    if not files:
        raise ValueError(f"the folder {folder} holds no clips: no file in it is a video or an image")
    return ClipList([Item(file=name, content=_content(folder / name)) for name in files], walk.notes())


def read_clips(
    folder: Path, items: Iterable[tuple[int, Item]], choice: FrameChoice, limits: WorkerLimits
) -> Iterator[tuple[int, Item, np.ndarray | Rejected]]:
    """The chosen frames of clips in order, each uint8 (F, H, W, 3), or why it can't be used.

    Args:
        folder: of the files.
        items: index and item of each clip.
        choice: which frames.
        limits: of the reading processes.
    """
    tasks = (_Task(index, item, folder, choice) for index, item in items)
    with WorkerPool(_read, limits, IMPORTS) as pool:
        for task, result in prefetch(pool.run(tasks), _AHEAD, pool.close):
            yield task.index, task.item, result


def note_of_same_files(items: Sequence[Item], true_items: Sequence[Item]) -> list[str]:
    """A sentence if clips are the very files of true clips, so that their distance is no system's; else nothing."""
    true = {each.content for each in true_items}
    same = [each for each in items if each.content in true and not str(each.content).startswith(_UNREADABLE)]
    if not same:
        return []
    return [
        f"{len(same):,} of {len(items):,} clips are the same files as true clips, such as {same[0].file}: distances to "
        "those say little of the system."
    ]


def own_prompts(folder: Path, items: Sequence[Item], limits: WorkerLimits) -> dict[str, str]:
    """The prompt that latentshift wrote into a clip's metadata, by file, of the clips that have one."""
    tasks = (_Task(index, item, folder, FrameChoice()) for index, item in enumerate(items))
    with WorkerPool(_read_prompt, limits, IMPORTS) as pool:
        return {
            task.item.file or "": prompt
            for task, prompt in pool.run(tasks)
            if prompt and not isinstance(prompt, Rejected)  # what can't be read is counted when its frames are
        }


def clip_lengths(folder: Path, items: Iterable[Item], limits: WorkerLimits) -> dict[str, tuple[int, float]]:
    """Frames and seconds of whole clips, by file, of those that can be read."""
    tasks = (_Task(index, item, folder, FrameChoice()) for index, item in enumerate(items))
    with WorkerPool(_read_length, limits, IMPORTS) as pool:
        return {task.item.file or "": length for task, length in pool.run(tasks) if not isinstance(length, Rejected)}


@dataclass(frozen=True)
class _Task:
    index: int
    item: Item
    folder: Path
    choice: FrameChoice


def _read(task: _Task) -> np.ndarray:
    try:
        video = read_spread(task.folder / (task.item.file or ""), task.choice.spread)
    except OSError as error:
        raise Rejected("damaged", f"it can't be read: {error.strerror}") from None
    return video if task.choice.size is None else _resized(video, task.choice.size)


def _read_length(task: _Task) -> tuple[int, float]:
    try:
        strip = read_strip(task.folder / (task.item.file or ""), Strip(1))
    except OSError as error:
        raise Rejected("damaged", f"it can't be read: {error.strerror}") from None
    return strip.count, strip.seconds


def _read_prompt(task: _Task) -> str:
    return read_prompt(task.folder / (task.item.file or ""))


def read_prompt(path: Path) -> str:
    """The prompt that latentshift wrote into a clip's metadata, in one line of text; empty if there is none."""
    prompt = read_metadata(path).get("prompt")
    return prompt if isinstance(prompt, str) and not not_text(prompt) else ""


def _resized(video: np.ndarray, size: int) -> np.ndarray:
    from PIL import Image

    cut = Framing(size, size).draw(np.random.default_rng(0))  # the centre, whatever is drawn
    height, width = cut.scaled(*video.shape[1:3])
    resized = (Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC) for frame in video)
    return np.stack([cut.cut(np.asarray(frame)) for frame in resized])


class _Walk:
    """The clips below a folder, and what was passed over."""

    def __init__(self, folder: Path, frames: int) -> None:
        self.folder, self.frames = folder, frames
        self._of_pictures: list[str] = []
        self._others: list[str] = []
        self._linked: set[Path] = set()  # folders that links have led to

    def clips(self) -> Iterator[str]:
        """Names relative to the folder."""
        for place, folders, files in os.walk(self.folder, followlinks=True):
            here = Path(place)
            files = sorted(name for name in files if not name.startswith(".") and not is_mac_file(name))
            media = [name for name in files if is_media(name)]
            folders[:] = sorted(name for name in folders if not name.startswith(".") and not is_mac_file(name))
            folders[:] = [name for name in folders if not self._is_entered(here / name)]
            if here != self.folder and (_FIRST_FRAME in files or self._is_of_pictures(here, folders, media)):
                folders.clear()
                if _FIRST_FRAME not in files:
                    self._of_pictures.append(str(here.relative_to(self.folder)))
                yield str(here.relative_to(self.folder))
                continue
            self._others += [str((here / name).relative_to(self.folder)) for name in files if _is_unknown(name)]
            yield from (str((here / name).relative_to(self.folder)) for name in media)

    def _is_entered(self, folder: Path) -> bool:
        """Whether a link leads to a folder that it lies in, on the way here, or that another link has led to."""
        if not folder.is_symlink():
            return False
        target, way = folder.resolve(), {each.resolve() for each in folder.parents}
        if target in self._linked or any(target == each or target in each.parents for each in way):
            return True
        self._linked.add(target)
        return False

    def notes(self) -> list[str]:
        """Sentences on what was seen so far."""
        notes = []
        if self._of_pictures:
            notes.append(
                f"{_counted(self._of_pictures, 'folder')} of pictures in {self.folder} count as clips, a frame a "
                f"picture, such as {self._of_pictures[0]}; with --frames 1 each picture is one."
            )
        if self._others:
            notes.append(
                f"{_counted(self._others, 'file')} in {self.folder}, by their names neither videos nor images, are "
                f"passed over, such as {self._others[0]}."
            )
        return notes

    def _is_of_pictures(self, here: Path, folders: list[str], media: list[str]) -> bool:
        stills = self.frames > 1 and len(media) > 1 and not folders
        return (
            stills
            and all(PurePath(name).suffix.lower() in STILLS for name in media)
            and not is_animation(here / media[0])
        )


def _counted(names: Sequence[str], what: str) -> str:
    return f"{len(names):,} {what}{'' if len(names) == 1 else 's'}"


def _is_unknown(name: str) -> bool:
    return not is_media(name) and PurePath(name).suffix.lower() not in _TEXTS


def _content(path: Path) -> str:
    """A hash that notices a replaced file; of a folder of frames, of them all. Unreadable files get their own."""
    try:
        if path.is_dir():
            return "-".join(content_hash(str(each)) for each in frame_files(path))
        return content_hash(str(path))
    except OSError as error:
        return f"{_UNREADABLE}: {error.strerror}"
