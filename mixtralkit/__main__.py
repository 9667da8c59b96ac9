"""`python -m mixtralkit`: the console script, where that is not on the path."""

import sys

from mixtralkit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
