"""The master's address before anything connects to it: does the name exist, is the port free, does it answer.

torch retries a wrong address for minutes and without a word, so this file asks the same questions first, by
itself, and answers within seconds with the setting to change.
"""

import array
import errno
import fcntl
import socket
import struct
import threading
import time
from dataclasses import dataclass

from mixtralkit.dist.port_user import used_by
from mixtralkit.errors import LaunchError
from mixtralkit.log import get_logger

NOTICE_AFTER = 5.0  # seconds of waiting in silence before a word about it
_TRY_EVERY = 0.2
_SIOCGIFADDR = 0x8915  # Linux: the IPv4 address of an interface, by its name

_logger = get_logger(__name__)


@dataclass(frozen=True)
class Master:
    """Where the ranks or nodes meet, and the names of the settings that say so. Raises `LaunchError` on no port."""

    host: str
    port: int
    host_setting: str = "MASTER_ADDR"
    port_setting: str = "MASTER_PORT"

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise LaunchError(f"{self.port_setting} is {self.port}; a port is a number from 1 to 65535")

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def check_resolves(master: Master) -> None:
    """Raise `LaunchError` when the master's host name is unknown or no name server answers within `NOTICE_AFTER`."""
    answer: list[str] = []

    def look_up() -> None:
        try:
            socket.getaddrinfo(master.host, master.port, type=socket.SOCK_STREAM)
            answer.append("")
        except OSError as error:
            answer.append(error.strerror or str(error))
        except UnicodeError:
            answer.append("it is not spelled as a host name")

    thread = threading.Thread(target=look_up, daemon=True)  # a resolver has time-outs of its own, and long ones
    thread.start()
    thread.join(NOTICE_AFTER)
    reason = answer[0] if answer else f"no name server answered within {NOTICE_AFTER:.0f} s"
    if not reason:
        return
    raise LaunchError(
        f"the master's host name {master.host!r} is unknown on {socket.gethostname()} ({reason}); "
        f"give {master.host_setting} a name or an IP address that every node can look up"
    )


def check_port_free(master: Master) -> None:
    """Raise `LaunchError` when another process of this host listens at the master's port."""
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", master.port))
            probe.listen(1)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            raise LaunchError(
                f"port {master.port} of {socket.gethostname()} cannot be used ({error.strerror}"
                f"{used_by(master.port)}): another run may hold it; choose another {master.port_setting}, the same on "
                "every node"
            ) from error


def wait_reachable(master: Master, timeout: float) -> None:
    """Wait until the master accepts connections; say so when that takes long.

    Raises `LaunchError` after `timeout` seconds.
    """
    start, noticed = time.monotonic(), False
    while (problem := _connect(master)) is not None:
        waited = time.monotonic() - start
        text = f"{socket.gethostname()} cannot reach the master at {master}: {problem}"
        if waited >= timeout:
            raise LaunchError(
                f"{text}, for {timeout:.0f} s; start the first node or rank there, or correct {master.host_setting} "
                f"and {master.port_setting}, or open the port in the firewall"
            )
        if waited >= NOTICE_AFTER and not noticed:
            noticed = True
            _logger.warning(
                f"{text}; waiting for it up to {timeout:.0f} s "
                f"(check {master.host_setting} and {master.port_setting}, and that the first node is started)"
            )
        time.sleep(_TRY_EVERY)


def interface_towards(host: str) -> str | None:
    """The network interface whose IPv4 address this host uses to reach `host`; None where that is not known."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))  # UDP: asks for the route only, nothing is sent
            address = probe.getsockname()[0]
        except OSError:
            return None
        names = (name for _, name in socket.if_nameindex())
        return next((name for name in names if _address_of(probe, name) == address), None)


def _connect(master: Master) -> str | None:
    """None when the master accepts a connection, else why not."""
    try:
        socket.create_connection((master.host, master.port), timeout=2.0).close()
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return None


def _address_of(probe: socket.socket, interface: str) -> str | None:
    request = array.array("B", struct.pack("256s", interface.encode()[:15]))
    try:
        fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
    except OSError:
        return None
    return socket.inet_ntoa(request.tobytes()[20:24])
