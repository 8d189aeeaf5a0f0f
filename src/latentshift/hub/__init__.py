"""A model on the Hugging Face hub: the card that describes it, and the upload."""

from latentshift.hub.upload import HubUpload, prepare_upload, push_model

__all__ = ["HubUpload", "prepare_upload", "push_model"]
