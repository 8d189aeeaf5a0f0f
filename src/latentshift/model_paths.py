"""Where a model lies: the one that comes with the package, a folder, a run's folder, or the hub."""

from __future__ import annotations

from pathlib import Path

BUNDLED = "bundled"


def bundled_model() -> Path:
    """The folder of the bundled sprites model, a saved ``LatentShiftPipeline``."""
    return Path(__file__).with_name("bundled_model")


def resolve_model(name: str) -> str:
    """The folder or hub id that a user means.

    Args:
        name: ``"bundled"``, a pipeline's folder, a run's folder (its ``model/`` is meant), or a hub id.

    Raises:
        ValueError: for what can be none of these, or a run that has made no model.
    """
    if name == BUNDLED:
        return str(bundled_model())
    if (Path(name) / "model").is_dir() and not (Path(name) / "model_index.json").exists():
        return str(Path(name) / "model")
    if Path(name).is_file():
        raise ValueError(
            f"{name} is a file, and a model is a folder: latentshift convert {name} -o DIR makes one of it"
        )
    if (Path(name) / "recipe.yaml").is_file() and not (Path(name) / "model_index.json").exists():
        for kind in ("lora", "delta"):
            if (adapter := Path(name) / f"{kind}.safetensors").exists():
                raise ValueError(
                    f"{name} is a run that made no model: name its base, and generate with --{kind} {adapter}"
                )
        raise ValueError(f"{name} is a run that has made no model yet: go on with it to its end")
    if not Path(name).is_dir() and (name.count("/") != 1 or name.startswith((".", "/", "~"))):
        raise ValueError(f"there is no folder {name}, and it is not a hub id (owner/name) either")
    return name
