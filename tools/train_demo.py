"""Make the demo checkpoint from nothing: fetch the text, learn a tokenizer, train, write the files.

    torchrun --standalone --nproc_per_node=2 tools/train_demo.py

It takes about an hour of two cores, and goes on where it was when it is interrupted. docs/demo_model.md says what
comes out of it.
"""

import argparse
import math
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import demo_files
import demo_text
import torch

from mixtralkit.config import ModelConfig
from mixtralkit.dist.launch import Group, LaunchOptions
from mixtralkit.dist.run_rank import run_rank
from mixtralkit.model.transformer import Transformer
from mixtralkit.tokenizer import Tokenizer
from mixtralkit.train.data import ShuffledText, held_out_batches
from mixtralkit.train.initialise import initialise
from mixtralkit.train.learn_tokenizer import learn_tokenizer
from mixtralkit.train.loop import Progress, Trainer, TrainSettings
from mixtralkit.train.schedule import Schedule

SEED = 1
BLOCK = 512
SHAPE = ModelConfig(
    vocab_size=3072,
    dim=256,
    num_layers=5,
    num_heads=8,
    num_kv_heads=4,
    head_dim=32,
    hidden_dim=128,
    num_experts=8,
    top_k=2,
    context=BLOCK,
)
STEPS = 1300
SETTINGS = TrainSettings(Schedule(1.5e-3, STEPS, warmup=100, decay=400), batch=8, micro_batch=4)
SHOWN_EVERY = 20


@dataclass(frozen=True)
class Prepared:
    """The tokenizer and both texts as tokens, int64 `[N]`; `held_out_bytes` is the size of the held-out text."""

    tokenizer: Tokenizer
    train_N: torch.Tensor
    held_out_N: torch.Tensor
    held_out_bytes: int


def prepare(work: Path, group: Group) -> Prepared:
    """Fetch the text and learn the tokenizer, on rank 0, and encode the scenes."""
    if group.rank == 0:
        work.mkdir(parents=True, exist_ok=True)
        scenes, _ = demo_text.split_scenes(demo_text.read_scenes(demo_text.fetch_wheel(work)))
        (work / "tokenizer.model").write_bytes(learn_tokenizer(scenes, SHAPE.vocab_size))
    group.control.all_gather_json("ready")
    scenes, held_out = demo_text.split_scenes(demo_text.read_scenes(demo_text.fetch_wheel(work)))
    tokenizer = Tokenizer(work / "tokenizer.model")
    held_out_bytes = sum(len(scene.encode("utf-8")) for scene in held_out)
    return Prepared(tokenizer, encode(tokenizer, scenes), encode(tokenizer, held_out), held_out_bytes)


def encode(tokenizer: Tokenizer, scenes: list[str]) -> torch.Tensor:
    """All scenes one after the other, each from BOS to EOS."""
    return torch.tensor([token for scene in scenes for token in (*tokenizer.encode(scene), tokenizer.eos_id)])


def train(group: Group, work: Path, out: Path) -> int:
    """One rank's part; rank 0 shows the progress, and writes the checkpoint whenever it has become better."""
    demo_files.keep_freed_memory()
    texts = prepare(work, group)
    model = Transformer(SHAPE)
    initialise(model, SEED)
    bos = texts.tokenizer.bos_id
    trainer = Trainer(
        model=model,
        settings=SETTINGS,
        text=ShuffledText(texts.train_N, BLOCK, bos, SEED),
        held_out=held_out_batches(texts.held_out_N, BLOCK, bos, SETTINGS.micro_batch),
        state_file=work / "state.pth",
        collectives=group.collectives,
    )

    def on_step(progress: Progress) -> None:
        group.at(f"training step {progress.step}")
        if group.rank == 0:
            show(progress)
            if progress.is_best:
                demo_files.write(out, model, work / "tokenizer.model", record(progress, texts, group.world_size))

    trainer.run(on_step)
    return 0


def show(progress: Progress) -> None:
    """Print how training goes, from time to time."""
    if progress.step % SHOWN_EVERY == 0:
        print(
            f"{datetime.now():%H:%M:%S} step {progress.step} of {STEPS}, loss {progress.loss:.3f}, "
            f"balance {progress.balance_loss:.3f}, learning rate {progress.learning_rate:.1e}, "
            f"{progress.step * SETTINGS.batch * BLOCK / progress.seconds:.0f} tokens/s",
            flush=True,
        )
    if progress.held_out is not None:
        best = "the best yet" if progress.is_best else "not the best"
        print(f"held out: {progress.held_out.loss:.4f} nats a token, {best}", flush=True)


def record(progress: Progress, texts: Prepared, ranks: int) -> dict[str, Any]:
    """What to know about the weights: the recipe, what came of it, where the text is from."""
    held_out = progress.held_out
    assert held_out is not None
    bits = held_out.loss * held_out.tokens / math.log(2)
    return {
        "made_by": f"torchrun --standalone --nproc_per_node={ranks} tools/train_demo.py",
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d}",
        "hardware": demo_files.hardware(),
        "training_seconds": round(progress.seconds),
        "seed": SEED,
        "steps": progress.step,
        "steps_planned": STEPS,
        "tokens_seen": progress.step * SETTINGS.batch * BLOCK,
        "training_tokens": texts.train_N.numel(),
        "training_loss": round(progress.loss, 4),
        "held_out_tokens": held_out.tokens,
        "held_out_bytes": texts.held_out_bytes,
        "held_out_loss": round(held_out.loss, 4),
        "held_out_bits_per_byte": round(bits / texts.held_out_bytes, 4),
        "expert_shares": [[round(share, 3) for share in layer] for layer in held_out.shares_LE],
        "parameters": SHAPE.num_params,
        "text": demo_text.ORIGIN,
        "text_licence": demo_text.LICENCE,
        "text_package": {"name": demo_text.PACKAGE, "sha256": demo_text.WHEEL_SHA256},
    }


def main() -> int:
    """Read the two options and run this rank."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/demo"), help="where text and state are kept")
    parser.add_argument("--out", type=Path, default=Path("demo/shakespeare"), help="where the checkpoint goes")
    options = parser.parse_args()
    launch = LaunchOptions(device="cpu", collective_timeout=600.0)
    return run_rank(lambda group: train(group, options.work, options.out), launch, print)


if __name__ == "__main__":
    raise SystemExit(main())
