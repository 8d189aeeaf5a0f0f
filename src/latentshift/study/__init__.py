"""A user study: raters compare videos of two or more systems, pair by pair (Table 3 of the paper).

``make`` writes a study's folder, ``store`` hands out comparisons and takes answers, ``result`` makes tables of them.
Knows nothing of models and imports no torch.
"""
