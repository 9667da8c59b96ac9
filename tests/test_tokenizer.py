"""The tokenizer against Mistral's published ids, and the stream decoder against decoding everything at once."""

import hashlib
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixtralkit.errors import TokenizerError
from mixtralkit.tokenizer import Tokenizer

pytest.importorskip("mistral_common", reason="mistral-common ships the real tokenizers")
DATA = Path(str(resources.files("mistral_common"))) / "data"
V1 = Tokenizer(DATA / "tokenizer.model.v1")
V3 = Tokenizer(DATA / "mistral_instruct_tokenizer_240323.model.v3")
BOTH = pytest.mark.parametrize("tokenizer", [V1, V3], ids=["v1", "v3"])


def test_the_ids_are_those_of_mixtral() -> None:
    """Known ids of the 8x7B (v1) and the 8x22B (v3)."""
    assert V1.encode("Hello, my name is") == [1, 22557, 28725, 586, 1141, 349]
    assert V3.encode("Hello, my name is") == [1, 23325, 29493, 1354, 1909, 1117]
    assert (V1.vocab_size, V1.bos_id, V1.eos_id) == (32000, 1, 2)
    assert (V3.vocab_size, V3.bos_id, V3.eos_id) == (32768, 1, 2)


def test_without_bos_the_text_alone_is_encoded() -> None:
    assert V1.encode("Hello", bos=False) == [22557]
    assert V1.encode("", bos=False) == []
    assert V1.encode("") == [1]


@BOTH
def test_names_of_control_tokens_are_ordinary_text(tokenizer: Tokenizer) -> None:
    """A user who types a control token's name must not get the token."""
    text = "<s></s>[INST][/INST]<unk>"
    ids = tokenizer.encode(text, bos=False)
    assert not any(tokenizer.is_control(token) for token in ids)
    assert 0 not in ids
    assert tokenizer.decode(ids) == text


def test_control_ids() -> None:
    assert (V3.control_id("[INST]"), V3.control_id("[/INST]")) == (3, 4)
    assert (V1.control_id("[INST]"), V1.control_id("</s>")) == (None, 2)


@BOTH
@pytest.mark.parametrize(
    "text", ["  two  spaces ", "a\n\tb\r\n", "nul\0byte", "naïve 你好 🙂 \U0001d510", "\ufffd", " \u2581 "]
)
def test_decoding_gives_the_text_back(tokenizer: Tokenizer, text: str) -> None:
    """Every character survives but U+2581, which is sentencepiece's own sign for a space."""
    assert tokenizer.decode(tokenizer.encode(text)) == text.replace("\u2581", " ")


@BOTH
def test_a_lone_surrogate_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match=r"character 2 .*'\\ud83d'"):
        tokenizer.encode("ab\ud83d")


@pytest.mark.parametrize("token", [-1, 32000, 1 << 40])
def test_an_id_out_of_range_is_refused(token: int) -> None:
    with pytest.raises(TokenizerError, match=f"no token {token}; this tokenizer has 0 to 31999"):
        V1.decode([5, token])
    with pytest.raises(TokenizerError, match=f"no token {token}"):
        V1.stream().push(token)


def test_digest_is_the_files_sha256() -> None:
    expected = hashlib.sha256((DATA / "tokenizer.model.v1").read_bytes()).hexdigest()
    assert V1.digest == expected != V3.digest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read the tokenizer .*No such file"),
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 493443\n", "Git LFS pointer"),
        (b'{"version": "1.0", "model": {}}', "not a sentencepiece model"),
        (b"\x00" * 64, "not a sentencepiece model"),
        ((DATA / "tokenizer.model.v1").read_bytes()[:100_001], "not a sentencepiece model"),
    ],
    ids=["missing", "empty", "lfs", "json", "zeros", "cut"],
)
def test_an_unusable_file_is_refused_in_one_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "tokenizer.model"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TokenizerError, match=message) as caught:
        Tokenizer(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="Is a directory"):
        Tokenizer(tmp_path)


def stream(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    decoder = tokenizer.stream()
    return [*(decoder.push(token) for token in ids), decoder.flush()]


@BOTH
def test_a_character_of_several_tokens_comes_whole(tokenizer: Tokenizer) -> None:
    """U+1D510 is no piece of either vocabulary: its four bytes are four tokens, and only the last one shows it."""
    ids = tokenizer.encode("a\U0001d510b", bos=False)
    pieces = [text for text in stream(tokenizer, ids) if text]
    assert pieces == ["a", "\U0001d510", "b"]


@BOTH
def test_the_first_word_loses_its_space_and_later_ones_do_not(tokenizer: Tokenizer) -> None:
    ids = [tokenizer.bos_id, *tokenizer.encode("one two", bos=False), tokenizer.eos_id]
    assert stream(tokenizer, ids) == ["", "one", " two", "", ""]


def byte_tokens(tokenizer: Tokenizer) -> dict[int, int]:
    return {byte: token for token in range(2000) if (byte := tokenizer.byte_of(token)) is not None}


BYTES = {tokenizer.digest: byte_tokens(tokenizer) for tokenizer in (V1, V3)}


@BOTH
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_a_stream_adds_up_to_decoding_all_at_once(tokenizer: Tokenizer, data: st.DataObject) -> None:
    """Any tokens in any order: bytes that are no UTF-8, control tokens between them, spaces at the beginning."""
    space = tokenizer.encode("", bos=False) + tokenizer.encode(" ", bos=False)
    special = [0, tokenizer.bos_id, tokenizer.eos_id, *space]
    bytes_of = BYTES[tokenizer.digest]
    of_bytes = st.sampled_from([bytes_of[byte] for byte in (0x41, 0x82, 0xAC, 0xC3, 0xE2, 0xF0, 0x9F, 0xFF)])
    anything = st.integers(0, tokenizer.vocab_size - 1)
    ids = data.draw(st.lists(st.one_of(of_bytes, st.sampled_from(special), anything), max_size=24))
    assert "".join(stream(tokenizer, ids)) == tokenizer.decode(ids)


@BOTH
def test_nothing_certain_is_held_back(tokenizer: Tokenizer) -> None:
    """After every token the stream has shown all but the bytes of an unfinished character."""
    ids = tokenizer.encode("née 🙂 -- naïve\n", bos=False)
    decoder, shown = tokenizer.stream(), ""
    for place, token in enumerate(ids):
        shown += decoder.push(token)
        assert tokenizer.decode(ids[: place + 1]).rstrip("\ufffd") == shown


@BOTH
def test_the_bytes_of_tokens_are_what_a_text_grows_by(tokenizer: Tokenizer) -> None:
    """Also of single bytes; what is before them keeps the first space."""
    text = "two  words\n naïve 🙂 \U0001d510"
    ids = tokenizer.encode(text, bos=False)
    assert b"".join(tokenizer.bytes_of(token) for token in ids) == f" {text}".encode()
    assert tokenizer.bytes_of(tokenizer.eos_id) == b"</s>"


@BOTH
def test_text_that_goes_on_keeps_the_space_before_its_first_word(tokenizer: Tokenizer) -> None:
    """So a prompt and what follows it, decoded apart, are together what they are decoded at once."""
    ids = tokenizer.encode("Hello, my name is", bos=False)
    for place in range(1, len(ids)):
        decoder = tokenizer.stream(begun=True)
        rest = "".join(map(decoder.push, ids[place:])) + decoder.flush()
        assert tokenizer.decode(ids[:place]) + rest == "Hello, my name is"


@BOTH
def test_pieces_are_the_vocabularys(tokenizer: Tokenizer) -> None:
    assert [tokenizer.piece(token) for token in (tokenizer.bos_id, tokenizer.eos_id)] == ["<s>", "</s>"]
    ids = tokenizer.encode("Hello\n", bos=False)
    assert [tokenizer.piece(token) for token in ids] == ["\u2581Hello", "<0x0A>"]
