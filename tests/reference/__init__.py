"""Independent oracles."""
