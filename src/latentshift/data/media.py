"""Which files are videos or images, by file name alone."""

from __future__ import annotations

from pathlib import PurePath

IMAGES = frozenset([".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"])
VIDEOS = frozenset(
    [
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".mpg",
        ".mpeg",
        ".ts",
        ".m2ts",
        ".wmv",
        ".flv",
        ".gif",
        ".ogv",
        ".3gp",
        ".mts",
        ".vob",
        ".mxf",
        ".m2v",
        ".asf",
    ]
)


def is_mac_file(name: str) -> bool:
    """Whether it is a file that macOS adds when copying or packing: attributes or previews, no content."""
    path = PurePath(name)
    return path.name.startswith("._") or path.name == ".DS_Store" or "__MACOSX" in path.parts


def is_image(name: str) -> bool:
    """Whether a file of this name is read as a clip of one frame."""
    return PurePath(name).suffix.lower() in IMAGES


def is_media(name: str) -> bool:
    """Whether a file of this name is a video or an image."""
    return PurePath(name).suffix.lower() in IMAGES | VIDEOS
