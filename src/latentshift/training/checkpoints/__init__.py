"""Checkpoints of a run: where they lie, how one is written and read, and which one a run resumes from."""
