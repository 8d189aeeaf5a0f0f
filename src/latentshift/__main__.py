"""``python -m latentshift`` is the command line."""

from latentshift.cli import main

main()
