"""A learned tokenizer keeps Mixtral's conventions."""

from pathlib import Path

from mixtralkit.tokenizer import Tokenizer
from mixtralkit.train.learn_tokenizer import learn_tokenizer

TEXTS = ["To be, or not to be:\nthat is the question.\n\nWhether 'tis nobler in the mind to suffer\n"] * 4


def test_conventions(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(learn_tokenizer(TEXTS, 320))
    tokenizer = Tokenizer(path)
    assert (tokenizer.vocab_size, tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id) == (320, 0, 1, 2)
    assert [tokenizer.byte_of(token) for token in range(3, 259)] == list(range(256))
    for text in (TEXTS[0], "  two  spaces\n\n", "1984", "naïve 你好 🙂", "\t"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode("\n", bos=False)[-1] == 3 + ord("\n")
    assert len(tokenizer.encode("1111", bos=False)) >= 4, "each digit is a piece"


def test_the_same_texts_give_the_same_bytes() -> None:
    assert learn_tokenizer(TEXTS, 300) == learn_tokenizer(iter(TEXTS), 300)
