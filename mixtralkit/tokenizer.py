"""Text to token ids and back, by the checkpoint's own sentencepiece model (tokenizer.model)."""

import codecs
import hashlib
from collections.abc import Sequence
from pathlib import Path

import sentencepiece

from mixtralkit.errors import TokenizerError

SPACE_MARK = "\u2581"  # sentencepiece's "▁"
LFS_POINTER = b"version https://git-lfs"


class Tokenizer:
    """The tokenizer in the file `path`; `digest` is the sha256 of the file, in hexadecimal.

    Raises `TokenizerError` when the file is missing, is not a sentencepiece model or names no BOS or EOS token.
    """

    def __init__(self, path: str | Path) -> None:
        content = _read(Path(path))
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=content)
        except RuntimeError as error:
            raise TokenizerError(
                f"{path} is not a sentencepiece model; give the checkpoint's tokenizer.model"
            ) from error
        self.digest = hashlib.sha256(content).hexdigest()
        self.vocab_size: int = self._processor.vocab_size()
        self.bos_id: int = self._processor.bos_id()
        self.eos_id: int = self._processor.eos_id()
        if self.bos_id < 0 or self.eos_id < 0:
            raise TokenizerError(f"{path} has no BOS or no EOS token; a Mixtral's tokenizer has both")

    def encode(self, text: str, bos: bool = True) -> list[int]:
        """The ids of `text`, after the BOS id if `bos`. Names of control tokens in `text` are ordinary text.

        Raises `TokenizerError` when `text` holds a lone surrogate, half of a UTF-16 pair that no UTF-8 can express.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TokenizerError(
                f"character {error.start} of the text is the lone surrogate {text[error.start]!a}, which no tokenizer "
                "can encode; remove it or replace it with U+FFFD"
            ) from error
        ids: list[int] = self._processor.encode(text)
        return [self.bos_id, *ids] if bos else ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`; control tokens have none, and bytes that are not UTF-8 become U+FFFD.

        The first word loses the space that encoding put before it. Raises `TokenizerError` for an id out of range.
        """
        self.check(ids)
        text: str = self._processor.decode(list(ids))
        return text

    def check(self, ids: Sequence[int]) -> None:
        """Raise `TokenizerError` when one of `ids` is out of range."""
        for token in ids:
            if not 0 <= token < self.vocab_size:
                raise TokenizerError(f"there is no token {token}; this tokenizer has 0 to {self.vocab_size - 1}")

    def control_id(self, piece: str) -> int | None:
        """The id of the control token that is written `piece`, such as "[INST]"; None when there is none."""
        token: int = self._processor.piece_to_id(piece)
        return token if self._processor.is_control(token) else None

    def stream(self, *, begun: bool = False) -> "StreamDecoder":
        """A decoder for the tokens of one response as they come; `begun`: they go on where text stands already."""
        return StreamDecoder(self, begun=begun)

    def piece(self, token: int) -> str:
        """How the vocabulary writes `token`: "▁" is a space, "<0x0A>" stands for a byte, "<s>" is a control token."""
        return str(self._processor.id_to_piece(token))

    def byte_of(self, token: int) -> int | None:
        """The byte, 0 to 255, that `token` stands for; None for a token that is not a single byte."""
        return int(self._processor.id_to_piece(token)[1:-1], 16) if self._processor.is_byte(token) else None

    def bytes_of(self, token: int) -> bytes:
        """What `token` adds to a text that has begun, in UTF-8; for control tokens, which add nothing, their name."""
        byte = self.byte_of(token)
        return self.piece(token).replace(SPACE_MARK, " ").encode() if byte is None else bytes([byte])

    def is_control(self, token: int) -> bool:
        """Whether `token` is a control token, which has no text."""
        return bool(self._processor.is_control(token))

    @property
    def unk_id(self) -> int:
        """The token for what cannot be encoded; it is decoded as visible text."""
        return int(self._processor.unk_id())


class StreamDecoder:
    """Decodes token by token; what `push` and `flush` return adds up to `Tokenizer.decode` of all tokens.

    A character may be spread over up to four byte tokens: they are held back until it is whole, or cannot become so.
    With `begun` the first word keeps the space before it, as all others do.
    """

    def __init__(self, tokenizer: Tokenizer, *, begun: bool = False) -> None:
        self._tokenizer = tokenizer
        # Any visible token will do: it says that the text has begun, so that the next word keeps its space.
        self._context = [tokenizer.unk_id] if begun else []
        self._held: list[int] = []
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """Take the next token; returns the text that is certain now, perhaps none."""
        self._tokenizer.check([token])
        if self._tokenizer.is_control(token) and not self._held:
            return ""
        self._held.append(token)
        byte = self._tokenizer.byte_of(token)
        if byte is None:
            self._bytes.reset()
        else:
            self._bytes.decode(bytes([byte]))
        return "" if self._bytes.getstate()[0] else self.flush()

    def flush(self) -> str:
        """The text of all that is held back; an unfinished character becomes U+FFFD for each of its bytes."""
        text = self._tokenizer.decode([*self._context, *self._held])[len(self._tokenizer.decode(self._context)) :]
        if text:  # tokens without text stay: they may change what comes next
            self._held.clear()
            self._context = [self._tokenizer.unk_id]
        return text


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TokenizerError(f"cannot read the tokenizer {path}: {error.strerror}") from error
    if not content:
        raise TokenizerError(f"{path} is empty; download the checkpoint's tokenizer.model again")
    if content.startswith(LFS_POINTER):
        raise TokenizerError(f"{path} is a Git LFS pointer, not the file itself; run `git lfs pull` in its repository")
    return content
