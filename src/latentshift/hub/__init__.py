"""A model on the Hugging Face hub: the card that describes it, and the upload."""
