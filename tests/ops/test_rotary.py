"""Rotations against complex numbers in float64."""

import cmath

import pytest
import torch

from mixtralkit.ops.rotary import rotate, rotations


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("theta", [1e4, 1e6])
def test_pairs_turn_by_position_times_speed(theta: float) -> None:
    """float32 angles: at position 9 the fastest pair's angle is right to 1e-6."""
    positions, x = torch.tensor([0, 1, 9]), torch.randn(3, 2, 8)
    found = rotate(x, rotations(positions, 8, theta))
    for t, position in enumerate(positions.tolist()):
        for head in range(2):
            for i in range(4):
                turn = cmath.exp(1j * position * theta ** (-2 * i / 8))
                expected = complex(x[t, head, 2 * i], x[t, head, 2 * i + 1]) * turn
                pair = complex(found[t, head, 2 * i], found[t, head, 2 * i + 1])
                assert abs(pair - expected) < 5e-6


@pytest.mark.usefixtures("way")
def test_far_positions_keep_their_angle() -> None:
    """At Mixtral's last position an angle of 32767 is right to a float32's spacing there, 2 ** -9; hence 4e-3."""
    cos, sin = rotations(torch.tensor([32_767]), 128, 1e6)
    angles = 32_767 * 1e6 ** (-torch.arange(0, 128, 2, dtype=torch.float64) / 128)
    assert (cos.flatten().double() - angles.cos()).abs().max() < 4e-3
    assert (sin.flatten().double() - angles.sin()).abs().max() < 4e-3


def test_position_zero_changes_nothing_and_the_dtype_stays() -> None:
    x = torch.randn(1, 2, 8).bfloat16()
    assert torch.equal(rotate(x, rotations(torch.tensor([0]), 8, 1e6)), x)
