"""The shipped extractors, small networks that were trained on the sprites world: what they are, and how to make them.

``networks.py`` and ``captions.py`` say what they compute, ``samples.py`` what they learn from, ``training.py`` and
``caption_training.py`` how, and ``extractor.py`` opens the trained ones.
"""
