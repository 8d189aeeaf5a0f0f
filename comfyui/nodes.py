"""The nodes, as ComfyUI shows them. What they do is in the other files.

Node and input ids are in people's workflows: they never change.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_api.v0_0_2 import ComfyExtension, io

from latentshift.settings import BLOCKS, DIRECTIONS, MAX_NOISE_SHARE, PADDINGS, PLACES, ShiftConfig

from .load_adapter import load_adapter
from .load_model import load_model, model_names
from .noise_patch import share_noise
from .shift_patch import apply_temporal_shift, own_clone

_CATEGORY = "latentshift"
_MAX_FRAMES = 4096
_MAX_SIDE = 16384  # pixels


class ApplyTemporalShift(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentshiftApplyTemporalShift",
            display_name="Apply Temporal Shift",
            category=_CATEGORY,
            description="Makes the image batch the frames of one video: a share of the channels comes from the "
            "previous frame and as much from the next, in every ResNet block. Adds no weights; for a model that was "
            "trained with it.",
            inputs=[
                io.Model.Input("model", tooltip="An image U-Net: Stable Diffusion 1.x or 2.x, or SDXL."),
                io.Int.Input("fold", default=3, min=2, max=64, tooltip="1/fold of the channels from each neighbour."),
                io.Combo.Input(
                    "padding",
                    options=list(PADDINGS),
                    default="zeros",
                    tooltip="What lies beyond the first and the last frame. zeros: the paper's; replicate: the end "
                    "frame itself; circular: the frame at the other end, for a seamless loop.",
                ),
                io.Combo.Input(
                    "direction",
                    options=list(DIRECTIONS),
                    default="first_from_past",
                    tooltip="Where the first channels come from; the model's own. past_only: none come from the next.",
                ),
                io.Float.Input(
                    "noise_share",
                    default=0.0,
                    min=0.0,
                    max=MAX_NOISE_SHARE,
                    step=0.1,
                    optional=True,
                    tooltip="How much of the noise frames share, as the model was trained; 0: each has its own.",
                ),
                io.Combo.Input(
                    "place",
                    options=list(PLACES),
                    default="conv1",
                    optional=True,
                    tooltip="What is shifted in a block, as the model was trained. conv1: the paper's.",
                ),
                io.Combo.Input(
                    "blocks",
                    options=list(BLOCKS),
                    default="all",
                    optional=True,
                    tooltip="Which blocks shift, as the model was trained. all: the paper's.",
                ),
            ],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        fold: int,
        padding: Any,
        direction: Any,
        noise_share: float = 0.0,
        place: Any = "conv1",
        blocks: Any = "all",
    ) -> io.NodeOutput:
        own = own_clone(model)
        apply_temporal_shift(own, ShiftConfig(fold, padding, direction, place, blocks))
        share_noise(own, noise_share)
        return io.NodeOutput(own)


class LoadModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentshiftLoadModel",
            display_name="Load latentshift Model",
            category=_CATEGORY,
            description="A model that latentshift trained, with its shift and its schedule. Folders lie in "
            "ComfyUI/models/diffusers; the bundled model of the sprites world comes with the Python package.",
            inputs=[io.Combo.Input("folder", options=model_names(), tooltip="Of a saved latentshift pipeline.")],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
        )

    @classmethod
    def execute(cls, folder: Any) -> io.NodeOutput:
        return io.NodeOutput(*load_model(folder))


class LoadAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentshiftLoadAdapter",
            display_name="Load latentshift LoRA or Delta",
            category=_CATEGORY,
            description="A lora.safetensors or delta.safetensors that latentshift trained, on its image base, with "
            "its shift. ComfyUI's own LoRA loader would leave the attention out.",
            inputs=[
                io.Model.Input("model", tooltip="The image model that it was trained on."),
                io.Combo.Input("file", options=folder_paths.get_filename_list("loras"), tooltip="In models/loras."),
                io.Float.Input("strength", default=1.0, min=-10.0, max=10.0, step=0.01, tooltip="1: as trained."),
            ],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model: Any, file: Any, strength: float) -> io.NodeOutput:
        path = Path(folder_paths.get_full_path_or_raise("loras", str(file)))  # a posted workflow may hold any value
        return io.NodeOutput(load_adapter(model, path, strength))


class EmptyVideoLatents(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentshiftEmptyVideoLatents",
            display_name="Empty Video Latents (latentshift)",
            category=_CATEGORY,
            description="The frames of one video, empty, as a batch of images.",
            inputs=[
                io.Int.Input("width", default=512, min=16, max=_MAX_SIDE, step=8, tooltip="Pixels."),
                io.Int.Input("height", default=512, min=16, max=_MAX_SIDE, step=8, tooltip="Pixels."),
                io.Int.Input("frames", default=16, min=1, max=_MAX_FRAMES, tooltip="Of the video; 1 makes an image."),
            ],
            outputs=[io.Latent.Output()],
        )

    @classmethod
    def execute(cls, width: int, height: int, frames: int) -> io.NodeOutput:
        # ComfyUI's sampler gives empty latents the channels of the model.
        return io.NodeOutput({"samples": torch.zeros(frames, 4, height // 8, width // 8)})


class LatentshiftExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [ApplyTemporalShift, EmptyVideoLatents, LoadAdapter, LoadModel]


async def comfy_entrypoint() -> LatentshiftExtension:
    return LatentshiftExtension()
