"""A document as one HTML page that needs nothing else: styles, plots and clips are within it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from html import escape
from pathlib import Path

from latentshift.document.blocks import (
    Block,
    Clip,
    Clips,
    Code,
    Document,
    Facts,
    Heading,
    KeyNumber,
    KeyNumbers,
    PageWarning,
    Paragraph,
    Picture,
)
from latentshift.document.markdown import counted_warnings
from latentshift.document.marks import shown_marks
from latentshift.document.media import MediaBudget, is_video
from latentshift.document.plot import Plot, to_svg
from latentshift.document.table import Cell, Table
from latentshift.document.table_files import to_csv, to_latex

# Of all that a page could load or run, only what stands in it, and files beside it.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data: 'self' file:; media-src data: 'self' file:; "
    "script-src 'sha256-{digest}'"
)


def to_html(document: Document, media: MediaBudget) -> str:
    """The page; ``media`` places its clips and pictures."""
    return "".join(_page(document, media))


def _page(document: Document, media: MediaBudget) -> Iterator[str]:
    style, script = _shipped("page.css"), _shipped("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    yield (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY.format(digest=digest)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(document.title)}</title>'
        f"<style>{style}</style></head><body><main><h1>{escape(document.title)}</h1>"
        f'<p class="lead">{escape(document.lead)}</p>{_counted(document)}'
    )
    headings = [block for block in document.blocks if isinstance(block, Heading) and block.level == 2]
    if len(headings) > 2:
        links = "".join(f'<a href="#{_anchor(number)}">{escape(each.text)}</a>' for number, each in enumerate(headings))
        links += '<a href="#warnings">Warnings</a>' if document.warnings else ""
        yield f'<nav aria-label="Sections">{links}</nav>'
    for block in document.blocks:
        if isinstance(block, Heading) and block.level == 2:
            yield f'<h2 id="{_anchor(headings.index(block))}">{escape(block.text)}</h2>'
        else:
            yield from _block(block, media, document.warnings)
    yield from _warnings(document.warnings)
    yield f'</main><button id="play" hidden></button><script>{script}</script></body></html>\n'


@cache
def _shipped(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _anchor(number: int) -> str:
    return f"section-{number + 1}"


def _counted(document: Document) -> str:
    """How many warnings there are, in a line."""
    if not document.warnings:
        return ""
    marked = ' A number with a mark, as <sup class="marks">1</sup>, must be read with that one.'
    return (
        f'<p class="warned"><a href="#warnings">{counted_warnings(document.warnings)}</a>, at the end.'
        f"{marked if document.is_marked() else ''}</p>"
    )


def _warnings(warnings: Sequence[PageWarning]) -> Iterator[str]:
    if not warnings:
        return
    yield f'<h2>Warnings</h2><details id="warnings" class="more"><summary>{counted_warnings(warnings)}</summary><ol>'
    for number, each in enumerate(warnings, 1):
        about = f"<b>{escape(each.about)}</b>: " if each.about else ""
        yield f'<li id="warning-{number}">{about}{escape(each.text)}</li>'
    yield "</ol></details>"


def _marks(marks: Sequence[int], warnings: Sequence[PageWarning]) -> str:
    """Links to the warnings of a number, each with its text for those who point at it; of many, one for the rest."""
    if not marks:
        return ""
    shown, rest = shown_marks(marks)
    links = [_mark(mark, str(mark), warnings[mark - 1].text) for mark in shown]
    if rest:
        links.append(_mark(rest[0], f"+{len(rest)}", f"and warnings {', '.join(map(str, rest))}"))
    return f'<sup class="marks">{" ".join(links)}</sup>'


def _mark(mark: int, text: str, title: str) -> str:
    label = f"warning {mark}" if text == str(mark) else title
    return f'<a href="#warning-{mark}" title="{escape(title)}" aria-label="{escape(label)}">{text}</a>'


def _block(block: Block, media: MediaBudget, warnings: Sequence[PageWarning]) -> Iterator[str]:
    match block:
        case Heading(text):
            yield f"<h3>{escape(text)}</h3>"
        case Paragraph(text):
            yield f"<p>{escape(text)}</p>"
        case KeyNumbers(numbers):
            yield from ('<div class="tiles">', *(_tile(each, warnings) for each in numbers), "</div>")
        case Clips(folded=words) | Picture(folded=words) if words:
            yield f'<details class="more"><summary>{escape(words)}</summary>'
            yield from _block(replace(block, folded=""), media, warnings)
            yield "</details>"
        case Clips(clips, columns, pixelated):
            style = f' style="--columns:{columns}"' if columns else ""
            kind = f"clips{' grouped' if columns else ''}{' pixelated' if pixelated else ''}"
            scroll = "scroll" if columns else ""
            yield f'<div class="{scroll}"><div class="{kind}"{style}>'
            for clip in clips:
                yield from _clip(clip, media)
            yield "</div></div>"
        case Picture(path, alt):
            source = media.source(path)
            if source:
                yield f'<div class="sheet" tabindex="0"><img src="{escape(source)}" alt="{escape(alt)}"></div>'
        case Facts():
            yield from _facts(block)
        case Code(text):
            yield f"<pre>{escape(text)}</pre>"
        case Plot():
            caption = escape(block.heading) + _marks(block.marks, warnings)
            yield f"<figure><figcaption>{caption}</figcaption>{to_svg(block)}</figure>"
        case Table():
            yield from _table(block, warnings)


def _tile(number: KeyNumber, warnings: Sequence[PageWarning]) -> str:
    value = _linked(escape(number.value), number.anchor) + _marks(number.marks, warnings)
    note = f"<small>{escape(number.note)}</small>" if number.note else ""
    return f"<div><strong>{value}</strong><span>{escape(number.label)}</span>{note}</div>"


def _clip(clip: Clip, media: MediaBudget) -> Iterator[str]:
    source = None if clip.path is None else media.source(clip.path)
    name = escape(clip.caption, quote=True)
    yield "<figure>"
    if source is None or clip.path is None:
        yield '<div class="gone">no clip was kept</div>'
    elif is_video(clip.path):
        yield f'<video src="{escape(source)}" aria-label="{name}" autoplay loop muted playsinline></video>'
    else:
        yield f'<img src="{escape(source)}" alt="{name}">'
    yield f"<figcaption>{escape(clip.caption)}"
    for kind, text in (("note", clip.note), ("good", clip.good), ("bad", clip.bad)):
        if text:
            yield f'<span class="{kind}">{escape(text)}</span>'
    yield "</figcaption></figure>"


def _facts(facts: Facts) -> Iterator[str]:
    anchor = f' id="{escape(facts.anchor)}"' if facts.anchor else ""
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items)
    if facts.folded:
        yield f"<details{anchor}><summary>{escape(facts.title)}</summary><dl>{items}</dl></details>"
    else:
        yield f"<section{anchor}><h3>{escape(facts.title)}</h3><dl>{items}</dl></section>"


def _table(table: Table, warnings: Sequence[PageWarning]) -> Iterator[str]:
    title = escape(table.title)
    yield f'<p class="caption">{title}</p><div class="scroll" tabindex="0"><table aria-label="{title}"><thead><tr>'
    words = [any(row[place].text[:1].isalpha() for row in table.rows) for place in range(len(table.columns))]
    kinds = [' class="words"' if each else "" for each in words]
    for kind, name in zip(kinds, table.columns, strict=True):
        yield f'<th scope="col"{kind}>{escape(name)}</th>'
    yield "</tr></thead><tbody>"
    for first, *rest in table.rows:
        yield f'<tr><th scope="row">{_cell(first, warnings)}</th>'
        yield from (f"<td{kind}>{_cell(cell, warnings)}</td>" for kind, cell in zip(kinds[1:], rest, strict=True))
        yield "</tr>"
    yield "</tbody></table></div>"
    if table.notes:
        yield from ('<ul class="notes">', *(f"<li>{escape(note)}</li>" for note in table.notes), "</ul>")
    latex = escape(to_latex(table, warnings))
    yield (
        f'<details class="exports"><summary>as LaTeX and CSV</summary><pre tabindex="0">{latex}</pre>'
        f'<pre tabindex="0">{escape(to_csv(table, warnings))}</pre></details>'
    )


def _cell(cell: Cell, warnings: Sequence[PageWarning]) -> str:
    text = _linked(escape(cell.text), cell.anchor)
    if cell.strong:
        text = f"<b>{text}</b>"
    text += _marks(cell.marks, warnings)
    return f"{text}<small>{escape(cell.detail)}</small>" if cell.detail else text


def _linked(text: str, anchor: str) -> str:
    return f'<a href="#{escape(anchor)}">{text}</a>' if anchor else text
