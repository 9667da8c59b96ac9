"""Both ways in which an op may be computed."""

import pytest

from mixtralkit.ops import library


@pytest.fixture(params=["native", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the extension's operators, and as without the extension."""
    name: str = request.param
    if name == "torch":
        monkeypatch.setattr(library, "ops_if_available", lambda: None)
    elif library.why_not() is not None:
        pytest.skip(f"no native kernels: {library.why_not()}")
    return name
