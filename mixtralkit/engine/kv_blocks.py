"""The blocks of one rank's KV cache: who holds them, and which hold tokens that other requests may share. Pure.

A full block is known by a hash of its tokens and of all before them, as K and V depend on both. A block that nobody
holds any longer keeps its hash until it is taken for something else, the least recently used one first.
"""

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b


def extend_hashes(hashes: list[bytes], tokens: Sequence[int], block_size: int) -> None:
    """Append the hashes of the further full blocks of `tokens`, whose first blocks have `hashes`.

    Each is taken over the hash before it and the block's token ids; 16 bytes, so that nobody finds two alike.
    """
    for end in range((len(hashes) + 1) * block_size, len(tokens) + 1, block_size):
        ids = array("q", tokens[end - block_size : end]).tobytes()
        hashes.append(blake2b((hashes[-1] if hashes else b"") + ids, digest_size=16).digest())


def block_hashes(tokens: Sequence[int], block_size: int) -> list[bytes]:
    """The hashes of the full blocks of `tokens`."""
    hashes: list[bytes] = []
    extend_hashes(hashes, tokens, block_size)
    return hashes


class BlockPool:
    """The blocks of one rank by number, each free or held by one request or several.

    With `reuse` full blocks can be registered under their hash and be found again; without it nothing is ever found.
    """

    def __init__(self, num_blocks: int, *, reuse: bool) -> None:
        self._reuse = reuse
        self._num_blocks = num_blocks
        self._holders = [0] * num_blocks
        self._hashes: list[bytes | None] = [None] * num_blocks
        self._blocks: dict[bytes, int] = {}
        self._plain = list(range(num_blocks - 1, -1, -1))  # free and without a hash
        self._kept: OrderedDict[int, None] = OrderedDict()  # free with a hash; the least recently used one first

    @property
    def free(self) -> int:
        """How many blocks nobody holds."""
        return len(self._plain) + len(self._kept)

    @property
    def used(self) -> int:
        """How many blocks somebody holds."""
        return self._num_blocks - self.free

    def holders(self, block: int) -> int:
        """How many requests hold a block."""
        return self._holders[block]

    def can_take(self, count: int) -> bool:
        """Whether `take` has so many blocks."""
        return count <= self.free

    def take(self, count: int) -> tuple[int, ...]:
        """Blocks to write to, held by one request; those without a hash come first."""
        return tuple(self._take_one() for _ in range(count))

    def hold(self, blocks: Sequence[int]) -> None:
        """Let one more request hold each of `blocks`."""
        for block in blocks:
            self._kept.pop(block, None)
            self._holders[block] += 1

    def release(self, blocks: Sequence[int]) -> None:
        """Let one request less hold each of `blocks`, which are in the order of their tokens.

        The last is the first to be used for something else: without those before it, it could not be shared.
        """
        for block in reversed(blocks):
            self._holders[block] -= 1
            if not self._holders[block]:
                self._put(block)

    def register(self, block: int, block_hash: bytes) -> bool:
        """Let a held block be found under its hash from now on; returns whether it is, as the first one stays."""
        if not self._reuse or self._blocks.setdefault(block_hash, block) != block:
            return False
        self._hashes[block] = block_hash
        return True

    def forget(self, block: int) -> None:
        """Let a block be found no longer, because it does not hold what its hash says."""
        if block in self._kept:
            del self._kept[block]
            self._plain.append(block)
        self._strip(block)

    def find(self, hashes: Sequence[bytes], start: int, end: int) -> list[int]:
        """The blocks of `hashes[start:end]`, up to the first that is not there."""
        found: list[int] = []
        for place in range(start, end):
            block = self._blocks.get(hashes[place])
            if block is None:
                break
            found.append(block)
        return found

    def _take_one(self) -> int:
        if self._plain:
            block = self._plain.pop()
        else:
            block, _ = self._kept.popitem(last=False)
            self._strip(block)
        self._holders[block] = 1
        return block

    def _put(self, block: int) -> None:
        if self._hashes[block] is None:
            self._plain.append(block)
        else:
            self._kept[block] = None

    def _strip(self, block: int) -> None:
        block_hash = self._hashes[block]
        if block_hash is not None:
            del self._blocks[block_hash]
            self._hashes[block] = None
