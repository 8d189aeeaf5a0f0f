"""The configuration files of a saved model: read with size limits, with type and range checks of known settings.

This comes before any library reads them, so that a wrong value ends in a sentence with its file and name, and nothing
is allocated for it. Imports neither torch nor diffusers. Which settings are
supported is decided in :mod:`latentshift.models.base_settings`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentshift.bounded_read import load_json_bounded
from latentshift.settings import MOST_NOISE_SHARE

_MOST_BYTES = 2**22  # of a configuration; the largest have one noise level for each of 100,000 timesteps
_MOST_LEVELS = 16  # of a U-Net or autoencoder: each halves the sides
_INDEX = "model_index.json"


@dataclass(frozen=True)
class _Kind:
    """The allowed values of a setting.

    Attributes:
        words: that, for a message.
        fits: whether a value is of the kind.
    """

    words: str
    fits: Callable[[Any], bool]

    def or_null(self) -> _Kind:
        return _Kind(f"{self.words}, or null", lambda value: value is None or self.fits(value))

    def or_list(self, longest: int = _MOST_LEVELS) -> _Kind:
        several = self.listed(longest)
        return _Kind(
            f"{self.words}, or a list of up to {longest:,} such", lambda value: self.fits(value) or several.fits(value)
        )

    def listed(self, longest: int = _MOST_LEVELS) -> _Kind:
        def fits(values: Any) -> bool:
            return isinstance(values, (list, tuple)) and 1 <= len(values) <= longest and all(map(self.fits, values))

        return _Kind(f"a list of 1 to {longest:,} values, each {self.words}", fits)


def _whole(least: int, most: int) -> _Kind:
    return _Kind(
        f"a whole number from {least:,} to {most:,}", lambda value: type(value) is int and least <= value <= most
    )


def _number(least: float, most: float) -> _Kind:
    def fits(value: Any) -> bool:
        return type(value) in (int, float) and math.isfinite(value) and least <= value <= most

    return _Kind(f"a number from {least:,} to {most:,}", fits)


def _one_of(*words: str) -> _Kind:
    return _Kind(f"one of {', '.join(words)}", lambda value: isinstance(value, str) and value in words)


_YES_NO = _Kind("true or false", lambda value: type(value) is bool)
_FLAG = _Kind("true or false", lambda value: value is None or type(value) is bool)  # null is false in many files
_WORD = _Kind("a word", lambda value: isinstance(value, str) and len(value) <= 200)
_WIDTH, _COUNT, _KERNEL = _whole(1, 2**20), _whole(1, 4096), _whole(1, 31)
_SHARE, _FACTOR, _SCALE = _number(0, 1), _number(-1e6, 1e6), _number(1e-6, 1e6)
_TOKEN = _whole(-1, 2**31)
_DTYPE = _one_of("float64", "float32", "float16", "bfloat16", "auto").or_null()

_PIPELINE = {
    "_class_name": _WORD,
    "num_frames": _whole(1, 100_000),
    "fps": _number(1e-3, 10_000),
    "guidance_scale": _number(0, 1e6),
    "noise_share": _number(0, MOST_NOISE_SHARE),
    "force_zeros_for_empty_prompt": _FLAG,
    "requires_safety_checker": _YES_NO,
    "shift": _Kind("a group of settings, or null", lambda value: value is None or isinstance(value, Mapping)),
}
_SHIFT = {
    "direction": _one_of("first_from_past", "first_from_future"),
    "fold": _whole(3, 2**20),
    "padding": _one_of("zeros", "circular"),
}
_UNET = {
    "act_fn": _WORD,
    "addition_embed_type": _WORD.or_null(),
    "addition_embed_type_num_heads": _COUNT,
    "addition_time_embed_dim": _WIDTH.or_null(),
    "attention_head_dim": _COUNT.or_list(),
    "attention_type": _WORD,
    "block_out_channels": _WIDTH.listed(),
    "center_input_sample": _FLAG,
    "class_embed_type": _WORD.or_null(),
    "class_embeddings_concat": _FLAG,
    "conv_in_kernel": _KERNEL,
    "conv_out_kernel": _KERNEL,
    "cross_attention_dim": _WIDTH.or_list(),
    "cross_attention_norm": _WORD.or_null(),
    "down_block_types": _WORD.listed(),
    "downsample_padding": _whole(0, 1),
    "dropout": _SHARE,
    "dual_cross_attention": _FLAG,
    "encoder_hid_dim": _WIDTH.or_null(),
    "encoder_hid_dim_type": _WORD.or_null(),
    "flip_sin_to_cos": _FLAG,
    "freq_shift": _FACTOR,
    "in_channels": _COUNT,
    "layers_per_block": _whole(1, 64).or_list(),
    "mid_block_only_cross_attention": _FLAG,
    "mid_block_scale_factor": _SCALE,
    "mid_block_type": _WORD.or_null(),
    "norm_eps": _SHARE,
    "norm_num_groups": _COUNT,
    "num_attention_heads": _COUNT.or_list().or_null(),
    "num_class_embeds": _WIDTH.or_null(),
    "only_cross_attention": _YES_NO.or_list(),
    "out_channels": _COUNT,
    "projection_class_embeddings_input_dim": _WIDTH.or_null(),
    "resnet_out_scale_factor": _SCALE,
    "resnet_skip_time_act": _FLAG,
    "resnet_time_scale_shift": _WORD,
    "reverse_transformer_layers_per_block": _whole(1, 256).or_list().listed().or_null(),
    "sample_size": _COUNT.or_list(2),
    "time_cond_proj_dim": _WIDTH.or_null(),
    "time_embedding_act_fn": _WORD.or_null(),
    "time_embedding_dim": _WIDTH.or_null(),
    "time_embedding_type": _one_of("positional", "fourier"),
    "timestep_post_act": _WORD.or_null(),
    "transformer_layers_per_block": _whole(1, 256).or_list().or_list(),
    "up_block_types": _WORD.listed(),
    "upcast_attention": _FLAG,
    "use_linear_projection": _FLAG,
}
_VAE = {
    "act_fn": _WORD,
    "block_out_channels": _WIDTH.listed(),
    "down_block_types": _WORD.listed(),
    "force_upcast": _FLAG,
    "in_channels": _COUNT,
    "latent_channels": _COUNT,
    "latents_mean": _FACTOR.listed(4096).or_null(),
    "latents_std": _FACTOR.listed(4096).or_null(),
    "layers_per_block": _whole(1, 64),
    "mid_block_add_attention": _FLAG,
    "norm_num_groups": _COUNT,
    "out_channels": _COUNT,
    "sample_size": _whole(1, 2**16).or_list(2),
    "scaling_factor": _SCALE,
    "shift_factor": _FACTOR.or_null(),
    "up_block_types": _WORD.listed(),
    "use_post_quant_conv": _FLAG,
    "use_quant_conv": _FLAG,
}
_TEXT_ENCODER = {
    "activation_dropout": _SHARE,
    "activation_function": _WORD,
    "attention_dropout": _SHARE,
    "bos_token_id": _TOKEN.or_list().or_null(),
    "classifier_dropout": _SHARE.or_null(),
    "d_model": _WIDTH,
    "dropout": _SHARE,
    "dtype": _DTYPE,
    "encoder_attention_heads": _COUNT,
    "encoder_ffn_dim": _WIDTH,
    "encoder_layerdrop": _SHARE,
    "encoder_layers": _whole(1, 256),
    "eos_token_id": _TOKEN,
    "head_dim": _WIDTH,
    "hidden_act": _WORD,
    "hidden_size": _WIDTH,
    "init_std": _FACTOR,
    "initializer_factor": _FACTOR,
    "initializer_range": _FACTOR,
    "intermediate_size": _WIDTH,
    "layer_norm_eps": _SHARE,
    "max_position_embeddings": _whole(1, 2**16),
    "num_attention_heads": _COUNT,
    "num_hidden_layers": _whole(1, 256),
    "pad_token_id": _TOKEN.or_null(),
    "projection_dim": _whole(0, 2**20).or_null(),
    "scale_embedding": _FLAG,
    "torch_dtype": _DTYPE,
    "use_cache": _FLAG,
    "vocab_size": _whole(1, 2**24),
}
_BERT = {**_TEXT_ENCODER, "eos_token_id": _TOKEN.or_null()}  # which ends nothing with it
_TOKENIZER = {
    "do_lower_case": _YES_NO,
    # Tokenizers that know no bound say 10^30.
    "model_max_length": _Kind(
        "a whole number of 1 or more",
        lambda value: (type(value) is int and value >= 1) or (type(value) is float and value >= 1e6),
    ),
    "strip_accents": _FLAG,
    "tokenize_chinese_chars": _YES_NO,
    "tokenizer_class": _WORD.or_null(),
}
_TEMPORAL = {
    "heads": _COUNT.listed(4096),
    "max_distance": _whole(1, 2**16),
    "widths": _WIDTH.listed(4096),
}
_LEVEL = _number(1e-9, 1)
_SIGMA = _number(0, 1e6).or_null()
_SCHEDULER = {
    "_class_name": _WORD,
    "algorithm_type": _WORD,
    "beta_end": _LEVEL,
    "beta_schedule": _one_of("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace", "exp"),
    "beta_start": _LEVEL,
    "clip_sample": _FLAG,
    "clip_sample_range": _number(0, 1e6),
    "dynamic_thresholding_ratio": _SHARE,
    "euler_at_final": _FLAG,
    "final_sigmas_type": _one_of("zero", "sigma_min"),
    "flow_shift": _number(0, 1e6),
    "interpolation_type": _one_of("linear", "log_linear"),
    "lambda_min_clipped": _Kind("a number", lambda value: type(value) is float or _FACTOR.fits(value)),
    "lower_order_final": _FLAG,
    "num_train_timesteps": _whole(1, 100_000),
    "original_inference_steps": _whole(1, 100_000),
    "predict_x0": _FLAG,
    "prediction_type": _one_of("epsilon", "v_prediction", "sample", "flow_prediction"),
    "rescale_betas_zero_snr": _FLAG,
    "rho": _FACTOR,
    "sample_max_value": _number(0, 1e6),
    "set_alpha_to_one": _FLAG,
    "sigma_data": _SIGMA,
    "sigma_max": _SIGMA,
    "sigma_min": _SIGMA,
    "skip_prk_steps": _FLAG,
    "solver_order": _whole(1, 16),
    "solver_type": _one_of("midpoint", "heun", "bh1", "bh2", "logrho"),
    "steps_offset": _whole(0, 1000),
    "thresholding": _FLAG,
    "timestep_scaling": _FACTOR,
    "timestep_spacing": _one_of("linspace", "leading", "trailing"),
    "timestep_type": _one_of("discrete", "continuous"),
    "trained_betas": _LEVEL.listed(100_000).or_null(),
    "use_beta_sigmas": _YES_NO,
    "use_exponential_sigmas": _YES_NO,
    "use_flow_sigmas": _FLAG,
    "use_karras_sigmas": _YES_NO,
    "use_lu_lambdas": _FLAG,
    "variance_type": _WORD.or_null(),
}
_GROUP = _Kind("a group of settings", lambda value: isinstance(value, Mapping))
_ADAPTER = {
    "base": _WORD,
    "kind": _one_of("lora", "delta"),
    "lora": _GROUP,
    "settings": _GROUP,
    "temporal": _GROUP.or_null(),
}
_ADAPTER_SETTINGS = {
    **{name: _PIPELINE[name] for name in ("fps", "guidance_scale", "noise_share", "num_frames", "shift")},
    "prediction_type": _SCHEDULER["prediction_type"],
    "sample_size": _COUNT,
}
_LORA = {
    "alpha": _SCALE.or_null(),
    "dropout": _SHARE,
    "rank": _COUNT,
    "targets": _WORD.listed(4096),
}
# The parts' folders, under our names and those of the paper's pipeline.
_PARTS: dict[str, tuple[str, Mapping[str, _Kind]]] = {
    "unet": ("config.json", _UNET),
    "vae": ("config.json", _VAE),
    "vqvae": ("config.json", _VAE),
    "text_encoder": ("config.json", _TEXT_ENCODER),
    "text_encoder_2": ("config.json", _TEXT_ENCODER),
    "bert": ("config.json", _TEXT_ENCODER),
    "temporal": ("config.json", _TEMPORAL),
    "scheduler": ("scheduler_config.json", _SCHEDULER),
    "tokenizer": ("tokenizer_config.json", _TOKENIZER),
    "tokenizer_2": ("tokenizer_config.json", _TOKENIZER),
}
_NOT_USED = ("safety_checker", "feature_extractor", "image_encoder")  # parts of image pipelines


def check_index(folder: Path) -> None:
    """Refuse a saved pipeline whose ``model_index.json`` can't be read, or names no class.

    Raises:
        ValueError: naming the file.
    """
    if (folder / _INDEX).is_file():
        index = _read(folder / _INDEX)
        _check(index, {"_class_name": _WORD}, str(folder / _INDEX))


def check_config_files(folder: Path) -> None:
    """Refuse a saved pipeline with an invalid configuration file.

    Missing files are not an error here.

    Args:
        folder: of the pipeline.

    Raises:
        ValueError: naming the file, and for a wrong value the setting, the value and what it must be.
    """
    if not (folder / _INDEX).is_file():
        return
    index = _read(folder / _INDEX)
    _check(index, _PIPELINE, str(folder / _INDEX))
    _check(index.get("shift") or {}, _SHIFT, f"{folder / _INDEX}: shift")
    for part in (*_PARTS, *_NOT_USED):
        if part in index and not _is_entry(entry := index[part]):
            raise ValueError(f"{folder / _INDEX}: {part} must be [library, class], not {_shown(entry)}")
    for part, (name, kinds) in _PARTS.items():
        entry = index.get(part)
        if entry is not None and entry[1] is not None and (folder / part / name).is_file():
            config = _read(folder / part / name)
            is_bert = kinds is _TEXT_ENCODER and config.get("model_type") == "bert"
            _check(config, _BERT if is_bert else kinds, str(folder / part / name))


def check_pipeline_settings(**settings: Any) -> None:
    """Refuse pipeline settings of a wrong type or out of range.

    Raises:
        ValueError: naming the first, its value and what it must be.
    """
    _check(settings, _PIPELINE, "")


def check_adapter_metadata(metadata: Any, where: str) -> None:
    """Refuse invalid metadata of a LoRA or delta file.

    Args:
        metadata: from the file's header.
        where: the file, for the message.

    Raises:
        ValueError: naming the first setting that is missing or wrong.
    """
    if not isinstance(metadata, dict):
        raise ValueError(f"{where}: its metadata must be a group of settings, not {_shown(metadata)}")
    groups: list[tuple[str, Any, Mapping[str, _Kind], tuple[str, ...]]] = [
        ("", metadata, _ADAPTER, ("kind", "settings", "temporal")),
        ("settings", metadata.get("settings"), _ADAPTER_SETTINGS, ("num_frames", "prediction_type", "shift")),
        ("shift", (metadata.get("settings") or {}).get("shift"), _SHIFT, ()),
        ("temporal", metadata.get("temporal"), _TEMPORAL, ("widths", "heads")),
        ("lora", metadata.get("lora"), _LORA, ("rank", "targets")),
    ]
    for name, group, kinds, needed in groups:
        place = f"{where}: {name}" if name else where
        if group is None:
            continue
        if not isinstance(group, dict):
            raise ValueError(f"{place} must be a group of settings, not {_shown(group)}")
        if missing := [each for each in needed if each not in group]:
            raise ValueError(f"{place}: {missing[0]} is missing")
        _check(group, kinds, place)
        if name != "settings" and (unknown := sorted(set(group) - set(kinds))):
            raise ValueError(f"{place}: there is no setting {_shown(unknown[0])}")
    if (needed_for := {"lora": "lora", "delta": "base"}[metadata["kind"]]) not in metadata:
        raise ValueError(f"{where}: {needed_for} is missing")


def _check(config: Mapping[str, Any], kinds: Mapping[str, _Kind], where: str) -> None:
    for setting, kind in kinds.items():
        if setting in config and not kind.fits(config[setting]):
            place = f"{where}: {setting}" if where else setting
            raise ValueError(f"{place} must be {kind.words}, not {_shown(config[setting])}")


def _read(file: Path) -> dict[str, Any]:
    content = load_json_bounded(file, _MOST_BYTES)
    if not isinstance(content, dict):
        raise ValueError(f"{file} must hold a group of settings, {{name: value}}, and not {_shown(content)}")
    return content


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and all(each is None or isinstance(each, str) for each in entry)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
