"""Which column of a file is which field: by the names in common use, or as somebody says outright."""

import re
from collections.abc import Sequence

from klinestream.market.errors import ConfigError

KLINES, TRADES = "klines", "trades"
ZEROES = ("quote_volume", "trades", "taker_base_volume", "taker_quote_volume")
"""Of klines: what a file may lack if somebody says that 0 may stand there."""
REQUIRED = {
    KLINES: ("time", "open", "high", "low", "close", "base_volume", *ZEROES),
    TRADES: ("time", "price", "quantity"),
}
OPTIONAL = {
    KLINES: ("symbol", "close_time", "first_id", "last_id"),
    TRADES: ("symbol", "id", "first_id", "last_id", "maker", "side"),
}
_TIMES = ("opentime", "timestamp", "time", "datetime", "date", "ts", "opentimems", "timems", "timeus", "tradetime", "transacttime")
_NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    KLINES: {
        "symbol": ("symbol", "ticker", "pair", "instrument"),
        "time": _TIMES,
        "open": ("open", "openprice"),
        "high": ("high", "highprice", "max"),
        "low": ("low", "lowprice", "min"),
        "close": ("close", "closeprice"),
        "base_volume": ("volume", "basevolume", "vol", "volumebase"),
        "quote_volume": ("quotevolume", "quoteassetvolume", "turnover", "amount"),
        "trades": ("trades", "count", "numberoftrades", "tradecount", "numtrades"),
        "taker_base_volume": ("takerbasevolume", "takerbuybasevolume", "takerbuybaseassetvolume", "takerbuyvolume"),
        "taker_quote_volume": ("takerquotevolume", "takerbuyquotevolume", "takerbuyquoteassetvolume"),
        "close_time": ("closetime", "closetimems"),
        "first_id": ("firsttradeid", "firstid"),
        "last_id": ("lasttradeid", "lastid", "lasttradeidwithin"),
    },
    TRADES: {
        "symbol": ("symbol", "ticker", "pair", "instrument"),
        "time": _TIMES,
        "price": ("price", "px"),
        "quantity": ("quantity", "qty", "size", "amount", "volume"),
        "id": ("id", "tradeid", "aggtradeid", "aggid"),
        "first_id": ("firsttradeid", "firstid"),
        "last_id": ("lasttradeid", "lastid"),
        "maker": ("buyerismaker", "isbuyermaker", "maker"),
        "side": ("side", "takerside"),
    },
}
# The exchange's own letters, of which the case counts.
_LETTERS = {
    KLINES: {
        "s": "symbol", "t": "time", "T": "close_time", "o": "open", "h": "high", "l": "low", "c": "close", "v": "base_volume",
        "q": "quote_volume", "n": "trades", "V": "taker_base_volume", "Q": "taker_quote_volume", "f": "first_id", "L": "last_id",
    },
    TRADES: {
        "s": "symbol", "T": "time", "t": "id", "a": "id", "p": "price", "q": "quantity", "f": "first_id", "l": "last_id", "m": "maker",
    },
}  # fmt: skip  # a line a kind
WITHOUT_HEADER: dict[tuple[str, int], tuple[str, ...]] = {
    (KLINES, 6): ("time", "open", "high", "low", "close", "base_volume"),
    (KLINES, 12): ("time", "open", "high", "low", "close", "base_volume", "close_time", *ZEROES, "-"),
    (TRADES, 7): ("id", "price", "quantity", "-", "time", "maker", "-"),
    (TRADES, 8): ("id", "price", "quantity", "first_id", "last_id", "time", "maker", "-"),
}
"""Of a file without a header, by how many columns it has: those of the exchange's bulk files."""


def is_header(cells: Sequence[str]) -> bool:
    """Whether a first line names columns: no cell begins with a digit, as the first row's numbers do."""
    return not any(re.match(r"\s*[-+]?\.?\d", cell) for cell in cells)


def said_columns(text: str, kind: str) -> tuple[str, ...]:
    """The fields that `--columns` names, in the order of the file's; `-` for one to pass over. Raises ConfigError."""
    found = tuple(part.strip() for part in text.split(","))
    known = {*REQUIRED[kind], *OPTIONAL[kind]}
    wrong = [name for name in found if name not in known and name != "-"]
    if wrong or len(set(found) - {"-"}) != len([name for name in found if name != "-"]):
        raise ConfigError(f"--columns: expected each once of {', '.join(sorted(known))}, or - to pass one over, got {text!r}")
    return found


def mapped(header: Sequence[str], kind: str) -> tuple[str, ...]:
    """The field of each named column; `-` for one that isn't known, or whose field another one has already.

    >>> mapped(["Open time", "o", "high", "LOW", "Close", "vol", "x"], "klines")
    ('time', 'open', 'high', 'low', 'close', 'base_volume', '-')
    """
    by_name = {name: field for field, names in _NAMES[kind].items() for name in names}
    letters = _LETTERS[kind]
    lower = {letter.lower(): field for letter, field in reversed(letters.items())}
    found: list[str] = []
    for column in header:
        short = re.sub(r"[^a-z0-9]", "", column.lower())
        field = letters.get(column.strip()) or by_name.get(short) or (lower.get(short) if len(short) == 1 else None) or "-"
        found.append("-" if field in found else field)
    return tuple(found)


def lacking(fields: Sequence[str], kind: str, *, zeroes: bool) -> list[str]:
    """What a file has to have, and doesn't."""
    missing = [name for name in REQUIRED[kind] if name not in fields]
    return [name for name in missing if not (zeroes and name in ZEROES)]
