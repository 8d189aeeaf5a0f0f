"""How intervals of metrics are computed, in the words of reports."""

from __future__ import annotations

BOOTSTRAP = "bootstrap over videos"
JACKKNIFE = "jackknife of ten groups of videos"
REPEATS = "Student's t over repeats"
