"""``latentshift study result``: tables of a study's answers."""

from __future__ import annotations

from pathlib import Path

import typer

from latentshift.cli.study.common import FOLDER, MAX_PATH_LENGTH
from latentshift.files import atomic_write_text, check_writable
from latentshift.user_input.error_text import printable


def result(
    folder: Path = FOLDER,
    output: Path | None = typer.Option(
        None, "--output", "-o", help="Folder for the report and the answers. Default: result/ in the study's folder."
    ),
) -> None:
    """Write report.html, report.md, report.json and answers.csv, at any time; raters may be answering."""
    from latentshift.study.database import check_study

    check_study(folder)
    target = folder / "result" if output is None else output
    check_writable(target / "report.json")
    from latentshift.evaluation.report.pages import write_pages
    from latentshift.study.answers_csv import answers_csv
    from latentshift.study.report import make_report
    from latentshift.study.report_document import report_document, share_table
    from latentshift.study.store import Store

    with Store(folder) as store:
        report, answers = make_report(store)
    atomic_write_text(target / "answers.csv", answers_csv(answers))
    atomic_write_text(target / "report.json", report.to_json())
    page = write_pages(report_document(report), target)
    print(f"{report.given:,} of {report.wanted:,} answers, by {len(report.raters):,} raters")
    table = share_table(report)
    for name, *shares, _, source in table.rows:
        shares_shown = [
            f"{question} {cell.text}{f' ({cell.detail})' if cell.detail else ''}"
            for question, cell in zip(table.columns[1:-2], shares, strict=True)
        ]
        print(printable(f"{name.text}: {', '.join(shares_shown)}; {source.text}"))
    for note in report.notes:
        print(f"note: {printable(note, 2000)}")
    print(printable(page, MAX_PATH_LENGTH))
