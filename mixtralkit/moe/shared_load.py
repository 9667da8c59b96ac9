"""What all ranks' tokens ask of the experts of late, known to every rank."""

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
    scale = rows_a_step / max(float(told_WLE[:, 0].sum()), 1.0)
    demand: Demand = (told_WLE * scale).transpose(0, 1).tolist()
    return demand
