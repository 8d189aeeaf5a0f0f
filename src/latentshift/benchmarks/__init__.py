"""Measuring models, and how fast they are trained and read on this machine."""
