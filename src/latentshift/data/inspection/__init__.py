"""A source looked through before anything learns from it, and long videos cut into rows."""
