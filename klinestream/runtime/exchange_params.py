"""Parameters of the exchange's REST, read as strictly as it reads them: what can't be used is answered with its codes and texts.

The stand-in and the server's own copy of the exchange's routes both read requests with it, each with what it has besides.
"""

import re
from collections.abc import Collection, Mapping, Sequence

import orjson

from klinestream.market.errors import KlinestreamError
from klinestream.market.intervals import MINUTE_MS

SYMBOL_STATUSES = ("TRADING", "HALT", "BREAK")
FLAGS = {"true": True, "false": False}
INTEGER_RANGE = "^[0-9]{1,20}$"
_INTEGER = re.compile(r"[0-9]{1,20}")
_ZONE = re.compile(r"([+-]?)([0-9]{1,2})(?::([0-5][0-9]))?")
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
        self._values: Mapping[str, str] = dict(query)
        if len(self._values) != len(query):
            raise ExchangeFault(-1101, "Duplicate values for a parameter detected.")
        if unknown := [name for name in self._values if name not in known]:
            read = len(query) - len(unknown)
            raise ExchangeFault(-1101, f"Too many parameters; expected '{read}' and received '{len(query)}'.")

    def __contains__(self, name: str) -> bool:
        """Whether it was sent."""
        return name in self._values

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

    def interval_of(self, known: Collection[str]) -> str:
        """The mandatory interval, one of these; case matters."""
        name = self.mandatory("interval")
        if name not in known:
            raise ExchangeFault(-1120, "Invalid interval.")
        return name

    def integer(self, name: str) -> int | None:
        """A number without sign."""
        value = self.text(name)
        if value is None:
            return None
        if not _INTEGER.fullmatch(value):
            raise ExchangeFault(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{INTEGER_RANGE}'.")
        if int(value) >= 2**63:
            raise not_valid(name)
        return int(value)

    def limit(self, default: int, most: int) -> int:
        """How many items; more than the most is the most."""
        value = self.integer("limit")
        if value == 0:
            raise not_valid("limit")
        return min(value or default, most)

    def time_ms(self, name: str) -> int | None:
        """A time, sent in ms or in µs."""
        value = self.integer(name)
        return value // 1000 if value is not None and value >= _MICROSECONDS_FROM else value

    def symbol_status(self) -> str | None:
        """`symbolStatus`; None where it wasn't sent."""
        status = self.text("symbolStatus")
        if status is not None and status not in SYMBOL_STATUSES:
            raise ExchangeFault(-1122, "Invalid symbolStatus.")
        return status

    def flag(self, name: str, *, default: bool) -> bool:
        """A yes or no, in any case."""
        value = self.text(name)
        if value is None:
            return default
        if value.lower() not in FLAGS:
            raise not_valid(name)
        return FLAGS[value.lower()]

    def zone_ms(self) -> int:
        """The offset of `timeZone` to UTC: hours, or hours and minutes, from -12:00 to +14:00."""
        value = self.text("timeZone")
        if value is None:
            return 0
        found = _ZONE.fullmatch(value.strip())
        minutes = (int(found[2]) * 60 + int(found[3] or 0)) * (-1 if found[1] == "-" else 1) if found else _ZONE_MOST_MIN + 1
        if not _ZONE_LEAST_MIN <= minutes <= _ZONE_MOST_MIN:
            raise not_valid("timeZone")
        return minutes * MINUTE_MS


def names_in(value: str, parameter: str, legal: str) -> Sequence[str]:
    """Names in a parameter's JSON list, at least one; `legal` says what is expected. Raises ExchangeFault."""
    try:
        names = orjson.loads(value)
    except orjson.JSONDecodeError:
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(each, str) for each in names):
        raise ExchangeFault(-1100, f"Illegal characters found in parameter '{parameter}'; {legal}.")
    return names


def each_once(names: Sequence[str]) -> Sequence[str]:
    """The same names. Raises ExchangeFault if one comes twice."""
    if len(set(names)) != len(names):
        raise ExchangeFault(-1151, "Symbol is present multiple times in the list.")
    return names


def not_valid(parameter: str) -> ExchangeFault:
    """What a value out of its bounds is answered with."""
    return ExchangeFault(-1130, f"Data sent for parameter '{parameter}' is not valid.")
