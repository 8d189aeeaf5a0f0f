"""``latentshift``: the commands, and how errors are shown."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import sys
import traceback

import typer

from latentshift import __version__
from latentshift.cli import bench, convert, data, evaluate, export, generate, info, init, push, reproduce, study, train
from latentshift.cli.allocator import keep_freed_memory
from latentshift.cli.openmp import limit_spinning
from latentshift.out_of_memory import is_out_of_memory
from latentshift.user_input.error_text import printable

_MAX_ERROR = 4000  # characters; a recipe may have many faults

app = typer.Typer(
    name="latentshift",
    help="Text-to-video from any image diffusion model, without one new parameter.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("generate")(generate.generate)
app.command("train")(train.train)
app.command("info")(info.info)
app.command("init")(init.init)
app.command("convert")(convert.convert)
app.command("export")(export.export)
app.command("push")(push.push)
app.command("reproduce")(reproduce.reproduce)
app.add_typer(data.data, name="data")
app.add_typer(bench.bench, name="bench")
app.add_typer(evaluate.evaluate, name="evaluate")
app.add_typer(study.study, name="study")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"latentshift {__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def main() -> None:
    """Run the command line.

    A user's mistake (ValueError, OSError) ends in one sentence and exit code 1 (2 for a wrong option). Any other error
    is a fault of this program, and shows its traceback.
    """
    from latentshift.preemption import EXIT_CODE, Terminated  # imports nothing heavy

    limit_spinning(os.environ, os.cpu_count() or 1)
    keep_freed_memory(os.environ)
    atexit.register(gc.freeze)  # or Python looks through all objects of the libraries once more before it ends
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of missing optional libraries
    try:
        app()
    except Terminated as ended:
        print(printable(ended, _MAX_ERROR), file=sys.stderr)
        sys.exit(EXIT_CODE)
    except Exception as error:
        if os.environ.get("LATENTSHIFT_DEBUG"):
            raise
        from latentshift.cli.ranks import end, is_said_elsewhere

        reason = printable(str(error).splitlines()[0] if str(error) else type(error).__name__, _MAX_ERROR)
        fault = not isinstance(error, ValueError | OSError)
        if is_out_of_memory(error):
            fault = False
            reason = f"the machine has too little memory for this; ask for fewer frames or a smaller size ({reason})"
        elif fault:
            reason = f"this is a fault of latentshift {__version__}; please report this with the traceback above"
        if not is_said_elsewhere(error, reason):
            if fault:
                traceback.print_exc()
            print(f"error: {reason}", file=sys.stderr)
        end(1)
