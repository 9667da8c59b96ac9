"""mixtralkit's server beside llama.cpp's and vLLM's: `python -m benchmarks.serving`."""
