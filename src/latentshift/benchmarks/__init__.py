"""Benchmarks, a module for each ``latentshift bench`` command: generators of rows (:mod:`.report`)."""
