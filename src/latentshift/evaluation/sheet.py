"""Comparison sheets like the paper's Figs. 4 to 7 and 9: under each prompt a row of frames for each system.

Legend of shapes: F frames, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from latentshift.contact_sheet import GAP, INK, PAPER, chosen_frames, wrap_text
from latentshift.data.footage.spread import Strip, read_strip
from latentshift.evaluation.protocols.prompted_clips import PromptedClips
from latentshift.progress import progress_bar

if TYPE_CHECKING:
    from PIL import Image, ImageFont

MAX_SIDE = 16_384  # pixels of a sheet; viewers refuse more
_MARGIN = 12  # pixels around the sheet, and between prompts twice that
_LABEL_SHARE, _LEAST_LABEL = 0.2, 96  # of the frames' width that names of systems get, and pixels they get at least


def read_clips(
    systems: Mapping[str, Path], prompts: Sequence[str], columns: int = 8
) -> tuple[dict[str, list[np.ndarray]], list[str]]:
    """What a sheet of so many columns shows of each system's clips, one for each prompt, uint8 (F, H, W, 3).

    Returns:
        The clips, and sentences on what was taken for a clip and what was left out.

    Raises:
        ValueError: if a folder lacks a clip of a prompt or holds several, or a clip can't be used.
    """
    with PromptedClips(systems, prompts) as found:
        wanted = [(name, path_of[prompt]) for name, path_of in found.path_of.items() for prompt in prompts]
        strips = found.each(partial(read_strip, strip=Strip(columns)), [path for _, path in wanted])
        clips: dict[str, list[np.ndarray]] = {name: [] for name in systems}
        read = zip(wanted, strips, strict=True)
        for (name, _), strip in progress_bar(read, total=len(wanted), text="reading clips", unit="clip", leave=False):
            clips[name].append(strip.frames)
        return clips, found.notes


def comparison_sheet(
    prompts: Sequence[str], clips: Mapping[str, Sequence[np.ndarray]], columns: int = 8, height: int | None = None
) -> np.ndarray:
    """Draw the sheet.

    Where all clips are single images, they stand side by side, as in Fig. 6.

    Args:
        prompts: one or more.
        clips: of each system, one for each prompt, uint8 (F, H, W, 3) of any length and size.
        columns: number of frames to show of each clip, first and last included.
        height: of a frame in pixels. Frames are enlarged to a multiple of their size pixel by pixel, and resized
            smoothly otherwise. None: that of the tallest clip, but at least 96.

    Returns:
        uint8 RGB (H', W', 3).

    Raises:
        ValueError: for no prompts, systems or columns, another number of clips than prompts, or a sheet that is larger
            than ``MAX_SIDE``.
    """
    if not prompts or not clips or columns < 1:
        raise ValueError("a sheet has one prompt, system and column or more")
    for name, each in clips.items():
        if len(each) != len(prompts):
            raise ValueError(f"a sheet of {len(prompts)} prompts takes as many clips of {name}, not {len(each)}")
    side = height or max(96, max(clip.shape[1] for each in clips.values() for clip in each))
    if side * len(prompts) * len(clips) > MAX_SIDE:
        raise ValueError(
            f"the sheet would be higher than {MAX_SIDE:,} pixels: ask for fewer prompts, or with --height for fewer "
            f"pixels a frame than {side}"
        )
    images = all(len(clip) == 1 for each in clips.values() for clip in each)
    return (_sheet_of_images if images else _sheet_of_rows)(prompts, clips, columns, side)


def _sheet_of_rows(
    prompts: Sequence[str], clips: Mapping[str, Sequence[np.ndarray]], columns: int, side: int
) -> np.ndarray:
    strips = {name: [_strip(clip, columns, side) for clip in each] for name, each in clips.items()}
    across = max(strip.width for each in strips.values() for strip in each)
    beside = max(round(_LABEL_SHARE * across), _LEAST_LABEL)
    sheet = _Sheet(beside + across)
    for index, prompt in enumerate(prompts):
        sheet.write(f"“{prompt}”", 0, beside + across)
        for name, each in strips.items():
            top = sheet.top
            sheet.write(name, 0, beside - GAP)
            sheet.paste(each[index], beside, top)
            sheet.top = max(sheet.top, top + side) + 2 * GAP
        sheet.top += 2 * _MARGIN
    return sheet.draw()


def _sheet_of_images(
    prompts: Sequence[str], clips: Mapping[str, Sequence[np.ndarray]], columns: int, side: int
) -> np.ndarray:
    pictures = {name: [_strip(clip, 1, side) for clip in each] for name, each in clips.items()}
    widths = [max(picture.width for picture in each) for each in pictures.values()]
    lefts = [sum(widths[:place]) + 2 * GAP * place for place in range(len(widths))]
    sheet = _Sheet(max(lefts[-1] + widths[-1], 320))
    for index, prompt in enumerate(prompts):
        sheet.write(f"“{prompt}”", 0, sheet.width)
        top, bottoms = sheet.top, []
        for left, width, (name, each) in zip(lefts, widths, pictures.items(), strict=True):
            sheet.top = top
            sheet.paste(each[index], left, top)
            sheet.top = top + side
            sheet.write(name, left, width)
            bottoms.append(sheet.top)
        sheet.top = max(bottoms) + 2 * _MARGIN
    return sheet.draw()


def _strip(clip: np.ndarray, columns: int, side: int) -> Image.Image:
    """Chosen frames of a clip side by side, each ``side`` pixels high."""
    from PIL import Image

    frames = [Image.fromarray(frame) for frame in clip[chosen_frames(len(clip), columns)]]
    how = Image.Resampling.NEAREST if side % clip.shape[1] == 0 else Image.Resampling.LANCZOS
    width = max(1, round(clip.shape[2] * side / clip.shape[1]))
    strip = Image.new("RGB", ((width + GAP) * len(frames) - GAP, side), PAPER)
    for place, frame in enumerate(frames):
        strip.paste(frame.resize((width, side), how), (place * (width + GAP), 0))
    return strip


class _Sheet:
    """Texts and pictures at their places, drawn when the height is known.

    Args:
        width: between the margins in pixels.

    Raises:
        ValueError: if it is wider than ``MAX_SIDE``.
    """

    def __init__(self, width: int) -> None:
        from PIL import ImageFont

        if width > MAX_SIDE:
            raise ValueError(f"the sheet would be wider than {MAX_SIDE:,} pixels: ask for fewer --columns")
        self.width = width
        self.top = 0
        size = min(max(width // 60, 14), 40)
        self._font: ImageFont.FreeTypeFont | ImageFont.ImageFont = ImageFont.load_default(size=size)
        self._line = round(1.35 * size)
        self._texts: list[tuple[str, int, int]] = []
        self._pictures: list[tuple[Image.Image, int, int]] = []

    def write(self, text: str, left: int, width: int) -> None:
        """Write from ``top`` down, and move it below."""
        for line in wrap_text(text, self._font, width):
            self._texts.append((line, left, self.top))
            self.top += self._line

    def paste(self, picture: Image.Image, left: int, top: int) -> None:
        """Put a picture somewhere; ``top`` stays."""
        self._pictures.append((picture, left, top))

    def draw(self) -> np.ndarray:
        """The sheet with its margins, uint8 (H, W, 3)."""
        from PIL import Image, ImageDraw

        sheet = Image.new("RGB", (self.width + 2 * _MARGIN, self.top), PAPER)
        drawing = ImageDraw.Draw(sheet)
        for picture, left, top in self._pictures:
            sheet.paste(picture, (_MARGIN + left, _MARGIN + top))
        for text, left, top in self._texts:
            drawing.text((_MARGIN + left, _MARGIN + top), text, fill=INK, font=self._font)
        return np.array(sheet)
