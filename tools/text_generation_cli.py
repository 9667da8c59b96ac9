"""A client for `PUT /api` of a running server: python tools/text_generation_cli.py HOST:PORT."""

import sys

from mixtralkit.cli.text_generation import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
