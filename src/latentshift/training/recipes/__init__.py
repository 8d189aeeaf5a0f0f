"""The settings of each stage: one module for each, and what the diffusion stages share."""
