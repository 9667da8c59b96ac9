"""Sends and receives at the same time over one TCP connection: `both_ways.py BYTES [SERVER]`, without SERVER as server.

Prints the bytes a second at which it received, from the first to the last.
"""

import socket
import sys
import threading
import time

PORT = 5000


def connect(server: str) -> socket.socket:
    """The connection, once the server listens."""
    while True:
        try:
            return socket.create_connection((server, PORT))
        except OSError:
            time.sleep(0.02)


def receive(connection: socket.socket, total: int) -> float:
    """Take in `total` bytes; returns bytes a second."""
    received = first = len(connection.recv(1 << 16))
    started = time.perf_counter()
    while received < total:
        received += len(connection.recv(1 << 16))
    return (total - first) / (time.perf_counter() - started)


def main(total: int, *server: str) -> None:
    """Do so."""
    connection = connect(*server) if server else socket.create_server(("", PORT)).accept()[0]
    sender = threading.Thread(target=connection.sendall, args=(bytes(total),))
    sender.start()
    print(receive(connection, total))
    sender.join()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
