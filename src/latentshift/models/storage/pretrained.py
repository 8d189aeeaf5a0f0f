"""Loading, saving and sharing of weights for ``LatentShiftPipeline``.

A folder of ours, a stock image pipeline (folder, hub id or loaded) and a single file in the model's original layout all
become a video pipeline.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import DiffusionPipeline
from torch import nn

from latentshift.models.storage.model_paths import class_name
from latentshift.models.storage.saved_settings import saved_setting
from latentshift.models.video_components import VideoComponents
from latentshift.shift import shift_of

# Not of image pipelines.
_SETTINGS = ("shift", "num_frames", "fps", "guidance_scale", "num_inference_steps", "noise_share")


class PretrainedPipeline(VideoComponents):
    """The base of ``LatentShiftPipeline``, whose ``__init__`` says which components and settings there are."""

    _shares_weights = False

    def own_weights(self) -> None:
        """Copy the weights shared by :meth:`from_pipe`, so that changes no longer affect the other pipeline."""
        from latentshift.models.storage.shared_weights import copy_weights

        if self._shares_weights:
            parts = {name: part for name, part in self.components.items() if isinstance(part, nn.Module)}
            temporal: Any = parts.pop("temporal", None)
            self.register_modules(**{name: copy_weights(part) for name, part in parts.items()})
            self.set_temporal(None if temporal is None else copy_weights(temporal))
            self.register_modules(tokenizer=deepcopy(self.tokenizer), tokenizer_2=deepcopy(self.tokenizer_2))
            self._shares_weights = False

    def save_pretrained(self, save_directory: str | Path, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Save to a folder that :meth:`from_pretrained` loads.

        Args:
            save_directory: the folder.
            safe_serialization: must be true: only safetensors are supported.
            **kwargs: diffusers' own (``variant``, ``max_shard_size``, …).

        Raises:
            ValueError: if the folder could not be loaded again, as with an unmerged LoRA; nothing is written then.
        """
        from latentshift.models.storage.check_saveable import check_saveable

        if not safe_serialization:
            raise ValueError("latentshift supports safetensors only: leave safe_serialization at its default")
        check_saveable({name: part for name, part in self.components.items() if isinstance(part, nn.Module)})
        super().save_pretrained(save_directory, **kwargs)

    @classmethod
    def _dict_from_json_file(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        # A folder's own code, which `latentshift export --to diffusers` writes, is not run: this class is the same.
        config: dict[str, Any] = super()._dict_from_json_file(*args, **kwargs)
        return {**config, "_class_name": class_name(config)} if "_class_name" in config else config

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """Load a latentshift folder, or convert a stock image pipeline (folder or hub id) to a video pipeline.

        A latentshift folder is loaded as it was saved. From an ``LDMTextToImagePipeline``, a
        ``StableDiffusionPipeline`` or a ``StableDiffusionXLPipeline`` the autoencoder, text encoders, tokenizers and
        U-Net are taken, the shift is installed, and the scheduler becomes the paper's DDPM with the base's own
        schedule, unless the base needs its own scheduler (EDM, flow matching, consistency models).

        Args:
            pretrained_model_name_or_path: a folder, or the hub id of one.
            **kwargs: diffusers' own (``dtype``, float32 by default, ``variant``, …); and for an image pipeline
                ``shift``, ``num_frames``, ``fps``, ``guidance_scale``, ``num_inference_steps`` and ``noise_share``.

        Raises:
            ValueError: for an unknown family (the message lists the known ones), a component with an unsupported
                setting, or missing weights or tokenizer files.
        """
        from latentshift.models.storage.load_pipeline import find_saved_pipeline, load_image_components, loading_options

        options = loading_options(kwargs)
        saved = find_saved_pipeline(str(pretrained_model_name_or_path), cls, options)
        if saved.family is None:
            return saved.load(super().from_pretrained, options)
        settings = {name: options.pop(name) for name in _SETTINGS if name in options}
        return cls(**load_image_components(saved, saved.family, options), **settings)

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **kwargs: Any) -> Self:
        """A video pipeline with the components of a loaded pipeline, which is not changed.

        Weights are shared, so it takes no extra memory, and moving either pipeline to another device or dtype moves
        both, as with diffusers' ``from_pipe``. The U-Net is a new module around the same weights, and the scheduler is
        a copy: shift, temporal layers and settings of the new pipeline do not affect the other.

        An image pipeline of a latentshift pipeline's parts, by its ``from_pipe`` or from its folder, gives that one's
        settings back: frames meet, and share noise, as the model was trained.

        Args:
            pipeline: an image pipeline of a known family, or a latentshift pipeline.
            **kwargs: components and settings that replace the pipeline's; and ``dtype``: if it differs from the
                pipeline's, the weights are copied.

        Raises:
            ValueError: if a component is missing, the weights are offloaded (``enable_model_cpu_offload``), or an image
                pipeline was made of a model with temporal layers, which it does not have.
            TypeError: for an unknown keyword.
        """
        from latentshift.models.storage.shared_weights import share_components

        dtype = kwargs.pop("dtype", kwargs.pop("torch_dtype", None))
        expected, settings = cls._get_signature_keys(cls)
        required = {name for name in set(expected) - set(cls._optional_components) if kwargs.get(name) is None}
        parts = share_components(pipeline, set(expected) - set(kwargs), required, dtype)
        if parts.get("image_encoder") is None:
            parts.pop("feature_extractor", None)  # an image pipeline's is its safety checker's then
        missing = object()
        saved = {name: saved_setting(pipeline, name, missing) for name in settings if name not in kwargs}
        kept = {name: value for name, value in saved.items() if value is not missing}
        if parts.get("temporal") is None and not kwargs.keys() & {"shift", "temporal"}:
            if any(saved_setting(pipeline, "temporal", None) or ()):
                raise ValueError(
                    f"frames meet in this model by temporal layers, which a {type(pipeline).__name__} does not have: "
                    "load it with LatentShiftPipeline.from_pretrained, or say shift=…, which replaces them"
                )
            if "unet" in parts and (installed := shift_of(parts["unet"])) is not None:
                kept["shift"] = installed.to_dict()
        video = cls(**parts, **kept, **kwargs)
        video._shares_weights = True
        if (source := pipeline.config.get("_name_or_path")) is not None:
            video.register_to_config(_name_or_path=source)
        return video

    @classmethod
    def from_single_file(
        cls,
        path: str | Path,
        *,
        family: str | None = None,
        tokenizer: str | None = None,
        average: bool = True,
        dtype: torch.dtype = torch.float32,
        **settings: Any,
    ) -> Self:
        """Load a video pipeline from a single ``.safetensors`` file in the model's original layout.

        Args:
            path: of the file; SD 1.x, SD 2.x, SDXL, or the paper's LDM.
            family: ``"sd2"`` (v-prediction) or ``"sd2-base"``, whose tensors are alike; None: detected from the
                tensors.
            tokenizer: folder or hub id, since the file has none; None: the family's on the hub.
            average: use the U-Net's averaged (EMA) weights if the file has them.
            dtype: of the weights.
            **settings: of the class, e.g. ``shift`` and ``num_frames``.

        Raises:
            ValueError: if the file can't be read or is of no known family, or the tokenizer can't be loaded.
        """
        from latentshift.models.storage.convert_checkpoint import load_original_checkpoint

        parts = load_original_checkpoint(Path(path), family, tokenizer, average=average)
        return cls(**{**parts, **settings}).to(dtype)
