"""The models that stages train, as they begin and as they stand at a checkpoint."""
