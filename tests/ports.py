"""Free ports, so that tests run beside anything that holds the default ones."""

import random
import socket

# Below what systems give to outgoing connections, so that none takes a port between its choice and its use.
_RANGE = (10_000, 32_000)
_RANDOM = random.SystemRandom()  # test runs at the same time must not choose alike


def free_ports(count: int) -> list[int]:
    """As many different ports that nobody listens on right now."""
    found: set[int] = set()
    while len(found) < count:
        port = _RANDOM.randint(*_RANGE)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        found.add(port)
    return list(found)
