"""Writes what people look at: ``report.md``, ``report.html``, and each table and plot as files of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from latentshift.document.blocks import Document
from latentshift.document.html_page import to_html
from latentshift.document.markdown import PLOTS, to_markdown
from latentshift.document.media import MediaBudget
from latentshift.document.plot import to_svg
from latentshift.document.table_files import to_csv, to_latex
from latentshift.evaluation.report.comparison_page import comparison_page
from latentshift.evaluation.report.results import check_different, label_results, load_results
from latentshift.evaluation.report.schema import FILE_NAME, read_report_values, to_report
from latentshift.evaluation.report.sprites.page import sprites_page
from latentshift.evaluation.report.user_study import to_user_study
from latentshift.files import atomic_write_text

MARKDOWN, HTML, TABLES = "report.md", "report.html", "tables"


def write_result_pages(folder: Path) -> Path:
    """Write the pages of one result into its folder; returns that of ``report.html``.

    Raises:
        ValueError: if the folder holds no report.
        OSError: if they can't be written.
    """
    (result,) = load_results([folder])
    document = sprites_page(result) if result.report.protocol == "sprites" else comparison_page([result])
    return write_pages(document, folder)


def write_comparison_pages(folders: Sequence[Path], output: Path) -> Path:
    """Write the pages of results and user studies into a folder of their own; returns that of ``report.html``.

    Raises:
        ValueError: if a folder holds no report or is given twice, or the output holds a result itself.
        OSError: if they can't be written.
    """
    if (output / FILE_NAME).exists():
        raise ValueError(f"{output} holds a result, whose own pages would be overwritten: name another folder with -o")
    check_different(folders)
    studies, reports = [], []
    for number, folder in enumerate(folders, 1):
        values = read_report_values(folder)
        if (study := to_user_study(values, folder, f"study-{number}")) is not None:
            studies.append(study)
        else:
            reports.append((folder, to_report(values, folder)))
    return write_pages(comparison_page(label_results(reports), studies), output)


def write_pages(document: Document, folder: Path) -> Path:
    """Write a document into a folder in all its forms, ``report.html`` last; returns the path of that."""
    for table in document.tables():
        atomic_write_text(folder / TABLES / f"{table.name}.tex", to_latex(table, document.warnings))
        atomic_write_text(folder / TABLES / f"{table.name}.csv", to_csv(table, document.warnings))
    write_plots(document, folder)
    atomic_write_text(folder / MARKDOWN, to_markdown(document, folder))
    page = folder / HTML
    atomic_write_text(page, to_html(document, MediaBudget(folder)))
    return page


def write_plots(document: Document, folder: Path) -> None:
    """Write each plot of a document as a file, where its Markdown looks for them."""
    sentences = [each.sentence for each in document.warnings]
    for plot in document.plots():
        atomic_write_text(folder / PLOTS / f"{plot.name}.svg", to_svg(plot, sentences) + "\n")
