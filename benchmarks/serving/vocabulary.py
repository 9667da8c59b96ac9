"""One vocabulary of 32,000 pieces for all servers, learned from random words: each writes text for the tokens it draws.

Its files are tokenizer.model for mixtralkit, tokenizer.json for vLLM, and a list of pieces for the GGUF of llama.cpp.
"""

import json
from pathlib import Path

import sentencepiece

from benchmarks.peers.shape import VOCAB
from mixtralkit.bench.load.load_prompts import nonsense
from mixtralkit.train.learn_tokenizer import learn_tokenizer

LINES, WORDS_A_LINE = 400, 400
# As GGUF numbers the kinds of pieces.
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6

Piece = tuple[str, float, int]


def write_vocabulary(folder: Path) -> Path:
    """Write all of its forms into `folder`, once; returns it."""
    if not (folder / "pieces.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        lines = (nonsense(WORDS_A_LINE, seed) for seed in range(LINES))
        model = learn_tokenizer(lines, VOCAB)
        pieces = pieces_of(model)
        (folder / "tokenizer.model").write_bytes(model)
        (folder / "tokenizer.json").write_text(json.dumps(whole_pieces(pieces)), encoding="utf-8")
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        (folder / "pieces.json").write_text(json.dumps(pieces), encoding="utf-8")
    return folder


def pieces_of(model: bytes) -> list[Piece]:
    """The text, score and kind of every token of a sentencepiece model."""
    tokenizer = sentencepiece.SentencePieceProcessor(model_proto=model)

    def kind(token: int) -> int:
        if tokenizer.is_byte(token):
            return BYTE
        return UNKNOWN if tokenizer.is_unknown(token) else CONTROL if tokenizer.is_control(token) else NORMAL

    ids = range(tokenizer.vocab_size())
    return [(tokenizer.id_to_piece(token), tokenizer.get_score(token), kind(token)) for token in ids]


def whole_pieces(pieces: list[Piece]) -> dict[str, object]:
    """A tokenizer.json that knows whole pieces only: it is there for the way back from tokens to text."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": token,
                "content": text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for token, (text, _, kind) in enumerate(pieces)
            if kind in (UNKNOWN, CONTROL)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
        "model": {
            "type": "WordLevel",
            "vocab": {text: token for token, (text, _, _) in enumerate(pieces)},
            "unk_token": pieces[0][0],
        },
    }
