"""What the strategies gain between hosts: `python -m benchmarks.strategies`, or `make bench-strategies`."""
