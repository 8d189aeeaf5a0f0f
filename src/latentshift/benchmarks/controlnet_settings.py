"""What ``bench controlnet`` measures, checked before torch is imported. Imports no library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from latentshift.user_input.bounded_read import load_json_settings


@dataclass(frozen=True)
class ControlNetSettings:
    """One table.

    Attributes:
        controlnets: folders, from :func:`find_controlnet`.
        model: as for :func:`latentshift.models.storage.model_paths.resolve_model`: the ControlNets' base.
        videos: of each row.
        steps: of the sampler.
        guidance_scale: None: the model's.
        scale: of what a ControlNet adds.
        seed: of the stream of clips whose edges are shown; the training's is another.
        device: to calculate on.
        dtype: name of autocast's dtype; ``float32``: none.
        output: folder of what was measured; a repeated run makes only what is missing there.
    """

    controlnets: tuple[Path, ...]
    model: str
    videos: int
    steps: int
    guidance_scale: float | None
    scale: float
    seed: int
    device: str
    dtype: str
    output: Path


def find_controlnet(name: Path) -> Path:
    """The folder of a ControlNet: itself, or a run's that trained one.

    Raises:
        ValueError: if it is neither.
    """
    folder = name / "controlnet" if (name / "recipe.yaml").exists() else name
    if not name.is_dir():
        raise ValueError(f"there is no folder {name}")
    config = folder / "config.json"
    if not config.is_file():
        hint = "a run that made no ControlNet yet" if folder != name else "no ControlNet: it has no config.json"
        raise ValueError(f"{name} is {hint}")
    if (kind := load_json_settings(config).get("_class_name")) != "ControlNetModel":
        raise ValueError(f"{name} is a {kind}, and no ControlNetModel")
    return folder
