"""A document as Markdown; clips and plots are files beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from latentshift.document.blocks import (
    Block,
    Clips,
    Code,
    Document,
    Facts,
    Heading,
    KeyNumbers,
    PageWarning,
    Paragraph,
    Picture,
)
from latentshift.document.media import relative_url
from latentshift.document.plot import Plot
from latentshift.document.table import Cell, Table

PLOTS = "plots"  # folder of the plots' files


def to_markdown(document: Document, folder: Path) -> str:
    """The document, for a file in ``folder``."""
    parts = [f"# {escape_markdown(document.title)}", escape_markdown(document.lead)]
    warnings = document.warnings
    if warnings:
        marked = " A number with a mark, as <sup>1</sup>, must be read with that one." if document.is_marked() else ""
        parts.append(f"> [{counted_warnings(warnings)}](#warnings), at the end.{marked}")
    for block in document.blocks:
        parts += _block(block, folder)
    if warnings:
        parts.append('## <a id="warnings"></a>Warnings')
        parts.append("\n".join(_warning(number, each) for number, each in enumerate(warnings, 1)))
    return "\n\n".join(part for part in parts if part) + "\n"


def counted_warnings(warnings: Sequence[PageWarning]) -> str:
    """``1 warning`` or ``12 warnings``."""
    return f"{len(warnings):,} warning{'' if len(warnings) == 1 else 's'}"


def escape_markdown(text: str) -> str:
    """Text in one line in which no letter is a mark of Markdown or HTML."""
    line = re.sub(r"([\\`*_{}\[\]|#])", r"\\\1", " ".join(text.split()))
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _block(block: Block, folder: Path) -> Iterator[str]:
    match block:
        case Heading(text, level):
            yield f"{'#' * level} {escape_markdown(text)}"
        case Paragraph(text):
            yield escape_markdown(text)
        case KeyNumbers(numbers):
            yield "\n".join(
                f"- **{_linked(escape_markdown(each.value), each.anchor)}**{_marks(each.marks)} "
                + escape_markdown(each.label)
                + (f" ({escape_markdown(each.note)})" if each.note else "")
                for each in numbers
            )
        case Clips(clips):
            if block.folded:
                yield f"{escape_markdown(block.folded)}:"
            lines = []
            for clip in clips:
                remarks = "; ".join(escape_markdown(each) for each in (clip.note, clip.good, clip.bad) if each)
                caption = escape_markdown(clip.caption)
                link = caption if clip.path is None else f"[{caption}]({relative_url(clip.path, folder)})"
                lines.append(f"- {link}" + (f": {remarks}" if remarks else ""))
            yield "\n".join(lines)
        case Picture(path, alt):
            if block.folded:
                yield f"{escape_markdown(block.folded)}:"
            yield f"![{escape_markdown(alt)}]({relative_url(path, folder)})"
        case Facts(title, items, anchor):
            mark = f'<a id="{anchor}"></a>' if anchor else ""
            yield f"### {mark}{escape_markdown(title)}"
            yield "\n".join(f"- {escape_markdown(name)}: {escape_markdown(value)}" for name, value in items)
        case Code(text):
            yield "    " + " ".join(text.split())
        case Plot():
            yield f"{escape_markdown(block.heading)}{_marks(block.marks)}:"
            yield f"![{escape_markdown(block.title)}]({PLOTS}/{block.name}.svg)"
        case Table():
            yield f"**{escape_markdown(block.title)}**"
            yield "\n".join(_table(block))
            yield "\n".join(f"- {escape_markdown(note)}" for note in block.notes)


def _table(table: Table) -> Iterator[str]:
    yield f"| {' | '.join(map(escape_markdown, table.columns))} |"
    yield "|---" + "|---:" * (len(table.columns) - 1) + "|"
    for row in table.rows:
        yield f"| {' | '.join(map(_cell, row))} |"


def _cell(cell: Cell) -> str:
    text = _linked(escape_markdown(cell.text), cell.anchor)
    if cell.strong:
        text = f"**{text}**"
    text += _marks(cell.marks)
    return f"{text} ({cell.detail})" if cell.detail else text


def _marks(marks: Sequence[int]) -> str:
    return f"<sup>{' '.join(f'[{mark}](#warning-{mark})' for mark in marks)}</sup>" if marks else ""


def _warning(number: int, warning: PageWarning) -> str:
    about = f"**{escape_markdown(warning.about)}**: " if warning.about else ""
    return f'{number}. <a id="warning-{number}"></a>{about}{escape_markdown(warning.text)}'


def _linked(text: str, anchor: str) -> str:
    return f"[{text}](#{anchor})" if anchor else text
