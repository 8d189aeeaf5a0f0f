"""diffusers' loaders and helpers for ``LatentShiftPipeline``: textual inversions, IP-Adapters, FreeU; and LoRAs
(:mod:`latentshift.models.adapters.lora_loader`).

The work is done by diffusers' own mixins. What is added here: files are safetensors only; an adapter of another model
is refused, with the pipeline as it was; and a pipeline that shares its weights with another one (``from_pipe``) does
not change the other.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

from diffusers.loaders import TextualInversionLoaderMixin
from diffusers.loaders.textual_inversion import load_textual_inversion_state_dicts
from diffusers.pipelines.pipeline_utils import StableDiffusionMixin
from transformers import CLIPVisionModelWithProjection
from transformers.utils import logging as transformers_logging

from latentshift.files import missing_file
from latentshift.models.adapters.ip_adapter import adapter_layers, adapter_tensors, check_adapter_fits
from latentshift.models.adapters.joint_projections import JOINT, check_can_be_fused, check_not_fused
from latentshift.models.adapters.library_errors import as_one_sentence
from latentshift.models.adapters.lora_file import tensor_shapes
from latentshift.models.adapters.lora_loader import LoraMixin, active_adapters, check_finite_numbers, check_not_merged
from latentshift.models.adapters.lora_weights import check_tensors_finite, is_hub_id
from latentshift.models.denoiser import share_text
from latentshift.models.storage.safetensors_header import refuse_pickle

_verbosity = transformers_logging.get_verbosity()
transformers_logging.set_verbosity_error()  # without torchvision it warns of other image processors at this import
from diffusers.loaders import IPAdapterMixin  # noqa: E402

transformers_logging.set_verbosity(_verbosity)


class LoaderMixin(StableDiffusionMixin, TextualInversionLoaderMixin, LoraMixin, IPAdapterMixin):
    """Loaders of a pipeline with ``unet``, ``vae``, one or two text encoders, ``image_encoder`` and
    ``feature_extractor``."""

    _own_tokenizers: tuple[int, ...] = ()  # ids of tokenizers that no other pipeline has

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
            ValueError: for a pickle, an embedding of another width or that is not finite, a word that is known already,
                or a file that can't be read; nothing is changed then.
        """
        sources = pretrained_model_name_or_path
        sources = sources if isinstance(sources, list) else [sources]
        tokens: list[str | None] = [*token] if isinstance(token, list) else [token] * len(sources)
        places = {name: kwargs.pop(name, None) or getattr(self, name) for name in ("tokenizer", "text_encoder")}
        for each in sources:
            if isinstance(each, (str, Path)):
                refuse_pickle(each)
                _check_there(each)
        if kwargs.get("weight_name") is not None:
            kwargs["weight_name"] = _safetensors_name(kwargs["weight_name"], "the textual inversion")
        with as_one_sentence("the textual inversion can't be loaded"):
            states = load_textual_inversion_state_dicts(
                [str(each) if isinstance(each, Path) else each for each in sources],
                **{**kwargs, "use_safetensors": True},
            )
        _check_words(states, tokens, places["text_encoder"])
        places["tokenizer"] = self._own_tokenizer(places["tokenizer"])
        with as_one_sentence("the textual inversion can't be loaded"):
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

        A call then takes ``ip_adapter_image``, and each frame can have its own. LoRAs that act go on acting beside
        those that a FaceID adapter brings, ``faceid_0``, ….

        Args:
            pretrained_model_name_or_path_or_dict: a folder or hub id, or tensors by name; or a list of these.
            subfolder: of the file in it.
            weight_name: the ``.safetensors`` file; or a list of several.
            image_encoder_folder: of the image encoder; None: none is loaded, and calls take
                ``ip_adapter_image_embeds``.
            **kwargs: options of the hub, and ``low_cpu_mem_usage``.

        Raises:
            ValueError: for a pickle, an adapter of another model, a file that can't be read, joint projections, or
                LoRAs that an earlier FaceID adapter brought; the pipeline is left as it was.
        """
        source: Any = pretrained_model_name_or_path_or_dict
        check_not_fused(self.unet, "an IP-Adapter")
        if earlier := self._faceid_loras():  # diffusers would keep them in place of the new ones
            raise ValueError(f"an IP-Adapter FaceID is loaded ({', '.join(earlier)}): call unload_ip_adapter first")
        sources = source if isinstance(source, list) else [source]
        names = weight_name if isinstance(weight_name, list) else [weight_name] * len(sources)
        folders = subfolder if isinstance(subfolder, list) else [subfolder] * len(names)
        for each in sources:
            if isinstance(each, dict):
                check_adapter_fits(each, self.unet, "the IP-Adapter")
                continue
            _check_there(each)
            for name, folder in zip(names, folders, strict=False):
                file = Path(each, folder or "", _safetensors_name(name, "the IP-Adapter"))
                refuse_pickle(file)
                if file.is_file() and len(sources) == 1:
                    check_adapter_fits(tensor_shapes(file), self.unet, str(file))
        paths = [str(each) if isinstance(each, Path) else each for each in sources]
        before = {name: getattr(self, name) for name in ("image_encoder", "feature_extractor")}
        unet, processors = self.unet, self.unet.attn_processors
        projection, kind = unet.encoder_hid_proj, unet.config.encoder_hid_dim_type
        adapters = self._loaded_adapters()
        active = active_adapters(self._lora_parts())
        try:
            if image_encoder_folder is not None and self.image_encoder is None:
                below = subfolder[0] if isinstance(subfolder, list) else subfolder
                self._load_image_encoder(paths[0], below, image_encoder_folder, kwargs)
            with as_one_sentence("the IP-Adapter can't be loaded, or is for another model"):
                super().load_ip_adapter(paths, subfolder, weight_name, None, **kwargs)
            check_tensors_finite(adapter_tensors(unet), "the IP-Adapter")
            if brought := self._faceid_loras():  # which diffusers lets act alone
                acting = list(dict.fromkeys(name for names in active.values() for name in names))
                for layer in active_adapters(self._lora_parts()):
                    layer.set_adapter([*active.get(layer, acting), *brought])
        except BaseException:
            unet.set_attn_processor(processors)
            unet.encoder_hid_proj, unet.config.encoder_hid_dim_type = projection, kind
            self.register_modules(**before)
            added = self._loaded_adapters() - adapters
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
        with as_one_sentence(f"the IP-Adapter's image encoder {place} can't be loaded as safetensors"):
            encoder: Any = CLIPVisionModelWithProjection.from_pretrained(
                source,
                subfolder=place,
                use_safetensors=True,
                dtype=self.dtype,
                **{name: options[name] for name in hub if options.get(name) is not None},
            )
        self.register_modules(image_encoder=encoder.to(self.device))

    def set_ip_adapter_scale(self, scale: Any) -> None:
        """Weigh IP-Adapters, as diffusers' pipelines do.

        Args:
            scale: a finite number, or numbers by block as in diffusers; with several adapters a list of these.

        Raises:
            ValueError: for anything else, or if no adapter is loaded; nothing is changed then.
        """
        check_finite_numbers(scale, "the scale of an IP-Adapter")
        if adapter_layers(self.unet) is None:
            raise ValueError("no IP-Adapter is loaded that a scale could be of: call load_ip_adapter first")
        super().set_ip_adapter_scale(scale)

    def enable_freeu(self, s1: float, s2: float, b1: float, b2: float) -> None:
        """Let the U-Net's skip connections count less and its backbone more, as diffusers' pipelines do (FreeU).

        Raises:
            ValueError: for a factor that is no finite number.
        """
        for name, value in {"s1": s1, "s2": s2, "b1": b1, "b2": b2}.items():
            check_finite_numbers(value, f"FreeU's {name}")
        super().enable_freeu(s1, s2, b1, b2)

    def unload_ip_adapter(self) -> None:
        """Remove all IP-Adapters, as diffusers' pipelines do, and the LoRAs that FaceID adapters brought.

        Raises:
            ValueError: if these are merged; nothing is changed then.
        """
        if loras := self._faceid_loras():
            check_not_merged(self._lora_parts())
            acting = active_adapters(self._lora_parts())
            others = {layer: [name for name in names if name not in loras] for layer, names in acting.items()}
            loaded = self._loaded_adapters()
            self._remove_adapters(loras, others if loaded - set(loras) else {})
        super().unload_ip_adapter()
        share_text(self.unet)

    def _faceid_loras(self) -> list[str]:
        """The adapters that diffusers has made of FaceID's LoRAs, by the names that it gives them."""
        loaded = self._loaded_adapters()
        return sorted(name for name in loaded if re.fullmatch(r"faceid_\d+", name))

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
        check_tensors_finite({str(number): value for number, value in enumerate(values)}, "the textual inversion")


def _safetensors_name(name: str | Path, what: str) -> str:
    """The name of a weight file, of which diffusers opens all but ``.safetensors`` as pickles."""
    refuse_pickle(name)
    if not str(name).endswith(".safetensors"):
        raise ValueError(f"weight_name must be {what}'s .safetensors file, not {str(name)!r}")
    return str(name)


def _check_there(source: str | Path) -> None:
    """Refuse a file or folder that is not there, which diffusers would look for on the hub."""
    if not Path(source).exists() and not is_hub_id(source):
        raise ValueError(missing_file(Path(source)))
