"""What may be posted: a strict model each for bars, klines and trades, and what is told where one doesn't fit. Pure."""

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, WithJsonSchema

from klinestream.ingest.refusals import Fault, shown
from klinestream.market import decimals
from klinestream.market.codec import TIME_MOST_MS

DIGITS_MOST = 15
"""Of a JSON number: a float holds no more."""
COUNT_MOST = 2**63 - 1
_DECIMAL = r"^[0-9]{1,15}(\.[0-9]{1,8})?$"
_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,8})?", re.ASCII)

Symbol = Annotated[str, Field(pattern=r"^[A-Z0-9][A-Z0-9._\-]{0,29}$", examples=["AAPL"])]
DecimalText = Annotated[str, Field(pattern=_DECIMAL, examples=["25.35190000"])]
TimeMs = Annotated[int, Field(ge=0, lt=TIME_MOST_MS, examples=[1764410400000])]
TradeId = Annotated[int, Field(ge=0, le=COUNT_MOST)]
NoTradeId = Annotated[int, Field(ge=-1, le=COUNT_MOST)]


def amount(value: object) -> int:
    """A JSON number or a decimal string as an integer of 1e-8; raises ValueError.

    >>> amount(150.25), amount("150.25"), amount(3)
    (15025000000, 15025000000, 300000000)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("a number, or a decimal string such as 25.3519")
    text = value if isinstance(value, str) else _plain(value)
    if not _NUMBER.fullmatch(text):
        raise ValueError("a number from 0, of up to 15 digits and 8 decimals")
    if isinstance(value, float) and len(text.replace(".", "").strip("0")) > DIGITS_MOST:
        raise ValueError(f"a decimal string: a number of more than {DIGITS_MOST} digits is not exact")
    return decimals.parse(text)


def _plain(value: float) -> str:
    """A number without an exponent."""
    try:
        return f"{Decimal(repr(value)):f}".removesuffix(".0")
    except InvalidOperation:
        return ""


Amount = Annotated[
    int, BeforeValidator(amount), WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": _DECIMAL}]})
]


class Post(BaseModel):
    """One record of a request: no other fields, no other types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class BarPost(Post):
    """A bar of a stock, as stock systems post it."""

    stock_symbol: Symbol
    """Symbol, upper case, without a venue: the source is put before it."""
    opening_price: Amount
    """First price."""
    closing_price: Amount
    """Last price."""
    high: Amount
    """Greatest price."""
    low: Amount
    """Least price."""
    volume: Amount
    """Shares traded."""
    timestamp: Annotated[int, Field(ge=0, lt=TIME_MOST_MS // 1000, examples=[1764374400])]
    """When the bar began: seconds since 1970, UTC."""
    interval: Literal["1m", "5m", "15m", "30m", "1h", "4h", "1d"] | None = None
    """Its length; that of the request if left out."""
    quote_volume: Amount | None = None
    """Sum of price times volume; volume times (high + low + closing_price) / 3 if left out."""
    trades: Annotated[int, Field(ge=0, le=COUNT_MOST)] | None = None
    """How many trades; if left out 1, or 0 where there is no volume: all that is known."""
    data_type: Literal["bar", "stock"] | None = None
    """What it is; nothing but bars is taken."""


class KlinePost(Post):
    """One closed 1 s kline, with the exchange's own names."""

    s: Symbol
    """Symbol, upper case, without a venue: the source is put before it."""
    i: Literal["1s"] = "1s"
    """Interval."""
    t: TimeMs
    """Open time, a whole second."""
    T: TimeMs | None = None
    """Close time: t + 999."""
    o: DecimalText
    """First price."""
    h: DecimalText
    """Greatest price."""
    l: DecimalText  # noqa: E741  # the exchange's name
    """Least price."""
    c: DecimalText
    """Last price."""
    v: DecimalText
    """Volume in base units."""
    q: DecimalText
    """Volume in quote units."""
    V: DecimalText
    """Base volume where the buyer was the taker."""
    Q: DecimalText
    """Quote volume where the buyer was the taker."""
    n: Annotated[int, Field(ge=0, le=COUNT_MOST)]
    """Number of trades."""
    f: NoTradeId | None = None
    """Id of its first trade, -1 without trades, null where unknown."""
    L: NoTradeId | None = None
    """Id of its last trade, likewise."""
    last_trade_id: NoTradeId | None = None
    """Id of the newest trade up to its close, likewise."""


class TradePost(Post):
    """One trade, or consecutive ones given as one."""

    s: Symbol
    """Symbol, upper case, without a venue: the source is put before it."""
    f: TradeId
    """Id of its first trade."""
    l: TradeId | None = None  # noqa: E741  # the exchange's name
    """Id of its last trade; f if left out."""
    a: TradeId | None = None
    """Id of the aggregate, null for a single trade."""
    p: DecimalText
    """Price."""
    q: DecimalText
    """Quantity in base units; 0 says only that the price has changed."""
    T: TimeMs
    """When it was made."""
    m: bool | None = None
    """Whether the seller was the taker; null where unknown."""
    c: Annotated[list[Annotated[str, Field(max_length=20)]], Field(max_length=10)] | None = None
    """The source's own codes of its conditions."""


Model = TypeVar("Model", bound=Post)

_ADAPTERS: dict[type[Post], TypeAdapter[Any]] = {model: TypeAdapter(model) for model in (BarPost, KlinePost, TradePost)}
_PLAIN = {
    "missing": "to be there",
    "extra_forbidden": "no such field",
    "string_type": "text",
    "int_type": "an integer",
    "bool_type": "true, false or null",
    "list_type": "a list of text, or null",
    "model_type": "a JSON object",
    "model_attributes_type": "a JSON object",
    "dict_type": "a JSON object",
}
_BY_FIELD = {
    "data_type": "bar, stock or no data_type: order books, news, market data and economic indicators are not taken here",
    "s": "a symbol of up to 30 of A-Z 0-9 . _ -, without a venue: the source is put before it",
    "stock_symbol": "a symbol of up to 30 of A-Z 0-9 . _ -, without a venue: the source is put before it",
    "timestamp": "whole seconds since 1970",
}


def read(model: type[Model], number: int, value: object) -> Model | list[Fault]:
    """One record of a request, or what is wrong with it."""
    try:
        found: Model = _ADAPTERS[model].validate_python(value)
    except ValidationError as error:
        return [_fault(number, one) for one in error.errors(include_url=False)]
    return found


def _fault(number: int, error: Any) -> Fault:
    where = error["loc"]
    field = str(where[0])[:40] if where else ""
    kind = error["type"]
    if kind == "missing":
        return Fault(number, field, _PLAIN[kind], "no such field")
    if kind == "extra_forbidden":
        return Fault(number, field, _PLAIN[kind], shown(error["input"]))
    if kind == "string_pattern_mismatch" and field not in _BY_FIELD:
        return Fault(number, field, "a decimal string such as 25.35190000", shown(error["input"]))
    message = _BY_FIELD.get(field) or _PLAIN.get(kind) or str(error["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")
    return Fault(number, field, message, shown(error["input"]))
