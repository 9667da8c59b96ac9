"""An installed FastMoE (https://github.com/laekov/fastmoe) in place of this package's layers, to compare the two.

`fmoe.FMoE` does all of a layer: it asks the gate, moves rows over a communicator of its own, calls the experts and adds
up what they answer. The gate and the weights in it are this package's, so the same tokens go to the same experts; that
sum is in the activations' dtype and not in float32, so results differ in their last bits.

This has not run against FastMoE itself yet: its kernels need a GPU to be built and to run.
"""

import importlib
import time
from collections.abc import Iterator
from dataclasses import fields
from functools import cached_property
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import nn

from mixtralkit.env import fastermoe_variables
from mixtralkit.errors import UsageError
from mixtralkit.moe.dispatch.base import Dispatch, Handle
from mixtralkit.moe.dispatch.choose import DispatchChoice
from mixtralkit.moe.gates.topk import TopKGate
from mixtralkit.moe.layer import MoELayer
from mixtralkit.moe.placement.routes import Routes
from mixtralkit.moe.routing import Routing
from mixtralkit.moe.strategies import Strategies
from mixtralkit.moe.timeline import Timeline
from mixtralkit.ops.rms_norm import Norm, rms_norm

FLAG = "--moe-backend fastmoe"


def fastmoe_choice(
    *,
    device: torch.device,
    world_size: int,
    num_experts: int,
    quantized: bool,
    dispatch: str = "auto",
    strategies: Strategies | None = None,
    explain: bool = False,
) -> DispatchChoice:
    """What stands for a choice of a dispatch where FastMoE computes the layers.

    `dispatch` is the name that was asked for. Raises `UsageError` when FastMoE cannot compute such a model here, or
    would ignore something that the user asked for.
    """
    _check_asked(strategies or Strategies(), dispatch, explain=explain)
    _check_model(world_size, num_experts, quantized=quantized)
    if device.type != "cuda":
        raise UsageError(f"FastMoE's kernels are for GPUs, and this run is on {device.type}; leave out {FLAG}")
    _fastmoe("fmoe")
    return DispatchChoice(OwnRows.name, f"{FLAG}: it moves rows over its own communicator")


def _check_asked(strategies: Strategies, dispatch: str, *, explain: bool) -> None:
    asked = [item.name for item in fields(strategies) if item.name != "sources" and strategies.given(item.name)]
    if asked:
        source = strategies.source(asked[0])
        raise UsageError(f"{source} is a strategy of mixtralkit's own layers, which {FLAG} does without; leave one out")
    if set_ := list(fastermoe_variables()):
        raise UsageError(f"FastMoE reads {set_[0]} in its own way, and {FLAG} compares it without strategies; unset it")
    if dispatch != "auto":
        raise UsageError(f"--dispatch {dispatch} moves no rows under {FLAG}, FastMoE does; leave one of the two out")
    if explain:
        raise UsageError(f"--explain compares mixtralkit's own dispatches, which {FLAG} does without; leave one out")


def _check_model(world_size: int, num_experts: int, *, quantized: bool) -> None:
    if quantized:
        raise UsageError(f"FastMoE has no quantized weights; leave out --quantize or {FLAG}, or give unquantized files")
    if num_experts % world_size:
        raise UsageError(
            f"FastMoE needs as many experts on each rank, and {num_experts} do not divide among {world_size}; use "
            f"{' or '.join(str(ranks) for ranks in range(1, num_experts + 1) if num_experts % ranks == 0)} ranks"
        )


class OwnRows(Dispatch):
    """Stands where a layer has its dispatch: FastMoE moves the rows, and cannot be asked to do only that."""

    name: ClassVar[str] = "fastmoe"

    def dispatch(self, x_TD: torch.Tensor, routing: Routing) -> tuple[torch.Tensor, list[int], Handle]:
        """Not to be called."""
        raise AssertionError("FastMoE moves rows inside its layer")

    def combine(self, rows_RD: torch.Tensor, handle: Handle) -> torch.Tensor:
        """Not to be called."""
        raise AssertionError("FastMoE moves rows inside its layer")


def own_rows(routes: Routes, layer: int) -> Dispatch:
    """For `parallelize`, with `FastMoeLayer`."""
    return OwnRows()


class FastMoeLayer(MoELayer):
    """A layer whose mixture is computed by `fmoe.FMoE`, over the parameters that are here; for inference.

    What travels and what is computed cannot be told apart, so all of its time counts as computation.
    """

    def forward(self, x_TD: torch.Tensor, norm: Norm) -> torch.Tensor:
        """See `MoELayer`."""
        return x_TD + self.mixture(rms_norm(x_TD, *norm))

    def mixture(self, x_TD: torch.Tensor) -> torch.Tensor:
        """See `MoELayer`."""
        begin = time.perf_counter()
        out_TD: torch.Tensor
        if x_TD.shape[0]:
            out_TD = self._fmoe(x_TD.contiguous())
        else:
            # A rank without tokens takes part with a token that does not count: FastMoE launches its kernels over the
            # tokens, and a launch over none of them is an error.
            with self.load.kept():
                out_TD = self._fmoe(x_TD.new_zeros(1, x_TD.shape[1]))[:0]
        end = time.perf_counter()
        self.timeline.add_in_turn(self.layer, begin, begin, end, end)
        return out_TD

    @cached_property
    def _fmoe(self) -> nn.Module:
        """Made at the first call, when the weights are there. Not a part of the model: parameters are once in it."""
        gate, weights = cast(TopKGate, self.gate), cast(tuple[torch.Tensor, ...], self.experts.matrices.matrices)
        triples = zip(weights[0::3], weights[1::3], weights[2::3], strict=True)
        made: Iterator[nn.Module] = (_FastMoeExpert(*triple, self.timeline) for triple in triples)
        layer: nn.Module = _fastmoe("fmoe").FMoE(
            num_expert=len(self.routes.local_experts),
            d_model=gate.weight.shape[1],
            world_size=self.routes.world_size,
            moe_group=None,  # torch's default group, which has all ranks and on GPUs goes over NCCL
            top_k=gate.top_k,
            gate=self._gate_class(),
            expert=lambda d_model: next(made),  # asked for one local expert after the other
        )
        return layer.eval()

    def _gate_class(self) -> type[nn.Module]:
        """FastMoE makes the gate itself, of a class with these arguments; ours has its weights, and no bias."""
        layer = self
        base: type[nn.Module] = _fastmoe("fmoe.gates.base_gate").BaseGate

        class MixtralGate(base):  # type: ignore[valid-type, misc]
            def __init__(self, d_model: int, num_expert: int, world_size: int, top_k: int) -> None:
                super().__init__(num_expert, world_size)

            def forward(self, x_TD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
                routing = cast(Routing, layer.gate(x_TD))
                layer.load.count(layer.layer, routing.expert_ids_TK)
                return routing.expert_ids_TK, routing.weights_TK.to(x_TD.dtype)

        return MixtralGate


class _FastMoeExpert(nn.Module):
    """An expert as users of FastMoE write theirs, in torch's operators."""

    def __init__(self, w1_FD: torch.Tensor, w2_DF: torch.Tensor, w3_FD: torch.Tensor, timeline: Timeline) -> None:
        super().__init__()
        self._weights = w1_FD, w2_DF, w3_FD  # the model's parameters themselves; in a tuple they are not registered
        self._timeline = timeline

    def forward(self, rows_RD: torch.Tensor, count: object = None) -> torch.Tensor:
        """`[R, D] -> [R, D]`; FastMoE 1.1 and later give the number of rows as well."""
        self._timeline.count_rows([rows_RD.shape[0]])
        w1_FD, w2_DF, w3_FD = self._weights
        return F.linear(F.silu(F.linear(rows_RD, w1_FD)) * F.linear(rows_RD, w3_FD), w2_DF)


def _fastmoe(module: str) -> Any:
    """A module of FastMoE. Raises `UsageError` when it is not installed, or does not fit this torch."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != "fmoe":
            raise _unusable(error) from error
        raise UsageError(
            f"{FLAG} needs FastMoE, which is not installed; build it from https://github.com/laekov/fastmoe for this "
            f"torch ({torch.__version__}), or leave the option out"
        ) from error
    except ImportError as error:
        raise _unusable(error) from error


def _unusable(error: ImportError) -> UsageError:
    return UsageError(
        f"the FastMoE that is installed cannot be imported ({error}); build it again for this torch "
        f"({torch.__version__}), or leave out {FLAG}"
    )
