"""The same kernels on all ranks.

Variants add up in other orders, and the rank on which a row is computed must not show in its bits.
"""

from mixtralkit.dist.collectives import Collectives
from mixtralkit.log import get_logger, notice
from mixtralkit.ops import library

_logger = get_logger(__name__)


def use_common_kernels(control: Collectives) -> None:
    """Have every rank compute with the best variant that all of them have. All ranks call this together."""
    variants = control.all_gather_json(library.variant())
    common = min(variants, key=library.VARIANTS.index)
    if len(set(variants)) > 1:
        without = [str(rank) for rank, variant in enumerate(variants) if variant == common]
        notice(_logger, f"all ranks compute with {common}, because rank {', '.join(without)} has nothing better")
        library.use_variant(common)
