"""The settings of a run's data in one canonical form, whose SHA-256 tells whether two runs were given the same."""

from __future__ import annotations

import hashlib
import json

from latentshift.data.sprites import VERSION
from latentshift.local_paths import cut_local_paths
from latentshift.training.recipe import AnyRecipe, AutoencoderRecipe


def data_settings(recipe: AnyRecipe) -> str:
    """The recipe's ``data`` as one line of JSON: keys sorted, no spaces, ASCII, without what is at its default.

    Where to keep encoded clips is left out, of a path on the machine all but its last name, and of a URL its
    user, password and query. Beside it stands ``sprites_version`` if clips of the sprites world are drawn. Settings
    alone: of footage neither names nor contents.
    """
    (values,) = recipe.model_dump(mode="json", include={"data"}, exclude_defaults=True).values() or ({},)
    for source in [] if isinstance(values, dict) else values:
        source.pop("latents", None)
    sources = [each.source for each in (recipe.data.sources if isinstance(recipe, AutoencoderRecipe) else recipe.data)]
    drawn = {"sprites_version": VERSION} if not sources or "sprites" in sources else {}
    return json.dumps({"data": cut_local_paths(values), **drawn}, sort_keys=True, separators=(",", ":")) + "\n"


def data_settings_sha256(recipe: AnyRecipe) -> str:
    """The SHA-256 of :func:`data_settings` in UTF-8, 64 hexadecimal digits: that of the file in an exported model."""
    return hashlib.sha256(data_settings(recipe).encode()).hexdigest()
