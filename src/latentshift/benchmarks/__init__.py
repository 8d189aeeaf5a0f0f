"""How fast it is, as ratios against a peer that is measured in the same run."""
