"""The families by the tensors' names in checkpoint files of the original (LDM / Stable Diffusion) layout.

Imports neither torch nor diffusers, so that a file of another layout is refused at once.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from latentshift.models.storage.other_models import foreign_architecture, no_model

UNET_PREFIX = "model.diffusion_model."


@dataclass(frozen=True)
class OriginalText:
    """A text encoder in checkpoint files of the original layout.

    Attributes:
        root: what its tensors' names begin with.
        mark: how the rest of some of them begins, by which the family is known.
        layout: of the names after the root.
        tokenizer: the hub id of one that is right, for such files hold none.
        pad: its padding token, where that is not the tokenizer's own.
    """

    root: str
    mark: str
    layout: Literal["x-transformers", "clip", "open-clip"]
    tokenizer: str
    pad: str | None = None


CLIP_TOKENIZER = "openai/clip-vit-large-patch14"
_SD2_TEXT = OriginalText("cond_stage_model.model.", "transformer.resblocks.", "open-clip", CLIP_TOKENIZER, "!")

# Family -> its text encoders.
ORIGINAL_TEXTS: dict[str, tuple[OriginalText, ...]] = {
    "ldm": (OriginalText("cond_stage_model.transformer.", "token_emb.", "x-transformers", "bert-base-uncased"),),
    "sd1": (OriginalText("cond_stage_model.transformer.", "text_model.", "clip", CLIP_TOKENIZER),),
    "sd2": (_SD2_TEXT,),
    "sd2-base": (_SD2_TEXT,),
    "sdxl": (
        OriginalText("conditioner.embedders.0.transformer.", "text_model.", "clip", CLIP_TOKENIZER),
        OriginalText("conditioner.embedders.1.model.", "transformer.resblocks.", "open-clip", CLIP_TOKENIZER, "!"),
    ),
}


def find_original_family(names: Collection[str], wanted: str | None = None) -> str:
    """Detect the model family of a checkpoint.

    Args:
        names: of all its tensors.
        wanted: the family given by the user; needed if the tensors are ambiguous.

    Raises:
        ValueError: if no family, several, or not the wanted one matches.
    """
    if wanted is not None and wanted not in ORIGINAL_TEXTS:
        raise ValueError(f"unknown family {wanted!r}: choose from {', '.join(ORIGINAL_TEXTS)}")
    if (reason := why_no_original(names)) is not None:
        raise ValueError(reason)
    fitting = _fitting(names)
    if wanted is None and len(fitting) > 1:
        raise ValueError(f"the tensors fit {' and '.join(fitting)} alike; choose one with family")
    if wanted is not None and wanted not in fitting:
        raise ValueError(f"these are the tensors of {' or '.join(fitting)}, not of {wanted}")
    return wanted or fitting[0]


def why_no_original(names: Collection[str]) -> str | None:
    """Why a file holds no model in the original layout, and what to do instead; None if it seems to hold one.

    Args:
        names: of all its tensors.
    """
    whole = bool(_fitting(names)) and any(each.startswith(UNET_PREFIX) for each in names)
    if (reason := (None if whole else no_model(names)) or foreign_architecture(names, UNET_PREFIX)) is not None:
        return reason
    known = ", ".join(ORIGINAL_TEXTS)
    first = min(names, default="nothing")
    return None if whole else f"these are not all tensors of a known image model ({known}): the first is {first}"


def _fitting(names: Collection[str]) -> list[str]:
    """The families whose text encoders are among the tensors."""
    return [name for name, texts in ORIGINAL_TEXTS.items() if all(_has(names, text) for text in texts)]


def _has(names: Collection[str], text: OriginalText) -> bool:
    return any(each.startswith(text.root + text.mark) for each in names)
