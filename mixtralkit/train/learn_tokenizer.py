"""A tokenizer of one's own, for a model that is trained from nothing."""

import io
from collections.abc import Iterable

import sentencepiece


def learn_tokenizer(texts: Iterable[str], vocab_size: int) -> bytes:
    """The content of a tokenizer.model with `vocab_size` pieces, learned from `texts` and from nothing else.

    A byte-pair encoding with Mixtral's conventions: unk 0, BOS 1, EOS 2, no pad, the 256 bytes from 3, the text
    unchanged but for a space before it, each digit a piece, a line break the byte 10.
    """
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        pretokenization_delimiter="\n",  # no piece crosses a line's end; a line's first word has no space before it
        max_sentence_length=1 << 30,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()
