"""What a panel asks: SQL of PostgreSQL, for which the SDK has no builder, and PromQL.

Grafana fills in `$symbol` and other variables, then its PostgreSQL plugin the macros: `tests/grafana.py` does the same.
"""

from dataclasses import dataclass
from enum import StrEnum
from textwrap import dedent
from typing import Self

from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

POSTGRES = dashboard.DataSourceRef(type_val="grafana-postgresql-datasource", uid="klinestream-postgres")
PROMETHEUS = dashboard.DataSourceRef(type_val="prometheus", uid="klinestream-prometheus")


class Shape(StrEnum):
    """What Grafana makes of a query's rows."""

    TABLE = "table"
    """As they come."""
    SERIES = "time_series"
    """The column `time`, and a series for each further one, or for each value of the column `metric`; sorted by time."""


@dataclass(frozen=True, slots=True)
class SqlQuery(Dataquery):
    """A query of PostgreSQL, as its plugin reads it."""

    sql: str
    shape: Shape
    ref_id: str

    def to_json(self) -> dict[str, object]:
        """As in a dashboard's file."""
        return {
            "datasource": POSTGRES,
            "editorMode": "code",
            "format": self.shape.value,
            "rawQuery": True,
            "rawSql": self.sql,
            "refId": self.ref_id,
        }


class Sql(Builder[SqlQuery]):
    """A query of PostgreSQL for a panel."""

    def __init__(self, text: str, shape: Shape = Shape.SERIES, ref_id: str = "A") -> None:
        """`text` may be indented."""
        self._query = SqlQuery(dedent(text).strip(), shape, ref_id)

    def build(self) -> SqlQuery:
        """As the SDK wants it."""
        return self._query


class SqlTarget(dashboard.AnnotationTarget):
    """What annotations are asked of: the SDK knows those of Grafana's own store only."""

    def __init__(self, query: SqlQuery) -> None:
        """Of columns `time`, `text` and `tags`."""
        super().__init__()
        self._query = query

    def to_json(self) -> dict[str, object]:
        """As in a dashboard's file."""
        return self._query.to_json()


class Annotation(Builder[dashboard.AnnotationQuery]):
    """Marks over all panels of a dashboard, from PostgreSQL."""

    def __init__(self, name: str, text: str, color: str) -> None:
        """`text` may be indented."""
        self._name, self._text, self._color = name, text, color

    def build(self) -> dashboard.AnnotationQuery:
        """As the SDK wants it."""
        query = Sql(self._text, Shape.TABLE, "Anno").build()
        return dashboard.AnnotationQuery(
            name=self._name, datasource=POSTGRES, enable=True, hide=False, icon_color=self._color, target=SqlTarget(query)
        )


class Choice(Builder[dashboard.VariableModel]):
    """A variable whose values a query gives; read anew with each look at the dashboard."""

    def __init__(self, name: str, label: str, text: str) -> None:
        """One value at a time, the first of the query's column if nobody chose another."""
        self._model = dashboard.VariableModel(
            type_val=dashboard.VariableType.QUERY,
            name=name,
            label=label,
            query=dedent(text).strip(),
            datasource=POSTGRES,
            refresh=dashboard.VariableRefresh.ON_DASHBOARD_LOAD,
            sort=dashboard.VariableSort.DISABLED,
        )

    def first(self, value: str) -> Self:
        """What is chosen at first, where the query knows it."""
        self._model.current = dashboard.VariableOption(selected=True, text=value, value=value)
        return self

    def several(self, column: str) -> Self:
        """Any number of values, all at first: then the query says that a column is in itself, which leaves an index usable."""
        self._model.multi = True
        self._model.include_all = True
        self._model.all_value = column
        self._model.current = dashboard.VariableOption(selected=True, text=["All"], value=["$__all"])
        return self

    def build(self) -> dashboard.VariableModel:
        """As the SDK wants it."""
        return self._model


def metrics(expression: str, legend: str = "", ref_id: str = "A") -> prometheus.Dataquery:
    """PromQL over the dashboard's time."""
    query = prometheus.Dataquery().datasource(PROMETHEUS).expr(expression).range().ref_id(ref_id)
    return query.legend_format(legend) if legend else query


def newest(expression: str, ref_id: str = "A") -> prometheus.Dataquery:
    """PromQL now."""
    query = prometheus.Dataquery().datasource(PROMETHEUS).expr(expression)
    return query.instant().format(PromQueryFormat.TIME_SERIES).ref_id(ref_id)
