"""The weight files of a saved pipeline's parts, and their variants: ``model.fp16.safetensors`` beside, or in place of,
``model.safetensors``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

# As diffusers and transformers name them, in one file or several, by newer and by older versions.
_SHARD = r"-\d{5}-of-\d{5}"
_NAME = re.compile(rf"(?:diffusion_pytorch_model|model)(?:\.(.+?))?(?:{_SHARD})?(?:\.([^.]+))?\.safetensors")


def weight_files(folder: Path, variant: str | None = None) -> list[Path]:
    """The files that a part's weights are loaded from: those of the variant, or those of none where it has none."""
    variants = _variants(folder)
    return variants.get(variant) or variants.get(None, [])


def check_variant(folder: Path, parts: Iterable[str], variant: str | None) -> None:
    """Refuse a folder that lacks the weight files that are asked for, where it has others.

    Args:
        folder: of a saved pipeline.
        parts: subfolders whose weights are to be loaded.
        variant: of the files; None for those without one.

    Raises:
        ValueError: naming the files that are there, and the variants to choose from.
    """
    found = {part: _variants(folder / part) for part in parts}
    known = sorted({str(each) for variants in found.values() for each in variants if each is not None})
    if variant is not None and not any(variant in variants for variants in found.values()):
        there = f"it has {', '.join(known)}" if known else "its files are of none"
        raise ValueError(f"{folder} has no weights of the variant {variant!r}: {there}")
    for part, variants in found.items():
        if variants and None not in variants and variant not in variants:
            files = ", ".join(sorted(file.name for each in variants.values() for file in each)[:3])
            choice = " or ".join(f"--variant {each}" for each in sorted(map(str, variants)))
            raise ValueError(
                f"{folder / part} has weights of a variant alone ({files}): say {choice} (variant=… in Python); "
                f"latentshift init --base {folder} {choice} -o DIR makes a folder that needs none"
            )


def _variants(folder: Path) -> dict[str | None, list[Path]]:
    found: dict[str | None, list[Path]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        if match := _NAME.fullmatch(file.name):
            found.setdefault(match[1] or match[2], []).append(file)
    return found
