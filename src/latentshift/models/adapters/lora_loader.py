"""LoRAs of ``LatentShiftPipeline``: loaded, weighed, merged and deleted by diffusers' own mixin.

What is added here: a file is safetensors and for this model, or nothing is changed; and what diffusers or peft would
leave undone, or do to other weights than one thinks, without a word, is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from diffusers.loaders import StableDiffusionXLLoraLoaderMixin
from peft.tuners.tuners_utils import BaseTunerLayer

from latentshift.models.adapters.joint_projections import check_not_fused
from latentshift.models.adapters.library_errors import as_one_sentence
from latentshift.models.adapters.lora_weights import check_own_settings, find_lora_file, read_lora
from latentshift.user_input.argument_types import is_number

_SCALES = "_latentshift_scales"  # of a merged layer: LoRA -> its scale before fuse_lora, and since


class LoraMixin(StableDiffusionXLLoraLoaderMixin):
    """LoRAs of a pipeline with ``unet`` and one or two text encoders."""

    def load_lora_weights(
        self, pretrained_model_name_or_path_or_dict: Any, adapter_name: str | None = None, **kwargs: Any
    ) -> None:
        """Add a LoRA to the U-Net and the text encoders, as diffusers' pipelines do.

        ``set_adapters`` weighs several, ``fuse_lora`` merges them into the weights, ``unload_lora_weights`` removes
        them.

        Args:
            pretrained_model_name_or_path_or_dict: a file with the names of diffusers, kohya's trainers or peft, or of
                latentshift's training; a folder or hub id; or tensors by name.
            adapter_name: a name of your own; None: ``default_0``, ``default_1``, …
            **kwargs: ``weight_name``: of the file in a folder; options of the hub; ``low_cpu_mem_usage`` and
                ``hotswap`` of diffusers.

        Raises:
            ValueError: if it can't be read, is a pickle or no LoRA, was made for another model, or was trained by
                latentshift with other settings than the pipeline's, or projections are joint, or LoRAs merged; nothing
                is changed then.
        """
        source: Any = pretrained_model_name_or_path_or_dict
        check_not_fused(self.unet, "a LoRA")
        self.restore_lora_scales()
        if adapter_name is not None:
            _check_name(adapter_name)
        pipeline: Any = self
        parts = self._lora_parts()
        check_not_merged(parts)
        loading: dict[str, Any] = {
            name: kwargs.pop(name) for name in ("low_cpu_mem_usage", "hotswap") if name in kwargs
        }
        if kwargs.pop("use_safetensors", True) is False:
            raise ValueError("latentshift supports safetensors only: leave use_safetensors at its default")
        if not isinstance(source, dict):
            source = find_lora_file(source, kwargs)
            check_own_settings(source, pipeline)
        config = self.unet.config if self.text_encoder_2 is not None else None  # SDXL's layers have two names
        lora = read_lora(source, parts, lambda given: self.lora_state_dict(given, unet_config=config)[0], kwargs)
        used = self._loaded_adapters()
        if adapter_name in used and not loading.get("hotswap"):
            raise ValueError(f"there is an adapter {adapter_name} already: choose another adapter_name")
        if adapter_name is None:  # one name for all parts, which diffusers would count each by itself
            adapter_name = next(name for number in range(len(used) + 1) if (name := f"default_{number}") not in used)
        options: dict[str, Any] = {
            "adapter_name": adapter_name,
            "metadata": lora.metadata,
            "_pipeline": self,
            **loading,
        }
        active = active_adapters(parts)
        try:
            with as_one_sentence("the LoRA can't be loaded"):
                if any(key.startswith("unet.") for key in lora.tensors):
                    self.load_lora_into_unet(lora.tensors, None, self.unet, **options)
                for name in ("text_encoder", "text_encoder_2"):
                    if any(key.startswith(f"{name}.") for key in lora.tensors):
                        self.load_lora_into_text_encoder(lora.tensors, None, parts[name], prefix=name, **options)
        except BaseException:
            if adapter_name not in used:
                self._remove_adapters([adapter_name], active)
            raise

    def _remove_adapters(self, names: list[str], active: dict[Any, list[str]]) -> None:
        """Remove what a failed call has added, and make the adapters active again that were before it."""
        if not active:
            self.unload_lora_weights()
            return
        super().delete_adapters(names)
        for part in self._lora_parts().values():
            for name in names:  # of a text encoder, diffusers leaves them
                getattr(part, "peft_config", {}).pop(name, None)
        for layer, adapters in active.items():
            layer.set_adapter(adapters)

    def set_adapters(self, adapter_names: list[str] | str, adapter_weights: Any = None) -> None:
        """Make LoRAs active, with weights, as diffusers' pipelines do; all others are not.

        Args:
            adapter_names: of one or several.
            adapter_weights: a finite number for all, or one each; or dicts of these by part (``unet``,
                ``text_encoder``), and in the U-Net by block, as in diffusers. None: 1.

        Raises:
            ValueError: for a name that is not loaded or is there twice, a weight or part that is none, or LoRAs that
                are merged, which weights do not reach; nothing is changed then.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        parts = self._lora_parts()
        self._check_loaded(names)
        check_not_merged(parts)
        self.restore_lora_scales()
        weights = adapter_weights if isinstance(adapter_weights, list) else [adapter_weights] * len(names)
        if len(weights) != len(names):
            raise ValueError(f"there are {len(weights)} weights for {len(names)} adapters: give one each")
        for name, weight in zip(names, weights, strict=True):
            if isinstance(weight, Mapping) and (unknown := sorted(map(str, weight.keys() - parts.keys()))):
                raise ValueError(
                    f"the weights of the adapter {name} are for {', '.join(unknown)}: choose from {', '.join(parts)}"
                )
            if weight is not None:
                check_finite_numbers(weight, f"the weight of the adapter {name}")
        super().set_adapters(names, adapter_weights)

    def delete_adapters(self, adapter_names: list[str] | str) -> None:
        """Remove LoRAs, as diffusers' pipelines do.

        Raises:
            ValueError: for a name that is not loaded or is there twice, or LoRAs that are merged; nothing is changed
                then.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        self._check_loaded(names)
        check_not_merged(self._lora_parts())
        self.restore_lora_scales()
        super().delete_adapters(names)

    def fuse_lora(
        self,
        components: list[str] | None = None,
        lora_scale: float = 1.0,
        safe_fusing: bool = False,
        adapter_names: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Merge LoRAs into the weights, as diffusers' pipelines do; weights shared with another pipeline are copied.

        Args:
            components: the parts; None: all that have LoRAs.
            lora_scale: that the LoRAs' weights are multiplied by.
            safe_fusing: refuse weights that would not be finite.
            adapter_names: of the LoRAs; None: those that are active.
            **kwargs: as in diffusers.

        Raises:
            ValueError: for a name that is not loaded or is there twice, a part that there is not, a scale that is no
                finite number, or another than 1 for LoRAs that are merged; nothing is changed then.
        """
        check_finite_numbers(lora_scale, "lora_scale")
        if adapter_names is not None:
            self._check_loaded(adapter_names)
        names = list(self._lora_parts()) if components is None else components
        if lora_scale != 1:  # peft would scale again what is merged, and then unmerge another product than it added
            check_not_merged({name: part for name, part in self._lora_parts().items() if name in names})
        self.restore_lora_scales()
        pipeline: Any = self
        pipeline.own_weights()
        layers = list(_lora_layers({name: part for name, part in self._lora_parts().items() if name in names}))
        before = {layer: dict(layer.scaling) for layer in layers if lora_scale != 1}
        try:
            super().fuse_lora(names, lora_scale, safe_fusing, adapter_names, **kwargs)
        finally:
            for layer, scaling in before.items():
                for name, value in scaling.items():
                    if name not in layer.merged_adapters:  # diffusers scales those that it does not merge, too
                        layer.scaling[name] = value
                scales = {name: (value, layer.scaling[name]) for name, value in scaling.items()}
                setattr(layer, _SCALES, scales)

    def unfuse_lora(self, components: list[str] | None = None, **kwargs: Any) -> None:
        """Take merged LoRAs out of the weights, as diffusers' pipelines do; they then act as before ``fuse_lora``.

        Args:
            components: the parts; None: all that have LoRAs.
            **kwargs: as in diffusers.
        """
        super().unfuse_lora(list(self._lora_parts()) if components is None else components, **kwargs)
        self.restore_lora_scales()

    def restore_lora_scales(self) -> None:
        """Let LoRAs that are no longer merged count as before ``fuse_lora``, whose ``lora_scale`` diffusers leaves.

        Also where ``unfuse_lora`` was called on a part itself. What was set since then stays.
        """
        for layer in _lora_layers(self._lora_parts()):
            if not layer.merged:
                for name, (before, merged) in vars(layer).pop(_SCALES, {}).items():
                    if layer.scaling.get(name) == merged:
                        layer.scaling[name] = before

    def _lora_parts(self) -> dict[str, Any]:
        """The parts that LoRAs may change, by name; None for one that the pipeline lacks."""
        return {name: getattr(self, name) for name in self._lora_loadable_modules}

    def _loaded_adapters(self) -> set[str]:
        """The names of all LoRAs, whether they act or not."""
        return {name for names in self.get_list_adapters().values() for name in names}

    def _check_loaded(self, names: list[str]) -> None:
        loaded = sorted(self._loaded_adapters())
        there = f"there are {', '.join(loaded)}" if loaded else "none is loaded"
        if not names:
            raise ValueError(f"name an adapter: {there}")
        for name in names:
            if name not in loaded:
                raise ValueError(f"there is no adapter {name!r}: {there}")
            if names.count(name) > 1:
                raise ValueError(f"the adapter {name} is named twice: name it once")


def check_finite_numbers(value: Any, what: str) -> None:
    """Refuse what is no finite number, nor a list or dict of such.

    Args:
        value: to be checked.
        what: it is, the beginning of the sentence.

    Raises:
        ValueError: naming the first that is none.
    """
    if isinstance(value, Mapping):
        for key, each in value.items():
            check_finite_numbers(each, f"{what} in {key}")
    elif isinstance(value, (list, tuple)) and value:
        for each in value:
            check_finite_numbers(each, what)
    elif not is_number(value):
        raise ValueError(f"{what} must be a finite number, not {value!r}")


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not name or "." in name:
        raise ValueError(f"adapter_name must be a word without dots, not {name!r}")


def check_not_merged(parts: Mapping[str, Any]) -> None:
    """Refuse to go on with LoRAs that are merged: peft would undo that, or leave out the others, without a word."""
    for layer in _lora_layers(parts):
        if layer.merged:
            raise ValueError(
                f"LoRAs are merged ({', '.join(layer.merged_adapters)}): call unfuse_lora first, or "
                "unload_lora_weights, which leaves them merged for good"
            )


def active_adapters(parts: Mapping[str, Any]) -> dict[Any, list[str]]:
    """The active adapters of each layer that has any."""
    return {layer: list(layer.active_adapters) for layer in _lora_layers(parts)}


def _lora_layers(parts: Mapping[str, Any]) -> Iterator[Any]:
    for part in parts.values():
        for layer in () if part is None else part.modules():
            if isinstance(layer, BaseTunerLayer):
                yield layer
