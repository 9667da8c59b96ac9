"""The HTTP server: OpenAI's routes and Megatron's over one engine, with health, metrics and a page."""
