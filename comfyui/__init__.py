"""latentshift in ComfyUI: a MODEL with the temporal shift makes the frames of a video from its image batch.

ComfyUI loads this folder (docs/comfyui.md says how). It is imported from ComfyUI's own process alone, and is no part
of the Python package, which it needs: `latentshift.shift` and its kin, that import torch and nothing else.
"""

try:
    import latentshift.shift  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(
        "the latentshift nodes need the Python package of the same name in ComfyUI's environment: run "
        "`python -m pip install --no-deps PATH_OF_THE_LATENTSHIFT_CHECKOUT` with ComfyUI's python"
    ) from error

from .nodes import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
