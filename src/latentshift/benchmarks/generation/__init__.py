"""``bench generate`` and ``evaluate cost``: what a video costs with each of the compared video models."""
