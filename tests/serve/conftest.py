"""One server for the tests of a file that only ask it things."""

from collections.abc import Iterator

import pytest

from tests.serve.running_server import RunningServer, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that answers."""
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running
