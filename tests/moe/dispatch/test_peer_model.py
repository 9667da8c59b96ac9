"""Every interleaving of two ranks of the peer protocol, in small: no deadlock, no row lost or overwritten."""

from dataclasses import replace

import pytest

from tests.moe.dispatch.peer_model import BREAKAGES, DEADLOCK, LOST, Fault, Model

# Messages that fit, over three exchanges, so that slots are used again; and messages that go round their slot.
FITTING = Model(cells=((1, 1, 1), (1, 1, 1)), places=1)
LOPSIDED = Model(cells=((2, 1), (1, 2)), places=1)
FLOOD = Model(cells=((3,), (2,)), places=1)
MODELS = {"fitting": FITTING, "lopsided": LOPSIDED, "flood": FLOOD}


@pytest.mark.parametrize("name", MODELS)
def test_every_interleaving_comes_to_the_end(name: str) -> None:
    assert MODELS[name].explore() > 1000


@pytest.mark.parametrize(("broken", "fault"), BREAKAGES.items())
def test_the_model_finds_what_is_left_out(broken: str, fault: str) -> None:
    """A model that finds nothing wrong proves something only if it finds what is wrong."""
    found = set()
    for model in MODELS.values():
        try:
            replace(model, broken=broken).explore()
        except Fault as error:
            found.add(next(kind for kind in (DEADLOCK, LOST) if kind in str(error)))
    assert found == {fault}
