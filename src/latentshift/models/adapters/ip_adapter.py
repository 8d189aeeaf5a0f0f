"""IP-Adapters: which picture each frame of each video has, and the embeddings that the U-Net takes of them.

Legend of shapes: P prompts, F frames, A adapters, k blocks of guidance, n pictures, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers.models import ImageProjection
from diffusers.models.embeddings import (
    IPAdapterFaceIDImageProjection,
    IPAdapterFaceIDPlusImageProjection,
    IPAdapterPlusImageProjection,
)
from torch import Tensor

from latentshift.diffusion.condition import TextCondition
from latentshift.frame_context import uncompiled
from latentshift.models.call.pictures import clips_for_prompts

PICTURES, EMBEDDINGS = "ip_adapter_image", "ip_adapter_image_embeds"


def adapter_layers(unet: Any) -> list[Any] | None:
    """The projections of the IP-Adapters in a U-Net, one each; None if none is loaded."""
    layers = getattr(getattr(uncompiled(unet), "encoder_hid_proj", None), "image_projection_layers", None)
    return None if layers is None else list(layers)


def adapter_tensors(unet: Any) -> dict[str, Tensor]:
    """The weights of all IP-Adapters in a U-Net, by name."""
    own = (".processor.", "encoder_hid_proj.")
    return {name: value for name, value in unet.named_parameters() if any(part in f".{name}" for part in own)}


def check_adapter_fits(tensors: Mapping[str, Any], unet: Any, where: str) -> None:
    """Refuse a file that is no IP-Adapter, or one for another U-Net, by the names and shapes of its tensors.

    Args:
        tensors: names -> shapes, or ``image_proj`` and ``ip_adapter`` -> names -> tensors.
        unet: that it is to be loaded into.
        where: the file, for messages.

    Raises:
        ValueError: saying which it is.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for name, value in tensors.items():
        if isinstance(value, Mapping):
            shapes |= {f"{name}.{key}": tuple(each.shape) for key, each in value.items()}
        else:
            shapes[name] = tuple(getattr(value, "shape", value))
    for part in ("image_proj", "ip_adapter"):
        if not any(name.startswith(f"{part}.") for name in shapes):
            raise ValueError(f"{where} is no IP-Adapter: it has no tensors whose names begin with {part}")
    layers = [attention for name, attention in uncompiled(unet).named_modules() if name.endswith(".attn2")]
    given = [shape for name, shape in shapes.items() if name.endswith(".to_k_ip.weight")]
    wanted = [(each.inner_dim, each.cross_attention_dim) for each in layers]
    if sorted(given) != sorted(wanted):
        raise ValueError(
            f"{where} is an IP-Adapter of another model than this one: it is for {len(given)} layers of the shapes "
            f"{_shapes(given)}, and this U-Net has {len(wanted)} of {_shapes(wanted)}"
        )


def _shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(map(str, sorted(set(shapes)))) or "none"


def read_adapter_pictures(
    pipe: Any, given: Mapping[str, Any], num_prompts: int, num_frames: int
) -> tuple[str, list[list[Any]]] | None:
    """What the IP-Adapters are given for each frame of each prompt's videos.

    Args:
        pipe: the image pipeline.
        given: the arguments of a call. ``ip_adapter_image``: one picture, a clip or P of either, or with several
            adapters a list of that for each; ``ip_adapter_image_embeds``: likewise of tensors, always in a list with
            one entry for each adapter, as diffusers takes them: (k, n, D), of an adapter that looks at an encoder's
            hidden states (Plus) (k, n, tokens, D), and of FaceID (k, n, D) or (k, n, 1, D).
        num_prompts: P.
        num_frames: F.

    Returns:
        The name of the argument, and P lists of F lists of A pictures; None if there is none.

    Raises:
        ValueError: if no adapter is loaded, or one is and there is nothing for it, or for another number of pictures,
            embeddings of another shape, or an adapter of a kind that can't be given them.
    """
    names = [name for name in (PICTURES, EMBEDDINGS) if given.get(name) is not None]
    if not names:
        if adapter_layers(pipe.unet) is not None:
            raise ValueError(f"an IP-Adapter is loaded: give {PICTURES}, or call unload_ip_adapter")
        return None
    if len(names) > 1:
        raise ValueError(f"give {PICTURES} or {EMBEDDINGS}, not both")
    name = names[0]
    layers = adapter_layers(pipe.unet)
    if layers is None:
        raise ValueError(f"{name} was given and no IP-Adapter is loaded: call load_ip_adapter of the pipeline first")
    _check_kinds(layers, name)
    count, value = len(layers), given[name]
    listed = isinstance(value, (list, tuple))
    if name == PICTURES and count == 1:
        value = [value]
    elif not listed or len(value) != count:
        shown = f"{len(value)} entries" if listed else f"a {type(value).__name__}"
        raise ValueError(f"{name} has {shown}: give a list with one for each of {count} loaded IP-Adapters")
    if name == PICTURES:
        of_adapters = [clips_for_prompts(each, name, num_prompts, num_frames, "reference") for each in value]
    else:
        of_adapters = [
            _embeddings_for_prompts(each, layer, num_prompts, num_frames)
            for each, layer in zip(value, layers, strict=True)
        ]
    prompts = range(num_prompts)
    return name, [
        [[clips[prompt][frame] for clips in of_adapters] for frame in range(num_frames)] for prompt in prompts
    ]


@torch.no_grad()
def embed_pictures(
    pipe: Any, name: str, pictures: list[list[Any]], device: torch.device, *, guided: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """The embeddings of pictures for the U-Net, as ``StableDiffusionPipeline`` makes them.

    Args:
        pipe: with ``image_encoder``, ``feature_extractor`` and ``unet``.
        name: what ``pictures`` are: ``"ip_adapter_image"``, PIL images; or ``"ip_adapter_image_embeds"``, tensors
            (2, n, …) of what to avoid and the picture with guidance, (1, n, …) without.
        pictures: F lists of A pictures; a picture that frames share is encoded once.
        device: to encode on.
        guided: whether embeddings hold what to avoid, too.

    Returns:
        For each adapter the embeddings (F, n, …) of the pictures, and those of no picture.

    Raises:
        ValueError: if there is no image encoder, or an embedding of another shape.
    """
    layers = adapter_layers(pipe.unet) or []
    if name == PICTURES and pipe.image_encoder is None:
        raise ValueError(f"{PICTURES} needs an image encoder, and none is loaded: give {EMBEDDINGS}")
    known: dict[int, tuple[Tensor, Tensor]] = {}
    positive, negative = [], []
    for number, layer in enumerate(layers):
        rows = []
        for of_frame in pictures:
            picture = of_frame[number]
            key = id(picture) * len(layers) + number
            if key not in known:
                if name == PICTURES:
                    known[key] = _encode(pipe, picture, device, hidden=not isinstance(layer, ImageProjection))
                else:
                    known[key] = _given(picture, guided)
            rows.append(known[key])
        if len({each.shape for each, _ in rows}) > 1:
            raise ValueError(f"{name} has embeddings of different shapes: give each frame as many pictures")
        positive.append(torch.stack([each for each, _ in rows]).to(device))
        negative.append(torch.stack([each for _, each in rows]).to(device))
    return positive, negative


def with_pictures(
    pipe: Any,
    text: TextCondition,
    negative: TextCondition,
    name: str,
    of_prompts: list[list[list[Any]]],
    device: torch.device,
    *,
    guided: bool,
) -> tuple[TextCondition, TextCondition]:
    """The conditions of P prompts and of what to avoid, with the pictures of :func:`read_adapter_pictures`.

    Args:
        pipe: with the adapters.
        text: of P prompts.
        negative: likewise, of what to avoid.
        name: as for :func:`embed_pictures`.
        of_prompts: P lists of F lists of A pictures.
        device: to encode on.
        guided: as there.

    Raises:
        ValueError: as for :func:`embed_pictures`.
    """
    embedded = [embed_pictures(pipe, name, frames, device, guided=guided) for frames in of_prompts]
    positive, avoided = (
        tuple(torch.stack(rows) for rows in zip(*(each[side] for each in embedded), strict=True)) for side in (0, 1)
    )
    return replace(text, pictures=positive), replace(negative, pictures=avoided)


def _encode(pipe: Any, picture: Any, device: torch.device, *, hidden: bool) -> tuple[Tensor, Tensor]:
    """(1, D) of a picture and of none; of an adapter that takes hidden states, (1, tokens, D)."""
    encoder = pipe.image_encoder
    pixels = pipe.feature_extractor(picture, return_tensors="pt").pixel_values.to(device, encoder.dtype)
    if hidden:
        states = (encoder(each, output_hidden_states=True).hidden_states[-2] for each in (pixels, pixels * 0))
        return next(states), next(states)
    made = encoder(pixels).image_embeds
    return made, torch.zeros_like(made)


def _given(embeds: Any, guided: bool) -> tuple[Tensor, Tensor]:
    check_rows(embeds, guided)
    return embeds[-1], embeds[0]


def check_rows(embeds: Tensor, guided: bool) -> None:
    """Refuse embeddings (k, n, …) of another k than guidance needs.

    Raises:
        ValueError: saying which rows are needed.
    """
    if len(embeds) != (2 if guided else 1):
        needed = "two rows, what to avoid and the picture, with guidance" if guided else "one row, without guidance"
        raise ValueError(f"{EMBEDDINGS} has {len(embeds)} rows: it needs {needed}")


def _check_kinds(layers: list[Any], name: str) -> None:
    for layer in layers:
        if isinstance(layer, IPAdapterFaceIDPlusImageProjection):
            raise ValueError(
                "an IP-Adapter FaceID Plus is not for videos: it has its picture in the U-Net (clip_embeds), and not "
                "from the call; take FaceID, or Plus"
            )
        if name == PICTURES and isinstance(layer, IPAdapterFaceIDImageProjection):
            raise ValueError(
                f"an IP-Adapter FaceID does not look at pictures: give {EMBEDDINGS}, tensors (2, n, {_width(layer)}) "
                "of a face recogniser, of which the first row is zeros"
            )


def _embeddings_for_prompts(value: Any, layer: Any, num_prompts: int, num_frames: int) -> list[list[Tensor]]:
    """P lists of F embeddings of one adapter, (k, n, D) or (k, n, tokens, D)."""
    has_tokens = not isinstance(layer, (ImageProjection, IPAdapterFaceIDImageProjection))
    counted = _as_three_dimensions(value, layer, num_frames, has_tokens=has_tokens)
    clips = clips_for_prompts(counted, EMBEDDINGS, num_prompts, num_frames, "latents")
    if not has_tokens:
        return clips
    whole = {id(each): each.unflatten(-1, (-1, _width(layer))) for clip in clips for each in clip}
    return [[whole[id(each)] for each in clip] for clip in clips]


def _as_three_dimensions(value: Any, layer: Any, num_frames: int, *, has_tokens: bool) -> Any:
    """Embeddings of three dimensions each, as pictures have, by which those of frames are counted."""
    if isinstance(value, (list, tuple)):
        return [_as_three_dimensions(each, layer, num_frames, has_tokens=has_tokens) for each in value]
    if not isinstance(value, Tensor):
        raise ValueError(f"{EMBEDDINGS} has a {type(value).__name__}: it takes tensors")
    shape, width = tuple(value.shape), _width(layer)
    each = f"(2, n, tokens, {width})" if has_tokens else f"(2, n, {width})"
    if value.ndim < (4 if has_tokens else 3) or shape[-1] != width:
        raise ValueError(f"{EMBEDDINGS} has the shape {shape}: this IP-Adapter takes {each}, or with frames (F, …)")
    if has_tokens:
        return value.flatten(-2)
    if isinstance(layer, IPAdapterFaceIDImageProjection) and value.ndim == 4 and shape[2] == 1:
        # As diffusers' guide makes it for all frames, (k, n, 1, D); or one picture for each frame, (F, k, 1, D).
        of_all, of_frames = shape[0] in (1, 2), shape[0] == num_frames and shape[1] in (1, 2)
        if of_all and of_frames and shape[:2] != (1, 1):
            raise ValueError(
                f"{EMBEDDINGS} has the shape {shape}, which may be of all frames or of each of {num_frames}: give "
                f"{each}, or a list of that for each frame"
            )
        return value.squeeze(2) if of_all else value
    return value


def _width(layer: Any) -> int:
    """D of the embeddings that an adapter takes."""
    if isinstance(layer, ImageProjection):
        return int(layer.image_embeds.in_features)
    if isinstance(layer, IPAdapterPlusImageProjection):
        return int(layer.proj_in.in_features)
    return int(layer.ff.net[0].proj.in_features)
