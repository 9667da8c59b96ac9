"""How the rows of a session are to travel: what the user asked for, looked at together."""

import torch

from mixtralkit.checkpoint.checkpoint_summary import Summary
from mixtralkit.errors import UsageError
from mixtralkit.moe.dispatch.choose import DispatchChoice, DispatchFacts, choose_dispatch
from mixtralkit.moe.fastmoe_backend import OwnRows, fastmoe_choice
from mixtralkit.moe.strategies import Strategies
from mixtralkit.session.settings import SessionSettings


def dispatch_in_force(
    settings: SessionSettings, facts: DispatchFacts, device: torch.device, summary: Summary
) -> DispatchChoice:
    """The dispatch, or what stands for one where another backend computes the layers.

    Raises `UsageError` for what cannot be had here, and for a contradiction to the strategies.
    """
    if settings.moe_backend == OwnRows.name:
        return fastmoe_choice(
            device=device,
            world_size=facts.world_size,
            num_experts=summary.config.num_experts,
            quantized=summary.quantized is not None,
            dispatch=settings.dispatch,
            strategies=settings.strategies,
            explain=settings.explain,
        )
    choice = choose_dispatch(settings.dispatch, facts)
    _check_adaptive(settings.strategies, settings.dispatch)
    return choice


def _check_adaptive(strategies: Strategies, dispatch: str) -> None:
    if strategies.adaptive and dispatch == "all_gather":
        raise UsageError(
            f"{strategies.source('placement')} replicates experts so that fewer rows travel, and --dispatch all_gather "
            "sends every token everywhere; leave --dispatch to auto, or take collective"
        )
