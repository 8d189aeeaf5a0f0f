"""From a row to frames: which moments, what shape, and how a video, an image or a drawn clip is read."""
