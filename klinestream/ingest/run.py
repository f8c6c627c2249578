"""Runs one replica until SIGTERM or SIGINT: the shell around uvicorn."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import uvicorn
from fastapi import FastAPI

from klinestream.ingest.app import create_app
from klinestream.ingest.gate import refuse_open
from klinestream.market.errors import StackError
from klinestream.runtime.access.patience import HEAD_MOST_BYTES, PatientHttp
from klinestream.runtime.config import Config
from klinestream.runtime.ingest_section import IngestConfig
from klinestream.runtime.kafka import check_settings, open_publisher, open_reader
from klinestream.runtime.metrics import MetricsServer

CLIENT_ID = "klinestream-ingest"
REQUESTS_MOST = 1000
"""Connections at once: one more is answered with 503."""
PEER_SILENT_MOST_MS = 30_000

log = structlog.get_logger()


def run(config: Config) -> None:
    """Serve until a signal comes.

    Raises StackError if the address can't be had, or if one of its threads ends by an error: whoever watches over the process starts it
    again. ConfigError if that of the metrics can't, if strangers could post, or if what says where Kafka is can't be used.
    """
    check_settings(config.kafka)  # here and not in a thread, where nobody would see it
    broken: list[Exception] = []

    def end(error: Exception) -> None:
        broken.append(error)
        os.kill(os.getpid(), signal.SIGTERM)

    listener = _listen(config.ingest)
    replica = f"{socket.gethostname()}:{config.ingest.port}:{os.getpid()}:{os.urandom(3).hex()}"
    opens = (lambda: open_publisher(config.kafka, CLIENT_ID), lambda: open_reader(config.kafka, CLIENT_ID))
    app = create_app(config.ingest, *opens, replica, broken=end)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=PatientHttp,
            ws="none",
            h11_max_incomplete_event_size=HEAD_MOST_BYTES,
            limit_concurrency=REQUESTS_MOST,
            proxy_headers=bool(config.ingest.trusted_proxies),
            forwarded_allow_ips=list(config.ingest.trusted_proxies),
            timeout_graceful_shutdown=int(config.ingest.answer_s) + 1,  # what was taken is answered
            log_config=None,
            log_level="error",  # what clients send wrongly is theirs to mend: it would fill the log
            access_log=False,
            server_header=False,
        )
    )
    # uvicorn raises the signal again when it has ended: that is a clean end here, not a death.
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: None)
    with metrics_served(config.ingest, app):
        log.info("listening", address=f"http://{config.ingest.host}:{config.ingest.port}/ingest")
        server.run(sockets=[listener])
    log.info("stopped")
    for error in broken[:1]:
        raise StackError(f"ingestion ended by an error of its own ({error!r}), which its log shows whole: start it again") from error


@contextmanager
def metrics_served(config: IngestConfig, app: FastAPI) -> Iterator[None]:
    """The application's metrics on an address of their own: who reads them has no token to post with. Raises ConfigError."""
    if not config.metrics_port:
        yield
        return
    served = MetricsServer(config.metrics_host, config.metrics_port, app.state.registry, app.state.faults)
    try:
        yield
    finally:
        served.close()


def _listen(config: IngestConfig) -> socket.socket:
    host, port = config.host, config.port
    try:
        family, _, _, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        refuse_open(config, str(address[0]))
        listener = socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        raise StackError(
            f"expected to listen on {host}:{port}, but it can't be had ({error.strerror}): stop what uses it, or set ingest.port"
        ) from None
    # Accepted sockets inherit both: answers go out at once, and a peer that is gone is dropped by the kernel.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, PEER_SILENT_MOST_MS)
    return listener
