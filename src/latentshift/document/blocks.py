"""What a page says, before it becomes Markdown or HTML: a title, and blocks in their order. Text is plain."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from latentshift.document.plot import Plot
from latentshift.document.table import Table


@dataclass(frozen=True)
class Heading:
    """Begins a section, or with ``level`` 3 a part of one."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Sentences."""

    text: str


@dataclass(frozen=True)
class KeyNumber:
    """A number to be seen first.

    Attributes:
        value: with its unit.
        label: what it is.
        note: its interval and N.
        anchor: of the settings that made it.
        marks: as of a :class:`.table.Cell`.
    """

    value: str
    label: str
    note: str = ""
    anchor: str = ""
    marks: tuple[int, ...] = ()


@dataclass(frozen=True)
class KeyNumbers:
    """Numbers side by side."""

    numbers: tuple[KeyNumber, ...]


@dataclass(frozen=True)
class Clip:
    """A clip that plays.

    Attributes:
        path: of its file; None if there is none.
        caption: its prompt.
        note: what is measured of it.
        good: what is right with it, in a few words.
        bad: what is wrong with it, in a few words.
    """

    path: Path | None
    caption: str
    note: str = ""
    good: str = ""
    bad: str = ""


@dataclass(frozen=True)
class Clips:
    """Clips in rows.

    Attributes:
        clips: in their order.
        columns: of a row, where clips in one column belong together; None fills rows as wide as they are.
        pixelated: whether single pixels are shown as squares, as suits small clips.
        folded: words that a page shows alone at first; empty: nothing is hidden.
    """

    clips: tuple[Clip, ...]
    columns: int | None = None
    pixelated: bool = False
    folded: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture, with what it shows for those who can't see it.

    Attributes:
        path: of its file.
        alt: what it shows.
        folded: as for :class:`Clips`.
    """

    path: Path
    alt: str
    folded: str = ""


@dataclass(frozen=True)
class Facts:
    """Names and values.

    Attributes:
        title: of the list.
        items: (name, value).
        anchor: that numbers link to.
        folded: whether a page shows the title alone at first.
    """

    title: str
    items: tuple[tuple[str, str], ...]
    anchor: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Code:
    """A command."""

    text: str


Block = Heading | Paragraph | KeyNumbers | Clips | Picture | Facts | Code | Table | Plot


@dataclass(frozen=True)
class PageWarning:
    """A sentence that numbers must be read with.

    Attributes:
        text: the sentence.
        about: names of the numbers; empty where the sentence says it, or it is of the whole.
    """

    text: str
    about: str = ""

    @property
    def sentence(self) -> str:
        """The sentence, with what it is about before it."""
        return f"{self.about}: {self.text}" if self.about else self.text


@dataclass(frozen=True)
class Document:
    """A whole page.

    Warnings are counted in a line under the lead, and stand together at the end; numbers bear marks of theirs.

    Attributes:
        title: its heading.
        lead: what it comes to, in a sentence or two.
        blocks: in their order.
        warnings: in the order of their marks, 1 and on.
    """

    title: str
    lead: str
    blocks: tuple[Block, ...]
    warnings: tuple[PageWarning, ...] = ()

    def is_marked(self) -> bool:
        """Whether a number bears a mark."""
        marks = [each.marks for block in self.blocks if isinstance(block, KeyNumbers) for each in block.numbers]
        marks += [each.marks for each in self.tables()] + [each.marks for each in self.plots()]
        return any(marks)

    def tables(self) -> list[Table]:
        """All tables."""
        return [block for block in self.blocks if isinstance(block, Table)]

    def plots(self) -> list[Plot]:
        """All plots."""
        return [block for block in self.blocks if isinstance(block, Plot)]
