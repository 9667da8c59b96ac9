"""Writes a Mixtral checkpoint with random weights whose experts are as popular as Zipf's law says.

    python -m benchmarks.zipf_checkpoint FOLDER [--exponent 1.2] [--config 791m]

In every layer the i-th expert gets a share of the rows proportional to i ** -exponent, but each layer has another order
of experts. The vocabulary is the tokenizer's, and the demo model's unless one is named. Prints the shares of the rows
that were wanted and those that the model then has, on random tokens.
"""

import argparse
import random
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

import mixtralkit
from benchmarks.zipf_routing import shares_of, skew, zipf_shares
from mixtralkit.bench.random_weights import random_model
from mixtralkit.bench.shapes import shape_of
from mixtralkit.checkpoint.formats import Form
from mixtralkit.checkpoint.writer import write_checkpoint
from mixtralkit.config import ModelConfig
from mixtralkit.errors import MixtralKitError
from mixtralkit.tokenizer import Tokenizer

TOKENIZER = Path(__file__).parents[1] / "demo" / "shakespeare" / "tokenizer.model"
EXPONENT, CONFIG = 1.2, "791m"
REQUESTS, TOKENS = 8, 64  # that the shares are counted with

Shares = list[list[float]]  # of the rows: an entry a layer, and there one an expert


def write_zipf_checkpoint(
    folder: Path, config: ModelConfig, tokenizer: Path = TOKENIZER, exponent: float = EXPONENT, seed: int = 0
) -> Shares:
    """Write a checkpoint of that shape, but for the vocabulary, in bfloat16; returns the wanted shares.

    Raises `ValueError` when the exponent is too great.
    """
    popular_first = zipf_shares(config.num_experts, config.top_k, exponent)
    order = random.Random(seed)
    wanted = [order.sample(popular_first, config.num_experts) for _ in range(config.num_layers)]
    pieces = Tokenizer(tokenizer)
    config = replace(config, vocab_size=pieces.vocab_size)
    state = random_model(config, dtype=torch.bfloat16, device=torch.device("cpu")).state_dict()
    control = [token for token in range(config.vocab_size) if token == pieces.unk_id or pieces.is_control(token)]
    skew(state, config, wanted, control, torch.Generator().manual_seed(seed))
    write_checkpoint(state, config, folder, Form.MISTRAL_SAFETENSORS)
    shutil.copyfile(tokenizer, folder / "tokenizer.model")
    return wanted


@torch.inference_mode()
def found_shares(folder: Path) -> Shares:
    """The shares that the checkpoint's experts have when it reads random tokens."""
    model, _ = mixtralkit.load(folder)
    config, found = model.config, []

    def count(_gate: torch.nn.Module, _inputs: object, logits_TE: torch.Tensor) -> None:
        found.append(shares_of(logits_TE.topk(config.top_k).indices, config.num_experts).tolist())

    for name, module in model.named_modules():
        if name.endswith(".gate"):
            module.register_forward_hook(count)
    model(torch.randint(config.vocab_size, (REQUESTS, TOKENS), generator=torch.Generator().manual_seed(0)))
    return found


def comparison(wanted: Shares, found: Shares) -> list[str]:
    """Both in percent, the experts of each layer by their wanted popularity, as Markdown."""
    lines = ["| layer | experts, the most popular first | share wanted (%) | found (%) |", "|---|---|---|---|"]
    for layer, (wanted_E, found_E) in enumerate(zip(wanted, found, strict=True)):
        experts = sorted(range(len(wanted_E)), key=wanted_E.__getitem__, reverse=True)
        cells = (" ".join(f"{100 * shares[expert]:.0f}" for expert in experts) for shares in (wanted_E, found_E))
        lines.append(f"| {layer} | {' '.join(map(str, experts))} | {' | '.join(cells)} |")
    return lines


def main(words: Sequence[str] | None = None) -> None:
    """Write, and print the shares."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--exponent", type=float, default=EXPONENT)
    parser.add_argument("--config", default=CONFIG, help="a shape of `mixtralkit bench`, or a params.json")
    parser.add_argument("--tokenizer", type=Path, default=TOKENIZER)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(words)
    try:
        config = shape_of(options.config)
        wanted = write_zipf_checkpoint(options.folder, config, options.tokenizer, options.exponent, options.seed)
    except (ValueError, MixtralKitError) as error:
        sys.exit(f"{parser.prog}: {error}")
    print("\n".join(comparison(wanted, found_shares(options.folder))))


if __name__ == "__main__":
    main()
