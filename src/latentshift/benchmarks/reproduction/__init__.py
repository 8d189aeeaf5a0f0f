"""``latentshift reproduce``: the paper's claims, tested on the sprites world."""
