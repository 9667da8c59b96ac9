"""From Python: load, look at logits, generate."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import mixtralkit
from mixtralkit.errors import TokenizerError, UsageError
from tests.checkpoint.make_checkpoints import TINY, Kind, make_checkpoint
from tests.small_tokenizer import PIECES, small_tokenizer

CONFIG = replace(TINY, vocab_size=PIECES)


@torch.no_grad()
def test_logits_are_those_of_transformers_and_greedy_text_follows_them(tmp_path: Path) -> None:
    """float32 logits, as in tests/checkpoint; each greedy token is the likeliest after all before it."""
    theirs = make_checkpoint(tmp_path / "ckpt", Kind.HF, CONFIG)
    small_tokenizer(tmp_path / "ckpt")
    model, tokenizer = mixtralkit.load(tmp_path / "ckpt")
    ids = tokenizer.encode("to be or not")
    expected = theirs(torch.tensor([ids])).logits
    torch.testing.assert_close(model(torch.tensor([ids])), expected, rtol=1e-5, atol=1e-5)
    (completion,) = mixtralkit.generate(model, tokenizer, "to be or not", max_tokens=5)
    assert len(completion.tokens) == 5
    for token in completion.tokens:
        assert int(theirs(torch.tensor([ids])).logits[0, -1].argmax()) == token
        ids.append(token)


def test_an_unknown_quantization_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="quantize is 'int3'; possible are int8, int4, fp8, or None"):
        mixtralkit.load("nowhere", quantize="int3")


def test_one_stop_string_is_not_a_list_of_letters(tmp_path: Path) -> None:
    """A string is a sequence of strings too, so a type checker does not help whoever forgets the brackets."""
    make_checkpoint(tmp_path / "ckpt", Kind.HF, CONFIG)
    small_tokenizer(tmp_path / "ckpt")
    model, tokenizer = mixtralkit.load(tmp_path / "ckpt")
    free, stopped, listed = (
        mixtralkit.generate(model, tokenizer, "to be", max_tokens=8, stop=stop)[0]
        for stop in ((), "no such text: aeiou", ["no such text: aeiou"])
    )
    assert set(free.text) & set("no such text: aeiou")
    assert free == stopped == listed


def test_a_tokenizer_of_another_model_is_refused_before_loading(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "ckpt", Kind.HF, TINY)
    small_tokenizer(tmp_path / "ckpt")
    with pytest.raises(TokenizerError, match=f"{PIECES} pieces, but .* a vocabulary of {TINY.vocab_size}"):
        mixtralkit.load(tmp_path / "ckpt")


def test_the_tokenizer_may_have_a_version_in_its_name(tmp_path: Path) -> None:
    """As 8x22B's tokenizer.model.v3 has."""
    make_checkpoint(tmp_path / "ckpt", Kind.HF, CONFIG)
    small_tokenizer(tmp_path / "ckpt")
    (tmp_path / "ckpt" / "tokenizer.model").rename(tmp_path / "ckpt" / "tokenizer.model.v3")
    assert mixtralkit.load(tmp_path / "ckpt")[1].vocab_size == PIECES


def test_the_package_shows_what_it_offers() -> None:
    assert dir(mixtralkit) == sorted(mixtralkit.__all__)
    assert callable(mixtralkit.load)
