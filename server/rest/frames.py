"""Tables as CSV and Arrow, by polars. Pure.

It takes a sixth of a server's start to load, so it is loaded when the first of these is asked for.
"""

from collections.abc import Mapping

import polars as pl

from server.rest.columns import Table, Type

EXACT = pl.Decimal(38, 8)
"""Eight decimals, as the exchange writes them."""
_WRITTEN: Mapping[Type, pl.DataType | type[pl.DataType]] = {
    Type.TEXT: pl.String,
    Type.INTEGER: pl.Int64,
    Type.NUMBER: pl.Float64,
    Type.FLAG: pl.Boolean,
    Type.DECIMAL: pl.String,
}


def csv(table: Table) -> bytes:
    """The columns as CSV."""
    return _frame(table).write_csv().encode()


def arrow(table: Table) -> bytes:
    """The columns as an Arrow IPC stream."""
    exact = [pl.col(column).cast(EXACT) for column, kind in table.types.items() if kind is Type.DECIMAL]
    return bytes(_frame(table).with_columns(exact).write_ipc_stream(None).getbuffer())


def _frame(table: Table) -> pl.DataFrame:
    return pl.DataFrame(dict(table.columns), schema={column: _WRITTEN[kind] for column, kind in table.types.items()}, strict=True)
