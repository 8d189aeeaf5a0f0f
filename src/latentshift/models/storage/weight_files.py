"""The weight files of a saved pipeline, and their variants: ``model.fp16.safetensors`` in addition to, or instead of,
``model.safetensors``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

# Names of old and new diffusers and transformers versions, with or without shards.
_SHARD = r"-\d{5}-of-\d{5}"
_NAME = re.compile(rf"(?:diffusion_pytorch_model|model)(?:\.(.+?))?(?:{_SHARD})?(?:\.([^.]+))?\.safetensors")


def weight_files(folder: Path, variant: str | None = None) -> list[Path]:
    """The weight files of a component: of the variant, or of none if the variant is missing."""
    variants = _variants(folder)
    return variants.get(variant) or variants.get(None, [])


def has_variant(folder: Path, variant: str | None) -> bool:
    """Whether a component has weight files of the variant."""
    return variant in _variants(folder)


def check_variant(folder: Path, parts: Iterable[str], variant: str | None) -> None:
    """Check that a folder has weight files of the requested variant.

    Args:
        folder: of a saved pipeline.
        parts: subfolders whose weights are to be loaded.
        variant: requested; None for files without a variant.

    Raises:
        ValueError: if it has not; the message lists the available files and variants.
    """
    variants_of = {part: _variants(folder / part) for part in parts}
    known = sorted({str(each) for variants in variants_of.values() for each in variants if each is not None})
    if variant is not None and not any(variant in variants for variants in variants_of.values()):
        there = f"it has {', '.join(known)}" if known else "its files have none"
        raise ValueError(f"{folder} has no weights of the variant {variant!r}: {there}")
    for part, variants in variants_of.items():
        if variants and None not in variants and variant not in variants:
            files = ", ".join(sorted(file.name for each in variants.values() for file in each)[:3])
            choice = " or ".join(f"--variant {each}" for each in sorted(map(str, variants)))
            raise ValueError(
                f"{folder / part} has weights of a variant only ({files}): use {choice}, or "
                f"{choice.replace('--variant ', 'variant=')} in a recipe and in Python; latentshift init --base "
                f"{folder} {choice} -o DIR makes a folder without variants"
            )


def _variants(folder: Path) -> dict[str | None, list[Path]]:
    files_of: dict[str | None, list[Path]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        if match := _NAME.fullmatch(file.name):
            files_of.setdefault(match[1] or match[2], []).append(file)
    return files_of
