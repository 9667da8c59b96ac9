"""The tokenizer that belongs to a checkpoint."""

from pathlib import Path

from mixtralkit.checkpoint.formats import Checkpoint
from mixtralkit.errors import TokenizerError
from mixtralkit.tokenizer import Tokenizer


def open_tokenizer(checkpoint: Checkpoint, file: Path | None = None) -> Tokenizer:
    """The tokenizer in `file`, or in the checkpoint's folder.

    Raises `TokenizerError` when there is none, it cannot be used, or its vocabulary is not the model's.
    """
    file = file or checkpoint.tokenizer
    if file is None:
        raise TokenizerError(
            f"{checkpoint.folder} has no tokenizer.model; name one with --tokenizer FILE, or put it there"
        )
    tokenizer = Tokenizer(file)
    if tokenizer.vocab_size != checkpoint.config.vocab_size:
        raise TokenizerError(
            f"{file} has {tokenizer.vocab_size} pieces, but the model in {checkpoint.folder} has a vocabulary of "
            f"{checkpoint.config.vocab_size}; give the tokenizer that belongs to it"
        )
    return tokenizer
