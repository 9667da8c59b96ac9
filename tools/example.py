"""The main job: answer prompts with a Mixtral checkpoint, under torchrun or alone. Same as `mixtralkit generate`.

torchrun --standalone --nproc_per_node=4 tools/example.py -m DIR -t FILE
"""

import sys

from mixtralkit.cli.main import main

if __name__ == "__main__":
    sys.exit(main(verb="generate"))
