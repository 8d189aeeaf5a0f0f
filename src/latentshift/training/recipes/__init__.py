"""The settings of each stage: one module for each, what the diffusion stages share (``diffusion``), what all runs share
(``run_settings``), and the groups of settings that they are made of (``settings``).
"""
