"""Extractors: networks that turn frames, clips and prompts into the features that metrics compare.

``known.py`` says which there are, ``cache.py`` where their files lie, ``load.py`` opens one. Knows no metric.
"""
