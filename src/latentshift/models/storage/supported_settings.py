"""Which settings of a model's U-Net and autoencoder are supported, and in what values.

An allow-list: a setting that is not here has to be off. What depends on other settings is checked in
:mod:`latentshift.models.storage.base_settings`. Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

# Of averaging during training, of storage, of the library: nothing that a forward pass depends on.
_WITHOUT_EFFECT = {
    "decay",
    "dtype",
    "inv_gamma",
    "min_decay",
    "optimization_step",
    "power",
    "quantization_config",
    "update_after_step",
    "use_ema_warmup",
}
OFF = (None, False)


@dataclass(frozen=True)
class SupportedSettings:
    """The supported settings of one class.

    Attributes:
        own: carried out by the class itself, whatever the value.
        fixed: setting -> the values that are supported.
        checked: elsewhere, since which values are supported depends on other settings.
    """

    own: frozenset[str]
    fixed: Mapping[str, tuple[Any, ...]]
    checked: frozenset[str]

    def check(self, config: Mapping[str, Any], where: str) -> None:
        """Raise ValueError for the first setting that is not supported."""
        for setting, value in config.items():
            if setting.startswith("_") or setting in self.own | self.checked | _WITHOUT_EFFECT:
                continue
            allowed = self.fixed.get(setting, OFF)
            values = value if isinstance(value, (list, tuple)) else [value]
            if all(each in allowed for each in values):
                continue
            if setting in self.fixed:
                refuse(where, setting, value, f"supports {' or '.join(map(_shown, allowed))} only")
            refuse(where, setting, value, "does not know this setting")


UNET = SupportedSettings(
    own=frozenset(
        {
            "act_fn",
            "addition_embed_type_num_heads",
            "addition_time_embed_dim",
            "attention_head_dim",
            "block_out_channels",
            "center_input_sample",
            "conv_in_kernel",
            "conv_out_kernel",
            "cross_attention_norm",
            "downsample_padding",
            "dropout",
            "encoder_hid_dim",
            "flip_sin_to_cos",
            "freq_shift",
            "layers_per_block",
            "mid_block_scale_factor",
            "norm_eps",
            "norm_num_groups",
            "num_attention_heads",
            "resnet_out_scale_factor",
            "resnet_skip_time_act",
            "resnet_time_scale_shift",
            "reverse_transformer_layers_per_block",
            "time_cond_proj_dim",
            "time_embedding_act_fn",
            "time_embedding_dim",
            "time_embedding_type",
            "timestep_post_act",
            "transformer_layers_per_block",
            "upcast_attention",
            "use_linear_projection",
        }
    ),
    fixed={
        "addition_embed_type": (None, "text_time"),
        "attention_type": ("default",),
        "class_embed_type": (None,),
        "class_embeddings_concat": (False, None),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        "dual_cross_attention": (False, None),
        "encoder_hid_dim_type": (None, "text_proj"),
        "mid_block_only_cross_attention": (None, False),
        "mid_block_type": ("UNetMidBlock2DCrossAttn", "UNetMidBlock2D", None),
        "num_class_embeds": (None,),
        "only_cross_attention": (False,),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D", "AttnUpBlock2D"),
    },
    checked=frozenset(
        {"cross_attention_dim", "in_channels", "out_channels", "projection_class_embeddings_input_dim", "sample_size"}
    ),
)
VAE = SupportedSettings(
    own=frozenset(
        {
            "act_fn",
            "block_out_channels",
            "down_block_types",
            "force_upcast",
            "latent_channels",
            "layers_per_block",
            "mid_block_add_attention",
            "norm_num_groups",
            "sample_size",
            "scaling_factor",
            "up_block_types",
            "use_post_quant_conv",
            "use_quant_conv",
        }
    ),
    fixed={"in_channels": (3,), "out_channels": (3,), "shift_factor": (None, 0)},
    checked=frozenset({"latents_mean", "latents_std"}),
)


def refuse(where: str, setting: str, value: Any, needs: str, hint: str = "") -> NoReturn:
    """Raise the ValueError for one setting.

    Args:
        where: its file or part.
        setting: its name.
        value: of it.
        needs: what latentshift does or wants instead, from the verb on.
        hint: after the value.
    """
    raise ValueError(f"{where}: {setting} is {_shown(value)}{hint}; latentshift {needs}")


def _shown(value: Any) -> str:
    """A value as in a configuration file, truncated."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
