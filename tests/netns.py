"""Several "hosts" on one machine: network namespaces, each with a host name of its own, on links of a chosen rate.

As on many real nodes, the host names cannot be looked up, so what works here works without name service. benchmarks/
uses it too.
"""

import json
import os
import shutil
import string
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

UNITS = {"kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
# What a link may send at once, before its rate holds: 0.25 ms of the rate, so that the rate holds for the messages of a
# decode step too. From 1 Gbit/s on it is two of the kernel's largest packets: cutting them up would be the bottleneck.
SMALLEST_BURST, FAST_BURST = 2 * 1514, 2 * 65536  # bytes
QUEUE = "100ms"  # packets that would wait longer are dropped, which is how TCP learns the rate


@dataclass(frozen=True)
class Host:
    """A namespace that behaves as a machine: `name` is its host name, `address` its IPv4 address."""

    name: str
    address: str
    interface: str

    def start(self, command: Sequence[str], **options: object) -> "subprocess.Popen[str]":
        """Start `command` on this host, as the leader of a session so that all of it can be ended.

        `options` are `subprocess.Popen`'s. The exec replaces the wrappers: the process is the command's own.
        """
        inside = ["ip", "netns", "exec", self.name, "unshare", "--uts", "sh", "-c"]
        script = f'hostname {self.name}; exec "$@"'
        return subprocess.Popen([*inside, script, "sh", *command], text=True, start_new_session=True, **options)  # type: ignore[call-overload, no-any-return]

    def cut(self) -> None:
        """Pull the network plug: packets vanish, connections are not closed."""
        _run("ip", "-n", self.name, "link", "set", self.interface, "down")

    def bytes_sent(self) -> int:
        """What has left this host so far, with the headers of all packets."""
        (link,) = json.loads(_run("ip", "-n", self.name, "-s", "-j", "link", "show", "dev", self.interface))
        return int(link["stats64"]["tx"]["bytes"])


def why_not(rate: str | None = None) -> str | None:
    """None where hosts with links of that rate can be made, else the reason for doing without."""
    for program, package in (("ip", "iproute2"), ("unshare", "util-linux"), ("tc", "iproute2")):
        if shutil.which(program) is None and (program != "tc" or rate is not None):
            return f"the program {program} ({package}) is needed"
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    try:
        with hosts(2, rate):
            return None
    except subprocess.CalledProcessError as error:
        return f"network namespaces are not permitted: {error.stderr.strip()}"


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Two of `hosts`, on a link without a limit."""
    with hosts(2) as (first, second):
        yield first, second


@contextmanager
def hosts(count: int, rate: str | None = None) -> Iterator[tuple[Host, ...]]:
    """Hosts that reach each other at 10.77.0.1, 10.77.0.2, ... and nothing else; more than two hang on a switch.

    `rate`, such as "100mbit" or "1gbit", is what each host can send and, at the same time, receive. Raises
    `subprocess.CalledProcessError` where they cannot be made.
    """
    tag = f"mk{os.getpid()}"
    letters = string.ascii_lowercase[:count]
    group = tuple(Host(f"{tag}-{letter}", f"10.77.0.{n}", f"{tag}{letter}") for n, letter in enumerate(letters, 1))
    switch = f"{tag}-switch"
    namespaces = [host.name for host in group] + ([switch] if count > 2 else [])
    try:
        for namespace in namespaces:
            _run("ip", "netns", "add", namespace)
        if count == 2:
            _cable(*((host.name, host.interface) for host in group), rate=rate)
        elif count > 2:
            _plug_into_switch(group, switch, rate)
        for host in group:
            _run("ip", "-n", host.name, "link", "set", "lo", "up")
            _run("ip", "-n", host.name, "address", "add", f"{host.address}/24", "dev", host.interface)
        yield group
    finally:
        for namespace in namespaces:
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)


def _plug_into_switch(group: Sequence[Host], switch: str, rate: str | None) -> None:
    """Connect every host to a bridge in the namespace `switch`, at a port with the name of the host's interface."""
    _run("ip", "-n", switch, "link", "add", "bridge", "type", "bridge")
    _run("ip", "-n", switch, "link", "set", "bridge", "up")
    for host in group:
        _cable((host.name, host.interface), (switch, host.interface), rate=rate)
        _run("ip", "-n", switch, "link", "set", host.interface, "master", "bridge")


def _cable(*ends: tuple[str, str], rate: str | None) -> None:
    """Join two namespaces by a pair of interfaces; each end limits what it sends, so that both directions are."""
    (namespace, interface), (other, other_interface) = ends
    _run("ip", "link", "add", interface, "netns", namespace, "type", "veth",
         "peer", "name", other_interface, "netns", other)  # fmt: skip
    for namespace, interface in ends:
        if rate is not None:
            _limit(namespace, interface, rate)
        _run("ip", "-n", namespace, "link", "set", interface, "up")


def _limit(namespace: str, interface: str, rate: str) -> None:
    bits = bits_per_second(rate)
    burst = FAST_BURST if bits >= UNITS["gbit"] else max(SMALLEST_BURST, bits // 32_000)
    _run("tc", "-n", namespace, "qdisc", "add", "dev", interface, "root", "tbf", "rate", rate, "burst", str(burst),
         "latency", QUEUE)  # fmt: skip


def bits_per_second(rate: str) -> int:
    """The number that a rate of tc's, such as "100mbit", stands for; raises `ValueError` for another form."""
    number, unit = rate[:-4], rate[-4:].lower()
    if unit not in UNITS or not number.isdigit():
        raise ValueError(f"{rate!r} is no rate; give a whole number and one of {', '.join(UNITS)}, such as 100mbit")
    return int(number) * UNITS[unit]


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
