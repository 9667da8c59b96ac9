"""The experts over many rows: our tiles, torch's grouped product, and a dense product of the same size.

python -m benchmarks.gpu.grouped_experts

The dense ones are three products of all rows with one expert's matrices, which is as many operations. What share of
that speed experts reach, and from how many rows on which way is better, is what the entry
"grouped" of ops/triton/tiles.json goes by.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F

from benchmarks.gpu.moe_layer import DIM, EXPERTS, HIDDEN, TOP_K, milliseconds, random_weight, side_by_side
from benchmarks.gpu.section import tell
from mixtralkit.ops.grouped_product import grouped_rows
from mixtralkit.ops.matrices import Matrices
from mixtralkit.ops.triton.expert_kernels import grouped_swiglu

ROWS = (256, 512, 1024, 2048, 4096, 8192, 16_384)  # (token, expert) pairs: twice the tokens
WAYS = ("tiles", "grouped_mm", "dense")


def main() -> None:
    """Milliseconds of all by the number of rows, bfloat16, experts drawn evenly."""
    device = torch.device("cuda")
    weights = side_by_side(random_weight(device, EXPERTS, 3, HIDDEN * DIM))
    has_grouped = torch.cuda.get_device_capability()[0] == 9
    document = [measured(device, rows, weights, with_grouped=has_grouped) for rows in ROWS]
    tell(table(document), document)


def table(document: Sequence[dict[str, float | None]]) -> str:
    """In Markdown."""
    heads = ("rows", "tiles, ms", "grouped_mm, ms", "dense, ms", "of dense: tiles", "grouped_mm")
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for found in document:
        dense, times = found["dense"], [found[way] for way in WAYS]
        shares = [dense / time if dense and time else None for time in times[:2]]
        cells = [f"{found['rows']:.0f}", *map(_milli, times), *map(_share, shares)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def measured(device: torch.device, rows: int, weights: Matrices, *, with_grouped: bool) -> dict[str, float | None]:
    """One line."""
    x_TD = random_weight(device, rows // TOP_K, DIM)
    ids_N = torch.rand(rows // TOP_K, EXPERTS, device=device).topk(TOP_K).indices.flatten()
    inputs = (x_TD, ids_N.argsort(stable=True), ids_N.bincount(minlength=EXPERTS), TOP_K, weights)
    w1, w2, w3 = (weight for weight in weights.matrices[:3] if isinstance(weight, torch.Tensor))
    x_ND = x_TD.repeat_interleave(TOP_K, dim=0)
    return {
        "rows": rows,
        "tiles": milliseconds(partial(grouped_swiglu, *inputs)),
        "grouped_mm": milliseconds(partial(grouped_rows, *inputs)) if with_grouped else None,
        "dense": milliseconds(partial(_dense, x_ND, w1, w2, w3)),
    }


def _dense(x_ND: torch.Tensor, w1: torch.Tensor, w2: torch.Tensor, w3: torch.Tensor) -> None:
    """The products alone, with nothing between."""
    F.linear(x_ND, w3)
    F.linear(F.linear(x_ND, w1), w2)


def _milli(time: float | None) -> str:
    return "-" if time is None else f"{time:.3f}"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


if __name__ == "__main__":
    main()
