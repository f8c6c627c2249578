"""Parameters of the exchange's routes as we have them: the intervals that are computed here, and the symbols that have candles."""

from collections.abc import Callable, Sequence

from klinestream.market.codec import is_symbol
from klinestream.market.intervals import INTERVALS
from klinestream.runtime import exchange_params
from klinestream.runtime.exchange_params import ExchangeFault, each_once, names_in, not_valid

DEFAULT_LIMIT, LIMIT_MOST = 500, 1000
PERMISSIONS_MOST_CHARS = 200


class Params(exchange_params.Params):
    """The query of one request. Every reader raises ExchangeFault."""

    def interval(self) -> str:
        """The mandatory interval."""
        return self.interval_of(INTERVALS)

    def rows(self) -> int:
        """How many rows."""
        return self.limit(DEFAULT_LIMIT, LIMIT_MOST)

    def zone(self, length_ms: int) -> None:
        """Refuse a `timeZone` in which candles of this length would open at other times."""
        if self.zone_ms() % length_ms:
            raise not_valid("timeZone")

    def permissions(self) -> None:
        """Refuse what can be no permissions: here they make no difference."""
        if len(self.text("permissions") or "") > PERMISSIONS_MOST_CHARS:
            raise not_valid("permissions")

    def symbols(self, name: str) -> Sequence[str] | None:
        """A list of symbols in JSON; None where it wasn't sent."""
        value = self.text(name)
        return None if value is None else each_once(names_in(value, name, "expected a JSON list of symbols"))


def known_symbol(name: str, knows: Callable[[str], bool]) -> str:
    """A symbol that has candles. Raises ExchangeFault."""
    if not is_symbol(name):
        raise ExchangeFault(-1100, "Illegal characters found in parameter 'symbol'; expected letters, digits, - _ or .")
    if not knows(name):
        raise ExchangeFault(-1121, "Invalid symbol.")
    return name
