"""diffusers' loaders and helpers for ``LatentShiftPipeline``: LoRAs, textual inversions, IP-Adapters, FreeU.

The work is done by diffusers' own mixins. What is added here: files are safetensors only; an adapter of another model
is refused, with the pipeline as it was; and a pipeline that shares its weights with another one (``from_pipe``) does
not change the other.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffusers.loaders import StableDiffusionXLLoraLoaderMixin, TextualInversionLoaderMixin
from diffusers.loaders.textual_inversion import load_textual_inversion_state_dicts
from diffusers.pipelines.pipeline_utils import StableDiffusionMixin
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from transformers import CLIPVisionModelWithProjection
from transformers.utils import logging as transformers_logging

from latentshift.error_text import one_line
from latentshift.models.adapters.joint_projections import JOINT, check_can_be_fused, check_not_fused
from latentshift.models.adapters.lora_file import refuse_pickle
from latentshift.models.adapters.lora_weights import check_own_settings, find_lora_file, read_lora
from latentshift.models.denoiser import share_text

_verbosity = transformers_logging.get_verbosity()
transformers_logging.set_verbosity_error()  # without torchvision it warns of other image processors at this import
from diffusers.loaders import IPAdapterMixin  # noqa: E402

transformers_logging.set_verbosity(_verbosity)

_MAX_REASON = 300  # characters of a library's message
_LIBRARY_ERRORS = (
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
)


class LoaderMixin(StableDiffusionMixin, TextualInversionLoaderMixin, StableDiffusionXLLoraLoaderMixin, IPAdapterMixin):
    """Loaders of a pipeline with ``unet``, ``vae``, one or two text encoders, ``image_encoder`` and
    ``feature_extractor``."""

    _own_tokenizers: tuple[int, ...] = ()  # ids of tokenizers that no other pipeline has

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
                latentshift with other settings than the pipeline's, or projections are joint; nothing is changed then.
        """
        source: Any = pretrained_model_name_or_path_or_dict
        check_not_fused(self.unet, "a LoRA")
        pipeline: Any = self
        parts = {name: getattr(self, name) for name in self._lora_loadable_modules}
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
        used = {name for names in self.get_list_adapters().values() for name in names}
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
        active = _active_adapters(parts)
        try:
            with _as_one_sentence("the LoRA can't be loaded"):
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
        self.delete_adapters(names)
        for part in (getattr(self, name) for name in self._lora_loadable_modules):
            for name in names:  # of a text encoder, diffusers leaves them
                getattr(part, "peft_config", {}).pop(name, None)
        for layer, adapters in active.items():
            layer.set_adapter(adapters)

    def fuse_lora(self, *args: Any, **kwargs: Any) -> None:
        """Merge LoRAs into the weights, as diffusers' pipelines do; weights shared with another pipeline are copied."""
        self.own_weights()
        super().fuse_lora(*args, **kwargs)

    def load_textual_inversion(
        self, pretrained_model_name_or_path: Any, token: str | list[str] | None = None, **kwargs: Any
    ) -> None:
        """Add learned words to a tokenizer and its text encoder, as diffusers' pipelines do.

        Args:
            pretrained_model_name_or_path: a ``.safetensors`` file, a folder or a hub id; a tensor, or tensors by name;
                or a list of these.
            token: the word; needed where a file does not name it.
            **kwargs: ``tokenizer`` and ``text_encoder``, of SDXL's second encoder say; ``weight_name``; options of the
                hub.

        Raises:
            ValueError: for a pickle, an embedding of another width, a word that is known already, or a file that can't
                be read; nothing is changed then.
        """
        sources = pretrained_model_name_or_path
        sources = sources if isinstance(sources, list) else [sources]
        tokens: list[str | None] = [*token] if isinstance(token, list) else [token] * len(sources)
        places = {name: kwargs.pop(name, None) or getattr(self, name) for name in ("tokenizer", "text_encoder")}
        for each in sources:
            if isinstance(each, (str, Path)):
                refuse_pickle(each)
        if kwargs.get("weight_name") is not None:
            kwargs["weight_name"] = _safetensors_name(kwargs["weight_name"], "the textual inversion")
        with _as_one_sentence("the textual inversion can't be loaded"):
            states = load_textual_inversion_state_dicts(
                [str(each) if isinstance(each, Path) else each for each in sources],
                **{**kwargs, "use_safetensors": True},
            )
        _check_words(states, tokens, places["text_encoder"])
        places["tokenizer"] = self._own_tokenizer(places["tokenizer"])
        with _as_one_sentence("the textual inversion can't be loaded"):
            super().load_textual_inversion(states, token, **places)

    def unload_textual_inversion(
        self, tokens: str | list[str] | None = None, tokenizer: Any = None, text_encoder: Any = None
    ) -> None:
        """Remove learned words, all or some, as diffusers' pipelines do.

        Raises:
            ValueError: for a word that was not loaded; nothing is changed then.
        """
        encoder, tokenizer = text_encoder or self.text_encoder, tokenizer or self.tokenizer
        learned = {each.content for each in tokenizer.added_tokens_decoder.values() if not each.special}
        for word in [tokens] if isinstance(tokens, str) else tokens or ():
            if word not in learned:
                raise ValueError(
                    f"{word!r} is no learned word of this tokenizer: it has {', '.join(sorted(learned)) or 'none'}"
                )
        super().unload_textual_inversion(tokens, self._own_tokenizer(tokenizer), encoder)
        encoder.config.vocab_size = len(encoder.get_input_embeddings().weight)

    def _own_tokenizer(self, tokenizer: Any) -> Any:
        """A tokenizer that may be changed: a copy, if the pipeline shares it with another one."""
        if not self._shares_weights or id(tokenizer) in self._own_tokenizers:
            return tokenizer
        own = copy.deepcopy(tokenizer)
        self._own_tokenizers = (*self._own_tokenizers, id(own))
        for name in ("tokenizer", "tokenizer_2"):
            if getattr(self, name) is tokenizer:
                self.register_modules(**{name: own})
        return own

    def load_ip_adapter(
        self,
        pretrained_model_name_or_path_or_dict: Any,
        subfolder: str | list[str] = "",
        weight_name: str | list[str] = "",
        image_encoder_folder: str | None = "image_encoder",
        **kwargs: Any,
    ) -> None:
        """Load one or several IP-Adapters into the U-Net, and their image encoder, as diffusers' pipelines do.

        A call then takes ``ip_adapter_image``, and each frame can have its own. ``set_ip_adapter_scale`` and
        ``unload_ip_adapter`` are diffusers' own.

        Args:
            pretrained_model_name_or_path_or_dict: a folder or hub id, or tensors by name; or a list of these.
            subfolder: of the file in it.
            weight_name: the ``.safetensors`` file; or a list of several.
            image_encoder_folder: of the image encoder; None: none is loaded, and calls take
                ``ip_adapter_image_embeds``.
            **kwargs: options of the hub, and ``low_cpu_mem_usage``.

        Raises:
            ValueError: for a pickle, an adapter of another model, a file that can't be read, or joint projections; the
                pipeline is left as it was.
        """
        source: Any = pretrained_model_name_or_path_or_dict
        check_not_fused(self.unet, "an IP-Adapter")
        sources = source if isinstance(source, list) else [source]
        for each in sources:
            if isinstance(each, dict):
                continue
            for name in weight_name if isinstance(weight_name, list) else [weight_name]:
                _safetensors_name(name, "the IP-Adapter")
        paths = [str(each) if isinstance(each, Path) else each for each in sources]
        before = {name: getattr(self, name) for name in ("image_encoder", "feature_extractor")}
        unet, processors = self.unet, self.unet.attn_processors
        projection, kind = unet.encoder_hid_proj, unet.config.encoder_hid_dim_type
        adapters = {name for names in self.get_list_adapters().values() for name in names}
        active = _active_adapters({name: getattr(self, name) for name in self._lora_loadable_modules})
        try:
            if image_encoder_folder is not None and self.image_encoder is None:
                below = subfolder[0] if isinstance(subfolder, list) else subfolder
                self._load_image_encoder(paths[0], below, image_encoder_folder, kwargs)
            with _as_one_sentence("the IP-Adapter can't be loaded, or is for another model"):
                super().load_ip_adapter(paths, subfolder, weight_name, None, **kwargs)
        except BaseException:
            unet.set_attn_processor(processors)
            unet.encoder_hid_proj, unet.config.encoder_hid_dim_type = projection, kind
            self.register_modules(**before)
            added = {name for names in self.get_list_adapters().values() for name in names} - adapters
            if added:  # the LoRAs of a FaceID adapter
                self._remove_adapters(sorted(added), active)
            raise

    def _load_image_encoder(self, source: Any, subfolder: str | None, folder: str, options: dict[str, Any]) -> None:
        """Load the image encoder from safetensors; diffusers would take a pickle where there is nothing else.

        Args:
            source: the IP-Adapter's folder or hub id.
            subfolder: of the adapter's file, in which ``folder`` is, unless it has a slash.
            folder: of the image encoder.
            options: of the hub.
        """
        if isinstance(source, dict):
            raise ValueError("the IP-Adapter's tensors by name have no image encoder: give image_encoder_folder=None")
        place = folder if "/" in folder else Path(subfolder or "", folder).as_posix()
        hub = ("cache_dir", "force_download", "local_files_only", "token", "revision")
        with _as_one_sentence(f"the IP-Adapter's image encoder {place} can't be loaded as safetensors"):
            encoder: Any = CLIPVisionModelWithProjection.from_pretrained(
                source,
                subfolder=place,
                use_safetensors=True,
                dtype=self.dtype,
                **{name: options[name] for name in hub if options.get(name) is not None},
            )
        self.register_modules(image_encoder=encoder.to(self.device))

    def unload_ip_adapter(self) -> None:
        """Remove all IP-Adapters, as diffusers' pipelines do."""
        super().unload_ip_adapter()
        share_text(self.unet)

    def fuse_qkv_projections(self, unet: bool = True, vae: bool = True) -> None:
        """Let attention make queries, keys and values at once, as diffusers' pipelines do.

        Raises:
            ValueError: for a U-Net with LoRAs in its attention, or with IP-Adapters, which would have no effect.
        """
        if unet:
            check_can_be_fused(self.unet)
        super().fuse_qkv_projections(unet, vae)

    def unfuse_qkv_projections(self, unet: bool = True, vae: bool = True) -> None:
        """Undo :meth:`fuse_qkv_projections`, and remove the joint projections, which diffusers keeps."""
        super().unfuse_qkv_projections(unet, vae)
        for part, undone in ((self.unet, unet), (self.vae, vae)):
            for layer in part.modules() if undone else ():
                for name in JOINT:
                    if hasattr(layer, name):
                        delattr(layer, name)

    def enable_vae_slicing(self) -> None:
        """Let the autoencoder take one frame at a time."""
        self.vae.enable_slicing()

    def disable_vae_slicing(self) -> None:
        """Let the autoencoder take all frames that it is given at once."""
        self.vae.disable_slicing()

    def enable_vae_tiling(self) -> None:
        """Let the autoencoder take frames in tiles, which overlap: for large frames; seams may be seen."""
        self.vae.enable_tiling()

    def disable_vae_tiling(self) -> None:
        """Let the autoencoder take whole frames."""
        self.vae.disable_tiling()


@contextmanager
def _as_one_sentence(what: str) -> Iterator[None]:
    """Convert what a library raises for a wrong file to a ValueError of one line."""
    try:
        yield
    except _LIBRARY_ERRORS as error:
        raise ValueError(f"{what}: {one_line(error)[:_MAX_REASON]}") from None


def _check_words(states: list[Any], tokens: list[str | None], encoder: Any) -> None:
    """Refuse embeddings of another width than the text encoder's, and files that do not name their word."""
    width = encoder.get_input_embeddings().weight.shape[-1]
    for state, token in zip(states, tokens, strict=False):
        if not isinstance(state, dict):
            values = [state]
        elif "string_to_param" in state:
            values = list(state["string_to_param"].values())
        elif len(state) != 1:
            raise ValueError(
                f"the textual inversion has {len(state)} tensors ({', '.join(sorted(state)[:3])}): load one of them, "
                "load_textual_inversion(tensors[name], token=…), into the text encoder that it is for"
            )
        elif token is None and "emb_params" in state:
            raise ValueError("the textual inversion does not name its word: give token")
        else:
            values = list(state.values())
        for value in values:
            if value.shape[-1] != width:
                raise ValueError(
                    f"the textual inversion is for another text encoder: it is {value.shape[-1]} wide, and the "
                    f"encoder's embeddings are {width}"
                )


def _safetensors_name(name: str | Path, what: str) -> str:
    """The name of a weight file, of which diffusers opens all but ``.safetensors`` as pickles."""
    refuse_pickle(name)
    if not str(name).endswith(".safetensors"):
        raise ValueError(f"weight_name must be {what}'s .safetensors file, not {str(name)!r}")
    return str(name)


def _active_adapters(parts: Mapping[str, Any]) -> dict[Any, list[str]]:
    """The active adapters of each layer that has any."""
    return {
        layer: list(layer.active_adapters)
        for part in parts.values()
        if part is not None
        for layer in part.modules()
        if isinstance(layer, BaseTunerLayer)
    }
