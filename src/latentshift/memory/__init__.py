"""How much memory and how many operations a run needs, estimated before it begins."""
