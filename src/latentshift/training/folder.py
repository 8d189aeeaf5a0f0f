"""A run's folder: whether a recipe may go on in it."""

from __future__ import annotations

from latentshift.training.checkpoint import checkpoint_step, list_checkpoints
from latentshift.training.rate import before_decay
from latentshift.training.recipe import AnyRecipe, load_recipe
from latentshift.whole import check_place


def check_folder(recipe: AnyRecipe) -> None:
    """Make sure that the recipe's folder can be written to, and the run in it, if there is one, is of this recipe.

    Raises:
        ValueError: if it is of another; the message names the difference.
        OSError: if it can't be written to.
    """
    output = recipe.output
    check_place(output / "recipe.yaml")
    # What may change between two runs of one folder: its length and rhythm, and how the arithmetic is done.
    free = {"output", "steps", "log_every", "sample_every", "save_every", "keep_checkpoints", "compute", "loading"}
    free |= {"compile", "micro_batch_size", "max_dropped_steps", "trackers", "project", "validation"}
    free |= {
        "sample_steps",
        "sample_prompts",
        "guidance_scale",
        "weights",
        "export_from",
    }  # of the samples and the export alone
    path = output / "recipe.yaml"
    if path.exists() and list_checkpoints(output / "checkpoints"):
        # Read back through the validation, so that a setting that is new since then has its default.
        before, now = load_recipe(path).model_dump(mode="json"), recipe.model_dump(mode="json")
        before["optimizer"]["learning_rate"] = now["optimizer"]["learning_rate"]  # a run may be calmed
        for key in sorted((set(before) | set(now)) - free):
            if before.get(key) != now.get(key):
                raise ValueError(
                    f"{output} holds a run of another recipe: {key} was {before.get(key)} and is now {now.get(key)}; "
                    "choose another output, or delete this one"
                )
        if before["steps"] != now["steps"]:
            newest = checkpoint_step(list_checkpoints(output / "checkpoints")[-1])
            full = before_decay(load_recipe(path))
            if full is None or newest > full:
                raise ValueError(
                    f"the learning rate of {output} was falling already towards its {before['steps']} steps; go on "
                    "with that number" + ("" if full is None else f", or delete its checkpoints after step {full}")
                )
