"""lung-compact: network and model."""
