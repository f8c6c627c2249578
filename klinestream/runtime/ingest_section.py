"""The table of HTTP ingestion. A key's docstring is what docs/operations.md says of it."""

from typing import Annotated

from pydantic import Field

from klinestream.runtime.sections import Port, Seconds, Section


class IngestConfig(Section):
    """HTTP ingestion: `klinestream ingest`."""

    host: str = "127.0.0.1"
    """Address it listens on."""
    port: Port = 8085
    """Port it listens on."""
    body_mib: Annotated[int, Field(ge=1, le=64)] = 4
    """A request's body has this size at most."""
    batch_most: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    """Records in one request at most."""
    waiting_most: Annotated[int, Field(ge=1, le=1_000_000)] = 50_000
    """Records that wait for the broker at most; what is more is answered with 429 and a time to come again."""
    answer_s: Seconds = 10.0
    """How long a request waits for the broker at most; then it is answered with 503, and may be sent again."""
