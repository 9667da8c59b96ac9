"""How fast a model runs here, under torchrun or alone. Same as `mixtralkit bench`.

torchrun --standalone --nproc_per_node=2 tools/bench.py --random-weights
"""

import sys

from mixtralkit.cli.main import main

if __name__ == "__main__":
    sys.exit(main(verb="bench"))
