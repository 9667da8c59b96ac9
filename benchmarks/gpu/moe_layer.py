"""The mixture of experts of one layer beside a loop over the experts in torch, which is what users write first.

python -m benchmarks.gpu.moe_layer
"""

import statistics
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

from benchmarks.gpu.section import tell
from mixtralkit.ops.blocks import moe_block
from mixtralkit.ops.matrices import Matrices
from mixtralkit.ops.rms_norm import Norm, rms_norm

DIM, HIDDEN, EXPERTS, TOP_K = 4096, 14_336, 8, 2  # of Mixtral 8x7B
TOKENS = (1, 32, 128, 512, 4096)
WARM, TIMES = 5, 20


def main() -> None:
    """Milliseconds of both by the number of tokens, bfloat16."""
    device = torch.device("cuda")
    matrices = side_by_side(random_weight(device, EXPERTS, 3, HIDDEN * DIM))
    weights, gate_ED = (
        [w for w in matrices.matrices if isinstance(w, torch.Tensor)],
        random_weight(device, EXPERTS, DIM),
    )
    norm = Norm(torch.ones(DIM, dtype=torch.bfloat16, device=device), 1e-5)
    lines = ["| tokens | the layer, ms | loop over experts, ms | ratio |", "|---|---|---|---|"]
    document = []
    for tokens in TOKENS:
        x_TD = random_weight(device, tokens, DIM)
        ours = milliseconds(partial(moe_block, x_TD, norm, gate_ED, TOP_K, matrices))
        loop = milliseconds(partial(loop_over_experts, x_TD, norm, gate_ED, weights))
        lines.append(f"| {tokens} | {ours:.3f} | {loop:.3f} | {loop / ours:.2f} |")
        document.append({"tokens": tokens, "layer": ours, "loop": loop})
    tell("\n".join(lines) + "\n", document)


def side_by_side(memory_E3X: torch.Tensor) -> Matrices:
    """Experts in the order in which loading puts them on a GPU: w1, w3, w2 of each."""
    trios = ((w1.view(HIDDEN, DIM), w2.view(DIM, HIDDEN), w3.view(HIDDEN, DIM)) for w1, w3, w2 in memory_E3X)
    return Matrices([weight for trio in trios for weight in trio])


def loop_over_experts(
    x_TD: torch.Tensor, norm: Norm, gate_ED: torch.Tensor, weights: list[torch.Tensor]
) -> torch.Tensor:
    """What a plain implementation does: for each expert, its tokens through three products."""
    inputs = rms_norm(x_TD, *norm)
    chosen, ids_TK = torch.topk(F.linear(inputs, gate_ED).float(), TOP_K)
    weights_TK = torch.softmax(chosen, dim=-1).to(x_TD.dtype)
    out_TD = x_TD.clone()
    for expert in range(EXPERTS):
        token, k = torch.where(ids_TK == expert)
        w1, w2, w3 = weights[3 * expert : 3 * expert + 3]
        rows = inputs[token]
        result = F.linear(F.silu(F.linear(rows, w1)) * F.linear(rows, w3), w2)
        out_TD.index_add_(0, token, result * weights_TK[token, k, None])
    return out_TD


def random_weight(device: torch.device, *shape: int) -> torch.Tensor:
    """A matrix, or activations, in bfloat16."""
    return torch.randn(shape, device=device, dtype=torch.bfloat16) * 0.02


@torch.inference_mode()
def milliseconds(run: Callable[[], object]) -> float:
    """The median of some runs, each between two events of the device."""
    for _ in range(WARM):
        run()
    pairs = []
    for _ in range(TIMES):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        pairs.append((begin, end))
    torch.cuda.synchronize()
    return float(statistics.median(begin.elapsed_time(end) for begin, end in pairs))


if __name__ == "__main__":
    main()
