"""Features, metrics, protocols and reports. Knows nothing of training."""
