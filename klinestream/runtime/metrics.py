"""Metrics over HTTP: `/metrics` as Prometheus reads them, `/healthz` with one line that says what is wrong."""

import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app

from klinestream.market.errors import ConfigError

Faults = Callable[[], list[str]]
"""What is wrong right now, for a person to read; empty if all is well."""


class MetricsServer:
    """Serves a registry and the health of a part from a thread of its own, until `close`."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, faults: Faults) -> None:
        """Listen; raises ConfigError if the address can't be had."""
        try:
            self._server = make_server(host, port, _app(registry, faults), _Server, _Quiet)
        except OSError as error:
            raise ConfigError(
                f"expected to serve metrics on {host}:{port}, but {error.strerror or error}: "
                "end what holds the port, or set another metrics_port (0 for none)"
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # a scraper that hangs must not hold up the end of the process


class _Quiet(WSGIRequestHandler):
    timeout = 10.0

    def log_message(self, format: str, *args: object) -> None:
        """A line a scrape is of no use to anybody."""


def _app(registry: CollectorRegistry, faults: Faults) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
    whole = CollectorRegistry()
    whole.register(registry)
    ProcessCollector(registry=whole)  # start, memory and processor time: what /status shows of every part
    metrics = make_wsgi_app(whole)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        if path == "/metrics":
            found: Iterable[bytes] = metrics(environ, start_response)
            return found
        if path == "/healthz":
            wrong = faults()
            start_response("503 Service Unavailable" if wrong else "200 OK", [("Content-Type", "text/plain; charset=utf-8")])
            return [("\n".join(wrong or ["ok"]) + "\n").encode()]
        start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"expected /metrics or /healthz\n"]

    return app
