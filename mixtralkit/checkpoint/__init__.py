"""Checkpoints: their forms, names, reading, loading, merging and checking."""
