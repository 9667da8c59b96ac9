"""The model that is measured, on every rank."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mixtralkit.bench.limits import WeightBytes
from mixtralkit.config import ModelConfig
from mixtralkit.dist.launch import Group
from mixtralkit.dist.preflight import agree
from mixtralkit.model.quantized_linear import QuantizedLinear
from mixtralkit.model.transformer import Transformer
from mixtralkit.moe.common_kernels import use_common_kernels
from mixtralkit.moe.dispatch.base import Dispatch
from mixtralkit.moe.dispatch.choose import DispatchFacts, choose_dispatch
from mixtralkit.moe.dispatch.obstacles import obstacles
from mixtralkit.moe.dispatch.transport import Transport
from mixtralkit.moe.fastmoe_backend import FastMoeLayer, OwnRows, fastmoe_choice, own_rows
from mixtralkit.moe.layer import MoELayer
from mixtralkit.moe.load import ExpertLoad
from mixtralkit.moe.placement.plan import even_split
from mixtralkit.moe.placement.routes import Routes, routes_of
from mixtralkit.parallelize import parallelize

Spread = Callable[[Transformer], None]
EXPERTS = ".feed_forward.experts."


@dataclass(frozen=True)
class Subject:
    """A rank's part of the model, where the rows of its tokens are counted, and which dispatches have what problem.

    `fastmoe` is whether FastMoE computes its layers.
    """

    group: Group
    model: Transformer
    routes: Routes
    transport: Transport
    load: ExpertLoad
    problems: Mapping[str, str]
    fastmoe: bool

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        return self.model.config

    @property
    def quantized(self) -> str:
        """How the matrices are kept: "int8", "int4", "fp8", or "none" in the dtype of the embeddings."""
        modules = (module for module in self.model.modules() if isinstance(module, QuantizedLinear))
        return next((module.weight.kind.value for module in modules), "none")

    def share(self, requests: int) -> int:
        """How many of `requests` this rank works on; the first ranks take one more where it does not divide."""
        each, more = divmod(requests, self.group.world_size)
        return each + (self.group.rank < more)

    def dispatch_for(self, name: str, requests: int) -> Dispatch:
        """The dispatch that `name` means for so many requests of all ranks; auto goes by the most that a rank has.

        All ranks ask for the same ones in the same order.
        """
        if self.fastmoe:
            return OwnRows()
        return self.transport.dispatch(_choose(self.group, self.problems, name, requests), self.routes)

    def use(self, dispatch: Dispatch) -> None:
        """Let all layers send their tokens with `dispatch` from now on."""
        for module in self.model.modules():
            if isinstance(module, MoELayer):
                module.use(dispatch)


def open_subject(
    group: Group,
    config: ModelConfig,
    load_model: Callable[[Spread], Transformer],
    *,
    moe_backend: str,
    quantized: bool,
) -> Subject:
    """Load this rank's part of a model of that shape: `load_model` gets what takes away the parts of other ranks.

    Raises `UsageError` before that when the backend cannot be used here; `quantized` says whether the model will be so.
    """
    routes = routes_of(even_split(config.num_experts, group.world_size), group.topology, group.rank)
    transport = Transport(group.collectives, config.num_experts)
    load = ExpertLoad(config.num_layers, config.num_experts, group.device)
    fastmoe = moe_backend == OwnRows.name
    if fastmoe:
        fastmoe_choice(
            device=group.device, world_size=group.world_size, num_experts=config.num_experts, quantized=quantized
        )
    if group.device.type == "cpu":
        use_common_kernels(group.control)
    problems = obstacles(group)
    name = _choose(group, problems, "auto", 1)
    agree(group.control, {"dispatch": name})
    model = load_model(
        lambda model: parallelize(
            model,
            routes=[routes] * config.num_layers,
            dispatch_for=own_rows if fastmoe else lambda routes, _: transport.dispatch(name, routes),
            load=load,
            layer_of=FastMoeLayer if fastmoe else MoELayer,
        )
    )
    return Subject(group, model, routes, transport, load, problems, fastmoe)


def _choose(group: Group, problems: Mapping[str, str], name: str, requests: int) -> str:
    batch_size = -(-requests // group.world_size)
    return choose_dispatch(name, DispatchFacts(group.device.type, group.topology, batch_size, problems)).name


def weight_bytes(subject: Subject) -> WeightBytes:
    """What this rank's weights take, as they are held."""
    config = subject.config
    sizes = {name: tensor.nbytes for name, tensor in subject.model.state_dict().items()}
    experts = sum(size for name, size in sizes.items() if EXPERTS in name)
    head = sum(size for name, size in sizes.items() if name.startswith("output."))
    outside = sum(size for name, size in sizes.items() if name.startswith("tok_embeddings."))
    local = len(subject.routes.local_experts)
    itemsize = subject.model.tok_embeddings.weight.dtype.itemsize
    return WeightBytes(
        shared=sum(sizes.values()) - experts - head - outside,
        expert=experts / (config.num_layers * local),
        head=head,
        kv_token=2 * config.num_layers * config.num_kv_heads * config.head_dim * itemsize,
    )
