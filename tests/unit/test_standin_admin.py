import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from klinestream.standin.admin import loopback_only


async def answer(_request: web.Request) -> web.StreamResponse:
    return web.Response(text="in")


@pytest.mark.parametrize(
    ("path", "remote", "status"),
    [
        ("/standin/status", "127.0.0.1", 200),
        ("/standin/faults", "::1", 200),
        ("/standin/status", "192.168.0.7", 403),
        ("/standin/metrics", "2001:db8::1", 403),
        ("/standin/status", "", 403),
        ("/api/v3/ping", "192.168.0.7", 200),
    ],
)
def test_only_this_machine_may_break_it(path: str, remote: str, status: int) -> None:
    """Under /standin/ only clients on this machine are answered; the exchange is for everybody."""
    request = make_mocked_request("GET", path).clone(remote=remote)
    assert asyncio.run(loopback_only(request, answer)).status == status
