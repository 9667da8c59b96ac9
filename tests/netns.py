"""Two "hosts" on one machine: network namespaces joined by a veth pair, each with a host name of its own.

As on many real nodes, the host names cannot be looked up, so what works here works without name service.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Host:
    """A namespace that behaves as a machine: `name` is its host name, `address` its IPv4 address."""

    name: str
    address: str
    interface: str

    def start(self, command: Sequence[str], **options: object) -> "subprocess.Popen[str]":
        """Start `command` on this host, as the leader of a session so that a test can end all of it.

        `options` are `subprocess.Popen`'s. The exec replaces the wrappers: the process is the command's own.
        """
        inside = ["ip", "netns", "exec", self.name, "unshare", "--uts", "sh", "-c"]
        script = f'hostname {self.name}; exec "$@"'
        return subprocess.Popen([*inside, script, "sh", *command], text=True, start_new_session=True, **options)  # type: ignore[call-overload, no-any-return]

    def cut(self) -> None:
        """Pull the network plug: packets vanish, connections are not closed."""
        _ip("-n", self.name, "link", "set", self.interface, "down")


def why_not() -> str | None:
    """None where namespaces are permitted, else the reason for skipping a test."""
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        return "the programs ip (iproute2) and unshare are needed"
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    try:
        with two_hosts():
            return None
    except subprocess.CalledProcessError as error:
        return f"network namespaces are not permitted: {error.stderr.strip()}"


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts that reach each other at 10.77.0.1 and 10.77.0.2 and nothing else.

    Raises `subprocess.CalledProcessError` where they cannot be made.
    """
    tag = f"mk{os.getpid()}"
    hosts = tuple(Host(f"{tag}-{letter}", f"10.77.0.{n}", f"{tag}{letter}") for n, letter in ((1, "a"), (2, "b")))
    try:
        for host in hosts:
            _ip("netns", "add", host.name)
        first, second = hosts
        _ip("link", "add", first.interface, "netns", first.name, "type", "veth", "peer", "name", second.interface,
            "netns", second.name)  # fmt: skip
        for host in hosts:
            _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", host.interface)
            _ip("-n", host.name, "link", "set", host.interface, "up")
            _ip("-n", host.name, "link", "set", "lo", "up")
        yield first, second
    finally:
        for host in hosts:
            subprocess.run(["ip", "netns", "delete", host.name], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
