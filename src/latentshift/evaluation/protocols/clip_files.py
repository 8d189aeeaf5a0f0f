"""Clips of any system as files: which there are, and the frames that are measured of each.

Files are read in worker processes, so that a broken or hostile one costs nothing but itself.
Legend of shapes: F frames, H and W pixels.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentshift.data.content import content_hash
from latentshift.data.footage.framing import Framing
from latentshift.data.manifest import not_text
from latentshift.data.media import is_mac_file, is_media
from latentshift.data.prefetch import prefetch
from latentshift.data.rejected import Rejected
from latentshift.data.worker_pool import WorkerLimits, WorkerPool
from latentshift.evaluation.protocols.plan import Item
from latentshift.files import missing_folder
from latentshift.settings import MAX_FRAMES
from latentshift.video import read_metadata, read_video

_FIRST_FRAME = "00000.png"  # of a folder of frames, as latentshift writes one
_AHEAD = 4
_IMPORTS = ("av", "PIL.Image")


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

    def of(self, video: np.ndarray, fps: float) -> np.ndarray:
        """The chosen frames of a video, uint8 (F, H, W, 3).

        Args:
            video: uint8 (all frames, H, W, 3).
            fps: its frames per second.

        Raises:
            Rejected: if it has fewer frames than are taken, or lasts less than the seconds.
        """
        count = len(video)
        if self.seconds is not None:
            count = round(self.seconds * fps)
            if count > len(video):
                raise Rejected(
                    "too-short", f"it lasts {len(video) / fps:.2f} s, and {self.seconds:g} s are taken of each clip"
                )
        if count < self.frames:
            span = "" if self.seconds is None else f" in its first {self.seconds:g} s"
            raise Rejected("too-short", f"it has {count} frames{span}, and {self.frames} are taken of each clip")
        chosen = video[np.arange(self.frames) * count // self.frames]
        return chosen if self.size is None else _resized(chosen, self.size)


def list_clips(folder: Path) -> list[Item]:
    """The clips of a folder and its subfolders, in order of their names.

    A video or an image is a clip, and so is a folder of frames as latentshift writes it (``00000.png``, …). Files of
    other kinds and hidden ones are none.

    Raises:
        ValueError: if there is no such folder, or it holds no clip.
    """
    if not folder.is_dir():
        raise ValueError(missing_folder(folder))
    files = sorted(_walk(folder))
    if not files:
        raise ValueError(f"the folder {folder} holds no clips: no file in it is a video or an image")
    return [Item(file=name, content=_content(folder / name)) for name in files]


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
    with WorkerPool(_read, limits, _IMPORTS) as pool:
        for task, result in prefetch(pool.run(tasks), _AHEAD, pool.close):
            yield task.index, task.item, result


def own_prompts(folder: Path, items: Sequence[Item], limits: WorkerLimits) -> dict[str, str]:
    """The prompt that latentshift wrote into a clip's metadata, by file, of the clips that have one."""
    tasks = (_Task(index, item, folder, FrameChoice()) for index, item in enumerate(items))
    with WorkerPool(_read_prompt, limits, _IMPORTS) as pool:
        return {
            task.item.file or "": prompt
            for task, prompt in pool.run(tasks)
            if prompt and not isinstance(prompt, Rejected)  # what can't be read is counted when its frames are
        }


@dataclass(frozen=True)
class _Task:
    index: int
    item: Item
    folder: Path
    choice: FrameChoice


def _read(task: _Task) -> np.ndarray:
    path = task.folder / (task.item.file or "")
    try:
        video, fps = read_video(path)
    except (ValueError, OSError) as error:
        raise Rejected("damaged", f"it {str(error).removeprefix(str(path)).strip()}") from None
    return task.choice.of(video, fps)


def _read_prompt(task: _Task) -> str:
    prompt = read_metadata(task.folder / (task.item.file or "")).get("prompt")
    return prompt if isinstance(prompt, str) and not not_text(prompt) else ""


def _resized(video: np.ndarray, size: int) -> np.ndarray:
    from PIL import Image

    cut = Framing(size, size).draw(np.random.default_rng(0))  # the centre, whatever is drawn
    height, width = cut.scaled(*video.shape[1:3])
    resized = (Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC) for frame in video)
    return np.stack([cut.cut(np.asarray(frame)) for frame in resized])


def _walk(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        here = Path(place)
        if _FIRST_FRAME in files and here != folder:
            folders.clear()
            yield str(here.relative_to(folder))
            continue
        folders[:] = [each for each in folders if not each.startswith(".") and not is_mac_file(each)]
        for name in files:
            if is_media(name) and not name.startswith(".") and not is_mac_file(name):
                yield str((here / name).relative_to(folder))


def _content(path: Path) -> str:
    """A hash that notices a replaced file; of a folder of frames, of them all. Unreadable files get their own."""
    try:
        if path.is_dir():
            return "-".join(content_hash(str(each)) for each in sorted(path.glob("*.png")))
        return content_hash(str(path))
    except OSError as error:
        return f"unreadable: {error.strerror}"
