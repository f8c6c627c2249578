"""A table as the REST routes answer with it, before it is written in any format."""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class Type(enum.Enum):
    """What a column holds."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    FLAG = "flag"
    DECIMAL = "decimal"
    """Eight decimals as text, exact."""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns by name, and what each of them holds; `records` are JSON's rows where these aren't simply the columns."""

    columns: Mapping[str, Sequence[Any]]
    types: Mapping[str, Type]
    records: Callable[[], Sequence[Any]] | None = None
