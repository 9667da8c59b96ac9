"""A real sentencepiece model of a few hundred pieces, made on the spot with Mixtral's conventions."""

import io
from pathlib import Path

import sentencepiece

from mixtralkit.tokenizer import Tokenizer

PIECES = 320
TEXT = """To be, or not to be, that is the question: whether it is nobler in the mind to suffer the slings and arrows of
outrageous fortune, or to take arms against a sea of troubles, and by opposing end them. To die, to sleep, no more; and
by a sleep to say we end the heartache and the thousand natural shocks that flesh is heir to: it is a consummation."""


def small_tokenizer(folder: Path) -> Tokenizer:
    """Write tokenizer.model into `folder` and load it: unknown 0, BOS 1, EOS 2, the bytes from 3, 320 pieces in all."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.splitlines()),
        model_writer=model,
        vocab_size=PIECES,
        model_type="bpe",
        byte_fallback=True,
        minloglevel=2,
    )
    path = folder / "tokenizer.model"
    path.write_bytes(model.getvalue())
    return Tokenizer(path)
