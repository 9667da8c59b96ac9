"""One rank's share of a model, and how much memory loading it takes; run as a program by test_loader_memory.py.

Imports neither pytest nor transformers, whose memory would be counted.
"""

import sys
from pathlib import Path
from typing import cast

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from mixtralkit.checkpoint.loader import load_model
from mixtralkit.model.moe_ffn import MoeFfn
from mixtralkit.model.transformer import Block, Transformer

KEPT = (1, 2)


def keep_share(model: Transformer) -> None:
    """What spreading the experts does, as far as parameters go: only `KEPT` are left, under their numbers."""
    for module in model.layers:
        moe = cast(MoeFfn, cast(Block, module).feed_forward)
        kept = nn.ModuleList()
        for expert in KEPT:
            kept.add_module(str(expert), moe.experts[expert])
        moe.experts = kept


def main(folder: str, dtype: torch.dtype) -> None:
    """Print, in MiB: the peak while loading, the peak after every weight was used, and the size of the weights."""
    with FakeTensorMode():  # before 2.13, torch imports 130 MB of code for it when the first file is read
        torch.empty(1)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _peak()
    model = load_model(folder, dtype=dtype, device=torch.device("cpu"), spread=keep_share)
    loaded = _peak()
    for parameter in model.parameters():
        parameter.sum()
    print(loaded - before, _peak() - before, sum(parameter.nbytes for parameter in model.parameters()) / 2**20)


def _peak() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


if __name__ == "__main__":
    main(sys.argv[1], getattr(torch, sys.argv[2]))
