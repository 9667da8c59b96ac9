"""Which of a machine's rates limits which weights."""

import pytest
import torch

from mixtralkit.bench.limits import Rates
from mixtralkit.bench.machine_rates import rates_of

MEASURED = {"read": 10.0, "float32": 1.0, "bfloat16": 2.0, "int8": 4.0}


@pytest.mark.parametrize(
    ("dtypes", "product"),
    [
        ({torch.float32}, 1.0),
        ({torch.bfloat16}, 2.0),
        ({torch.float16, torch.float32}, 2.0),
        ({torch.uint8, torch.float16, torch.bfloat16}, 4.0),
    ],
)
def test_narrow_weights_may_be_multiplied_in_any_wider_form(dtypes: set[torch.dtype], product: float) -> None:
    assert rates_of(MEASURED, dtypes) == Rates(10.0, product)


def test_a_machine_without_fast_narrow_products_is_limited_by_its_wide_ones() -> None:
    """A processor without bfloat16 instructions widens the weights first."""
    assert rates_of({**MEASURED, "bfloat16": 0.1, "int8": 0.1}, {torch.uint8}) == Rates(10.0, 1.0)
