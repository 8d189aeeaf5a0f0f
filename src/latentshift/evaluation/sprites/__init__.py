"""The sprites study: an analytic reader of clips, what it measures in them, and the study with its scores."""
