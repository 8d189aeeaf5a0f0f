"""Recipes, objectives, the loop and its checkpoints. Knows nothing of the command line."""
