"""The Mixtral decoder as a single process runs it; nothing here knows of ranks."""
