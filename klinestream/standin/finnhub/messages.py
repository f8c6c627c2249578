"""Finnhub's messages as bytes: many trades, of several symbols, in one.

{"data":[{"c":["1","12"],"p":122.1,"s":"TSLA","t":1672348887195,"v":1}, …],"type":"trade"}
"""

from collections.abc import Sequence

import orjson

from klinestream.market import decimals
from klinestream.standin.finnhub.listing import Kind, Listed
from klinestream.standin.market import Trade

PING = b'{"type":"ping"}'
INVALID_SYMBOL = "Invalid symbol"
TOO_MANY_SYMBOLS = "Subscribing to too many symbols"
INVALID_MESSAGE = "Invalid message"

_LEAST_PLAIN = 100  # of 1e-8: below 1e-6 a JSON writer such as Go's takes an exponent
# Which a stock's trade has depends on its id: nothing else knows of them.
_CONDITIONS = (b'["1"]', b'["1","12"]', b"null", b'["1","8","24","12"]')


def trades(of: Sequence[tuple[Listed, Trade]]) -> bytes:
    """One message with these trades in this order."""
    return b'{"data":[%b],"type":"trade"}' % b",".join(_trade(listed, trade) for listed, trade in of)


def error(text: str) -> bytes:
    """Something that the client asked for can't be done."""
    return orjson.dumps({"msg": text, "type": "error"})


def number(value: int) -> str:
    """An integer of 1e-8 as a JSON number, without the zeros at its end.

    >>> number(12_210_000_000), number(100_000_000), number(118), number(18)
    ('122.1', '1', '0.00000118', '1.8e-7')
    """
    if 0 < value < _LEAST_PLAIN:
        digits = str(value).rstrip("0")
        fraction = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{digits[0]}{fraction}e-{decimals.PLACES + 1 - len(str(value))}"
    return decimals.show(value).rstrip("0").rstrip(".")


def _trade(listed: Listed, trade: Trade) -> bytes:
    conditions = _CONDITIONS[trade.id % len(_CONDITIONS)] if listed.kind is Kind.STOCK else b"null"
    quantity = 0 if listed.kind is Kind.RATE else trade.quantity
    price, name = number(trade.price).encode(), listed.name.encode()
    return b'{"c":%b,"p":%b,"s":"%b","t":%d,"v":%b}' % (conditions, price, name, trade.time_ms, number(quantity).encode())
