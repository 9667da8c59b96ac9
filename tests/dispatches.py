"""Which dispatches this machine has for several ranks; peer is made of native kernels."""

import torch

from mixtralkit.moe.dispatch.obstacles import why_not_peer

PEER = [] if why_not_peer(torch.device("cpu"), 1) else ["peer"]
SPREAD = ["collective", "all_gather", "hierarchical", *PEER]
AUTO = "peer" if PEER else "all_gather"  # what auto takes for small batches of several ranks on one host
