"""Which dispatches this machine has for several ranks; peer is made of native kernels."""

import torch

from mixtralkit.moe.dispatch.obstacles import why_not_peer

PEER = [] if why_not_peer(torch.device("cpu"), 1) else ["peer"]
SPREAD = ["collective", "all_gather", *PEER]
AUTO = SPREAD[-1]  # what auto takes for small batches of several ranks on one host
