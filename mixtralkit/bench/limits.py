"""What a step has to read and to compute at least, and so how long it takes at best. Pure; docs/benchmarks.md explains.

A step of a batch reads each weight that it uses once, and multiplies and adds once for each weight and token:

    bytes      = layers' shared weights + experts touched x one expert's + head + keys and values
    operations = 2 x (active parameters of the layers x tokens + head x requests)
    limit      = the larger of bytes / read rate and operations / product rate

Left out, because they are small: activations, rows of the embedding, and attention's products with keys and values. A
limit is thus never too high for the work at hand.
"""

from dataclasses import dataclass

from mixtralkit.config import ModelConfig


@dataclass(frozen=True)
class WeightBytes:
    """What the weights that a step uses take, in bytes: of all layers but their experts, of one expert of a layer, and
    of the head; and what one token's keys and values of all layers take.
    """

    shared: int
    expert: float
    head: int
    kv_token: int


@dataclass(frozen=True)
class Work:
    """What a step has to do at least, on all ranks together. `touched` is the experts used in a layer, on average."""

    nbytes: float
    operations: float
    touched: float


@dataclass(frozen=True)
class Rates:
    """What all ranks together read in bytes a second, and multiply and add in operations a second."""

    read: float
    product: float


def step_work(
    config: ModelConfig,
    weights: WeightBytes,
    *,
    tokens: int,
    requests: int,
    positions: float,
    touched: float,
    busy_ranks: int,
) -> Work:
    """The work of one step.

    `tokens` go through the layers and `requests` through the head; `positions` are the keys that are read, summed over
    the requests; `touched` is the mean number of experts used in a layer. Each of the `busy_ranks`, those that have
    requests, reads the weights that all ranks hold.
    """
    nbytes = (
        busy_ranks * (weights.shared + weights.head)
        + config.num_layers * touched * weights.expert
        + positions * weights.kv_token
    )
    head = config.vocab_size * config.dim
    operations = 2.0 * (active_layer_params(config) * tokens + head * requests)
    return Work(nbytes, operations, touched)


def active_layer_params(config: ModelConfig) -> int:
    """How many parameters of all the layers a token meets: attention, gate, norms, and its `top_k` experts."""
    unused = config.num_layers * (config.num_experts - config.top_k) * config.expert_params
    outside = 2 * config.vocab_size * config.dim + config.dim
    return config.num_params - outside - unused


def expected_touched(num_experts: int, top_k: int, tokens: int) -> float:
    """How many experts of a layer `tokens` use on average where every choice is equally likely: E (1 - (1 - K/E)^T)."""
    return num_experts * (1.0 - (1.0 - top_k / num_experts) ** tokens)


def limit_seconds(work: Work, rates: Rates) -> float:
    """The time that `work` takes at best."""
    return max(work.nbytes / rates.read, work.operations / rates.product)


def bound_of(work: Work, rates: Rates) -> str:
    """What sets the limit: "memory" or "compute"."""
    return "memory" if work.nbytes / rates.read >= work.operations / rates.product else "compute"
