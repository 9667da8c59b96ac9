"""The demo checkpoint that is shipped: complete, small, and a model that has learned something.

tools/train_demo.py made it; its held-out loss over all held-out scenes is in training.json. Here a piece of one of
those scenes is enough.
"""

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mixtralkit.api import load
from mixtralkit.model.transformer import Transformer
from mixtralkit.tokenizer import Tokenizer
from mixtralkit.train.load_balance import GateWatch, row_shares

FOLDER = Path(__file__).parent.parent / "demo" / "shakespeare"
# The beginning of a scene that the model was not trained on.
HELD_OUT = """Richard III

ACT I

SCENE I. London. A street.

[Enter GLOUCESTER, solus]

GLOUCESTER:
Now is the winter of our discontent
Made glorious summer by this sun of York;
And all the clouds that lour'd upon our house
In the deep bosom of the ocean buried.
Now are our brows bound with victorious wreaths;
Our bruised arms hung up for monuments;
Our stern alarums changed to merry meetings,
Our dreadful marches to delightful measures.
Grim-visaged war hath smooth'd his wrinkled front;
And now, instead of mounting barded steeds
To fright the souls of fearful adversaries,
He capers nimbly in a lady's chamber
To the lascivious pleasing of a lute.
"""


@pytest.fixture(scope="module")
def demo() -> tuple[Transformer, Tokenizer]:
    return load(FOLDER, dtype=torch.float32)


def test_it_is_small_and_split_so_that_the_order_of_the_parts_matters() -> None:
    files = [path for path in FOLDER.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 14_000_000
    parts = {path.name for path in files if "-split" in path.name}
    assert {f"consolidated.00.pth-split{number}" for number in range(11)} <= parts


def test_the_record_fits_the_weights(demo: tuple[Transformer, Tokenizer]) -> None:
    record = json.loads((FOLDER / "training.json").read_text(encoding="utf-8"))
    model, tokenizer = demo
    assert record["parameters"] == model.config.num_params == sum(p.numel() for p in model.parameters())
    assert tokenizer.vocab_size == model.config.vocab_size
    bits = record["held_out_loss"] * record["held_out_tokens"] / math.log(2) / record["held_out_bytes"]
    assert record["held_out_bits_per_byte"] == pytest.approx(bits, abs=1e-3)


def test_it_has_learned(demo: tuple[Transformer, Tokenizer]) -> None:
    """A model that knows nothing needs log2(3072) bits for each token: about 4 bits for each byte of this text."""
    model, tokenizer = demo
    ids = torch.tensor(tokenizer.encode(HELD_OUT))
    nats = F.cross_entropy(model(ids[None, :-1])[0], ids[1:], reduction="sum")
    assert nats.item() / math.log(2) / len(HELD_OUT.encode()) < 2.5


@torch.no_grad()
@pytest.mark.parametrize(("kind", "limit"), [("int8", 1.005), ("int4", 1.03)])
def test_quantizing_costs_little(kind: str, limit: float) -> None:
    """Perplexity against that of the bfloat16 weights; benchmarks/quantization_loss.py measures on all held-out text.

    This text is short: the ratio varies by about 0.1 % for int8 and 1 % for int4 from text to text.
    """
    nats = []
    for quantize in (None, kind):
        model, tokenizer = load(FOLDER, quantize=quantize)
        ids = torch.tensor(tokenizer.encode(HELD_OUT))
        nats.append(F.cross_entropy(model(ids[None, :-1])[0], ids[1:]).item())
    assert math.exp(nats[1] - nats[0]) < limit


def test_all_experts_work_but_not_equally(demo: tuple[Transformer, Tokenizer]) -> None:
    """No expert has less than a quarter of an equal share of the rows of this text, and none has all the same."""
    model, tokenizer = demo
    with GateWatch(model) as watch, torch.no_grad():
        model(torch.tensor([tokenizer.encode(HELD_OUT)]))
        shares_LE = torch.stack([row_shares(logits, model.config.top_k) for logits in watch.take()])
    assert shares_LE.min() > 0.25 / model.config.num_experts
    assert (shares_LE.max(dim=1).values > 1.1 / model.config.num_experts).all()
