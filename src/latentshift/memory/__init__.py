"""What a run is going to take, told before it begins."""
