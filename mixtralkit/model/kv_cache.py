"""Keys and values of the requests that a rank is working on, in blocks of some positions each."""

import torch

CHUNK = 64  # positions that attention takes together: blocks are parts of a chunk, or several
BLOCK_SIZE = 16  # positions; docs/log.md has what other sizes cost


class KVCache:
    """`num_blocks` blocks of `block_size` positions, of all layers; a request's block table says which hold its tokens.

    One tensor a layer and kind, `[blocks, G, block_size, d]`, so that a block's keys are contiguous for each KV head.
    ops/cached_attention writes and reads them, and says which block sizes it takes. Who has which block is not known
    here.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        num_blocks: int,
        block_size: int,
        num_kv_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (num_blocks, num_kv_heads, block_size, head_dim)
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._keys = [torch.empty(shape, dtype=dtype, device=device) for _ in range(num_layers)]
        self._values = [torch.empty(shape, dtype=dtype, device=device) for _ in range(num_layers)]

    def layer(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of one layer."""
        return self._keys[layer], self._values[layer]


def separate_tables(requests: int, tokens: int, block_size: int = BLOCK_SIZE) -> list[range]:
    """Block tables of `requests` requests of up to `tokens` tokens that share nothing, from block 0 on."""
    blocks = -(-tokens // block_size)
    return [range(i * blocks, (i + 1) * blocks) for i in range(requests)]
