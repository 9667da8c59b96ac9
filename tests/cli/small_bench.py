"""tools/bench.py with rates from small buffers: a test does not care what they are, and large ones take seconds."""

import runpy

from mixtralkit.bench import machine_rates
from tests.cli.shell import ROOT

BUFFER, SIDE = 1 << 20, {"cpu": 64}

if __name__ == "__main__":
    machine_rates.BUFFER, machine_rates.SIDE = BUFFER, SIDE
    runpy.run_path(str(ROOT / "tools" / "bench.py"), run_name="__main__")
