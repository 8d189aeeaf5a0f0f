"""Read and write clips as files, and the one definition of uint8 <-> [-1, 1].

A clip is RGB, uint8 (F, H, W, 3), with a frame rate. The suffix of a path sets the file type: .mp4 (H.264,
plays in browsers), .gif, .webp (lossless), .png (a single frame), and no suffix for a folder of frames.

Knows nothing of models, tensors on devices, prompts or the data sets. PyAV, Pillow and torch are imported only where
they are used.

The module can also be called: ``latentshift.video(pipe, num_frames=16)`` is
:func:`latentshift.image_pipelines.video`. ``latentshift/__init__.py`` adds that, since this package knows no models.
"""

from latentshift.video.edges import edge_maps
from latentshift.video.metadata import DEFAULT_FPS
from latentshift.video.pixels import as_clip, to_uint8, to_unit
from latentshift.video.read import read_metadata, read_video
from latentshift.video.write import check_output, write_chunks, write_video

__all__ = [
    "DEFAULT_FPS",
    "as_clip",
    "check_output",
    "edge_maps",
    "read_metadata",
    "read_video",
    "to_uint8",
    "to_unit",
    "write_chunks",
    "write_video",
]
