"""The exchange's own parameters, read as strictly as it reads them: what can't be used is answered with its codes and texts."""

import re
from collections.abc import Callable, Collection, Sequence

import orjson

from klinestream.market.codec import is_symbol
from klinestream.market.errors import KlinestreamError
from klinestream.market.intervals import INTERVALS, MINUTE_MS

DEFAULT_LIMIT, LIMIT_MOST = 500, 1000
_INTEGER = re.compile(r"[0-9]{1,20}")
_ZONE = re.compile(r"([+-]?)(\d{1,2})(?::([0-5]\d))?")
_ZONE_LEAST_MIN, _ZONE_MOST_MIN = -12 * 60, 14 * 60
# Times may come in µs. As ms these numbers would lie past the year 5000, as µs before 1973.
_MICROSECONDS_FROM = 10**14


class ExchangeFault(KlinestreamError):  # noqa: N818  # an answer in the exchange's form, not an error of the exchange
    """An answer other than 200, as the exchange gives it."""

    def __init__(self, code: int, msg: str, status: int = 400, retry_after_s: int | None = None) -> None:
        """`code` and `msg` make the body."""
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.status = status
        self.retry_after_s = retry_after_s

    @property
    def body(self) -> bytes:
        """The body of the answer."""
        return orjson.dumps({"code": self.code, "msg": self.msg})


class Params:
    """The query of one request. Every reader raises ExchangeFault."""

    def __init__(self, query: Sequence[tuple[str, str]], known: Collection[str]) -> None:
        """Refuses repeated parameters, and those that the route doesn't have."""
        self._values = dict(query)
        if len(self._values) != len(query):
            raise ExchangeFault(-1101, "Duplicate values for a parameter detected.")
        if unknown := [name for name in self._values if name not in known]:
            raise ExchangeFault(-1101, f"Too many parameters; expected '{len(query) - len(unknown)}' and received '{len(query)}'.")

    def text(self, name: str) -> str | None:
        """A parameter as it came; None where it wasn't sent."""
        value = self._values.get(name)
        if value == "":
            raise ExchangeFault(-1105, f"Parameter '{name}' was empty.")
        return value

    def mandatory(self, name: str) -> str:
        """A parameter that must be there."""
        value = self._values.get(name)
        if not value:
            raise ExchangeFault(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
        return value

    def interval(self) -> str:
        """The mandatory interval, one that is computed here; case matters."""
        name = self.mandatory("interval")
        if name not in INTERVALS:
            raise ExchangeFault(-1120, "Invalid interval.")
        return name

    def limit(self) -> int:
        """How many rows; more than the most is the most."""
        value = self._integer("limit")
        if value == 0:
            raise _not_valid("limit")
        return min(value or DEFAULT_LIMIT, LIMIT_MOST)

    def time_ms(self, name: str) -> int | None:
        """A time, sent in ms or in µs."""
        value = self._integer(name)
        return value // 1000 if value is not None and value >= _MICROSECONDS_FROM else value

    def zone(self, length_ms: int) -> None:
        """Refuse a `timeZone` that can't be, or in which candles of this length would open at other times."""
        value = self.text("timeZone")
        if value is None:
            return
        found = _ZONE.fullmatch(value.strip())
        minutes = (int(found[2]) * 60 + int(found[3] or 0)) * (-1 if found[1] == "-" else 1) if found else _ZONE_MOST_MIN + 1
        if not _ZONE_LEAST_MIN <= minutes <= _ZONE_MOST_MIN or minutes * MINUTE_MS % length_ms:
            raise _not_valid("timeZone")

    def symbols(self, name: str) -> Sequence[str] | None:
        """A list of symbols in JSON; None where it wasn't sent."""
        value = self.text(name)
        if value is None:
            return None
        try:
            names = orjson.loads(value)
        except orjson.JSONDecodeError:
            names = None
        if not isinstance(names, list) or not names or not all(isinstance(each, str) for each in names):
            raise ExchangeFault(-1100, f"Illegal characters found in parameter '{name}'; expected a JSON list of symbols.")
        if len(set(names)) != len(names):
            raise ExchangeFault(-1151, "Symbol is present multiple times in the list.")
        return names

    def _integer(self, name: str) -> int | None:
        value = self.text(name)
        if value is None:
            return None
        if not _INTEGER.fullmatch(value):
            raise ExchangeFault(-1100, f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.")
        if int(value) >= 2**63:
            raise _not_valid(name)
        return int(value)


def known_symbol(name: str, knows: Callable[[str], bool]) -> str:
    """A symbol that has candles. Raises ExchangeFault."""
    if not is_symbol(name):
        raise ExchangeFault(-1100, "Illegal characters found in parameter 'symbol'; expected letters, digits, - _ or .")
    if not knows(name):
        raise ExchangeFault(-1121, "Invalid symbol.")
    return name


def _not_valid(name: str) -> ExchangeFault:
    return ExchangeFault(-1130, f"Data sent for parameter '{name}' is not valid.")
