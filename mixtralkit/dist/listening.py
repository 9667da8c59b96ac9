"""A socket that listens where the user asks for, opened before anything expensive: a port in use is told at once."""

import errno
import socket
from typing import Any

from mixtralkit.dist.port_user import used_by
from mixtralkit.errors import LaunchError

_BACKLOG = 2048  # connections that may wait to be accepted


def listening_socket(host: str, port: int, *, host_setting: str, port_setting: str) -> socket.socket:
    """A TCP socket that listens at `host`, a name or an address of this machine, and `port`; 0 is any free one.

    "0.0.0.0" is every IPv4 address, "::" every address. A name that has several, as "localhost" has, stands for its
    first IPv4 address. The settings are what the user calls the two.

    Raises `LaunchError` naming the setting to change: no port, port in use (by whom, where /proc tells) or reserved for
    the system, unknown name, address of another machine.
    """
    if not 0 <= port < 65536:
        raise LaunchError(f"{port_setting} is {port}; a port is a number from 1 to 65535, or 0 for any that is free")
    family, address = _look_up(host, port, host_setting)
    try:
        return _listen(family, address)
    except OSError as error:
        what = f"cannot listen at {f'[{host}]' if ':' in host else host}:{port}"
        raise LaunchError(f"{what}: {_reason(error, port, host_setting, port_setting)}") from error


def _look_up(host: str, port: int, host_setting: str) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    try:
        if not host:  # would be taken for all addresses, which nobody shall ask for by mistake
            raise OSError(None, "it is empty")
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "it is not spelled as a host name"
        raise LaunchError(
            f"{host_setting} is {host!r}, which is unknown on {socket.gethostname()} ({reason}); give a name or an "
            f"address of this machine, 127.0.0.1 for clients on it, or 0.0.0.0 for clients from anywhere"
        ) from error
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, address


def _listen(family: socket.AddressFamily, address: tuple[Any, ...]) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # or a restart must wait for old connections
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind(address)
        listening.listen(_BACKLOG)  # now: until then, another process may bind the same port
    except OSError:
        listening.close()
        raise
    return listening


def _reason(error: OSError, port: int, host_setting: str, port_setting: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"the port is in use{used_by(port)}; stop that, or choose another {port_setting}"
    if error.errno == errno.EACCES:
        return f"this port is reserved for the system; choose a {port_setting} from 1024 to 65535"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"this machine does not have that address; give {host_setting} one of its own, 127.0.0.1 or 0.0.0.0"
    return f"{error.strerror}; choose another {host_setting} or {port_setting}"
