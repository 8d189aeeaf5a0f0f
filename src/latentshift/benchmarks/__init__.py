"""What is measured here: methods beside each other, speed beside a peer, memory beside its estimate."""
