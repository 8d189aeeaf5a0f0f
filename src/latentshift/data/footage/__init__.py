"""From a manifest row to frames: time window, resizing and cropping, and decoding."""
