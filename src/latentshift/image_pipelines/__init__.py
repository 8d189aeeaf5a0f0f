"""Every stock image pipeline makes videos: ``latentshift.video(pipe, num_frames=16)``.

The shift lives in the U-Net, so what an image pipeline of diffusers can do (controls, inpainting, adapters, any
scheduler), a video can have, if the pipeline is called in the one form in which all of them keep the frames of a video
side by side: a prompt and a picture for each frame. :class:`VideoPipeline` brings a call into that form, and the
pictures back into videos. It contains no sampling of its own, and no case for any one pipeline beyond what differs in
their arguments (``arguments.py``).
"""

from latentshift.image_pipelines.output import VideoPipelineOutput
from latentshift.image_pipelines.video_pipeline import VideoPipeline, video

__all__ = ["VideoPipeline", "VideoPipelineOutput", "video"]
