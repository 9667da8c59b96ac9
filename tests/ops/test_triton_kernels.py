"""When a call goes to the Triton kernels, and when it does not."""

import importlib.util
import logging
from collections.abc import Iterator

import pytest
import torch

from mixtralkit.ops import triton_kernels
from mixtralkit.ops.triton_kernels import interpreting, triton_takes

X = torch.zeros(2)


@pytest.fixture(autouse=True)
def _looked_for_anew() -> Iterator[None]:
    triton_kernels.available.cache_clear()
    yield
    triton_kernels.available.cache_clear()


def test_calls_on_the_cpu_stay_there_unless_they_are_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert not triton_takes(X)
    with interpreting():
        assert triton_takes(X)
    assert not triton_takes(X)


def test_gradients_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    weight = torch.zeros(2, requires_grad=True)
    with interpreting():
        assert not triton_takes(X, weight)
        with torch.no_grad():
            assert triton_takes(X, weight)


def test_without_triton_torch_does_it_and_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with interpreting(), caplog.at_level(logging.DEBUG):
        assert not triton_takes(X)
        assert not triton_takes(X)
    assert [record.getMessage().count("install triton") for record in caplog.records] == [1]
