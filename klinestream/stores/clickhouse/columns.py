"""What each kind of field is in ClickHouse: its type, its codec, how it is read from JSON, and what of it can't be read.

    raw ─► fields   one typed tuple: the values, floats to the last bit and decimals whole
        └► wire     name ─► JSON as it stood: tells "5" from 5, and a null or a missing field from a zero

JSONExtract gives a default where a field is missing or of another type, and a zero where there is none is a lie. So each
field is looked at twice. What is told apart here is what `codec.decode_event` tells apart.
"""

from dataclasses import dataclass

from klinestream.market.codec import TIME_MOST_MS
from klinestream.market.events import Kind
from klinestream.market.tables import Column

_DECIMAL = "Decimal(38, 8)"  # a price passes what 64 bits hold at 9.2e10, a sum of volumes does sooner
_TIME = "DateTime64(3, 'UTC')"
# Texts of which there are about as many as rows: a dictionary of them would only cost.
_FREE_TEXTS = frozenset({"id", "gap", "inputs"})
_DECIMAL_TEXT = '^"[0-9]{1,15}([.][0-9]{1,8})?"$'


@dataclass(frozen=True, slots=True)
class _Form:
    """A kind's type in the table and in the JSON, its codec, and when FIELD, the JSON of the field NAME, is no value of it."""

    stored: str
    parsed: str
    codec: str
    wrong: str


# Codecs as measured (docs/benchmarks.md): Gorilla makes floats that are decimals larger than ZSTD alone does.
_FORMS = {
    Kind.TEXT: _Form("LowCardinality(String)", "String", "ZSTD(1)", """NOT match(FIELD, '^"[^"]')"""),
    Kind.NOTE: _Form("String", "String", "ZSTD(1)", """NOT startsWith(FIELD, '"')"""),
    Kind.TIME_MS: _Form(_TIME, "Int64", "Delta, ZSTD(1)", f"coalesce(toInt64OrNull(FIELD), -1) NOT BETWEEN 0 AND {TIME_MOST_MS - 1}"),
    Kind.PRICE: _Form(_DECIMAL, _DECIMAL, "ZSTD(1)", f"NOT match(FIELD, '{_DECIMAL_TEXT}')"),
    Kind.VOLUME: _Form(_DECIMAL, _DECIMAL, "ZSTD(1)", f"NOT match(FIELD, '{_DECIMAL_TEXT}')"),
    Kind.COUNT: _Form("Int64", "Int64", "T64, ZSTD(1)", "coalesce(toInt64OrNull(FIELD), -1) < 0"),
    Kind.TRADE_ID: _Form("Int64", "Int64", "Delta, ZSTD(1)", "coalesce(toInt64OrNull(FIELD), -2) < -1"),
    Kind.NUMBER: _Form("Float64", "Float64", "ZSTD(1)", "isNull(toFloat64OrNull(FIELD))"),
    Kind.FLAG: _Form("Bool", "Bool", "ZSTD(1)", "FIELD NOT IN ('true', 'false')"),
    Kind.NAMES: _Form(
        "Array(LowCardinality(String))",
        "Array(String)",
        "ZSTD(1)",
        """NOT startsWith(FIELD, '[') OR NOT arrayAll(name -> startsWith(name, '"'), JSONExtractArrayRaw(raw, NAME))""",
    ),
    Kind.NUMBERS: _Form(
        "Map(LowCardinality(String), Nullable(Float64))",
        "Map(String, Nullable(Float64))",
        "ZSTD(1)",
        "NOT startsWith(FIELD, '{') OR NOT arrayAll(pair -> pair.2 = 'null' OR isNotNull(toFloat64OrNull(pair.2)), "
        "JSONExtractKeysAndValuesRaw(raw, NAME))",
    ),
}


def definition(column: Column) -> str:
    """A column as CREATE TABLE takes it.

    >>> from klinestream.market.tables import BY_NAME
    >>> print(definition(BY_NAME["windows"].columns[9]))
    `rsi` Nullable(Float64) CODEC(ZSTD(1))
    """
    form = _FORMS[column.kind]
    stored = "String" if column.name in _FREE_TEXTS else form.stored
    return f"{quoted(column.name)} {_nullable(column, stored)} CODEC({form.codec})"


def parsed(column: Column) -> str:
    """A field as an element of the tuple that JSONExtract reads."""
    return f"{quoted(column.wire)} {_nullable(column, _FORMS[column.kind].parsed)}"


def value(column: Column) -> str:
    """What goes into the column, from the tuple `fields`."""
    field = f"fields.{quoted(column.wire)}"
    return f"fromUnixTimestamp64Milli({field}, 'UTC')" if column.kind is Kind.TIME_MS else field


def wrong(column: Column) -> str:
    """The condition under which the map `wire` has no value of the column's kind."""
    field = f"wire[{text(column.wire)}]"
    condition = _FORMS[column.kind].wrong.replace("FIELD", field).replace("NAME", text(column.wire))
    return f"{field} != 'null' AND ({condition})" if column.nullable else condition


def expected(column: Column) -> str:
    """What is said of a line in which the column has no value of its kind."""
    either = " or null" if column.nullable and "null" not in column.kind else ""
    return f"{column.wire}: expected {column.kind}{either}"


def quoted(name: str) -> str:
    """A name as ClickHouse takes it whatever it is.

    >>> quoted("from")
    '`from`'
    """
    return f"`{name.replace('`', '``')}`"


def text(value: str) -> str:
    r"""A string literal.

    >>> print(text("it's"))
    'it\'s'
    """
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _nullable(column: Column, kind: str) -> str:
    return f"Nullable({kind})" if column.nullable else kind
