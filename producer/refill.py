"""Missing klines, asked for at REST: see `fetcher`."""

from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

from klinestream.market.events import SECOND_MS, Kline
from klinestream.runtime.config import Config
from klinestream.runtime.rest import KLINES_MOST, KLINES_WEIGHT, Rest, check_span
from klinestream.runtime.weights import Weights
from producer.fetcher import QUEUE_MOST, Counts, Fetcher

SPAN_MOST_MS = KLINES_MOST * SECOND_MS
"""The longest span of one request."""

_Span = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Request:
    """The seconds of a symbol that open in [from_ms, to_ms), up to SPAN_MOST_MS."""

    symbol: str
    from_ms: int
    to_ms: int
    urgent: bool = False
    """Live klines are held until it is answered."""

    def __post_init__(self) -> None:
        """Raises ValueError for a span that one request can't ask for."""
        check_span(self.from_ms, self.to_ms)

    @property
    def span(self) -> _Span:
        """What it asks for, urgent or not."""
        return self.symbol, self.from_ms, self.to_ms

    @property
    def order(self) -> int:
        """The oldest first."""
        return self.from_ms

    @property
    def weight(self) -> int:
        """What the exchange counts it as."""
        return KLINES_WEIGHT


class Refiller(Fetcher[Request, list[Kline]]):
    """`answered` gets the klines of a request. A second that closed just now may be missing in an answer: ask again."""

    def __init__(
        self,
        config: Config,
        counts: Counts,
        answered: Callable[[Request, list[Kline]], None],
        failed: Callable[[Request, str], None],
        *,
        weights: Weights,
        failures: "SimpleQueue[Exception]",
        first: Callable[[], frozenset[str]] | None = None,
        queue_most: int = QUEUE_MOST,
    ) -> None:
        """See `Fetcher`."""
        super().__init__(config, counts, _klines, answered, failed, weights=weights, failures=failures, first=first, queue_most=queue_most)


def _klines(rest: Rest, request: Request) -> list[Kline]:
    return rest.klines(request.symbol, request.from_ms, request.to_ms, urgent=request.urgent)
