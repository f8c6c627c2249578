"""Runs the server until SIGTERM or SIGINT: the shell around uvicorn."""

import resource
import signal
import socket

import structlog
import uvicorn

from klinestream.market.errors import StackError
from klinestream.market.kinds import WINDOWS_OF
from klinestream.runtime.access.patience import HEAD_MOST_BYTES, PatientHttp
from klinestream.runtime.config import Config
from klinestream.runtime.gap_ledger import read_ledger
from klinestream.runtime.kafka import open_reader
from klinestream.runtime.server_sections import ServerConfig
from klinestream.runtime.watched import WatchedWriter
from server.access.guards import refuse_open
from server.app import create_app
from server.link import LinkedWebSocket
from server.protocol import MESSAGE_MOST_BYTES

GRACE_S = 2  # clients get their closing frame at once; what they don't take by then is dropped
PEER_SILENT_MOST_MS = 30_000
UNSENT_MOST_BYTES = 128 * 1024
REQUESTS_MOST = 1000
"""Connections that are no websockets: one more is answered with 503."""
FILES_BESIDES = 100
"""Open files that are no connections to us."""

log = structlog.get_logger()


def run(config: Config) -> None:
    """Serve until a signal comes; raises StackError if the address can't be had, ConfigError if strangers could read."""
    _allow_files(config.server.max_clients + REQUESTS_MOST + FILES_BESIDES)
    listener = _listen(config.server)
    name = config.server.name or f"{socket.gethostname()}:{config.server.port}"
    writer = WatchedWriter(config.kafka, name)
    app = create_app(
        config.server,
        lambda: open_reader(config.kafka, "klinestream-server"),
        windows=WINDOWS_OF[config.windows.source],
        writer=writer,
        read_gaps=lambda: read_ledger(config.kafka),
    )
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=PatientHttp,
            ws=LinkedWebSocket,
            ws_max_size=MESSAGE_MOST_BYTES,
            h11_max_incomplete_event_size=HEAD_MOST_BYTES,
            limit_concurrency=config.server.max_clients + REQUESTS_MOST,
            proxy_headers=bool(config.server.trusted_proxies),
            forwarded_allow_ips=list(config.server.trusted_proxies),
            # Each client's copy is packed apart, which mostly costs more than it saves: an update has a few hundred bytes.
            ws_per_message_deflate=config.server.compress,
            timeout_graceful_shutdown=GRACE_S,
            log_config=None,
            log_level="error",  # what clients send wrongly is theirs to mend: it would fill the log
            access_log=False,
            server_header=False,
        )
    )
    # uvicorn raises the signal again when it has ended: that is a clean end here, not a death.
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: None)
    log.info("listening", address=f"http://{config.server.host}:{config.server.port}/chart")
    server.run(sockets=[listener])
    log.info("stopped")


def _listen(config: ServerConfig) -> socket.socket:
    host, port = config.host, config.port
    try:
        family, _, _, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        refuse_open(config, str(address[0]))
        listener = socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        raise StackError(
            f"expected to listen on {host}:{port}, but it can't be had ({error.strerror}): stop what uses it, or set server.port"
        ) from None
    # Accepted sockets inherit it. asyncio sets it only where the socket's number of the protocol says TCP, which one of
    # `create_server` doesn't: each second message would wait up to 40 ms for the peer's acknowledgement of the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Accepted sockets inherit it: a peer that is gone, or takes nothing, is dropped by the kernel.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, PEER_SILENT_MOST_MS)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        # Accepted sockets inherit it: without it the kernel takes megabytes of updates for a client that reads nothing, minutes of
        # them, and all this time nobody knows that it is too slow.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_MOST_BYTES)
    return listener


def _allow_files(wanted: int) -> None:
    """Each connection is an open file, and many systems allow 1,024 unless asked for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning("fewer open files are allowed than clients may come", allowed=allowed, wanted=wanted)
