"""Write a folder that plain diffusers makes videos with: the saved pipeline, and its own code in one file.

``unet/`` and the other parts are stock; the code is :mod:`latentshift.models.storage.standalone_pipeline`, as it stands
there.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from latentshift.files import atomic_write
from latentshift.models.denoiser import is_guidance_distilled
from latentshift.models.storage import standalone_pipeline
from latentshift.models.storage.source_paths import without_source_paths

PIPELINE_FILE = "pipeline.py"
_INDEX = "model_index.json"
_OURS_ALONE = ("temporal", "image_encoder", "feature_extractor")  # parts that the file does not know


def check_exportable(pipeline: Any) -> None:
    """Refuse a pipeline that the file could not run.

    Raises:
        ValueError: for temporal layers, which have weights of their own, or a guidance-distilled U-Net.
    """
    if pipeline.temporal is not None:
        raise ValueError("Latent-VDM's temporal layers can't be exported to plain diffusers, whose U-Net has none")
    if is_guidance_distilled(pipeline.unet):
        raise ValueError("a guidance-distilled U-Net (time_cond_proj_dim) can't be exported to plain diffusers")


def export_diffusers(pipeline: Any, output: str | Path) -> None:
    """Save a pipeline so that ``DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)`` loads it.

    :class:`latentshift.LatentShiftPipeline` loads the folder as well, and does not run its file. No path
    of the machine is in it.

    Args:
        pipeline: a ``LatentShiftPipeline``.
        output: the new folder, which is written whole or not at all.

    Raises:
        ValueError: as :func:`check_exportable`, and as ``save_pretrained``.
    """
    check_exportable(pipeline)
    with atomic_write(Path(output)) as folder, without_source_paths(pipeline):
        pipeline.save_pretrained(folder)
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        index["_class_name"] = [Path(PIPELINE_FILE).stem, standalone_pipeline.LatentShiftPipeline.__name__]
        kept = {name: value for name, value in index.items() if name not in _OURS_ALONE}
        (folder / _INDEX).write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
        shutil.copyfile(standalone_pipeline.__file__, folder / PIPELINE_FILE)
