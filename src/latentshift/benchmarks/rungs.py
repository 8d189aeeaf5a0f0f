"""The rungs of the ladder: how frames meet, and which settings differ from the recipe. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latentshift.model_paths import check_model, saved_method
from latentshift.settings import METHODS, PADDINGS, Padding
from latentshift.training.recipe import VideoRecipe


@dataclass(frozen=True)
class Rung:
    """One rung.

    Attributes:
        name: also of its folder.
        method: how frames meet.
        padding: of the shift; None: the recipe's.
        noise_share: a of the noise that frames share; None: the recipe's.
        fold: of the shift; None: the recipe's.
        parts: of the sprites study that its models take; None: all of them.
    """

    name: str
    method: str
    padding: Padding | None = None
    noise_share: float | None = None
    fold: int | None = None
    parts: tuple[str, ...] | None = None

    def recipe(self, recipe: VideoRecipe, folder: Path, seed: int) -> VideoRecipe:
        """The recipe of this rung's run with a seed, in a folder beside those of the other runs.

        Raises:
            ValueError: for settings that do not go together.
        """
        settings = recipe.model_dump(mode="json")
        shift = settings["shift"] if self.method == "latent-shift" else None
        if self.padding is not None:
            shift = {**(shift or {}), "padding": self.padding}
        if self.fold is not None:
            shift = {**(shift or {}), "fold": self.fold}
        if self.noise_share is not None:
            settings["noise_share"] = self.noise_share
        name = self.name if seed == recipe.seed else f"{self.name}-seed-{seed}"
        own = {"method": self.method, "shift": shift, "seed": seed, "output": str(folder / name)}
        return VideoRecipe.model_validate({**settings, **own})


_PADDINGS: tuple[Padding, ...] = ("zeros", "replicate")

RUNGS = {
    rung.name: rung
    for rung in (
        *(Rung(f"{padding}-independent", "latent-shift", padding, 0.0) for padding in _PADDINGS),  # zeros: the paper's
        *(
            Rung(f"{padding}-shared-{share}", "latent-shift", padding, float(share))
            for share in (1, 2)
            for padding in _PADDINGS
        ),
        Rung("latent-vdm", "latent-vdm", noise_share=0.0),
        Rung("none", "none", noise_share=0.0),
    )
}
METHOD_RUNGS = tuple(Rung(method, method) for method in METHODS)  # with the recipe's own settings
# Each differs from the paper's settings in one of them.
SHIFT_RUNGS = (
    *(Rung(f"shift-{each}", "latent-shift", each, parts=("seen",)) for each in PADDINGS if each != "zeros"),
    Rung("shift-shared-noise", "latent-shift", noise_share=1.0, parts=("seen",)),
    *(Rung(f"shift-fold-{each}", "latent-shift", fold=each, parts=("seen",)) for each in (4, 8)),
)

# What the rungs decide in place of the recipe.
OF_RUNGS = ("method", "noise_share", "shift.padding", "output")


def parse_rungs(text: str) -> tuple[Rung, ...]:
    """The rungs named in a list with commas, in that order.

    Raises:
        ValueError: for an unknown name, or one that is there twice.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in RUNGS:
            raise ValueError(f"there is no rung {name!r}; choose from {', '.join(RUNGS)}")
    if len(set(names)) < len(names):
        raise ValueError(f"a rung is named twice in {text!r}")
    return tuple(RUNGS[name] for name in names)


def check_ladder_recipe(recipe: VideoRecipe) -> None:
    """Refuse a recipe whose runs can't be compared, as far as that shows without loading a library.

    Raises:
        ValueError: for an adapter, a run that exports no model, or a base that is no image model.
    """
    if recipe.lora is not None or (recipe.exports is not None and "model" not in recipe.exports):
        raise ValueError("bench ladder compares whole models: leave lora and exports out")
    folder = check_model(recipe.model)
    if folder is not None:
        check_image_base(recipe.model, saved_method(folder))


def check_image_base(name: str, method: str) -> None:
    """Refuse a base in which frames meet already.

    Args:
        name: of the base.
        method: its temporal method.

    Raises:
        ValueError: for any method but none.
    """
    if method != "none":
        raise ValueError(
            f"{name} is a video model ({method}) already, and all rungs have to start from one image model: the run of "
            "stage (b)"
        )


def check_overrides(overrides: Sequence[str]) -> None:
    """Refuse settings on the command line that the rungs would replace.

    Raises:
        ValueError: for one of ``OF_RUNGS``.
    """
    for word in overrides:
        key, _, value = word.partition("=")
        if key in OF_RUNGS or (key == "shift" and "padding" in value):
            raise ValueError(f"{word} is what the rungs decide: leave it out, and choose them with --rungs")
