"""Listening where the user says: connections arrive there, and what goes wrong is told with the setting to change."""

import errno
import os
import re
import socket
import subprocess
import sys

import pytest

from mixtralkit.dist.listening import listening_socket
from mixtralkit.errors import LaunchError

LISTEN = """
import socket, sys
other = socket.create_server(("127.0.0.1", 0))
print(other.getsockname()[1], flush=True)
sys.stdin.read()
"""
IPV6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")


def listen(host: str, port: int = 0) -> socket.socket:
    return listening_socket(host, port, host_setting="--host", port_setting="--port")


def refused(host: str, port: int = 0) -> str:
    with pytest.raises(LaunchError) as error:
        listen(host, port)
    return str(error.value)


@pytest.mark.parametrize(
    ("host", "reached_at"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("localhost", ["127.0.0.1"]),
        ("0.0.0.0", ["127.0.0.1"]),
        pytest.param("::1", ["::1"], marks=IPV6),
        pytest.param("::", ["127.0.0.1", "::1"], marks=IPV6),
    ],
)
def test_connections_arrive_where_it_listens(host: str, reached_at: list[str]) -> None:
    with listen(host) as listening:
        port = listening.getsockname()[1]
        for address in reached_at:
            socket.create_connection((address, port), timeout=5).close()


def test_a_port_in_use_is_told_with_who_uses_it() -> None:
    """Another process, so that its number is the one found, and not ours."""
    with subprocess.Popen(
        [sys.executable, "-c", LISTEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        for host in ("127.0.0.1", "0.0.0.0"):
            message = refused(host, port)
            assert re.fullmatch(
                rf"cannot listen at {host}:{port}: the port is in use by \S+ \(pid {other.pid}\); stop that, or choose "
                r"another --port",
                message,
            )
        other.communicate()


def test_a_port_stays_taken_before_anybody_accepts() -> None:
    """Two sockets may have bound one port until the first listens."""
    with listen("127.0.0.1") as listening:
        port = listening.getsockname()[1]
        assert f"in use by {_own_name()} (pid {os.getpid()})" in refused("127.0.0.1", port)


def test_a_port_is_free_again_at_once_with_its_old_connections_in_the_air() -> None:
    with listen("127.0.0.1") as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            listening.accept()[0].close()  # this side closes first, and its end of the connection waits for a minute
            client.recv(1)
    listen("127.0.0.1", port).close()


def test_what_is_no_port_is_told() -> None:
    assert refused("127.0.0.1", 65536).startswith("--port is 65536; a port is a number from 1 to 65535")
    assert refused("127.0.0.1", -1).startswith("--port is -1; ")


def test_a_port_of_the_system_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run as root, who may take any port."""

    def bind(self: socket.socket, address: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", bind)
    assert refused("127.0.0.1", 80) == (
        "cannot listen at 127.0.0.1:80: this port is reserved for the system; choose a --port from 1024 to 65535"
    )


@pytest.mark.parametrize("host", ["no-such-host.invalid", "node..0", ""])
def test_an_unknown_host_is_told(host: str) -> None:
    assert re.match(rf"--host is '{re.escape(host)}', which is unknown on \S+ \(.+\); give a name or ", refused(host))


def test_an_address_of_another_machine_is_told() -> None:
    """192.0.2.0/24 is for documentation: nobody has it."""
    assert "this machine does not have that address; give --host one of its own" in refused("192.0.2.1")


def _own_name() -> str:
    with open("/proc/self/comm") as file:
        return file.read().strip()
