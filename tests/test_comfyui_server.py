"""Workflows posted to a real ComfyUI over loopback, and what comes back."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler
from PIL import Image

from comfyui_process import CHECKOUT, PACK, WHY_NOT, Server, serving
from latentshift import LatentShiftPipeline, bundled_model

pytestmark = pytest.mark.skipif(CHECKOUT is None, reason=WHY_NOT)

STEPS, FRAMES, SEED = 10, 6, 3


def example(name: str) -> dict[str, Any]:
    return json.loads((PACK / "api_workflows" / name).read_text(encoding="utf-8"))


def quick(workflow: dict[str, Any], **sampler: Any) -> dict[str, Any]:
    """An example with few frames and steps, its frames saved one by one."""
    workflow = copy.deepcopy(workflow)
    for node in workflow.values():
        if node["class_type"] == "LatentshiftEmptyVideoLatents":
            node["inputs"]["frames"] = FRAMES
        if node["class_type"] == "KSampler":
            node["inputs"] |= {"steps": STEPS, "seed": SEED, **sampler}
        if node["class_type"] == "SaveAnimatedWEBP":
            node |= {"class_type": "SaveImage", "inputs": {"images": node["inputs"]["images"], "filename_prefix": "f"}}
    return workflow


def frames(server: Server, history: dict[str, Any]) -> np.ndarray:
    """The saved frames (F, H, W, 3)."""
    assert history["status"]["status_str"] == "success", history["status"]["messages"]
    (images,) = [output["images"] for output in history["outputs"].values()]
    return np.stack([np.asarray(Image.open(server.folder / "output" / each["filename"])) for each in images])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("comfyui") / "base") as server:
        yield server


def test_all_nodes_are_there(server: Server) -> None:
    found = {name for name in server.get("/object_info") if name.startswith("Latentshift")}
    assert found == {
        "LatentshiftApplyTemporalShift",
        "LatentshiftEmptyVideoLatents",
        "LatentshiftLoadAdapter",
        "LatentshiftLoadModel",
    }


def test_text_to_video_is_our_pipelines_video(server: Server) -> None:
    """The same seed, steps and guidance in both: ComfyUI's noise of a seed is ours, and its U-Net computes ours."""
    workflow = example("text-to-video.json")
    result = frames(server, server.run(quick(workflow)))

    pipe = LatentShiftPipeline.from_pretrained(bundled_model())
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing")
    noise = torch.randn(1, FRAMES, 8, 8, 8, generator=torch.Generator().manual_seed(SEED))
    highest = float(((1 - pipe.scheduler.alphas_cumprod[-1]) / pipe.scheduler.alphas_cumprod[-1]).sqrt())
    prompt = workflow["2"]["inputs"]["text"]
    options = {"num_frames": FRAMES, "num_inference_steps": STEPS, "guidance_scale": 1.5, "output_type": "np"}
    # ComfyUI starts from noise of variance 1 + σ², diffusers' Euler sampler from σ².
    expected = pipe(prompt, latents=noise * (1 + highest**-2) ** 0.5, **options).frames[0]
    assert np.abs(result / 255 - expected).max() < 1.5 / 255  # a level of rounding


def test_a_loop_needs_circular_padding(server: Server) -> None:
    """The node between loader and sampler replaces the model's own padding, and ends meet."""
    workflow = quick(example("loop.json"))
    loop = frames(server, server.run(workflow)).astype(float)
    workflow["8"]["inputs"]["padding"] = "zeros"
    clip = frames(server, server.run(workflow)).astype(float)
    seam, other_seam = (np.abs(each[0] - each[-1]).mean() for each in (loop, clip))
    assert seam < other_seam
    assert seam < 2 * np.abs(np.diff(loop, axis=0)).mean()


def test_a_long_loop_in_context_windows(server: Server) -> None:
    """The core's node takes what the example says, in old versions and new ones."""
    workflow = quick(example("long-loop.json"), steps=FRAMES - 1)  # ComfyUI 0.3.64 fails for other numbers
    workflow["8"]["inputs"] |= {"context_length": 4, "context_overlap": 2}
    assert len(frames(server, server.run(workflow))) == FRAMES


@pytest.mark.parametrize(
    ("node", "change", "sentence"),
    [
        ("8", {"model": "1"}, "the input model is no MODEL, but '1': link it to the output of a loader"),
        ("1", {"folder": "../mine"}, "there is no latentshift model ../mine in ComfyUI's folders for diffusers models"),
        (
            "8",
            {"padding": "mirror"},
            """the shift's padding must be one of "zeros", "circular", "replicate", not 'mirror'""",
        ),
    ],
)
def test_a_mistake_is_one_sentence(server: Server, node: str, change: dict[str, Any], sentence: str) -> None:
    workflow = quick(example("loop.json"))
    workflow[node]["inputs"] |= change
    queued = server.post(workflow)
    if "prompt_id" not in queued:  # newer ComfyUIs compare with a node's list themselves
        (refused,) = queued["node_errors"][node]["errors"]
        assert refused["type"] == "value_not_in_list" and refused["extra_info"]["input_name"] in change
        return
    status = server.history(queued)["status"]
    assert status["status_str"] == "error"
    (message,) = [content["exception_message"] for kind, content in status["messages"] if kind == "execution_error"]
    assert message.strip() == sentence
