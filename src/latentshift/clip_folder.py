"""Which file of a folder is the clip of which prompt, and whether browsers play it.

``latentshift generate`` writes the prompt into a file's metadata. Files of other systems are found by their name: the
prompt, with whatever stands between its words, and with or without a number at the end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latentshift.error_text import printable
from latentshift.files import missing_folder
from latentshift.prompt_slug import prompt_slug, slugs_of_name
from latentshift.video import read_metadata, read_video
from latentshift.video.main_stream import main_stream

SUFFIXES = (".mp4", ".webm", ".gif", ".webp", ".png")
_CODECS = ("h264", "vp8", "vp9", "av1")  # that browsers play without a licence of the system
_MAX_SHOWN = 120  # characters of a prompt in a message


@dataclass(frozen=True)
class ClipInfo:
    """What a clip is like, as it was decoded."""

    path: Path
    frames: int
    width: int
    height: int
    fps: float


def find_clips(folder: Path, prompts: Sequence[str]) -> tuple[dict[str, Path], list[Path]]:
    """The clip of each prompt, and the clips of none.

    Args:
        folder: of files; folders in it are not looked into.
        prompts: all different.

    Raises:
        ValueError: for a folder that is none, a clip that can't be read, a prompt with no clip or with several, or a
            file whose name fits several prompts.
    """
    if not folder.is_dir():
        raise ValueError(missing_folder(folder))
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES and path.name[0] != "."]
    if not files:
        raise ValueError(f"the folder {folder} holds no clips ({', '.join(SUFFIXES)})")
    by_slug: dict[str, list[str]] = defaultdict(list)
    for prompt in prompts:
        by_slug[prompt_slug(prompt)].append(prompt)
    paths_of: dict[str, list[Path]] = {prompt: [] for prompt in prompts}
    unused: list[Path] = []
    for path in files:
        paths_of.get(_prompt_of(path, by_slug) or "", unused).append(path)
    missing = [prompt for prompt, paths in paths_of.items() if not paths]
    if missing:
        rest = f" (nor of {len(missing) - 1:,} others)" if len(missing) > 1 else ""
        raise ValueError(f"the folder {folder} holds no clip of the prompt {_quoted(missing[0])}{rest}")
    for prompt, paths in paths_of.items():
        if len(paths) > 1:
            names = printable(", ".join(path.name for path in paths))
            raise ValueError(
                f"the folder {folder} holds {len(paths)} clips of the prompt {_quoted(prompt)}, where one is wanted: "
                f"{names}"
            )
    return {prompt: path for prompt, (path,) in paths_of.items()}, unused


def inspect_clip(path: Path) -> ClipInfo:
    """Decode a whole clip.

    Raises:
        ValueError: if it can't be decoded, or browsers would not play it.
    """
    frames, fps = read_video(path)
    if path.suffix.lower() in (".mp4", ".webm"):
        import av

        with av.open(str(path.resolve()), options={"protocol_whitelist": "file"}) as container:
            stream = main_stream(container)
            assert stream is not None  # its frames were read above
            context = stream.codec_context
            codec, pixels = context.codec.canonical_name, context.pix_fmt
        if codec not in _CODECS:
            raise ValueError(f"{path} is in {codec}, which browsers don't play: encode it as H.264")
        if codec == "h264" and pixels not in ("yuv420p", "yuvj420p"):
            raise ValueError(f"{path} is in H.264 of {pixels}, which not all browsers play: encode it in yuv420p")
    return ClipInfo(path, len(frames), frames.shape[2], frames.shape[1], fps)


def _prompt_of(path: Path, by_slug: dict[str, list[str]]) -> str | None:
    """The prompt in the metadata, which may be none of those wanted; else the one that the name fits, if any."""
    written = read_metadata(path).get("prompt")
    if isinstance(written, str):
        return written
    fitting = [prompt for name in sorted(slugs_of_name(path.stem)) for prompt in by_slug.get(name, [])]
    if len(fitting) > 1:
        raise ValueError(
            f"the name of {path} fits several prompts, {_quoted(fitting[0])} and {_quoted(fitting[1])}: rename it"
        )
    return fitting[0] if fitting else None


def _quoted(prompt: str) -> str:
    return f'"{printable(prompt, _MAX_SHOWN)}"'
