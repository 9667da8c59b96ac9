"""Ranks: starting the group, who is where, what they exchange. Knows no model."""
