"""``latentshift generate``: its options (``command.py``), the checks before heavy imports (``checks.py``), the run."""

from latentshift.cli.generate.command import generate

__all__ = ["generate"]
