"""How long rows take between nodes of several ranks, by each dispatch."""
