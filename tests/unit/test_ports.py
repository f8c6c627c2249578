"""Ports of tests that run at the same time."""

from tests.ports import free_ports, ports_of


def test_workers_share_no_port() -> None:
    """Together they have all of them."""
    ranges = [ports_of(f"gw{number}", 3) for number in range(3)]
    assert sorted(port for each in ranges for port in each) == list(ports_of("gw0", 1))


def test_no_port_is_given_twice() -> None:
    """Who got one may not have opened it yet."""
    given = [port for _ in range(300) for port in free_ports(3)]
    assert len(set(given)) == 900
