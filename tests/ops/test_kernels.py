"""The extension's operators: registered as torch wants it, and every variant of the kernels against float64.

What rests on them is tested with the ops themselves; here is what only the choice of a variant can break.
"""

import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F

from mixtralkit.ops import library
from mixtralkit.ops.matrices import Matrices
from mixtralkit.ops.quantize import quantize
from mixtralkit.ops.quantized_product import quantized_linear_reference
from mixtralkit.ops.quantized_weight import QuantKind

pytestmark = pytest.mark.skipif(library.why_not() is not None, reason=f"no native kernels: {library.why_not()}")

VARIANTS = ("portable", "avx2", "avx512")
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
INTEGERS = (QuantKind.INT8, QuantKind.INT4)
FUSED = ("avx2", "avx512")  # variants that have fused multiply-add on every processor


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each variant that this processor has, and the best one again afterwards."""
    with_all = library.variant()
    if VARIANTS.index(request.param) > VARIANTS.index(with_all):
        pytest.skip(f"this processor has no {request.param}")
    library.use_variant(request.param)
    yield request.param
    library.use_variant(with_all)


def tolerance(dtype: torch.dtype, variant: str) -> float:
    """Relative to the largest result: float32 sums, or inputs rounded to bfloat16 (2 ** -9 each, partly cancelling)."""
    return 4e-3 if dtype == torch.bfloat16 and variant == "avx512" else 2e-6


def assert_near(found: torch.Tensor, exact: torch.Tensor, relative: float) -> None:
    assert (found.double() - exact).abs().max() <= relative * exact.abs().max()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"),
    [(1, 1024, 100), (2, 36, 50), (3, 64, 17), (7, 100, 64), (9, 100, 64), (33, 256, 130), (2, 14_336, 5)],
)
def test_linear(rows: int, inputs: int, outputs: int, dtype: torch.dtype, variant: str) -> None:
    """Also for odd sizes, where vectors are not full, and with a second matrix beside the first."""
    x = torch.randn(rows, inputs)
    weights = [torch.randn(size, inputs).to(dtype) for size in (outputs, 5)]
    found = library.ops().linear(x, weights, [], [], [outputs, 5])
    assert_near(found, x.double() @ torch.cat(weights).double().T, tolerance(dtype, variant))


@pytest.mark.parametrize("kind", [*FLOATS, *INTEGERS])
@pytest.mark.parametrize("inputs", [64, 100, 1024, 3584])
def test_rows_do_not_depend_on_one_another(inputs: int, kind: torch.dtype | QuantKind, variant: str) -> None:
    """Few and many rows, and long and short ones, go through in different ways."""
    if isinstance(kind, QuantKind) and inputs % 64:
        pytest.skip("quantized inputs come in groups of 64")
    dense, x = torch.randn(37, inputs), torch.randn(21, inputs)
    weight = quantize(dense, kind) if isinstance(kind, QuantKind) else dense.to(kind)
    parts = Matrices([weight]).native_parts
    assert parts is not None
    whole = library.ops().linear(x, *parts, [37])
    for rows in range(1, 14):
        assert torch.equal(library.ops().linear(x[-rows:].contiguous(), *parts, [37]), whole[-rows:])


def test_linear_with_a_norm_and_a_residual(variant: str) -> None:
    """The same bits as one after the other; more rows than a thread normalises at once."""
    x, weight, scale, residual = torch.randn(600, 64), torch.randn(20, 64), torch.rand(64), torch.randn(600, 20)
    ops = library.ops()
    normed = ops.rms_norm(x, scale, 1e-5)
    product = ops.linear(normed, [weight], [], [], [20])
    assert torch.equal(ops.linear(x, [weight], [], [], [20], scale, 1e-5, residual), residual + product)


def test_linear_gate(variant: str) -> None:
    """The same bits as the product and the choice."""
    ops, x, weight = library.ops(), torch.randn(50, 64), torch.randn(8, 64)
    found, expected = ops.linear_gate(x, weight, 2), ops.topk_gate(ops.linear(x, [weight], [], [], [8]), 2)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"), [(1, 64, 16), (2, 128, 50), (5, 256, 17), (19, 192, 130), (1, 1024, 7)]
)
def test_quantized_linear(rows: int, inputs: int, outputs: int, kind: QuantKind, variant: str) -> None:
    """Whole numbers are exact, so with fused multiply-add the reference's bits are met; without, float32's error."""
    x, weight = torch.randn(rows, inputs), quantize(torch.randn(outputs, inputs), kind)
    mins = [] if weight.mins is None else [weight.mins]
    found = library.ops().linear(x, [weight.codes], [weight.scales], mins, [outputs])
    expected = quantized_linear_reference(x, weight)
    if variant in FUSED:
        assert torch.equal(found, expected)
    else:
        assert_near(found, expected.double(), 1e-6)


def test_quantized_linear_of_the_smallest_numbers(variant: str) -> None:
    """A scale of 1.4e-45 for a largest magnitude of 190 of these: integers are cut off at 127, not wrapped around."""
    weight = quantize(torch.full((16, 64), 127.0), QuantKind.INT8)
    found = library.ops().linear(torch.full((1, 64), 190 * 2.0**-149), [weight.codes], [weight.scales], [], [16])
    assert torch.equal(found, quantized_linear_reference(torch.full((1, 64), 190 * 2.0**-149), weight))
    assert (found > 0).all()


@pytest.mark.parametrize("kind", INTEGERS)
def test_quantized_linear_shows_what_is_not_finite(kind: QuantKind, variant: str) -> None:
    """NaN and infinity cannot be integers; they must not come out as ordinary numbers."""
    weight = quantize(torch.randn(20, 128), kind)
    mins = [] if weight.mins is None else [weight.mins]
    for bad in (math.nan, math.inf, -math.inf):
        x = torch.randn(2, 128)
        x[1, 70] = bad
        found = library.ops().linear(x, [weight.codes], [weight.scales], mins, [20])
        assert found[0].isfinite().all()
        assert found[1].isnan().all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_expert_mlp(dtype: torch.dtype, variant: str) -> None:
    """More rows than go through at a time, an expert without rows, one with a single row."""
    counts, width, hidden = [3, 0, 1, 1200], 64, 150
    x = torch.randn(sum(counts), width)
    shapes = [(hidden, width), (width, hidden), (hidden, width)] * len(counts)
    weights = [(torch.randn(shape) * 0.1).to(dtype) for shape in shapes]
    found = library.ops().expert_mlp(x, counts, weights, [], [], hidden)
    exact = []
    for expert, rows in enumerate(x.double().split(counts)):
        w1, w2, w3 = (weight.double() for weight in weights[3 * expert : 3 * expert + 3])
        exact.append((F.silu(rows @ w1.T) * (rows @ w3.T)) @ w2.T)
    assert_near(found, torch.cat(exact), 2 * tolerance(dtype, variant))


def test_silu_far_out(variant: str) -> None:
    """Where e ** -x underflows, overflows, and is not a number: through an expert of unit matrices."""
    values = torch.tensor(
        [-1e30, -200.0, -100.0, -88.0, -1.0, -1e-30, 0.0, 1e-30, 1.0, 88.0, 200.0, 1e30, math.inf, math.nan]
    )
    one = torch.ones(1, 1)
    found = torch.cat(
        [
            library.ops().expert_mlp(torch.tensor([[1.0]]), [1], [value.view(1, 1), one, one], [], [], 1)
            for value in values
        ]
    )
    torch.testing.assert_close(found.flatten(), F.silu(values.double()).float(), rtol=1e-6, atol=1e-38, equal_nan=True)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("window", [None, 7, 64, 65])
def test_attention(window: int | None, dtype: torch.dtype, variant: str) -> None:
    """Two requests over several chunks of positions, against softmax in float64; the cache starts as NaN."""
    heads, kv_heads, width, tokens = 6, 2, 24, 150
    lengths = (tokens - 13, 13)
    cache = [torch.full((11, kv_heads, 16, width), math.nan, dtype=dtype) for _ in range(2)]
    qkv, angles = torch.randn(tokens, (heads + 2 * kv_heads) * width), torch.randn(tokens, width // 2)
    segments = torch.tensor([[0, lengths[0]], [0, lengths[1]]])
    tables = torch.tensor([[8, 3, 1, 10, 0, 4, 2, 7, 6], [5] + [-1] * 8])
    found = library.ops().attention(qkv, *cache, segments, tables, angles.cos(), angles.sin(), heads, window or 2**62)
    turns = torch.polar(torch.ones_like(angles).double(), angles.double())[:, None]
    q, k, v = qkv.double().view(tokens, -1, width).split([heads, kv_heads, kv_heads], dim=1)
    q, k = (torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * turns).flatten(-2) for x in (q, k))
    k, v = (x.to(dtype).double().repeat_interleave(heads // kv_heads, dim=1) for x in (k, v))
    exact = []
    for q_part, k_part, v_part in zip(q.split(lengths), k.split(lengths), v.split(lengths), strict=True):
        at = torch.arange(len(q_part))
        seen = (at <= at[:, None]) & (at > at[:, None] - (window or tokens))
        scores = torch.einsum("thd,shd->hts", q_part, k_part) / math.sqrt(width)
        weights = scores.masked_fill(~seen, -math.inf).softmax(-1)
        exact.append(torch.einsum("hts,shd->thd", weights, v_part).flatten(1))
    # A key may fall on the other side of a rounding to the cache's dtype than its float64 twin.
    assert_near(found, torch.cat(exact), 2e-6 + torch.finfo(dtype).eps / 8)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("window", [None, 7, 64, 70])
def test_attention_in_pieces(window: int | None, dtype: torch.dtype, variant: str) -> None:
    """However a prompt of several chunks is cut into calls, a token gets the same bits."""
    tokens, heads, width = 200, 3, 10
    qkv, angles = torch.randn(tokens, (heads + 2) * width), torch.randn(tokens, width // 2)

    def run(ends: list[int]) -> torch.Tensor:
        cache = [torch.full((7, 1, 32, width), math.nan, dtype=dtype) for _ in range(2)]
        outs = []
        for begin, end in zip([0, *ends[:-1]], ends, strict=True):
            turns = angles[begin:end].cos(), angles[begin:end].sin()
            segment = torch.tensor([[begin, end - begin]]), torch.tensor([[5, 3, 0, 1, 6, 4, 2]])
            outs.append(library.ops().attention(qkv[begin:end], *cache, *segment, *turns, heads, window or 2**62))
        return torch.cat(outs)

    whole = run([tokens])
    assert torch.equal(run([7, 70, 123, 124, tokens]), whole)
    assert torch.equal(run(list(range(1, tokens + 1))), whole)


def test_attention_of_nothing(variant: str) -> None:
    """A rank without requests may have a cache of no blocks, and still takes part."""
    cache = [torch.empty(0, 2, 4, 8) for _ in range(2)]
    no_rows, no_segments = torch.empty(0, 4), torch.empty(0, 2, dtype=torch.int64)
    no_tables = torch.empty(0, 0, dtype=torch.int64)
    found = library.ops().attention(torch.empty(0, 6 * 8), *cache, no_segments, no_tables, no_rows, no_rows, 2, 2**62)
    assert found.shape == (0, 16)


def test_attention_does_not_look_ahead(variant: str) -> None:
    """Not even to multiply by 0: a later value may be infinite."""
    qkv, angles = torch.randn(4, 3 * 8), torch.zeros(4, 4)
    qkv[3, 16:] = math.inf
    cache = [torch.zeros(1, 1, 4, 8) for _ in range(2)]
    segment = torch.tensor([[0, 4]]), torch.tensor([[0]])
    found = library.ops().attention(qkv, *cache, *segment, angles.cos(), angles.sin(), 1, 2**62)
    assert found[:3].isfinite().all()


@pytest.mark.parametrize("kind", [*FLOATS, *INTEGERS])
def test_expert_mlp_row_by_row(kind: torch.dtype | QuantKind, variant: str) -> None:
    """Rows beyond the 128 of a task and the 1,024 of a panel get the bits that they get alone, with any threads."""
    width, hidden, rows = 64, 192, 1100
    x = torch.randn(rows, width)
    dense = [torch.randn(shape) * 0.1 for shape in ((hidden, width), (width, hidden), (hidden, width))]
    matrices = [quantize(w, kind) if isinstance(kind, QuantKind) else w.to(kind) for w in dense]
    parts = Matrices(matrices).native_parts
    assert parts is not None
    whole = library.ops().expert_mlp(x, [rows], *parts, hidden)
    torch.set_num_threads(3)
    assert torch.equal(library.ops().expert_mlp(x, [rows], *parts, hidden), whole)
    for row in (0, 3, 127, 128, 1023, 1024, 1099):
        assert torch.equal(library.ops().expert_mlp(x[row : row + 1], [1], *parts, hidden)[0], whole[row])


def test_an_error_in_a_thread_keeps_its_words() -> None:
    torch.set_num_threads(2)
    pairs = torch.zeros(1000, dtype=torch.int64)
    pairs[900] = 7
    with pytest.raises(RuntimeError, match="there is no pair 7 of 3 tokens"):
        library.ops().take_rows(torch.randn(3, 4), pairs, 2)


def test_the_gate_takes_the_lowest_id_of_equal_ones_and_nan_first() -> None:
    logits = torch.tensor([[1.0, 2.0, 2.0, 0.0], [-0.0, 0.0, -1.0, -1.0], [5.0, math.nan, 6.0, 1.0]])
    ids = library.ops().topk_gate(logits, 2)[0]
    assert ids.tolist() == [[1, 2], [0, 1], [1, 2]]


def test_operators_are_registered_as_torch_wants() -> None:
    """Schemas tell what is written to, meta kernels give the right shapes, nothing aliases in secret."""
    ops, x = library.ops(), torch.randn(3, 64)
    quantized = quantize(torch.randn(20, 64), QuantKind.INT4)
    expert = [torch.randn(10, 64), torch.randn(64, 10), torch.randn(10, 64)]
    cache, segment = [torch.zeros(2, 1, 4, 16) for _ in range(2)], (torch.tensor([[2, 3]]), torch.tensor([[1, 0]]))
    angles = torch.randn(3, 8)
    calls = {
        "linear": (x, [torch.randn(5, 64)], [], [], [5], torch.rand(64), 1e-5, torch.randn(3, 5)),
        "linear ": (x, [quantized.codes], [quantized.scales], [quantized.mins], [20]),
        "expert_mlp": (x, [2, 1], expert * 2, [], [], 10),
        "attention_block": (
            *(x, torch.rand(64), 1e-5, [torch.randn(64, 64)], [], [], [64]),
            *(*cache, *segment, angles.cos(), angles.sin(), 2, 100, [torch.randn(64, 32)], [], []),
        ),
        "moe_block": (x, torch.rand(64), 1e-5, torch.randn(2, 64), 2, expert * 2, [], [], 10),
        "rms_norm": (x, torch.randn(64), 1e-5),
        "attention": (x, *cache, *segment, angles.cos(), angles.sin(), 2, 100),
        "rotations": (torch.tensor([3, 0]), 16, 1e6),
        "topk_gate": (x, 2),
        "linear_gate": (x, torch.randn(4, 64), 2),
        "expert_sort": (torch.tensor([[2, 0], [1, 2]]), torch.tensor([1, 0, 2])),
        "take_rows": (x, torch.tensor([5, 0, 3]), 2),
        "sum_rows": (torch.randn(6, 5), torch.randperm(6), torch.rand(3, 2)),
    }
    for name, arguments in calls.items():
        torch.library.opcheck(getattr(ops, name.strip()).default, arguments)


def test_wrong_arguments_are_refused() -> None:
    """What would read or write where it must not."""
    ops, x, weight = library.ops(), torch.randn(3, 64), torch.randn(5, 64)
    expert = [weight, weight.T.contiguous(), weight]
    quantized = quantize(torch.randn(20, 64), QuantKind.INT8)
    cache, angles = [torch.zeros(2, 1, 4, 16) for _ in range(2)], torch.zeros(3, 8)
    start, table = torch.tensor([[0, 3]]), torch.tensor([[1, 0]])
    odd = [torch.zeros(2, 1, 5, 16) for _ in range(2)]
    for call in (
        lambda: ops.linear(x, [weight], [], [], [6]),
        lambda: ops.linear(x[:, :32].contiguous(), [weight], [], [], [5]),
        lambda: ops.linear(x.double(), [weight], [], [], [5]),
        lambda: ops.linear(x[:, ::2], [weight[:, ::2]], [], [], [5]),
        lambda: ops.linear(x, [weight.double()], [], [], [5]),
        lambda: ops.linear(x, [weight, weight.half()], [], [], [5, 5]),
        lambda: ops.linear(x, [quantized.codes], [quantized.scales], [], [40]),
        lambda: ops.linear(x, [quantized.codes], [quantized.scales[:, :8].contiguous()], [], [20]),
        lambda: ops.expert_mlp(x, [2], [weight, weight.T.contiguous(), weight], [], [], 5),
        lambda: ops.expert_mlp(x, [3], [weight, weight], [], [], 5),
        lambda: ops.expert_mlp(x, [-1, 4], [weight, weight.T.contiguous(), weight] * 2, [], [], 5),
        lambda: ops.expert_mlp(x, [3], [weight, weight.T.contiguous().half(), weight], [], [], 5),
        lambda: ops.linear(x, [], [], [], []),
        lambda: ops.linear(x, [weight, weight], [], [], [5]),
        lambda: ops.linear(x, [weight], [], [], [5], torch.rand(63), 1e-5),
        lambda: ops.linear(x, [weight], [], [], [5], None, 0.0, torch.zeros(3, 6)),
        lambda: ops.linear(x, [weight], [], [], [5], None, 0.0, torch.zeros(2, 5)),
        lambda: ops.linear_gate(x, torch.randn(4, 63), 2),
        lambda: ops.linear_gate(x, torch.randn(4, 64), 5),
        lambda: ops.moe_block(x, torch.rand(64), 1e-5, torch.randn(2, 64), 1, expert, [], [], 5),
        lambda: ops.moe_block(x, torch.rand(63), 1e-5, torch.randn(1, 64), 1, expert, [], [], 5),
        lambda: ops.attention(x, cache[0], torch.zeros(1, 1, 4, 16), start, table, angles, angles, 2, 100),
        lambda: ops.attention(x, *cache, torch.tensor([0, 3]), table, angles, angles, 2, 100),
        lambda: ops.attention(x, *cache, start, table[0], angles, angles, 2, 100),
        lambda: ops.attention(x, *cache, start, table.int(), angles, angles, 2, 100),
        lambda: ops.attention(x, *cache, start, table.repeat(2, 1), angles, angles, 2, 100),
        lambda: ops.attention(x, *odd, start, table, angles, angles, 2, 100),
        lambda: ops.expert_sort(torch.tensor([[1]]), torch.tensor([0, 1, 1])),
        lambda: ops.sum_rows(torch.randn(6, 4), torch.zeros(6, dtype=torch.int64), torch.rand(3, 2)),
        lambda: ops.take_rows(x, torch.tensor([-1]), 2),
        lambda: ops.attention(x, *cache, torch.tensor([[0, 2]]), table, angles, angles, 2, 100),
        lambda: ops.attention(x, *cache, torch.tensor([[-1, 3]]), table, angles, angles, 2, 100),
        lambda: ops.attention(x, *cache, torch.tensor([[2**63 - 1, 3]]), table, angles, angles, 2, 100),
        lambda: ops.expert_sort(torch.tensor([[3]]), torch.tensor([0, 1, 2])),
        lambda: ops.take_rows(x, torch.tensor([6]), 2),
        lambda: ops.sum_rows(torch.randn(5, 4), torch.arange(5), torch.rand(3, 2)),
    ):
        with pytest.raises(RuntimeError):
            call()
