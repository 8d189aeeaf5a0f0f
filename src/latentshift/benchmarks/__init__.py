"""Benchmarks, a module or folder for each ``latentshift bench`` command: generators of rows (:mod:`.report`)."""
