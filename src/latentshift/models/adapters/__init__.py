"""Adapters of a pipeline's weights: our LoRAs and deltas, other trainers' LoRAs, IP-Adapters."""
