"""What a metric is called: as the field calls it, or with the network's name in front if that is another one."""

from __future__ import annotations

from latentshift.evaluation.protocols.measure import CLIPSIM, ExtractorInfo

CMMD = "CMMD"
_STANDARD = ("inception-2015", "i3d", "c3d", "clip")
_CLIP_OF = {CLIPSIM: "ViT-B/32", CMMD: "ViT-L/14@336"}  # by which these are published


def full_name(info: ExtractorInfo, kind: str) -> str:
    """``sprites-FVD``, ``ViT-B/32-CMMD`` or plain ``FVD``."""
    if info.name not in _STANDARD:
        return f"{info.name.partition('-')[0]}-{kind}"
    return f"{info.network or 'CLIP'}-{kind}" if kind == CMMD and info.network != _CLIP_OF[CMMD] else kind


def other_clip_warning(info: ExtractorInfo) -> tuple[str, ...]:
    """A warning if CLIPSIM, whose name is the same by any CLIP, is by another one than that of the papers."""
    if info.name not in _STANDARD or info.network in ("", _CLIP_OF[CLIPSIM]):
        return ()
    return (f"The papers' {CLIPSIM} is by CLIP {_CLIP_OF[CLIPSIM]}, and this one by {info.network}: not comparable.",)
