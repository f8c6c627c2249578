"""The table of HTTP ingestion. A key's docstring is what docs/operations.md says of it."""

import re
from typing import Annotated

from pydantic import Field, SecretStr, model_validator

from klinestream.runtime.sections import Port, Seconds, Section
from klinestream.runtime.server_sections import TOKEN, TOKENS_MOST, is_network

_BOUND = re.compile(r"([a-z0-9]{1,16}):(.+)", re.DOTALL)


class IngestConfig(Section):
    """HTTP ingestion: `klinestream ingest`."""

    host: str = "127.0.0.1"
    """Address it listens on; another than this machine's own needs `tokens`."""
    port: Port = 8085
    """Port it listens on."""
    tokens: SecretStr = SecretStr("")
    """Who has one of these may post: comma separated, each of at least 16 characters; `stocks:…` is for the source stocks alone; only from KLINESTREAM_INGEST__TOKENS."""  # noqa: E501  # a docstring is one line of a table
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of balancers whose X-Forwarded-For counts."""
    body_mib: Annotated[int, Field(ge=1, le=64)] = 4
    """A request's body has this size at most."""
    batch_most: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    """Records in one request at most."""
    waiting_most: Annotated[int, Field(ge=1, le=1_000_000)] = 50_000
    """Records that wait for the broker at most; what is more is answered with 429 and a time to come again."""
    answer_s: Seconds = 10.0
    """How long a request waits for the broker at most; then it is answered with 503, and may be sent again."""
    requests_per_s: Annotated[float, Field(gt=0, le=100_000)] = 1000.0
    """Requests that one token, or one address where there are none, may make a second, with bursts of twice as many."""
    records_per_s: Annotated[float, Field(gt=0, le=10_000_000)] = 50_000.0
    """Records that one token or address may post a second, with bursts of twice as many."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 9119
    """Prometheus metrics on this port of `metrics_host`, which asks for no token; 0 for none."""
    metrics_host: str = "127.0.0.1"
    """Address the metrics listen on."""

    @property
    def accepted_tokens(self) -> tuple[tuple[str, str], ...]:
        """Source, empty for any, and token of each."""
        found = []
        for entry in filter(None, map(str.strip, self.tokens.get_secret_value().split(","))):
            bound = _BOUND.fullmatch(entry)
            found.append((bound[1], bound[2]) if bound else ("", entry))
        return tuple(found)

    @model_validator(mode="after")
    def _access(self) -> "IngestConfig":
        # Not a check of the field: its error would show the tokens.
        found = self.accepted_tokens
        unfit = [place for place, (_, token) in enumerate(found, 1) if not TOKEN.fullmatch(token)]
        if unfit or len(found) > TOKENS_MOST or (self.tokens.get_secret_value() and not found):
            came = f"number {unfit[0]} isn't" if unfit else f"there are {len(found)}"
            raise ValueError(f"tokens must be up to {TOKENS_MOST}, comma separated, each of 16 to 256 visible ASCII characters: {came}")
        for proxy in self.trusted_proxies:
            if not is_network(proxy):
                raise ValueError(f"trusted_proxies must hold addresses or networks such as 10.0.0.0/8, not {proxy!r}")
        return self

    @model_validator(mode="after")
    def _room(self) -> "IngestConfig":
        if self.batch_most > self.waiting_most:
            raise ValueError(f"waiting_most must be batch_most ({self.batch_most}) or more, not {self.waiting_most}")
        if self.batch_most > 2 * self.records_per_s:
            raise ValueError(f"records_per_s must be half of batch_most ({self.batch_most}) or more, not {self.records_per_s:g}")
        return self
