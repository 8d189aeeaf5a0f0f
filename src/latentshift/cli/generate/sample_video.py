"""The latents of one video of ``generate``: a call of the pipeline, and its extensions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from latentshift.cli.extension_option import ExtensionOption


def sample_video(
    pipeline: Any,
    prompt: str | Mapping[int, str],
    seed: int,
    extension: ExtensionOption,
    first: dict[str, Any],
    **arguments: Any,
) -> Tensor:
    """Latents (F, C, h, w) of a video.

    Args:
        pipeline: a ``LatentShiftPipeline`` or an export.
        prompt: of all calls.
        seed: of the video.
        extension: how far it goes on.
        first: arguments of the first call alone.
        **arguments: of all calls.
    """
    import torch

    # On the CPU whatever the device, so that a seed gives the same noise everywhere.
    arguments |= {"generator": torch.Generator().manual_seed(seed), "output_type": "latent", "return_dict": False}
    made = pipeline(prompt, **first, **arguments)[0]
    if extension.count:
        count, overlap = extension.count, extension.overlap
        made = pipeline.extend(made, prompt, num_extensions=count, overlap=overlap, **arguments)[0]
    (latents,) = made
    return latents
