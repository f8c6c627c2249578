"""Times as somebody types them."""

import re
from datetime import UTC, datetime

from klinestream.market.errors import ConfigError

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_RELATIVE = re.compile(r"(\d{1,9})([smhd])")


def time_of(text: str, now_ms: int) -> int:
    """A time in ms: ISO 8601, in UTC if it names no zone, or so long before now. Raises ConfigError.

    >>> time_of("2h", 7_200_000), time_of("1970-01-01T00:00:01", 0), time_of("1970-01-01T01:00+01:00", 0)
    (0, 1000, 0)
    """
    if relative := _RELATIVE.fullmatch(text):
        return now_ms - int(relative[1]) * _UNITS_S[relative[2]] * 1000
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--since: expected a time such as 2026-11-21T09:30, or a span such as 90s, 15m, 2h or 7d, got {text!r}"
        ) from None
    return round((told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp() * 1000)
