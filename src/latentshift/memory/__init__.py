"""Estimates of memory and compute of a run, before it starts."""
