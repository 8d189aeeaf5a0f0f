"""``latentshift reproduce``: the paper's claims, tested on the sprites world on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import typer

from latentshift.cli.own_command import own_command
from latentshift.cli.resumable import ends_cleanly
from latentshift.files import check_writable
from latentshift.user_input.error_text import printable

_MAX_PATH = 4096


@ends_cleanly("what is trained and made")
def reproduce(
    recipe: Path | None = typer.Argument(
        None,
        help="A recipe of stage (c), whose model is an image stage's run. Default: recipes/sprites-video.yaml without "
        "single images, frame_curriculum or shared noise, from an image stage trained first.",
    ),
    overrides: list[str] | None = typer.Argument(None, help="Settings of stage (c) to change, as key=value."),
    output: Path = typer.Option(
        Path("outputs/reproduction"), "--output", "-o", help="Folder for all runs, studies and results."
    ),
    claims: str = typer.Option(
        "1,2,3",
        "--claims",
        help="With commas: 1, the methods compared; 2, one frame from a video model; 3, the shift switched off; 4, "
        "beyond the paper, other settings of the shift, which trains eleven more models a seed.",
    ),
    settings: str | None = typer.Option(
        None,
        "--settings",
        help="Of claim 4, with commas: padding, noise, fold, place, blocks, direction, length. Default: all. A seed of "
        "fold trains three models, of noise or direction one, of length (videos of 32 and 64 frames) none, else two.",
    ),
    seeds: int | None = typer.Option(
        None, "--seeds", min=1, help="Training seeds of each method. Default: 3, with --quick 1."
    ),
    videos: int | None = typer.Option(
        None, "--videos", min=1, help="Videos of each study; claims 1 and 3 need 2. Default: 128, with --quick 4."
    ),
    images: int | None = typer.Option(
        None, "--images", min=1, help="Single frames of each study. Default: 64, with --quick 8."
    ),
    steps: int | None = typer.Option(None, "--steps", help="Steps of the sampler. Default: 100, with --quick 10."),
    sampler: str | None = typer.Option(None, "--sampler", help="As in generate. Default: the model's."),
    dtype: str = typer.Option("auto", "--dtype", help="Of the videos: auto, float32, bfloat16 or float16."),
    quick: bool = typer.Option(
        False,
        "--quick",
        help="Minutes: few training steps (without RECIPE), videos and seeds. It shows that all of it works, and "
        "decides little.",
    ),
) -> None:
    """Test the paper's claims: train the methods at equal budget, measure, and decide; the same command resumes."""
    from latentshift.benchmarks.reproduction.budget import FULL, QUICK, plan_training
    from latentshift.benchmarks.reproduction.claims import (
        check_recipe_for,
        check_videos_for,
        choose_settings,
        parse_claims,
    )
    from latentshift.benchmarks.rungs import check_ladder_recipe
    from latentshift.cli.preflight import check_dtype_name, check_recipe, check_sampler_name
    from latentshift.settings import TRAIN_TIMESTEPS, check_steps

    chosen = parse_claims(claims)
    if settings is not None:
        chosen = choose_settings(chosen, settings)
    check_dtype_name(dtype)
    check_sampler_name(sampler)
    if steps is not None:
        check_steps(steps, {"num_train_timesteps": TRAIN_TIMESTEPS}, "--steps")
    given = {"seeds": seeds, "videos": videos, "images": images, "steps": steps}
    size = replace(QUICK if quick else FULL, **{name: value for name, value in given.items() if value is not None})
    check_videos_for(chosen, size.videos)
    training = plan_training(recipe, overrides or [], output, quick)
    check_recipe_for(chosen, training.video)
    if training.image is None:
        check_recipe(training.video, data=True)
        check_ladder_recipe(training.video)
    check_writable(output / "reproduction.json")

    from latentshift.cli.models import load_dtype, pick_device, quiet_libraries

    quiet_libraries()
    device = pick_device(training.video.compute.device)
    from latentshift.benchmarks.reproduction.page import write_page
    from latentshift.benchmarks.reproduction.run import reproduce as run

    kind = load_dtype(dtype, device)
    result = run(
        chosen,
        training,
        output,
        size,
        device=device,
        dtype=kind,
        sampler=sampler,
        command=own_command(str(kind).removeprefix("torch.")),
    )
    for claim in result["claims"]:
        print(f"{claim['number']}. {claim['title']}: {claim['verdict']}")
        for each in claim["statements"]:
            print(f"   {each['verdict']:13}  {each['says']} ({each['source']})")
    print(printable(write_page(result, output), _MAX_PATH))
