"""The rungs of the ladder: how frames meet, and which settings differ from the recipe. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from latentshift.models.storage.model_paths import check_model, saved_method
from latentshift.settings import METHODS, Padding
from latentshift.training.recipe import VideoRecipe


@dataclass(frozen=True)
class Rung:
    """One rung.

    Attributes:
        name: also of its folder.
        method: how frames meet.
        shift: settings of the shift that differ from the recipe's.
        noise_share: a of the noise that frames share; None: the recipe's.
        parts: of the sprites study that its models take; None: all of them.
    """

    name: str
    method: str
    shift: Mapping[str, Any] = field(default_factory=dict)
    noise_share: float | None = None
    parts: tuple[str, ...] | None = None

    def recipe(self, recipe: VideoRecipe, folder: Path, seed: int) -> VideoRecipe:
        """The recipe of this rung's run with a seed, in a folder beside those of the other runs.

        Raises:
            ValueError: for settings that do not go together.
        """
        settings = recipe.model_dump(mode="json")
        shift = settings["shift"] if self.method == "latent-shift" else None
        if self.shift:
            shift = {**(shift or {}), **self.shift}
        if self.noise_share is not None:
            settings["noise_share"] = self.noise_share
        name = self.name if seed == recipe.seed else f"{self.name}-seed-{seed}"
        own = {"method": self.method, "shift": shift, "seed": seed, "output": str(folder / name)}
        return VideoRecipe.model_validate({**settings, **own})


_PADDINGS: tuple[Padding, ...] = ("zeros", "replicate")

RUNGS = {
    rung.name: rung
    for rung in (
        # With zeros: the paper's.
        *(Rung(f"{each}-independent", "latent-shift", {"padding": each}, 0.0) for each in _PADDINGS),
        *(
            Rung(f"{padding}-shared-{share}", "latent-shift", {"padding": padding}, float(share))
            for share in (1, 2)
            for padding in _PADDINGS
        ),
        Rung("latent-vdm", "latent-vdm", noise_share=0.0),
        Rung("none", "none", noise_share=0.0),
    )
}
# With the recipe's own settings. Longer videos are of the shift's model alone.
_COMPARED = ("seen", "held_out", "images", "shift_off", "images_shift_off")
METHOD_RUNGS = tuple(Rung(each, each, parts=None if each == "latent-shift" else _COMPARED) for each in METHODS)


def _shift_rung(name: str, **shift: Any) -> Rung:
    return Rung(f"shift-{name}", "latent-shift", shift, parts=("seen",))


# Each differs from the paper's settings in one of them.
SHIFT_RUNGS = (
    _shift_rung("circular", padding="circular"),
    _shift_rung("replicate", padding="replicate"),
    Rung("shift-shared-noise", "latent-shift", noise_share=1.0, parts=("seen",)),
    *(_shift_rung(f"fold-{each}", fold=each) for each in (2, 4, 8)),
    _shift_rung("conv2", place="conv2"),
    _shift_rung("block", place="block"),
    _shift_rung("encoder", blocks="encoder"),
    _shift_rung("decoder", blocks="decoder"),
    _shift_rung("past-only", direction="past_only"),
)

# What the rungs decide in place of the recipe.
OF_RUNGS = ("method", "noise_share", "shift.padding", "output")


def parse_rungs(text: str) -> tuple[Rung, ...]:
    """The rungs named in a list with commas, in that order.

    Raises:
        ValueError: for an unknown name, or one that is there twice.
    """
    known = {**RUNGS, **{rung.name: replace(rung, parts=None) for rung in SHIFT_RUNGS}}  # scored as all others here
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise ValueError(f"there is no rung {name!r}; choose from {', '.join(known)}")
    if len(set(names)) < len(names):
        raise ValueError(f"a rung is named twice in {text!r}")
    return tuple(known[name] for name in names)


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
