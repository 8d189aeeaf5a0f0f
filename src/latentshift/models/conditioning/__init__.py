"""Text conditioning: encoders, prompts that change over frames, keys and values that are kept for a video."""
