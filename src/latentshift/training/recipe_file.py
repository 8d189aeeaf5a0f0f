"""A recipe's file: YAML whose ``stage`` says which of the recipes it is.

``key=value`` words on the command line override single settings (``optimizer.learning_rate=1e-4``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from latentshift.training.recipe import AnyRecipe
from latentshift.training.recipes.settings import Settings
from latentshift.user_input.bounded_read import load_yaml_bounded, parse_yaml_bounded
from latentshift.user_input.error_text import format_validation_error

_ADAPTER: TypeAdapter[AnyRecipe] = TypeAdapter(Annotated[AnyRecipe, Field(discriminator="stage")])


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> AnyRecipe:
    """Read and check a recipe.

    Args:
        path: the YAML file.
        overrides: ``key=value`` words; a dot goes a level down, the value is YAML.

    Raises:
        ValueError: for a missing or malformed file, or settings that do not hold; the message names each one.
    """
    values = load_yaml_bounded(path, what="the recipe", pipes=True)
    if not isinstance(values, dict):
        raise ValueError(f"the recipe {path} must be a list of `key: value` lines")
    for word in sorted(overrides, key=lambda word: word.partition("=")[0].count(".")):  # data=… before data.seconds=…
        _override(values, word)
    try:
        return _ADAPTER.validate_python(values)
    except ValidationError as error:
        wrong = format_validation_error(error, leave_out=1, given=values, known=_names_for(values.get("stage")))
        raise ValueError(f"the recipe {path} is not valid: {wrong}") from None


def dump_recipe(recipe: AnyRecipe) -> str:
    """The recipe with every default spelled out, as YAML that :func:`load_recipe` reads back."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


def _names_for(stage: object) -> list[str]:
    """The names of all settings of a stage's recipe, as on the command line; none of an unknown stage."""
    kinds = [kind for kind in get_args(AnyRecipe) if get_args(kind.model_fields["stage"].annotation) == (stage,)]
    return [name for kind in kinds for name in _names(kind)]


def _names(settings: type[Settings]) -> list[str]:
    names = list(settings.model_fields)
    for name, setting in settings.model_fields.items():
        names += [f"{name}.{inner}" for group in _groups(setting.annotation) for inner in _names(group)]
    return names


def _groups(annotation: Any) -> list[type[Settings]]:
    """The groups of settings that a type holds."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [group for part in get_args(annotation) for group in _groups(part)]


def _override(values: dict[str, Any], word: str) -> None:
    key, equals, text = word.partition("=")
    if not equals or not key:
        raise ValueError(f"{word!r} is not of the form key=value")
    *path, last = key.split(".")
    for part in path:
        if part == "data" and isinstance(values.get(part), str):  # data=FOLDER data.seconds=1
            values[part] = {"source": values[part]}
        values = values.setdefault(part, {})
        if isinstance(values, list):
            raise ValueError(f"cannot set {key}: {part} is a list; set the complete list")
        if not isinstance(values, dict):
            raise ValueError(f"cannot set {key}: {part} is a single value")
    values[last] = parse_yaml_bounded(text, f"the value of {word!r}")
