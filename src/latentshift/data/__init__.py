"""Where clips come from. Knows nothing of models: whatever encodes a clip is passed in as a callable."""
