"""Checks of the settings of a model's components: a model with an unsupported one is refused when it is opened.

Libraries ignore a setting that they do not know, or leave it to the pipeline, and the pictures are wrong without a
word. So there is an allow-list, :mod:`latentshift.models.storage.supported_settings`: a setting is carried out by the
part's own class, or by us, or it has to be off. Of what kind its value has to be is checked in
:mod:`latentshift.models.storage.model_config`. torch and diffusers are imported only where they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from latentshift.diffusion.schedulers import bound_to_weights, check_scheduler
from latentshift.models.storage.model_config import saved_parts
from latentshift.models.storage.model_paths import load_index
from latentshift.models.storage.supported_settings import OFF, UNET, VAE, refuse
from latentshift.user_input.bounded_read import load_json_bounded

Place = Callable[[str], str]  # a part, by our name -> where it is configured, for messages

_TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
_SIZES = 6  # numbers that SDXL's U-Net is given of an image's size
_KINDS = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel", "LDMBertModel", "BertModel"),
    "text_encoder_2": ("CLIPTextModelWithProjection",),
}
OUR_NAMES = {"vqvae": "vae", "bert": "text_encoder"}  # of parts that a family calls otherwise
# Settings of an image pipeline without effect on its pictures.
_OF_PIPELINES = {"add_watermarker", "requires_safety_checker"}


def check_components(parts: Mapping[str, Any]) -> None:
    """Refuse components with an unsupported setting.

    Args:
        parts: our name -> the loaded part: ``unet``, ``vae``, ``scheduler``, ``text_encoder``, ``text_encoder_2`` (or
            None); others are not looked at.

    Raises:
        ValueError: that names the part, the setting, its value and what is supported.
    """
    from torch import nn

    from latentshift.frame_context import uncompiled

    kinds: dict[str, set[str]] = {}
    configs: dict[str, Mapping[str, Any]] = {}
    for name in (*_KINDS, "scheduler"):
        part = parts.get(name)
        if part is None:
            continue
        if isinstance(part, nn.Module):
            part = uncompiled(part)
        config: Any = part.config
        kinds[name] = {each.__name__ for each in type(part).__mro__[: 1 if name == "scheduler" else None]}
        configs[name] = config.to_dict() if hasattr(config, "to_dict") else config
    _check(kinds, configs, lambda name: f"the {name.replace('_', ' ')}", normalized=True)


def check_folder(
    folder: Path, names: Mapping[str, str], index: Mapping[str, Any], known: Collection[str], given: Collection[str]
) -> None:
    """The same for a saved pipeline, before loading weights.

    Args:
        folder: of the pipeline.
        names: our name of a part -> the saved pipeline's.
        index: its ``model_index.json``.
        known: entries of the index that are honoured, beside the parts.
        given: parts, by the saved pipeline's names, that are not taken from the folder.

    Raises:
        ValueError: that names the file, the setting, its value and what is supported.
    """
    kinds: dict[str, set[str]] = {}
    configs: dict[str, Mapping[str, Any]] = {}
    files: dict[str, Path] = {}
    for ours, theirs in names.items():
        entry = index.get(theirs)
        if theirs in given:
            continue
        if not isinstance(entry, (list, tuple)) or len(entry) != 2 or entry[1] is None:
            if ours in ("text_encoder_2", "tokenizer_2", "temporal") and index["_class_name"] == "LatentShiftPipeline":
                continue
            raise ValueError(f"{folder / 'model_index.json'} names no {theirs}, which a {index['_class_name']} needs")
        file = "scheduler_config.json" if ours == "scheduler" else "config.json"
        files[ours] = folder / theirs / file
        kinds[ours] = {str(entry[1])}
        try:
            configs[ours] = dict(load_json_bounded(files[ours]))
        except (OSError, ValueError, TypeError):
            continue  # a tokenizer has none; for other parts the library says what is wrong with it
    accepted = {*names.values(), *known, *_OF_PIPELINES}
    for setting, value in index.items():
        if not setting.startswith("_") and setting not in accepted and value not in (*OFF, [None, None]):
            refuse(str(folder / "model_index.json"), setting, value, "does not know this setting")
    _check(kinds, configs, lambda name: str(files[name]), normalized=_normalizes(index))


def check_saved_configs(folder: Path) -> None:
    """What :func:`check_folder` checks of the settings of parts that are there, before torch is imported.

    Args:
        folder: of a saved pipeline whose configuration files hold valid values.

    Raises:
        ValueError: that names the file, the setting, its value and what is supported.
    """
    index = load_index(folder)
    parts = {OUR_NAMES.get(part, part): part for part in saved_parts(folder)}
    files = {ours: folder / parts[ours] / "config.json" for ours in _KINDS if ours in parts}
    if index.get("scheduler", (None, None))[1] is not None:
        parts["scheduler"], files["scheduler"] = "scheduler", folder / "scheduler" / "scheduler_config.json"
    kinds = {ours: {str(index[parts[ours]][1])} for ours in files}
    configs = {ours: load_json_bounded(file) for ours, file in files.items() if file.is_file()}
    _check(kinds, configs, lambda name: str(files[name]), normalized=_normalizes(index))


def check_trainable(parts: Mapping[str, Any]) -> None:
    """Refuse a model that can generate but can't be trained without changing what it is.

    Args:
        parts: as for :func:`check_components`.

    Raises:
        ValueError: saying why.
    """
    if getattr(parts["unet"].config, "time_cond_proj_dim", None) is not None:
        raise ValueError(
            "this model can't be trained: its U-Net is guidance-distilled (time_cond_proj_dim), and the training loss "
            "would undo that; train the model that it was distilled from"
        )
    scheduler = parts["scheduler"]
    if reason := bound_to_weights(type(scheduler).__name__, scheduler.config):
        raise ValueError(
            f"this model can't be trained: {reason}, and training knows noise schedules of DDPM's kind only"
        )


def _normalizes(index: Mapping[str, Any]) -> bool:
    """Whether a pipeline normalizes latents by the autoencoder's mean and standard deviation, as SDXL's and ours do."""
    return index["_class_name"] in ("LatentShiftPipeline", "StableDiffusionXLPipeline")


def _check(
    kinds: Mapping[str, set[str]], configs: Mapping[str, Mapping[str, Any]], where: Place, *, normalized: bool
) -> None:
    for name, known in _KINDS.items():
        if name in kinds and not kinds[name] & set(known):
            given = next(iter(kinds[name])) if len(kinds[name]) == 1 else "of another class"
            raise ValueError(f"{where(name)}: the part is {given}; latentshift supports {' or '.join(known)}")
    if "scheduler" in configs:
        (kind,) = kinds["scheduler"]
        try:
            check_scheduler(kind, configs["scheduler"])
        except ValueError as error:
            raise ValueError(f"{where('scheduler')}: {error}") from None
    if "vae" in configs:
        _check_vae(configs["vae"], where("vae"), normalized=normalized)
    for name in _TEXT_ENCODERS:
        if configs.get(name, {}).get("use_attention_mask"):
            refuse(where(name), "use_attention_mask", True, "attends to all tokens, as Stable Diffusion's encoders do")
    if "unet" in configs:
        _check_unet(configs, where)


def _check_vae(config: Mapping[str, Any], where: str, *, normalized: bool) -> None:
    VAE.check(config, where)
    mean, deviation, channels = (config.get(key) for key in ("latents_mean", "latents_std", "latent_channels"))
    if mean is None and deviation is None:
        return
    for setting, values in (("latents_mean", mean), ("latents_std", deviation)):
        if not isinstance(values, (list, tuple)) or len(values) != (channels or 4):
            refuse(where, setting, values, "needs both latents_mean and latents_std, a number a latent channel")
        if not normalized:
            refuse(where, setting, values, "supports it for SDXL only: other image pipelines do not apply it")


def _check_unet(configs: Mapping[str, Mapping[str, Any]], where: Place) -> None:
    config, place = configs["unet"], where("unet")
    UNET.check(config, place)
    side = config.get("sample_size")
    if type(side) is not int:
        refuse(place, "sample_size", side, "needs one whole number, the side of a square")
    channels = config.get("in_channels", 4)
    if "vae" in configs and channels != (latent := configs["vae"].get("latent_channels", 4)):
        others = {9: " (an inpainting model's)", 8: " (a model's that edits pictures)", 7: " (an upscaler's)"}
        hint = others.get(channels, "")
        refuse(place, "in_channels", channels, f"needs the autoencoder's {latent} latent channels", hint)
    if (out := config.get("out_channels", 4)) != channels:
        refuse(place, "out_channels", out, f"needs as many as in_channels, {channels}")
    _check_text_width(configs, where)


def _check_text_width(configs: Mapping[str, Mapping[str, Any]], where: Place) -> None:
    config, place = configs["unet"], where("unet")
    encoders = [configs[name] for name in _TEXT_ENCODERS if name in configs]
    if not encoders or ("text_encoder_2" in configs and len(encoders) == 1):
        return
    widths = [each.get("hidden_size", each.get("d_model")) for each in encoders]
    wanted = config.get("encoder_hid_dim")
    setting = "cross_attention_dim" if wanted is None else "encoder_hid_dim"
    wanted = config.get("cross_attention_dim", 1280) if wanted is None else wanted
    given = wanted if isinstance(wanted, (list, tuple)) else [wanted]
    if all(type(width) is int for width in widths) and set(given) != {sum(widths)}:
        refuse(place, setting, wanted, f"needs the width of the text encoders together, {sum(widths)}")
    kind = config.get("addition_embed_type")
    if (kind == "text_time") != (len(encoders) == 2):
        refuse(place, "addition_embed_type", kind, 'needs "text_time" for two text encoders, and null for one')
    if kind == "text_time":
        total, side = (config.get(key) for key in ("projection_class_embeddings_input_dim", "addition_time_embed_dim"))
        pooled = encoders[-1].get("projection_dim")
        if total is None or side is None or (pooled is not None and total != pooled + _SIZES * side):
            needed = f"needs text_encoder_2's {pooled} and six times addition_time_embed_dim ({side})"
            refuse(place, "projection_class_embeddings_input_dim", total, needed)
