"""The tables of the server and of its clients: where it listens, who may ask, how much."""

import re
from ipaddress import ip_network
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from klinestream.runtime.sections import Port, Seconds, Section, is_web_address

OBSERVED_NAME = re.compile(r"(producer|repair|alerts|archive|proof|feed|ingest|postgres|workflow)(-[a-z0-9]{1,20})?")
OBSERVED_MOST = 20
TOKEN = re.compile(r"[!-+\--~]{16,256}")
"""Visible ASCII without commas: it has to fit into a header."""
TOKENS_MOST = 100


class ServerConfig(Section):
    """The web server."""

    host: str = "127.0.0.1"
    """Address it listens on."""
    port: Port = 8084
    """Port it listens on."""
    name: str = ""
    """This server's name in `crypto_watched_symbols`; the machine's name and the port if empty."""
    history_s: Annotated[int, Field(ge=10, le=3600)] = 120
    """How much history a client gets at once, and the page shows."""
    stale_after_s: Seconds = 5.0
    """Data older than this makes /readyz fail."""
    allowed_origins: tuple[str, ...] = ()
    """Further origins that may open the websocket, besides the page's own."""
    public: bool = False
    """Serve without tokens beyond this machine, or under a name that is not this machine's: something else keeps strangers out."""
    tokens: SecretStr = SecretStr("")
    """Who has one of these may read: comma separated, each of at least 16 characters; only from KLINESTREAM_SERVER__TOKENS."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of proxies whose X-Forwarded-For and X-Forwarded-Proto count."""
    max_clients: Annotated[int, Field(ge=1)] = 2000
    """Websocket clients at once."""
    max_clients_per_address: Annotated[int, Field(ge=1)] = 1000
    """Websocket clients at once from one address of another machine; what comes through a proxy has its, without `trusted_proxies`."""
    handshakes_per_s: Annotated[float, Field(gt=0, le=100_000)] = 100.0
    """Websockets that one address of another machine may open a second, with bursts of twice as many."""
    client_queue: Annotated[int, Field(ge=1)] = 64
    """Updates held for a slow client before they are conflated."""
    max_subscriptions: Annotated[int, Field(ge=1, le=10_000)] = 50
    """Symbols that one client may follow at once."""
    messages_per_s: Annotated[float, Field(gt=0, le=10_000)] = 20.0
    """Messages that one client may send a second, with bursts of twice as many."""
    compress: bool = False
    """Compress websocket messages for clients that offer it: fewer bytes, and each client's copy is packed apart."""
    history_candles: Annotated[int, Field(ge=1, le=5000)] = 500
    """Closed candles held of each symbol and interval for REST, with their indicators; some 300 bytes each."""
    requests_per_s: Annotated[float, Field(gt=0, le=100_000)] = 50.0
    """REST requests that one address may make a second, with bursts of twice as many."""
    observe: tuple[str, ...] = (
        "producer=http://127.0.0.1:9108",
        "repair=http://127.0.0.1:9109",
        "alerts=http://127.0.0.1:9110",
        "archive=http://127.0.0.1:9111",
        "proof=http://127.0.0.1:9112",
    )
    """Whom `/status` asks, `name=address`: producer, repair, alerts, archive, proof, feed, ingest, postgres, workflow, also with a suffix (`feed-books`)."""  # noqa: E501  # a docstring is one line of a table
    flink_url: str = "http://127.0.0.1:8081"
    """Flink's REST interface, which `/status` asks for the jobs; several, comma separated, where jobs have clusters of their own; empty for none."""  # noqa: E501  # a docstring is one line of a table

    @property
    def accepted_tokens(self) -> tuple[str, ...]:
        """The tokens, apart."""
        return tuple(token for token in map(str.strip, self.tokens.get_secret_value().split(",")) if token)

    @model_validator(mode="after")
    def _access(self) -> "ServerConfig":
        # Not a check of the field: its error would show the tokens.
        found = self.accepted_tokens
        unfit = [place for place, token in enumerate(found, 1) if not TOKEN.fullmatch(token)]
        if unfit or len(found) > TOKENS_MOST or (self.tokens.get_secret_value() and not found):
            came = f"number {unfit[0]} isn't" if unfit else f"there are {len(found)}"
            raise ValueError(f"tokens must be up to {TOKENS_MOST}, comma separated, each of 16 to 256 visible ASCII characters: {came}")
        for origin in self.allowed_origins:
            if not is_web_address(origin) or origin != origin_of(origin):
                raise ValueError(f"allowed_origins must hold origins such as https://chart.example, without a path, not {origin!r}")
        for proxy in self.trusted_proxies:
            if not is_network(proxy):
                raise ValueError(f"trusted_proxies must hold addresses or networks such as 10.0.0.0/8, not {proxy!r}")
        return self

    @property
    def observed(self) -> dict[str, str]:
        """The parts to ask: name → base address."""
        return {name: url.rstrip("/") for name, _, url in (entry.partition("=") for entry in self.observe)}

    @property
    def flink_urls(self) -> tuple[str, ...]:
        """The addresses of Flink's REST interfaces."""
        return tuple(url for url in map(str.strip, self.flink_url.split(",")) if url)

    @model_validator(mode="after")
    def _parts(self) -> "ServerConfig":
        # Not checks of the fields: their errors would show the addresses.
        for entry in self.observe:
            name, _, url = entry.partition("=")
            if not OBSERVED_NAME.fullmatch(name) or not is_web_address(url):
                raise ValueError(f"observe must hold entries such as producer=http://127.0.0.1:9108, not one of {name[:40]!r}")
        if len(self.observed) != len(self.observe) or len(self.observe) > OBSERVED_MOST:
            raise ValueError(f"observe must hold each name once, and at most {OBSERVED_MOST}")
        if not all(map(is_web_address, self.flink_urls)):
            raise ValueError("flink_url must hold addresses that begin with http:// or https:// and a host, comma separated, or be empty")
        return self


class ClientConfig(Section):
    """`klinestream watch` and the Python client."""

    token: SecretStr = SecretStr("")
    """Token for a server that asks for one; only from KLINESTREAM_CLIENT__TOKEN."""


def origin_of(address: str) -> str:
    """Scheme, host and port of an address.

    >>> origin_of("https://Chart.example:8443/chart?symbol=BTCUSDT")
    'https://chart.example:8443'
    """
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}"


def is_network(text: str) -> bool:
    """Whether a text is an address or a network."""
    try:
        ip_network(text)
    except ValueError:
        return False
    return True
