"""What the `openai` package is asked to do; this runs in its environment and imports nothing of mixtralkit."""
