"""I3D and C3D as the TorchScript files that the field uses. Such a file is code: it is opened after its checksum."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from latentshift.evaluation.extractors.cache import CachedExtractor
from latentshift.evaluation.extractors.extractor import CachedNetwork
from latentshift.evaluation.extractors.known import Output
from latentshift.evaluation.extractors.preprocess import for_torchscript
from latentshift.out_of_memory import is_out_of_memory
from latentshift.user_input.error_text import one_line, printable

_TOLERANCE = 1e-3  # of a sum of probabilities
_MOST_SAID = 200  # letters of an error, whose end is the part that tells


class TorchScriptNetwork(CachedNetwork):
    """One row a clip, from a TorchScript file that does its own preprocessing.

    ``settings`` are the keyword arguments of the file's ``forward``.
    """

    settings: ClassVar[Mapping[str, bool]] = {}

    def __init__(self, cached: CachedExtractor, device: torch.device, output: Output | None = None) -> None:
        super().__init__(cached, device, output)
        content = cached.read(cached.known.weights.name)  # compares the checksum
        try:
            self.network = torch.jit.load(io.BytesIO(content), map_location=device).eval()
        except (RuntimeError, ValueError) as error:
            self._refuse("is no TorchScript file that can be opened", error)

    def rows(self, video: Tensor) -> Tensor:
        try:
            return self.network(for_torchscript(video), **self.settings)
        except RuntimeError as error:
            self._refuse(f"can't read a clip of the shape {tuple(video.shape)}", error)
            raise

    def _refuse(self, what: str, error: Exception) -> None:
        if is_out_of_memory(error):
            raise error
        said = one_line(error)
        reason = printable(said if len(said) <= _MOST_SAID else f"… {said[-_MOST_SAID:].partition(' ')[2]}")
        raise ValueError(f"the file of the extractor {self.name} {what}: it is another one ({reason})") from None


class I3D(TorchScriptNetwork):
    """400 features of a clip, before the softmax of its classes (Kinetics-400).

    Unterthiner et al. 2018, arXiv 1812.01717; the file and its arguments: StyleGAN-V, ``frechet_video_distance.py``.
    """

    settings: ClassVar[Mapping[str, bool]] = {"rescale": True, "resize": True, "return_features": True}


class C3D(TorchScriptNetwork):
    """101 probabilities of a clip of 16 frames (UCF-101), after the softmax: a second one would be wrong.

    Saito et al. 2020, arXiv 1811.09245 (TGANv2); the file: StyleGAN-V, ``inception_score.py``.
    """

    def rows(self, video: Tensor) -> Tensor:
        made = super().rows(video)
        total = float(made.cpu().double().sum()) if made.numel() else 0.0
        if abs(total - len(made)) > _TOLERANCE * len(made) or bool((made < 0).any()):
            raise ValueError(
                f"the file of the extractor {self.name} gives no probabilities (they sum to {total:.4g}): other files "
                "have the same name"
            )
        return made
