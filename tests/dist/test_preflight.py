"""The comparison of beliefs, without any rank running."""

import pytest

from mixtralkit.dist.preflight import check_agreement
from mixtralkit.errors import LaunchError


def test_equal_beliefs_pass() -> None:
    check_agreement({"rank 0": {"a": "1"}, "rank 1": {"a": "1"}})
    check_agreement({})


def test_every_difference_is_named_the_majority_first() -> None:
    beliefs = {f"rank {rank}": {"version": "1", "flag": "x"} for rank in range(6)}
    beliefs["rank 0"] = {"version": "2"}
    with pytest.raises(LaunchError) as error:
        check_agreement(beliefs)
    assert str(error.value).startswith(
        "the ranks do not agree: version is 1 for rank 1, rank 2, rank 3, rank 4 and 1 more, 2 for rank 0; "
        "flag is x for rank 1, rank 2, rank 3, rank 4 and 1 more, not given for rank 0. "
    )
