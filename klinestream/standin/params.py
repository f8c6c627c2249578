"""Parameters of the stand-in's endpoints: those of the exchange, with its own symbols and intervals."""

import re
from collections.abc import Collection

from klinestream.runtime import exchange_params
from klinestream.runtime.exchange_params import ExchangeFault
from klinestream.standin.intervals import INTERVALS, Interval

SYMBOL_RANGE = "^[A-Z0-9-_.]{1,20}$"
_SYMBOL = re.compile(r"[A-Z0-9\-_.]{1,20}")


class Params(exchange_params.Params):
    """The query of one request. Every reader raises ExchangeFault."""

    def symbol(self, listed: Collection[str]) -> str:
        """The mandatory symbol."""
        return known_symbol(self.mandatory("symbol"), "symbol", listed)

    def interval(self) -> Interval:
        """The mandatory interval."""
        return INTERVALS[self.interval_of(INTERVALS)]


def known_symbol(name: str, parameter: str, listed: Collection[str]) -> str:
    """A symbol that is listed. Raises ExchangeFault."""
    if not _SYMBOL.fullmatch(name):
        raise ExchangeFault(-1100, f"Illegal characters found in parameter '{parameter}'; legal range is '{SYMBOL_RANGE}'.")
    if name not in listed:
        raise ExchangeFault(-1121, "Invalid symbol.")
    return name
