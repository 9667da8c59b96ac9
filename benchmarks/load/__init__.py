"""What the server does under load, and under too much of it: `python -m benchmarks.load`."""
