"""Metrics as pure functions of features, class outputs, embeddings and pixels, with accumulators that can be merged.

Knows no model, no file and no dataset: an extractor makes the features, a protocol says which samples count.
"""
