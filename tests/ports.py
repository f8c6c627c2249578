"""Free ports, so that tests run beside anything that holds the default ones."""

import os
import random
import socket

# Below what systems give to outgoing connections, so that none takes a port between its choice and its use.
_FIRST, _END = 10_000, 32_000
_RANDOM = random.SystemRandom()  # test runs at the same time must not choose alike


def ports_of(worker: str, workers: int) -> range:
    """What a worker of pytest-xdist, such as gw1, may choose from: between choice and use no other one of its run takes it."""
    return range(_FIRST + int(worker.removeprefix("gw")), _END, workers)


_MINE = ports_of(os.environ.get("PYTEST_XDIST_WORKER", "gw0"), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
_LEFT = iter(_RANDOM.sample(_MINE, len(_MINE)))


def free_ports(count: int) -> list[int]:
    """As many different ports that nobody listens on right now; none is given twice."""
    found: list[int] = []
    while len(found) < count:
        port = next(_LEFT)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        found.append(port)
    return found
