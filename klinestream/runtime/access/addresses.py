"""Which address a client has, as far as limits by address are concerned. Pure."""

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Any

ADDRESSES_MOST = 10_000
"""So many are remembered at most, wherever something is remembered by address."""
_SHOWN_MOST = 64


def address_of(scope: Mapping[str, Any]) -> str:
    """The address that a request's limits are counted on: of IPv6 its network, since each client has the whole of one."""
    client = scope.get("client")
    return _counted(client[0][:_SHOWN_MOST]) if client else ""


def is_loopback(host: str) -> bool:
    """Whether an address, or the name localhost, is this machine's own.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


@lru_cache(ADDRESSES_MOST)
def _counted(text: str) -> str:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return text  # a proxy's word for a client that has no address
    if isinstance(address, IPv4Address) or address.is_loopback:
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((address, 64), strict=False))
