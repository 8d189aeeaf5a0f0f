"""``latentshift evaluate sheet``: one prompt, one row of frames a system."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from latentshift.cli.evaluate.common import print_notes
from latentshift.cli.named_folders import HELP, named_folders
from latentshift.cli.prompts_file import read_prompts_file
from latentshift.files import missing_folder
from latentshift.user_input.error_text import printable

_MOST_COLUMNS = 100


def sheet(
    systems: list[str] = typer.Argument(..., metavar="FOLDER...", help=HELP),
    prompts: list[str] | None = typer.Option(None, "--prompt", help="A prompt of the clips; may be repeated."),
    prompts_file: Path | None = typer.Option(None, "--prompts", help="A text file with one prompt per line."),
    output: Path = typer.Option(Path("outputs/sheet.png"), "--output", "-o", help="The picture, a .png."),
    columns: int = typer.Option(8, "--columns", help="Number of frames of each clip."),
    height: int | None = typer.Option(
        None, "--height", help="Height of a frame in pixels. Default: that of the tallest clip, at least 96."
    ),
) -> None:
    """Draw a comparison sheet from folders of clips, like the paper's Figs. 4 to 7 and 9."""
    from latentshift.video import check_output, write_video

    wanted = [*(prompts or []), *(read_prompts_file(prompts_file) if prompts_file else [])]
    wanted = list(dict.fromkeys(wanted))
    if not wanted:
        raise ValueError('give the prompts of the clips: --prompt "a red star", or --prompts FILE')
    if not all(prompt.strip() for prompt in wanted):
        raise ValueError("--prompt is empty: give the words that a clip was made for")
    if not 1 <= columns <= _MOST_COLUMNS:
        raise ValueError(f"--columns must be from 1 to {_MOST_COLUMNS}, not {columns:,}")
    if height is not None and not 8 <= height <= 2048:
        raise ValueError(f"--height must be from 8 to 2048 pixels, not {height}")
    if output.suffix.lower() != ".png":
        raise ValueError(f"-o must name a .png, not {output}")
    check_output(output, 1)
    folders = named_folders(systems)
    for folder in folders.values():
        if not folder.is_dir():
            raise ValueError(missing_folder(folder))
    from latentshift.contact_sheet import missing_letters
    from latentshift.evaluation.sheet import comparison_sheet, read_clips

    clips, notes = read_clips(folders, wanted, columns)
    print_notes(notes)
    picture = comparison_sheet(wanted, clips, columns, height)
    write_video(output, picture[None], metadata={"prompts": wanted, "systems": list(folders)})
    if lacking := missing_letters("".join([*wanted, *folders])):
        print(
            f"note: the sheet's font lacks {printable(lacking, 80)}: empty boxes stand in their place", file=sys.stderr
        )
    print(printable(output, 4096))
