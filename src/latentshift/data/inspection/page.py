"""An inspection as one self-contained HTML page.

Knows nothing of how clips are examined.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np

_MAX_NAMES = 200  # of a list; the JSON has all
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1c1c1c }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .15rem .8rem .15rem 0; text-align: left; vertical-align: top }
td.n { text-align: right } td.bar div { background: #4a7bd0; height: .8rem }
.clips { display: grid; grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); gap: 1rem }
.clips img { width: 100%; border-radius: 4px } .clips figure { margin: 0 } .clips figcaption { font-size: .85rem }
code { overflow-wrap: anywhere }
"""
_TABLES = {
    "seconds": "Length in seconds",
    "fps": "Frames a second",
    "short_side": "Shorter side in pixels",
    "caption_words": "Words a caption",
}


@dataclass(frozen=True)
class SampleClip:
    """A clip to show on the page.

    Attributes:
        name: of the clip.
        caption: its caption.
        frames: uint8 RGB (F, H, W, 3).
        fps: frames a second.
    """

    name: str
    caption: str
    frames: np.ndarray
    fps: float


def render_page(title: str, report: dict[str, Any], samples: Sequence[SampleClip]) -> str:
    """The page as HTML.

    Args:
        title: what was inspected.
        report: from :meth:`latentshift.data.inspection.inspect.Inspection.to_dict`.
        samples: clips for the contact sheet.
    """
    return "".join(_page(title, report, samples))


def _page(title: str, report: dict[str, Any], samples: Sequence[SampleClip]) -> Iterator[str]:
    name = html.escape(title)
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title><style>{_STYLE}</style>'
    yield f"<h1>{name}</h1><p>Kept {report['kept']} of {report['total']} clips.</p>"
    if samples:
        yield '<h2>Samples</h2><div class="clips">'
        for sample in samples:
            yield (
                f'<figure><img src="{_image(sample)}" alt=""><figcaption>{html.escape(sample.caption)}<br>'
                f"<code>{html.escape(sample.name)}</code></figcaption></figure>"
            )
        yield "</div>"
    refused = [(each["name"], f"{each['kind']}: {each['reason']}") for each in report["refused"]]
    yield from _list("Rejected", refused)
    for key, heading in _TABLES.items():
        yield from _histogram(heading, **report["tables"][key])
    yield from _list("Codecs", [(codec, str(count)) for codec, count in report["codecs"].items()])
    cuts = [(each["name"], f"{each['seconds']:g} s into the window") for each in report["cuts"]]
    yield from _list("Scene cuts inside the window", cuts)
    yield from _list("Nothing moves", [(each, "") for each in report["still"]])
    yield from _list(
        "The same content more than once", [(group[0], ", ".join(group[1:])) for group in report["duplicates"]]
    )


def _list(heading: str, rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    if not rows:
        return
    yield f"<h2>{heading} ({len(rows)})</h2><table>"
    for name, what in rows[:_MAX_NAMES]:
        yield f"<tr><td><code>{html.escape(name)}</code><td>{html.escape(what)}"
    yield "</table>"
    if len(rows) > _MAX_NAMES:
        yield f"<p>… and {len(rows) - _MAX_NAMES} more, in the JSON.</p>"


def _histogram(heading: str, edges: list[float | None], counts: list[int]) -> Iterator[str]:
    most = max(counts, default=0)
    if not most:
        return
    yield f"<h2>{heading}</h2><table>"
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        if count:
            span = f"{low:g} and more" if high is None else f"{low:g} – {high:g}"
            width = round(300 * count / most)
            yield f'<tr><td>{span}<td class="n">{count}<td class="bar"><div style="width:{width}px"></div>'
    yield "</table>"


def _image(sample: SampleClip) -> str:
    from PIL import Image

    first, *rest = (Image.fromarray(frame) for frame in sample.frames)
    buffer = BytesIO()
    first.save(buffer, "WEBP", save_all=True, append_images=rest, duration=round(1000 / sample.fps), loop=0, quality=80)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
