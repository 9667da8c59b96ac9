"""What all ranks' tokens ask of the experts of late, known to every rank."""

import math

import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.moe.load import ExpertLoad
from mixtralkit.moe.placement.rebalance import Demand


def share_load(control: Collectives, load: ExpertLoad, rows_a_step: float) -> Demand:
    """`[layer][rank][expert]`: the rows that each rank has for each expert, of the `rows_a_step` of an average step.

    All ranks call it together and get the same, to the bit.
    """
    load_LE = load.decayed_LE.cpu()
    told_WLE = control.all_gather(load_LE.view(torch.int64)).view(torch.float64)
    load_LWE: Demand = told_WLE.transpose(0, 1).tolist()
    # Exact, and so the same on processors that would add in other orders.
    scale = rows_a_step / max(math.fsum(rows for rows_E in load_LWE[0] for rows in rows_E), 1.0)
    return [[[rows * scale for rows in rows_E] for rows_E in rows_WE] for rows_WE in load_LWE]
