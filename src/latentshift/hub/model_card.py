"""The model card (``README.md``) of a model on the hub: settings, use, recipe, data, figures and pictures.

Knows no network: it is text from files that lie beside a model.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from latentshift.document.numbers import format_count, format_interval, format_number
from latentshift.evaluation.report.part_names import shown_name
from latentshift.evaluation.report.schema import Report
from latentshift.local_paths import cut_local_paths
from latentshift.models.storage.model_paths import DATA_SETTINGS


@dataclass(frozen=True)
class CardContents:
    """What a card tells.

    Attributes:
        repo: id on the hub, ``owner/name``.
        license: its identifier there, ``apache-2.0`` say.
        settings: ``model_index.json``.
        unet: the U-Net's configuration.
        side: of the frames in pixels.
        recipe: settings of the run's ``recipe.yaml``; None if there is none.
        data_settings_sha256: of the model's ``data_settings.json``; None if there is none.
        training: its steps, hours and machine, in words; empty if they are not known.
        base_model: id on the hub of the model that training began with; None if it has none.
        reports: of evaluations.
        pictures: file names below ``pictures/``.
    """

    repo: str
    license: str
    settings: dict[str, Any]
    unet: dict[str, Any]
    side: int | None
    recipe: Mapping[str, Any] | None = None
    data_settings_sha256: str | None = None
    training: str = ""
    base_model: str | None = None
    reports: Sequence[Report] = ()
    pictures: Sequence[str] = field(default=())


def model_card(contents: CardContents) -> str:
    """The text of the card, Markdown with the hub's metadata on top.

    Paths of the machine that trained the model are cut down to their last name.
    """
    values = cut_local_paths(dict(contents.recipe or {}))
    metadata: dict[str, Any] = {
        "license": contents.license,
        "library_name": "diffusers",
        "pipeline_tag": "text-to-video",
        "tags": ["latent-shift", "text-to-video", "video"],
    }
    if contents.base_model is not None:
        metadata["base_model"] = contents.base_model
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
    sources = {key: values[key] for key in ("data", "validation") if values.get(key) is not None}
    if sources or contents.data_settings_sha256 is not None:
        parts.append("## Data")
    if sources:
        parts.append(f"```yaml\n{_yaml(sources)}```")
    if contents.data_settings_sha256 is not None:
        parts.append(f"SHA-256 of the data's settings (`{DATA_SETTINGS}`): `{contents.data_settings_sha256}`")
    if values:
        took = f"{contents.training}; " if contents.training else ""
        parts += ["## Recipe", f"{took}`latentshift train recipe.yaml`, with\n\n```yaml\n{_yaml(values)}```"]
    return "\n\n".join(parts) + "\n"


def _command(command: str) -> str:
    """A command line with the paths in its arguments cut, also where they hold spaces."""
    try:
        words = shlex.split(command)
    except ValueError:  # an open quote
        return str(cut_local_paths(command))
    cut = []
    for word in words:
        option, equals, value = word.partition("=")
        is_option = equals and option.startswith("-")
        cut.append(f"{option}={cut_local_paths(value)}" if is_option else cut_local_paths(word))
    return command if cut == words else shlex.join(cut)


def _yaml(values: Mapping[str, Any]) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


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
    lines = [f"`{_command(report.command)}` ({report.date[:10]}, latentshift {report.latentshift}):", ""]
    lines += ["| | | 95 % | videos |", "|---|---|---|---|"]
    for each in report.metrics:
        name = shown_name(each.name) + (f" ({each.variant})" if each.variant else "")
        value = f"{format_number(each.value, each.unit)} {each.unit}".strip()
        count = format_count(each.n, each.repeats)
        lines.append(f"| {name} | {value} | {format_interval(each.value, each.interval, each.unit)} | {count} |")
    said = [
        f"- {', '.join(map(shown_name, names))}: {cut_local_paths(sentence)}"
        for sentence, names in report.metrics_by_warning().items()
    ]
    said += [f"- {cut_local_paths(note)}" for note in report.notes]
    if report.rejected:
        said.append(f"- {len(report.rejected):,} files or captions could not be used.")
    return "\n".join([*lines, *(["", "To be read with these numbers:", "", *said] if said else [])])
