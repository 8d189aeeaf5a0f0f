"""Protocols: which videos are measured, by which extractors, and what is computed of it.

A protocol is a plan (``plan.py``) of videos by index. What is measured of each is kept in files
(``readings_files.py``) that a kill at any moment leaves whole, and the metrics are computed from those
(``summary.py``), so that they are the same for any number of processes. Who makes the videos is a callable.
"""
