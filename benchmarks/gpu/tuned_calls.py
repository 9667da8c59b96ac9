"""The calls by which entries of tiles.json are chosen: those of Mixtral 8x7B, for some numbers of rows."""

from dataclasses import dataclass
from functools import lru_cache, partial

import torch

from benchmarks.gpu.launches import Call
from mixtralkit.ops import grouped_product
from mixtralkit.ops.device_segments import device_segments
from mixtralkit.ops.matrices import Matrices
from mixtralkit.ops.quantized_weight import Matrix, QuantizedWeight, QuantKind, random_quantized
from mixtralkit.ops.rotary import rotations
from mixtralkit.ops.sample import Settings, settings_of
from mixtralkit.ops.triton import attention_kernels, expert_kernels, linear_kernels, sample_kernels
from mixtralkit.ops.triton.expert_tiles import room_for
from mixtralkit.ops.triton.product_tiles import product_entry

SAMPLED = Settings(0.7, 0.0, 0, 0.9, 0.5)


@dataclass(frozen=True)
class Sizes:
    """Of a layer, and which calls there are: by tokens, by requests with so long a context, by lengths of prompts."""

    dim: int = 4096
    hidden: int = 14_336
    experts: int = 8
    top_k: int = 2
    heads: int = 32
    kv_heads: int = 8
    head_dim: int = 128
    block: int = 16
    vocab: int = 32_000
    tokens: tuple[int, ...] = (1, 4, 16, 32, 64, 128, 256, 1024, 4096)
    contexts: tuple[tuple[int, int], ...] = ((1, 4096), (16, 1024), (256, 1024))
    prompts: tuple[int, ...] = (128, 1024, 4096)
    sampled: tuple[int, ...] = (1, 16, 256)


MIXTRAL = Sizes()


def calls(name: str, arch: int, sizes: Sizes, device: torch.device) -> list[Call]:
    """The calls whose speed an entry decides; none where it is for no number of tokens."""
    kernel, _, rest = name.partition("/")
    if kernel in ("up", "down"):
        return [_experts(kernel, rest, sizes, tokens, device) for tokens in _tokens(name, arch, sizes)]
    if kernel == "linear":
        return [_linear(rest, sizes, tokens, device) for tokens in _tokens(name, arch, sizes)]
    if kernel == "grouped":
        return [_grouped(sizes, tokens, device) for tokens in sizes.tokens]
    if kernel == "sample":
        return [_sampling(sizes, rows, device) for rows in sizes.sampled]
    dtype = torch.float32 if rest == "float32" else torch.bfloat16
    if kernel == "prompts":
        return [_attention([(0, length)], ("prompt_kernel",), sizes, dtype, device) for length in sizes.prompts]
    timed = ("token_kernel", "join_splits_kernel") if kernel == "split" else ("token_kernel",)
    return [_attention([(seen - 1, 1)] * number, timed, sizes, dtype, device) for number, seen in sizes.contexts]


def _tokens(name: str, arch: int, sizes: Sizes) -> list[int]:
    """The first, the middle and the last number of tokens for which an entry of a product is."""
    product, weights, _ = name.split("/")
    dtype, kind = _kind(weights)

    def entry(tokens: int) -> str:
        rows = tokens if product == "linear" else room_for(tokens * sizes.top_k, sizes.experts)
        return product_entry(arch, product, rows, dtype, kind)

    found = [tokens for tokens in sizes.tokens if entry(tokens) == name]
    return sorted({found[0], found[len(found) // 2], found[-1]}) if found else []


def _kind(weights: str) -> tuple[torch.dtype, QuantKind | None]:
    """Of rows, and of weights."""
    if weights in ("dense", "float32"):
        return torch.bfloat16 if weights == "dense" else torch.float32, None
    return torch.bfloat16, QuantKind(weights)


def _experts(product: str, rest: str, sizes: Sizes, tokens: int, device: torch.device) -> Call:
    weights = expert_weights(rest.partition("/")[0], sizes, device)
    dtype, kind = _kind(rest.partition("/")[0])
    inputs = _routed(sizes, tokens, dtype, device)
    matrices, size = 2 if product == "up" else 1, sizes.hidden * sizes.dim
    busy = int((inputs[2] > 0).sum())
    return Call(
        f"{tokens} tokens",
        partial(expert_kernels.grouped_swiglu, *inputs, weights),
        *(expert_kernels, (f"{product}_kernel",)),
        nbytes=busy * matrices * size * _bytes(dtype, kind),
        operations=2.0 * tokens * sizes.top_k * matrices * size,
    )


def _grouped(sizes: Sizes, tokens: int, device: torch.device) -> Call:
    """All of both ways: not by their kernels."""
    inputs, weights = _routed(sizes, tokens, torch.bfloat16, device), expert_weights("dense", sizes, device)
    size = 3 * sizes.hidden * sizes.dim
    return Call(
        f"{tokens} tokens",
        partial(grouped_product.expert_rows, *inputs, weights),
        *(grouped_product, ()),
        nbytes=2.0 * int((inputs[2] > 0).sum()) * size,
        operations=2.0 * tokens * sizes.top_k * size,
    )


def _routed(
    sizes: Sizes, tokens: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
    """Rows, pairs and counts for experts drawn evenly, the same in every run."""
    draw = torch.Generator().manual_seed(tokens)
    ids_N = torch.rand(tokens, sizes.experts, generator=draw).topk(sizes.top_k).indices.flatten()
    counts_E = ids_N.bincount(minlength=sizes.experts)
    x_TD = torch.randn(tokens, sizes.dim, generator=draw).to(device, dtype)
    return x_TD, ids_N.argsort(stable=True).to(device), counts_E.to(device), sizes.top_k


@lru_cache(maxsize=1)
def expert_weights(weights: str, sizes: Sizes, device: torch.device) -> Matrices:
    """Of all experts of a layer, w1, w2, w3 of each, laid out as loading does it. Only the last ones are kept."""
    dtype, kind = _kind(weights)
    if kind is not None:
        shapes = ((sizes.hidden, sizes.dim), (sizes.dim, sizes.hidden), (sizes.hidden, sizes.dim))
        drawn = {shape: _quantized(*shape, kind) for shape in set(shapes)}
        return Matrices([_copy(drawn[shape], device) for _ in range(sizes.experts) for shape in shapes])
    memory = torch.randn(sizes.experts, 3, sizes.hidden * sizes.dim, device=device, dtype=dtype) * sizes.dim**-0.5
    trios = (
        (w1.view(sizes.hidden, sizes.dim), w2.view(sizes.dim, sizes.hidden), w3.view(sizes.hidden, sizes.dim))
        for w1, w3, w2 in memory
    )
    return Matrices([weight for trio in trios for weight in trio])


def _linear(rest: str, sizes: Sizes, tokens: int, device: torch.device) -> Call:
    """Queries, keys and values; rows of float32 with weights in int8."""
    weights = rest.partition("/")[0]
    dtype, kind = (torch.float32, QuantKind.INT8) if weights == "float32" else _kind(weights)
    assert kind is not None
    outputs = [heads * sizes.head_dim for heads in (sizes.heads, sizes.kv_heads, sizes.kv_heads)]
    matrices: list[Matrix] = [_copy(_quantized(number, sizes.dim, kind), device) for number in outputs]
    x_RD = torch.randn(tokens, sizes.dim, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    size = sum(outputs) * sizes.dim
    return Call(
        f"{tokens} rows",
        partial(linear_kernels.quantized_linear, x_RD, Matrices(matrices), None),
        *(linear_kernels, ("linear_kernel",)),
        nbytes=size * kind.bits / 8,
        operations=2.0 * tokens * size,
    )


def _attention(
    segments: list[tuple[int, int]], timed: tuple[str, ...], sizes: Sizes, dtype: torch.dtype, device: torch.device
) -> Call:
    """Segments of equal lengths, over a cache in which each has its own blocks, one after the other."""
    (start, length), requests = segments[0], len(segments)
    blocks = -(-(start + length) // sizes.block)
    cache = torch.randn(2, requests * blocks, sizes.kv_heads, sizes.block, sizes.head_dim, device=device, dtype=dtype)
    width = (sizes.heads + 2 * sizes.kv_heads) * sizes.head_dim
    qkv_TX = torch.randn(requests * length, width, device=device, dtype=dtype)
    positions_T = torch.arange(start, start + length, device=device).repeat(requests)
    on_device = device_segments(torch.tensor(segments), torch.arange(requests * blocks).view(requests, blocks), device)
    seen = requests * sum(range(start + 1, start + length + 1))  # pairs of a token and a position that it sees
    return Call(
        f"{requests} x {length} tokens, {start + length} positions",
        partial(
            attention_kernels.paged_attention,
            *(qkv_TX, *cache, on_device, rotations(positions_T, sizes.head_dim, 1e6)),
            num_heads=sizes.heads,
            sliding_window=None,
        ),
        *(attention_kernels, timed),
        nbytes=2.0 * requests * (start + length) * sizes.kv_heads * sizes.head_dim * dtype.itemsize,
        operations=4.0 * seen * sizes.heads * sizes.head_dim,
    )


def _sampling(sizes: Sizes, rows: int, device: torch.device) -> Call:
    logits_BV = torch.randn(rows, sizes.vocab, generator=torch.Generator().manual_seed(0)).mul(4).to(device)
    settings_B5 = settings_of([SAMPLED] * rows).to(device)
    return Call(
        f"{rows} rows",
        partial(sample_kernels.sample, logits_BV, settings_B5),
        *(sample_kernels, ("sample_kernel",)),
        nbytes=4.0 * rows * sizes.vocab,
        operations=0.0,
    )


def _quantized(outputs: int, inputs: int, kind: QuantKind) -> QuantizedWeight:
    return random_quantized(outputs, inputs, kind, std=inputs**-0.5, generator=torch.Generator().manual_seed(0))


def _copy(weight: QuantizedWeight, device: torch.device) -> QuantizedWeight:
    """In memory of its own."""
    parts = {name: part.to(device, copy=True) for name, part in weight.parts.items()}
    return QuantizedWeight(
        parts["codes"], parts["scales"], parts.get("mins"), weight.outputs, weight.inputs, weight.kind
    )


def _bytes(dtype: torch.dtype, kind: QuantKind | None) -> float:
    return dtype.itemsize if kind is None else kind.bits / 8
