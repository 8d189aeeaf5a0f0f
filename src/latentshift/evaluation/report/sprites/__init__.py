"""The page of a sprites study."""
