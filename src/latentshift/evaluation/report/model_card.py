"""The model card (``README.md``) of a model on the hub: settings, use, recipe, data, figures and pictures.

Knows no network: it is text from files that lie beside a model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from latentshift.evaluation.report.numbers import format_interval, format_number
from latentshift.evaluation.report.schema import Report

_LOCAL_PATH = re.compile(r"(?<![\w.:/])/(?:[\w.@+-]+/)+([\w.@+-]+)")  # /home/someone/clips


@dataclass(frozen=True)
class CardContents:
    """What a card tells.

    Attributes:
        repo: id on the hub, ``owner/name``.
        license: its identifier there, ``apache-2.0`` say.
        settings: ``model_index.json``.
        unet: the U-Net's configuration.
        side: of the frames in pixels.
        recipe: text of the run's ``recipe.yaml``; None if there is none.
        reports: of evaluations.
        pictures: file names below ``pictures/``.
    """

    repo: str
    license: str
    settings: dict[str, Any]
    unet: dict[str, Any]
    side: int | None
    recipe: str | None = None
    reports: Sequence[Report] = ()
    pictures: Sequence[str] = field(default=())


def model_card(contents: CardContents) -> str:
    """The text of the card, Markdown with the hub's metadata on top.

    Paths of the machine that trained the model are cut down to their last name.
    """
    recipe = None if contents.recipe is None else _LOCAL_PATH.sub(r"\1", contents.recipe)
    values = {} if recipe is None else yaml.safe_load(recipe) or {}
    base = values.get("model")
    metadata: dict[str, Any] = {
        "license": contents.license,
        "library_name": "diffusers",
        "pipeline_tag": "text-to-video",
        "tags": ["latent-shift", "text-to-video", "video"],
    }
    if isinstance(base, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", base):
        metadata["base_model"] = base
    name = contents.repo.partition("/")[2]
    parts = [
        f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---",
        f"# {name}",
        "Text to video with an image diffusion model and the temporal shift (Latent-Shift, An et al. 2023): a stock "
        "U-Net in `unet/`, without a parameter for time.",
        _settings(contents),
        "## Use",
        _use(contents),
    ]
    if contents.pictures:
        parts += ["## Pictures", "\n\n".join(f"![{each}](pictures/{each})" for each in contents.pictures)]
    if contents.reports:
        parts += ["## Figures", *(_figures(report) for report in contents.reports)]
    if values:
        sources = {key: values[key] for key in ("data", "validation") if values.get(key) is not None}
        if sources:
            parts += ["## Data", f"```yaml\n{yaml.safe_dump(sources, sort_keys=False, allow_unicode=True)}```"]
        parts += ["## Recipe", f"`latentshift train recipe.yaml`, with\n\n```yaml\n{(recipe or '').strip()}\n```"]
    return "\n\n".join(parts) + "\n"


def _settings(contents: CardContents) -> str:
    settings = contents.settings
    shift = settings.get("shift")
    rows = {
        "frames": settings.get("num_frames"),
        "frames a second": settings.get("fps"),
        "size": None if contents.side is None else f"{contents.side}×{contents.side}",
        "guidance": settings.get("guidance_scale"),
        "shift": "none" if shift is None else ", ".join(f"{key} {value}" for key, value in sorted(shift.items())),
        "noise that frames share": settings.get("noise_share") or None,
        "U-Net": "-".join(map(str, contents.unet.get("block_out_channels", ()))) or None,
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items() if value is not None]
    return "\n".join(["| | |", "|---|---|", *lines])


def _use(contents: CardContents) -> str:
    lines = [
        "```python",
        "from latentshift import LatentShiftPipeline",
        "",
        f'pipe = LatentShiftPipeline.from_pretrained("{contents.repo}")',
        'frames = pipe("a prompt").frames[0]',
        "```",
    ]
    return "\n".join(lines)


def _figures(report: Report) -> str:
    lines = [f"`{report.command}` ({report.date[:10]}, latentshift {report.latentshift}):", ""]
    lines += ["| | | 95 % | videos |", "|---|---|---|---|"]
    for each in report.metrics:
        name = f"{each.name} ({each.variant})" if each.variant else each.name
        value = f"{format_number(each.value, each.unit)} {each.unit}".strip()
        lines.append(f"| {name} | {value} | {format_interval(each.value, each.interval, each.unit)} | {each.n:,} |")
    return "\n".join(lines)
