"""The pool of blocks, by random actions beside a plain model of it, and the hashes of blocks."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mixtralkit.engine.kv_blocks import BlockPool, block_hashes, extend_hashes

NUM_BLOCKS = 6
HASHES = [bytes([value]) for value in range(4)]  # few, so that blocks of equal hashes meet


class Pools(RuleBasedStateMachine):
    """A pool, and what should be in it: the holders of every block, and the free blocks that can still be found."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(NUM_BLOCKS, reuse=True)
        self.tables: list[list[int]] = []  # what each request holds
        self.hashes: dict[int, bytes] = {}  # of registered blocks
        self.kept: list[int] = []  # free, registered; the one that was released first comes first

    def holders(self, block: int) -> int:
        return sum(table.count(block) for table in self.tables)

    @rule(count=st.integers(0, NUM_BLOCKS))
    def take(self, count: int) -> None:
        """Fresh blocks belong to nobody, and the registered ones among them are those released longest ago."""
        free = [block for block in range(NUM_BLOCKS) if not self.holders(block)]
        assert self.pool.can_take(count) == (count <= len(free))
        if not self.pool.can_take(count):
            return
        taken = self.pool.take(count)
        assert len(set(taken)) == count
        assert set(taken) <= set(free)
        lost = max(0, count - (len(free) - len(self.kept)))
        assert [block for block in taken if block in self.kept] == self.kept[:lost]
        for block in self.kept[:lost]:
            del self.hashes[block]
        self.kept = self.kept[lost:]
        self.tables.append(list(taken))

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """All blocks of a request at once, as it ends."""
        table = self.tables.pop(data.draw(st.integers(0, len(self.tables) - 1)))
        self.pool.release(table)
        self.kept += [block for block in reversed(table) if not self.holders(block) and block in self.hashes]

    @precondition(lambda self: any(self.tables))
    @rule(data=st.data(), block_hash=st.sampled_from(HASHES))
    def register(self, data: st.DataObject, block_hash: bytes) -> None:
        """The first block of a hash is the one that is found."""
        block = data.draw(st.sampled_from([block for table in self.tables for block in table]))
        if block in self.hashes:
            return
        first = block_hash not in self.hashes.values()
        assert self.pool.register(block, block_hash) == first
        if first:
            self.hashes[block] = block_hash

    @rule(wanted=st.lists(st.sampled_from(HASHES), max_size=4))
    def share(self, wanted: list[bytes]) -> None:
        """What is found is held once more, whether somebody holds it or nobody."""
        found = self.pool.find(wanted, 0, len(wanted))
        assert [self.hashes[block] for block in found] == wanted[: len(found)]
        if len(found) < len(wanted):
            assert wanted[len(found)] not in self.hashes.values()
        if len(set(found)) == len(found):  # a request's blocks differ, as their hashes do
            self.pool.hold(found)
            self.tables.append(found)
            self.kept = [block for block in self.kept if block not in found]

    @rule(block=st.integers(0, NUM_BLOCKS - 1))
    def forget(self, block: int) -> None:
        """A block that is found no longer stays with its holders."""
        self.pool.forget(block)
        self.hashes.pop(block, None)
        self.kept = [kept for kept in self.kept if kept != block]

    @invariant()
    def counts_are_right(self) -> None:
        """Every block is free or held by as many as hold it."""
        assert [self.pool.holders(block) for block in range(NUM_BLOCKS)] == [*map(self.holders, range(NUM_BLOCKS))]
        assert self.pool.free == sum(not self.holders(block) for block in range(NUM_BLOCKS))
        assert self.pool.used == NUM_BLOCKS - self.pool.free


TestPools = Pools.TestCase
TestPools.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_without_reuse_nothing_is_found() -> None:
    pool = BlockPool(2, reuse=False)
    (block,) = pool.take(1)
    assert not pool.register(block, HASHES[0])
    assert pool.find(HASHES, 0, 1) == []


def test_the_end_of_a_request_is_overwritten_before_its_beginning() -> None:
    """A block that is found is of use only if all before it are found too."""
    pool = BlockPool(3, reuse=True)
    table = pool.take(3)
    for block, block_hash in zip(table, HASHES, strict=False):
        pool.register(block, block_hash)
    pool.release(table)
    assert pool.take(1) == (table[2],)
    assert pool.find(HASHES, 0, 3) == list(table[:2])


def test_a_hash_stands_for_all_tokens_up_to_the_end_of_its_block() -> None:
    """Keys and values depend on everything before them."""
    tokens = list(range(10))
    hashes = block_hashes(tokens, 4)
    assert len(hashes) == 2  # only full blocks have one
    assert block_hashes(tokens[:8], 4) == hashes
    for place in range(8):
        changed = block_hashes([*tokens[:place], 99, *tokens[place + 1 :]], 4)
        assert [a == b for a, b in zip(hashes, changed, strict=True)] == [place >= 4, False]
    assert block_hashes(tokens[4:8], 4)[0] != hashes[1]


def test_hashes_grow_with_the_tokens() -> None:
    """In whatever portions they come."""
    tokens = list(range(23))
    hashes: list[bytes] = []
    for end in (3, 4, 4, 13, 23):
        extend_hashes(hashes, tokens[:end], 4)
    assert hashes == block_hashes(tokens, 4)
    assert len(set(hashes)) == 5
