"""``latentshift evaluate``: how good a model is. One file for each command."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from latentshift.cli.evaluate import cost, extractors, folder, msrvtt, report, sheet, sprites, train_extractors, ucf101
from latentshift.user_input.error_text import printable


class _Verbs(TyperGroup):
    """Tells ``latentshift evaluate [MODEL] …``, as the command was until it became a group, what it is called now."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            verbs = ", ".join(self.list_commands(ctx))
            raise ValueError(
                f"`latentshift evaluate` needs a verb ({verbs}), not {printable(args[0])}; "
                "the evaluation on sprites is `latentshift evaluate sprites [MODEL]` now, with the same options"
            )
        return super().parse_args(ctx, args)


evaluate = typer.Typer(cls=_Verbs, help="Measure videos: of a model, or any system's clips.", no_args_is_help=True)
evaluate.command("sprites")(sprites.sprites)
evaluate.command("extractors")(extractors.extractors)
evaluate.command("folder")(folder.folder)
evaluate.command("msrvtt")(msrvtt.msrvtt)
evaluate.command("ucf101")(ucf101.ucf101)
evaluate.command("report")(report.report)
evaluate.command("sheet")(sheet.sheet)
evaluate.command("cost")(cost.cost)
evaluate.command("train-extractors")(train_extractors.train_extractors)
