"""Clips that were encoded once: what they are a function of, how they are made, kept and read."""
