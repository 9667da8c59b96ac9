"""The Mixtral decoder. Module names are those of Mistral's checkpoints."""

import torch
from torch import nn

from mixtralkit.config import ModelConfig
from mixtralkit.errors import RequestError
from mixtralkit.model.attention import Attention
from mixtralkit.model.batch import Batch, make_batch
from mixtralkit.model.kv_cache import BLOCK_SIZE, KVCache, separate_tables
from mixtralkit.model.linear_layer import Linear
from mixtralkit.model.moe_ffn import MoeFfn
from mixtralkit.model.norm import RMSNorm
from mixtralkit.ops.invariance import as_activations, is_promised
from mixtralkit.ops.rotary import Rotations, rotations
from mixtralkit.ops.upload import upload


class Block(nn.Module):
    """Attention, then the mixture of experts, each behind a norm and added to its input."""

    def __init__(self, layer: int, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.attention = Attention(
            layer=layer,
            dim=config.dim,
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            sliding_window=config.sliding_window,
        )
        self.ffn_norm = RMSNorm(config.dim, config.norm_eps)
        self.feed_forward: nn.Module = MoeFfn(
            dim=config.dim, hidden_dim=config.hidden_dim, num_experts=config.num_experts, top_k=config.top_k
        )

    def forward(
        self,
        x_TD: torch.Tensor,
        batch: Batch,
        rotations_T: Rotations,
        cache: KVCache | None,
    ) -> torch.Tensor:
        """`[T, D] -> [T, D]`."""
        x_TD = self.attention(x_TD, self.attention_norm.norm, batch, rotations_T, cache)
        out_TD: torch.Tensor = self.feed_forward(x_TD, self.ffn_norm.norm)
        return out_TD


class Transformer(nn.Module):
    """A Mixtral whose weights are uninitialised; checkpoint/loader.py fills them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        # from_pretrained leaves out nn.Embedding's random start: on the meta device that imports sympy, seconds, 80 MB.
        embeddings = torch.empty(config.vocab_size, config.dim)
        self.tok_embeddings = nn.Embedding.from_pretrained(embeddings, freeze=False)
        self.layers = nn.ModuleList(Block(layer, config) for layer in range(config.num_layers))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.output = Linear(config.dim, config.vocab_size)

    def forward(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        """Logits after every token of `tokens_BT` (integers), float32 `[B, T, V]`.

        Raises `RequestError` for another shape or dtype, ids outside the vocabulary, and more tokens than the context.
        """
        self._check(tokens_BT)
        requests, tokens = tokens_BT.shape
        tables = separate_tables(requests, tokens)
        batch = make_batch(tokens_BT.tolist(), [0] * requests, tables, tokens_BT.device)
        # In inference through a cache, for the same bits as generating token by token.
        cache = self.new_cache(sum(map(len, tables))) if is_promised(self.tok_embeddings.weight) else None
        logits = self._logits(self.hidden(batch, cache))
        return logits.view(requests, tokens, self.config.vocab_size)

    def next_token_logits(self, batch: Batch, cache: KVCache) -> torch.Tensor:
        """Logits after the batch's `logit_rows`, in their order, float32 `[rows, V]`; the cache is extended."""
        x_TD = self.hidden(batch, cache)
        every_row = batch.logit_rows == tuple(range(x_TD.shape[0]))
        if not every_row:
            x_TD = x_TD.index_select(0, upload(torch.tensor(batch.logit_rows, dtype=torch.int64), x_TD.device))
        return self._logits(x_TD)

    def hidden(self, batch: Batch, cache: KVCache | None) -> torch.Tensor:
        """The activations before the last norm, `[T, D]`; without a cache, for training, differentiable."""
        x_TD = as_activations(self.tok_embeddings(batch.tokens_T))
        rotations_T = rotations(batch.positions_T, self.config.head_dim, self.config.rope_theta)
        for block in self.layers:
            x_TD = block(x_TD, batch, rotations_T, cache)
        return x_TD

    def _logits(self, x_TD: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.output(x_TD, self.norm.norm)
        return logits.float()

    def _check(self, tokens_BT: torch.Tensor) -> None:
        if tokens_BT.dim() != 2 or tokens_BT.is_floating_point():
            shape = list(tokens_BT.shape)
            raise RequestError(f"tokens are {tokens_BT.dtype} {shape}; integers of shape [requests, tokens] are needed")
        if tokens_BT.shape[1] > self.config.context:
            raise RequestError(f"{tokens_BT.shape[1]} tokens do not fit the model's context of {self.config.context}")
        outside = tokens_BT[(tokens_BT < 0) | (tokens_BT >= self.config.vocab_size)]
        if outside.numel():
            last = self.config.vocab_size - 1
            raise RequestError(f"token id {int(outside[0])} is outside the vocabulary of 0 to {last}")

    @property
    def kv_bytes_per_token(self) -> int:
        """What the keys and values of one token take in all layers."""
        config = self.config
        width: int = config.num_kv_heads * config.head_dim * self.tok_embeddings.weight.dtype.itemsize
        return 2 * config.num_layers * width

    def new_cache(self, num_blocks: int, block_size: int = BLOCK_SIZE) -> KVCache:
        """An empty cache of this model's shape, dtype and device."""
        weight = self.tok_embeddings.weight
        return KVCache(
            num_layers=self.config.num_layers,
            num_blocks=num_blocks,
            block_size=block_size,
            num_kv_heads=self.config.num_kv_heads,
            head_dim=self.config.head_dim,
            dtype=weight.dtype,
            device=weight.device,
        )
