"""The encoders of a model for ``data encode``: fingerprints and callables."""

from __future__ import annotations

from latentshift.cli.models import load_pipeline, pick_device
from latentshift.models.encoders import caption_encoder, frame_encoder
from latentshift.models.storage.fingerprint import model_fingerprint, weights_fingerprint


class Encoders:
    """The autoencoder and the text encoders of a model.

    Args:
        model: ``bundled``, a folder, or a hub id.
        device: ``auto``, ``cpu``, ``cuda``, ….
        variant: of the weight files.

    Raises:
        ValueError: if it can't be loaded, or the device is not available.
    """

    def __init__(self, model: str, device: str, variant: str | None = None) -> None:
        pipeline = load_pipeline(model, pick_device(device), "float32", variant)
        self.size = pipeline.sample_size
        self.scale = pipeline.vae_scale_factor
        self.levels = len(pipeline.unet.config.block_out_channels)
        self.num_frames = int(pipeline.config.num_frames)
        self.autoencoder_digest = weights_fingerprint(pipeline.vae)
        self.text_digest = model_fingerprint(*pipeline.text_encoders.parts)
        self.text_encoders = pipeline.text_encoders
        self.frames = frame_encoder(pipeline.vae, pipeline.device)
        self.text = caption_encoder(pipeline.text_encoders, pipeline.device)
