"""Tiny stand-ins for the files of extractors: TorchScript with I3D's and C3D's signatures, a CLIP folder."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel

from latentshift.evaluation.extractors.add import add_extractor

LETTERS = "abcdefghijklmnopqrstuvwxyz"
MERGES = [("r", "e"), ("re", "d</w>"), ("s", "t"), ("a", "r</w>"), ("st", "ar</w>")]
START, END = "<|startoftext|>", "<|endoftext|>"
CLIP_TOKENS, CLIP_WIDTH = 12, 8
CMMD = "ViT-16/8@32-CMMD"  # what it is called by the tiny CLIP


class TinyI3D(nn.Module):
    """400 numbers a clip: the arguments, the shape, then first, last and mean value of each channel, then zeros."""

    def forward(self, x: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        facts = [float(rescale), float(resize), float(return_features), float(x.dtype == torch.uint8)]
        facts += [float(size) for size in x.shape]
        for channel in range(x.shape[1]):
            values = x[0, channel].flatten().float()
            facts += [float(values[0]), float(values[-1]), float(values.mean())]
        facts += [0.0] * (400 - len(facts))
        return torch.tensor(facts, device=x.device)[None]


class TinyC3D(nn.Module):
    """101 probabilities a clip, which the mean colour of each sixteenth decides; logits if asked to be wrong."""

    def __init__(self, logits: bool = False) -> None:
        super().__init__()
        self.logits = logits
        torch.manual_seed(0)
        self.classes = nn.Linear(48, 101)

    def forward(self, x: Tensor) -> Tensor:
        colours = nn.functional.adaptive_avg_pool3d(x.float() / 255, [16, 1, 1])
        classes = self.classes(colours.flatten(1))
        return classes if self.logits else classes.softmax(1)


def save_script(network: nn.Module, path: Path) -> Path:
    torch.jit.script(network.eval()).save(str(path))
    return path


def tiny_clip_folder(folder: Path, *, safe: bool = True) -> Path:
    """A CLIP model of the hub's layout, with a vocabulary of letters."""
    folder.mkdir(parents=True)
    letters = [*LETTERS, *(f"{each}</w>" for each in LETTERS)]
    vocabulary = [*letters, *("".join(each) for each in MERGES), START, END]
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={
            **sizes,
            "vocab_size": len(vocabulary),
            "max_position_embeddings": CLIP_TOKENS,
            "bos_token_id": len(vocabulary) - 2,
            "eos_token_id": len(vocabulary) - 1,
        },
        vision_config={**sizes, "image_size": 32, "patch_size": 8},
        projection_dim=CLIP_WIDTH,
    )
    model = CLIPModel(config).eval()
    model.save_pretrained(folder)
    if not safe:
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    (folder / "vocab.json").write_text(json.dumps({each: number for number, each in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in MERGES))
    return folder


def add_tiny_extractors(folder: Path) -> None:
    """Make ``i3d``, ``c3d`` and ``clip`` in a folder and add them to the cache, unverified."""
    folder.mkdir(parents=True, exist_ok=True)
    add_extractor(save_script(TinyI3D(), folder / "i3d_torchscript.pt"), "i3d")
    add_extractor(save_script(TinyC3D(), folder / "c3d_ucf101.pt"), "c3d")
    add_extractor(tiny_clip_folder(folder / "clip"), "clip")
