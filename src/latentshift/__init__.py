"""latentshift: an image diffusion model makes video, without one new parameter (Latent-Shift)."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from latentshift.imports.after_import import after_import
from latentshift.imports.diffusers_registry import register_with_diffusers
from latentshift.imports.fast_import import collector_paused
from latentshift.imports.renamed import install_finder, old_name

if TYPE_CHECKING:
    from latentshift.frame_context import default_frames, frames_independent
    from latentshift.image_pipelines import VideoPipeline, VideoPipelineOutput, video
    from latentshift.models.storage.model_paths import bundled_model
    from latentshift.pipeline import LatentShiftPipeline, LatentShiftPipelineOutput
    from latentshift.settings import ShiftConfig
    from latentshift.shift import install, remove, temporal_shift

__version__ = "0.1.0"

install_finder()
register_with_diffusers()


class _CallableModule(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return import_module("latentshift.image_pipelines").video(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:  # functions that name it are sent to other processes by cloudpickle
        return import_module, (self.__name__,)


def _make_callable(module: ModuleType) -> None:
    module.__class__ = _CallableModule


# The package and the function have one name, and a package is what ``latentshift.video`` is once any of it is imported.
after_import("latentshift.video", _make_callable)

# Loaded when first asked for, so that `import latentshift` and the command line's help need no torch.
_HOMES = {
    "LatentShiftPipeline": "latentshift.pipeline",
    "LatentShiftPipelineOutput": "latentshift.pipeline",
    "ShiftConfig": "latentshift.settings",
    "VideoPipeline": "latentshift.image_pipelines",
    "VideoPipelineOutput": "latentshift.image_pipelines",
    "bundled_model": "latentshift.models.storage.model_paths",
    "default_frames": "latentshift.frame_context",
    "frames_independent": "latentshift.frame_context",
    "install": "latentshift.shift",
    "remove": "latentshift.shift",
    "temporal_shift": "latentshift.shift",
}
__all__ = [
    "LatentShiftPipeline",
    "LatentShiftPipelineOutput",
    "ShiftConfig",
    "VideoPipeline",
    "VideoPipelineOutput",
    "bundled_model",
    "default_frames",
    "frames_independent",
    "install",
    "remove",
    "temporal_shift",
    "video",
]


def __getattr__(name: str) -> Any:
    if name == "video":  # the package can be called
        return import_module("latentshift.video")
    if name not in _HOMES:
        return old_name(__name__, name)
    with collector_paused():
        home = import_module(_HOMES[name])
    return getattr(home, name)
