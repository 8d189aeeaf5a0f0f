"""What a run says of itself while it trains: logs, samples and validation."""
