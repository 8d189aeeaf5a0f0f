"""Which values each setting in a saved model's configuration files may have: types, ranges and words.

Imports neither torch nor diffusers. Which of these values are supported is decided in
:mod:`latentshift.models.storage.base_settings`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from latentshift.settings import (
    BLOCKS,
    DIRECTIONS,
    MAX_FPS,
    MAX_FRAMES,
    MAX_NOISE_SHARE,
    MIN_FOLD,
    PADDINGS,
    PLACES,
)

_MAX_LEVELS = 16  # of a U-Net or autoencoder: each halves the sides


@dataclass(frozen=True)
class Constraint:
    """The allowed values of a setting.

    Attributes:
        words: that, for a message.
        fits: whether a value is one of them.
    """

    words: str
    fits: Callable[[Any], bool]

    def or_null(self) -> Constraint:
        """It, or JSON's null."""
        return Constraint(f"{self.words}, or null", lambda value: value is None or self.fits(value))

    def or_list(self, longest: int = _MAX_LEVELS) -> Constraint:
        """It, or a list of 1 … ``longest`` such."""
        several = self.listed(longest)
        return Constraint(
            f"{self.words}, or a list of up to {longest:,} such", lambda value: self.fits(value) or several.fits(value)
        )

    def listed(self, longest: int = _MAX_LEVELS) -> Constraint:
        """A list of 1 … ``longest`` such."""

        def fits(values: Any) -> bool:
            return isinstance(values, (list, tuple)) and 1 <= len(values) <= longest and all(map(self.fits, values))

        return Constraint(f"a list of 1 to {longest:,} values, each {self.words}", fits)


def _integer(least: int, most: int) -> Constraint:
    return Constraint(
        f"a whole number from {least:,} to {most:,}", lambda value: type(value) is int and least <= value <= most
    )


def _number(least: float, most: float) -> Constraint:
    def fits(value: Any) -> bool:
        return type(value) in (int, float) and math.isfinite(value) and least <= value <= most

    return Constraint(f"a number from {least:,} to {most:,}", fits)


def _one_of(*words: str) -> Constraint:
    return Constraint(f"one of {', '.join(words)}", lambda value: isinstance(value, str) and value in words)


_YES_NO = Constraint("true or false", lambda value: type(value) is bool)
_FLAG = Constraint("true or false", lambda value: value is None or type(value) is bool)  # null is false in many files
_WORD = Constraint("a word", lambda value: isinstance(value, str) and len(value) <= 200)
_WIDTH, _COUNT, _KERNEL = _integer(1, 2**20), _integer(1, 4096), _integer(1, 31)
_SHARE, _FACTOR, _SCALE = _number(0, 1), _number(-1e6, 1e6), _number(1e-6, 1e6)
_TOKEN = _integer(-1, 2**31)
_DTYPE = _one_of("float64", "float32", "float16", "bfloat16", "auto").or_null()

PIPELINE = {
    "_class_name": _WORD,
    "num_frames": _integer(1, MAX_FRAMES),
    "fps": _number(1e-3, MAX_FPS),
    "guidance_scale": _number(0, 1e6),
    "num_inference_steps": _integer(1, 10**6),
    "noise_share": _number(0, MAX_NOISE_SHARE),
    "force_zeros_for_empty_prompt": _FLAG,
    "requires_safety_checker": _YES_NO,
    "shift": Constraint("a group of settings, or null", lambda value: value is None or isinstance(value, Mapping)),
}
SHIFT = {
    "blocks": _one_of(*BLOCKS),
    "direction": _one_of(*DIRECTIONS),
    "fold": _integer(MIN_FOLD, 2**20),
    "padding": _one_of(*PADDINGS),
    "place": _one_of(*PLACES),
}
UNET = {
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
    "downsample_padding": _integer(0, 1),
    "dropout": _SHARE,
    "dual_cross_attention": _FLAG,
    "encoder_hid_dim": _WIDTH.or_null(),
    "encoder_hid_dim_type": _WORD.or_null(),
    "flip_sin_to_cos": _FLAG,
    "freq_shift": _FACTOR,
    "in_channels": _COUNT,
    "layers_per_block": _integer(1, 64).or_list(),
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
    "reverse_transformer_layers_per_block": _integer(1, 256).or_list().listed().or_null(),
    "sample_size": _COUNT.or_list(2),
    "time_cond_proj_dim": _WIDTH.or_null(),
    "time_embedding_act_fn": _WORD.or_null(),
    "time_embedding_dim": _WIDTH.or_null(),
    "time_embedding_type": _one_of("positional", "fourier"),
    "timestep_post_act": _WORD.or_null(),
    "transformer_layers_per_block": _integer(1, 256).or_list().or_list(),
    "up_block_types": _WORD.listed(),
    "upcast_attention": _FLAG,
    "use_linear_projection": _FLAG,
}
VAE = {
    "act_fn": _WORD,
    "block_out_channels": _WIDTH.listed(),
    "down_block_types": _WORD.listed(),
    "force_upcast": _FLAG,
    "in_channels": _COUNT,
    "latent_channels": _COUNT,
    "latents_mean": _FACTOR.listed(4096).or_null(),
    "latents_std": _FACTOR.listed(4096).or_null(),
    "layers_per_block": _integer(1, 64),
    "mid_block_add_attention": _FLAG,
    "norm_num_groups": _COUNT,
    "out_channels": _COUNT,
    "sample_size": _integer(1, 2**16).or_list(2),
    "scaling_factor": _SCALE,
    "shift_factor": _FACTOR.or_null(),
    "up_block_types": _WORD.listed(),
    "use_post_quant_conv": _FLAG,
    "use_quant_conv": _FLAG,
}
TEXT_ENCODER = {
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
    "encoder_layers": _integer(1, 256),
    "eos_token_id": _TOKEN,
    "head_dim": _WIDTH,
    "hidden_act": _WORD,
    "hidden_size": _WIDTH,
    "init_std": _FACTOR,
    "initializer_factor": _FACTOR,
    "initializer_range": _FACTOR,
    "intermediate_size": _WIDTH,
    "layer_norm_eps": _SHARE,
    "max_position_embeddings": _integer(1, 2**16),
    "num_attention_heads": _COUNT,
    "num_hidden_layers": _integer(1, 256),
    "pad_token_id": _TOKEN.or_null(),
    "projection_dim": _integer(0, 2**20).or_null(),
    "scale_embedding": _FLAG,
    "torch_dtype": _DTYPE,
    "use_cache": _FLAG,
    "vocab_size": _integer(1, 2**24),
}
BERT = {**TEXT_ENCODER, "eos_token_id": _TOKEN.or_null()}  # which ends nothing with it
TOKENIZER = {
    "do_lower_case": _YES_NO,
    # Tokenizers that know no bound say 10^30.
    "model_max_length": Constraint(
        "a whole number of 1 or more",
        lambda value: (type(value) is int and value >= 1) or (type(value) is float and value >= 1e6),
    ),
    "strip_accents": _FLAG,
    "tokenize_chinese_chars": _YES_NO,
    "tokenizer_class": _WORD.or_null(),
}
TEMPORAL = {
    "heads": _COUNT.listed(4096),
    "max_distance": _integer(1, 2**16),
    "widths": _WIDTH.listed(4096),
}
_LEVEL = _number(1e-9, 1)
_SIGMA = _number(0, 1e6).or_null()
SCHEDULER = {
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
    "lambda_min_clipped": Constraint("a number", lambda value: type(value) is float or _FACTOR.fits(value)),
    "lower_order_final": _FLAG,
    "num_train_timesteps": _integer(1, 100_000),
    "original_inference_steps": _integer(1, 100_000),
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
    "solver_order": _integer(1, 16),
    "solver_type": _one_of("midpoint", "heun", "bh1", "bh2", "logrho"),
    "steps_offset": _integer(0, 1000),
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
_GROUP = Constraint("a group of settings", lambda value: isinstance(value, Mapping))
ADAPTER = {
    "base": _WORD,
    "base_prediction_type": SCHEDULER["prediction_type"],
    "kind": _one_of("lora", "delta"),
    "lora": _GROUP,
    "settings": _GROUP,
    "temporal": _GROUP.or_null(),
}
ADAPTER_SETTINGS = {
    **{name: PIPELINE[name] for name in ("fps", "guidance_scale", "noise_share", "num_frames", "shift")},
    "prediction_type": SCHEDULER["prediction_type"],
    "sample_size": _COUNT,
}
LORA = {
    "alpha": _SCALE.or_null(),
    "dropout": _SHARE,
    "rank": _COUNT,
    "targets": _WORD.listed(4096),
}
# The parts' folders, under our names and those of the paper's pipeline.
PARTS: dict[str, tuple[str, Mapping[str, Constraint]]] = {
    "unet": ("config.json", UNET),
    "vae": ("config.json", VAE),
    "vqvae": ("config.json", VAE),
    "text_encoder": ("config.json", TEXT_ENCODER),
    "text_encoder_2": ("config.json", TEXT_ENCODER),
    "bert": ("config.json", TEXT_ENCODER),
    "temporal": ("config.json", TEMPORAL),
    "scheduler": ("scheduler_config.json", SCHEDULER),
    "tokenizer": ("tokenizer_config.json", TOKENIZER),
    "tokenizer_2": ("tokenizer_config.json", TOKENIZER),
}
