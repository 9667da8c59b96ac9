"""The demo's tokenizer as load generators want it, in a model hub's cache: they ask no hub while they are offline.

python -m acceptance.tokenizer_folder TOKENIZER_MODEL CACHE runs in the environment of such a client.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

from transformers import AutoTokenizer

from acceptance.demo_server import TOKENIZER

_COMMIT = "0" * 40
_SETTINGS = {
    "tokenizer_class": "LlamaTokenizer",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "add_bos_token": True,
}


def make_tokenizer_folder(model: Path, cache: Path) -> None:
    """Write the files of `TOKENIZER` into `cache`, where HF_HUB_CACHE is to point."""
    entry = cache / f"models--{TOKENIZER.replace('/', '--')}"
    (entry / "refs").mkdir(parents=True, exist_ok=True)
    (entry / "refs" / "main").write_text(_COMMIT, encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(model, folder)
        (Path(folder) / "tokenizer_config.json").write_text(json.dumps(_SETTINGS), encoding="utf-8")
        AutoTokenizer.from_pretrained(folder).save_pretrained(entry / "snapshots" / _COMMIT)
    # Which some look for before they read a tokenizer.
    (entry / "snapshots" / _COMMIT / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")


if __name__ == "__main__":
    make_tokenizer_folder(Path(sys.argv[1]), Path(sys.argv[2]))
