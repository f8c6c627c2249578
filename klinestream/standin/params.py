"""Parameters of REST requests, read strictly: what can't be used is answered with the exchange's own codes and texts."""

import re
from collections.abc import Collection, Mapping, Sequence

import orjson

from klinestream.standin.intervals import INTERVALS, MINUTE_MS, Interval

SYMBOL_RANGE = "^[A-Z0-9-_.]{1,20}$"
INTEGER_RANGE = "^[0-9]{1,20}$"
_SYMBOL = re.compile(r"[A-Z0-9\-_.]{1,20}")
_INTEGER = re.compile(r"[0-9]{1,20}")
_ZONE = re.compile(r"([+-]?)(\d{1,2})(?::([0-5]\d))?")
_ZONE_LEAST_MIN, _ZONE_MOST_MIN = -12 * 60, 14 * 60
# Times may come in µs. As ms these numbers would lie past the year 5000, as µs before 1973.
_MICROSECONDS_FROM = 10**14


class RestError(Exception):
    """An answer other than 200."""

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
    """The query of one request. Every reader raises RestError."""

    def __init__(self, query: Sequence[tuple[str, str]], known: Collection[str]) -> None:
        """Refuses repeated parameters, and more of them than the endpoint has."""
        self._values: Mapping[str, str] = dict(query)
        if len(self._values) != len(query):
            raise RestError(-1101, "Duplicate values for a parameter detected.")
        if unknown := [name for name in self._values if name not in known]:
            read = len(query) - len(unknown)
            raise RestError(-1101, f"Too many parameters; expected '{read}' and received '{len(query)}'.")

    def __contains__(self, name: str) -> bool:
        """Whether it was sent."""
        return name in self._values

    def text(self, name: str) -> str | None:
        """A parameter as it came; None where it wasn't sent."""
        value = self._values.get(name)
        if value == "":
            raise RestError(-1105, f"Parameter '{name}' was empty.")
        return value

    def mandatory(self, name: str) -> str:
        """A parameter that must be there."""
        value = self._values.get(name)
        if not value:
            raise RestError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
        return value

    def symbol(self, listed: Collection[str]) -> str:
        """The mandatory symbol."""
        return known_symbol(self.mandatory("symbol"), "symbol", listed)

    def interval(self) -> Interval:
        """The mandatory interval; case matters."""
        name = self.mandatory("interval")
        if name not in INTERVALS:
            raise RestError(-1120, "Invalid interval.")
        return INTERVALS[name]

    def integer(self, name: str) -> int | None:
        """A number without sign."""
        value = self.text(name)
        if value is None:
            return None
        if not _INTEGER.fullmatch(value):
            raise RestError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{INTEGER_RANGE}'.")
        if int(value) >= 2**63:
            raise RestError(-1130, f"Data sent for parameter '{name}' is not valid.")
        return int(value)

    def limit(self, default: int, most: int) -> int:
        """How many items; more than the most is the most."""
        value = self.integer("limit")
        if value == 0:
            raise RestError(-1130, "Data sent for parameter 'limit' is not valid.")
        return min(value or default, most)

    def time_ms(self, name: str) -> int | None:
        """A time, sent in ms or in µs."""
        value = self.integer(name)
        return value // 1000 if value is not None and value >= _MICROSECONDS_FROM else value

    def zone_ms(self) -> int:
        """The offset of `timeZone` to UTC: hours, or hours and minutes, from -12:00 to +14:00."""
        value = self.text("timeZone")
        if value is None:
            return 0
        found = _ZONE.fullmatch(value.strip())
        minutes = (int(found[2]) * 60 + int(found[3] or 0)) * (-1 if found[1] == "-" else 1) if found else _ZONE_MOST_MIN + 1
        if not _ZONE_LEAST_MIN <= minutes <= _ZONE_MOST_MIN:
            raise RestError(-1130, "Data sent for parameter 'timeZone' is not valid.")
        return minutes * MINUTE_MS


def known_symbol(name: str, parameter: str, listed: Collection[str]) -> str:
    """A symbol that is listed. Raises RestError."""
    if not _SYMBOL.fullmatch(name):
        raise RestError(-1100, f"Illegal characters found in parameter '{parameter}'; legal range is '{SYMBOL_RANGE}'.")
    if name not in listed:
        raise RestError(-1121, "Invalid symbol.")
    return name
