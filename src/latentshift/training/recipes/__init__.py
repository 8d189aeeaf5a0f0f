"""The settings of each stage: one module for each, what the diffusion stages share, and what all share."""
