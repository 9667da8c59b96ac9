"""What is measured; some are scripts, some modules that run from the repository's folder. README.md lists them."""
