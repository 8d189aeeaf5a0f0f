"""The results that a page shows: their reports, their folders, and names that tell them apart."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentshift.document.blocks import Facts
from latentshift.evaluation.report.part_names import title_of_part
from latentshift.evaluation.report.schema import Example, Report, read_report

PROTOCOLS = {
    "msrvtt": "MSR-VTT",
    "ucf101": "UCF-101",
    "folder": "Folders of clips",
    "sprites": "Sprites",
    "cost": "Cost",
}
SMALL = 128  # pixels: clips up to this side are shown with square pixels
_KINDS = {
    "video": "a video model",
    "frozen images": "an image model, its images held still",
    "images": "an image model, one image a frame",
    "clips": "files of clips",
}


@dataclass(frozen=True)
class Result:
    """One report.

    Attributes:
        folder: that it is in.
        report: what it says.
        label: of the system, unlike all others on the page.
        anchor: of its settings on the page.
    """

    folder: Path
    report: Report
    label: str
    anchor: str

    def file(self, path: str | None) -> Path | None:
        """A file that the report names; None if it is not there, or a link leads out of the folder."""
        if path is None:
            return None
        target = self.folder / path
        inside = Path(os.path.realpath(target)).is_relative_to(os.path.realpath(self.folder))
        return target if inside and target.is_file() else None

    def clip(self, example: Example) -> Path | None:
        """The file of an example."""
        return self.file(example.file)

    @property
    def pixelated(self) -> bool:
        """Whether its clips are so small that their pixels should be shown as squares."""
        size = str(self.report.settings.get("size", ""))
        sides = [int(side) for side in size.lower().split("x") if side.isdecimal()]
        return bool(sides) and max(sides) <= SMALL

    def settings(self) -> Facts:
        """All that made the numbers."""
        report, system = self.report, self.report.system
        items = [
            ("system", system.name),
            ("kind", _KINDS[system.kind]),
            ("model", system.model or ""),
            ("contents", system.contents or ""),
            ("protocol", report.protocol),
            *((name.replace("_", " "), _text(value)) for name, value in self._own_settings().items()),
            ("date", report.date),
            ("latentshift", report.latentshift),
            ("folder", str(self.folder)),
        ]
        return Facts(f"Settings of {self.label}", tuple((name, text) for name, text in items if text), self.anchor)

    def _own_settings(self) -> dict[str, Any]:
        """Those of the report, with the names that pages have for parts of a study."""
        settings: dict[str, Any] = {name: each for name, each in self.report.settings.items() if name != "contents"}
        if self.report.protocol != "sprites":
            return settings
        by_part = {name: each for name in ("n", "seeds") if isinstance(each := settings.get(name), dict)}
        renamed = {
            name: {title_of_part(part).lower(): value for part, value in each.items()} for name, each in by_part.items()
        }
        return settings | renamed


def load_results(folders: Sequence[Path]) -> list[Result]:
    """Read the reports of folders.

    Raises:
        ValueError: for a folder that holds none.
    """
    return label_results([(folder, read_report(folder)) for folder in folders])


def label_results(reports: Sequence[tuple[Path, Report]]) -> list[Result]:
    """Reports, each with its folder, as the results of one page."""
    names = Counter(report.system.name for _, report in reports)
    return [
        Result(
            folder,
            report,
            report.system.name if names[report.system.name] == 1 else f"{report.system.name} ({folder})",
            f"settings-{number}",
        )
        for number, (folder, report) in enumerate(reports, 1)
    ]


def check_different(folders: Sequence[Path]) -> None:
    """Refuse a folder that is given twice.

    Raises:
        ValueError: for the first one.
    """
    places = Counter(os.path.realpath(each) for each in folders)  # Path.resolve fails where links lead in a circle
    repeated = [folder for folder, times in places.items() if times > 1]
    if repeated:
        raise ValueError(f"the folder {repeated[0]} is given twice: each result stands once in a report")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return "" if value is None else str(value)
