"""The HTTP server, under torchrun or alone. Same as `mixtralkit serve`.

torchrun --standalone --nproc_per_node=4 tools/serve.py -m DIR -t FILE --port 8000
"""

import sys

from mixtralkit.cli.main import main

if __name__ == "__main__":
    sys.exit(main(verb="serve"))
