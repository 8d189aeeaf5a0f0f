"""What is trained: the image stage that all start from, and the recipe of all video runs. Imports nothing heavy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latentshift.files import atomic_write
from latentshift.models.storage.model_paths import bundled_model
from latentshift.settings import IMAGE_MODEL_FRAMES
from latentshift.training.recipe import ImageRecipe, VideoRecipe
from latentshift.training.recipe_file import load_recipe

IMAGE_RECIPE, VIDEO_RECIPE = Path("recipes/sprites-image.yaml"), Path("recipes/sprites-video.yaml")

# Of the recipes of the sprites. The paper trains on videos alone, and its claim about images is void otherwise.
_IMAGE = {False: ["steps=3000", "optimizer.decay_steps=1200"], True: ["steps=60", "batch_size=16"]}
_VIDEO = {
    False: ["steps=2500", "optimizer.decay_steps=1200", "sample_every=2500"],
    True: ["steps=20", "batch_size=4", "sample_every=20"],
}
_QUICK = [
    "data.options.clips=96",
    "optimizer.warmup_steps=5",
    "optimizer.decay_steps=0",
    "sample_prompts=[a red star]",
    "sample_steps=5",
]
_RESCALE = 2  # latents of the bundled autoencoder deviate by 0.25, and those of recipes/sprites-autoencoder.yaml by 0.5


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        seeds: training seeds of each method.
        videos: of each study of videos.
        images: of each study of single frames.
        steps: of the sampler.
        rounds: of timing.
    """

    seeds: int
    videos: int
    images: int
    steps: int
    rounds: int


FULL = Size(seeds=3, videos=128, images=64, steps=100, rounds=5)
QUICK = Size(seeds=1, videos=4, images=8, steps=10, rounds=3)


@dataclass(frozen=True)
class Training:
    """What is trained.

    Attributes:
        video: recipe of all video runs; the ladder replaces its method, seed and output.
        image: recipe of the image stage, which ``video`` starts from; None: it is there already.
    """

    video: VideoRecipe
    image: ImageRecipe | None = None

    def place_autoencoder(self) -> None:
        """Put the bundled model's autoencoder, scaled as the recipes' own, where the image stage looks for it, once."""
        if self.image is not None and not (place := self.image.autoencoder / "model").exists():
            with atomic_write(place) as temporary:
                shutil.copytree(bundled_model() / "vae", temporary)
                config = temporary / "config.json"
                settings = json.loads(config.read_text())
                settings["scaling_factor"] *= _RESCALE
                config.write_text(json.dumps(settings, indent=2) + "\n")


def plan_training(recipe: Path | None, overrides: Sequence[str], output: Path, quick: bool) -> Training:
    """The recipes of a reproduction.

    Args:
        recipe: of stage (c), whose model is the image stage. None: the recipes of the sprites in ``recipes/``, with the
            image stage trained first, on the bundled model's autoencoder.
        overrides: ``key=value`` words for the recipe of stage (c).
        output: folder of the reproduction.
        quick: the smallest budget; only where ``recipe`` is None.

    Raises:
        ValueError: for a recipe that is missing, does not hold, or is of another stage.
    """
    if recipe is not None:
        return Training(_video(recipe, overrides))
    if not VIDEO_RECIPE.exists() or not IMAGE_RECIPE.exists():
        raise ValueError(
            f"there are no {IMAGE_RECIPE} and {VIDEO_RECIPE} here: run it in a clone of latentshift, or name a recipe "
            "of stage (c) with an image stage as its model"
        )
    shared = [f"data.latents={output}/latents", *(_QUICK if quick else [])]
    image_stage = output / "image-stage" / "run"
    places = [f"autoencoder={output}/autoencoder", f"output={image_stage}"]
    image = load_recipe(IMAGE_RECIPE, [*shared, *_IMAGE[quick], *places])
    assert isinstance(image, ImageRecipe)
    papers = ["image_share=0", "frame_curriculum={}", "noise_share=0"]
    words = [*papers, *shared, *_VIDEO[quick], f"model={image_stage}", *overrides]
    video = _video(VIDEO_RECIPE, words)
    video.check_curriculum_fits(video.num_frames or IMAGE_MODEL_FRAMES)  # before the image stage, which takes hours
    return Training(video, image)


def _video(path: Path, overrides: Sequence[str]) -> VideoRecipe:
    recipe = load_recipe(path, overrides)
    if not isinstance(recipe, VideoRecipe):
        raise ValueError(f"{path} is of stage {recipe.stage}, and reproduce trains stage video")
    return recipe
