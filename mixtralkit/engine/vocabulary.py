"""What choosing tokens needs to know of the tokenizer, once a process."""

from mixtralkit.engine.grammar import Grammars
from mixtralkit.tokenizer import Tokenizer


class Vocabulary:
    """The tokens that a model can choose from: `size` of them, `eos_id`, and the `grammars` they can be held to."""

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        self.eos_id = tokenizer.eos_id
        self.size = size
        self.grammars = Grammars(tokenizer)
