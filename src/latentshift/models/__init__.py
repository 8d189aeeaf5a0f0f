"""The networks: model families, text, the autoencoder. Knows nothing of data, training or the command line."""
