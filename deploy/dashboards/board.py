"""Panels as all dashboards here have them, and a dashboard with its panels in their places."""

from collections.abc import Sequence
from typing import Protocol, Self, TypeVar

from grafana_foundation_sdk.builders import bargauge, candlestick, common, stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import Dashboard, ThresholdsConfig, TimePicker
from grafana_foundation_sdk.builders.dashboard import DashboardLink as Link
from grafana_foundation_sdk.builders.dashboard import Row as RowPanel
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard
from grafana_foundation_sdk.models.candlestick import VizDisplayMode

from deploy.dashboards.queries import POSTGRES, PROMETHEUS, Sql

TAG = "klinestream"
WIDTH = 24
GREEN, RED, ORANGE, BLUE = "green", "red", "orange", "blue"
Query = Builder[Dataquery]
Override = tuple[str, dict[str, object]]
"""Which fields, by a regular expression of their names, and what is special about them."""
AGE_LIMITS = [(5.0, ORANGE), (15.0, RED)]
"""Seconds that data may be old: `server.stale_after_s`, and what an alert waits for."""
TO_MARKET: Override = (
    "symbol",
    {"links": [{"title": "Show it", "url": "/d/klinestream-market?var-symbol=${__value.raw}&${__url_time_range}", "targetBlank": False}]},
)
"""A click on a symbol shows its market."""
_REFRESH = ["5s", "10s", "30s", "1m", "5m", "15m"]


class Panel(Protocol):
    """What builds a panel, of whatever kind."""

    def build(self) -> dashboard.Panel: ...  # noqa: D102  # the SDK's


class _Anywhere(Protocol):
    def title(self, title: str) -> Self: ...
    def description(self, description: str) -> Self: ...
    def height(self, h: int) -> Self: ...
    def span(self, w: int) -> Self: ...
    def datasource(self, datasource: dashboard.DataSourceRef) -> Self: ...
    def targets(self, targets: list[Query]) -> Self: ...
    def override_by_regexp(self, regexp: str, properties: list[dashboard.DynamicConfigValue]) -> Self: ...


P = TypeVar("P", bound=_Anywhere)


def lines(
    title: str, about: str, queries: Sequence[Query], *, unit: str, width: int = 12, overrides: Sequence[Override] = ()
) -> timeseries.Panel:
    """Lines over time. A hole in the data stays one."""
    panel = _placed(timeseries.Panel(), title, about, queries, (width, 8), overrides=overrides)
    panel.unit(unit).line_width(1).fill_opacity(0).show_points(shapes.VisibilityMode.AUTO).span_nulls(False)
    panel.legend(_legend()).tooltip(common.VizTooltipOptions().mode(shapes.TooltipDisplayMode.MULTI))
    return panel


def bars(
    title: str, about: str, queries: Sequence[Query], *, unit: str, width: int = 12, overrides: Sequence[Override] = ()
) -> timeseries.Panel:
    """Bars over time, one on top of the other."""
    panel = lines(title, about, queries, unit=unit, width=width, overrides=overrides)
    panel.draw_style(shapes.GraphDrawStyle.BARS).fill_opacity(60).bar_max_width(1)
    return panel.stacking(common.StackingConfig().mode(shapes.StackingMode.NORMAL).group("A"))


def banded(panel: timeseries.Panel, limits: Sequence[tuple[float, str]], *, below: str) -> timeseries.Panel:
    """With an area coloured from each of `limits` on, and below all of them."""
    style = common.GraphThresholdsStyleConfig().mode(shapes.GraphTresholdsStyleMode.AREA)
    return panel.thresholds(_steps(limits, below)).thresholds_style(style)


def number(
    title: str,
    about: str,
    query: Query,
    *,
    unit: str,
    width: int = 4,
    limits: Sequence[tuple[float, str]] = (),
    overrides: Sequence[Override] = (),
) -> stat.Panel:
    """A number for each column, coloured from each of `limits` on."""
    panel = _placed(stat.Panel(), title, about, [query], (width, 4), overrides=overrides)
    options = common.ReduceDataOptions().calcs(["lastNotNull"])
    panel.unit(unit).reduce_options(options).graph_mode(shapes.BigValueGraphMode.NONE).no_value("none")
    return panel.thresholds(_steps(limits))


def rows(title: str, about: str, query: Query, *, width: int = WIDTH, height: int = 10, overrides: Sequence[Override] = ()) -> table.Panel:
    """A table."""
    every: Override = ("/.*/", {"custom.filterable": True})
    return _placed(table.Panel(), title, about, [query], (width, height), overrides=[every, *overrides]).frame_index(0).show_header(True)


def ranks(title: str, about: str, query: Query, *, unit: str, width: int = 12) -> bargauge.Panel:
    """A bar for each row: its first column names it."""
    panel = _placed(bargauge.Panel(), title, about, [query], (width, 8))
    panel.unit(unit).orientation(shapes.VizOrientation.HORIZONTAL).display_mode(shapes.BarGaugeDisplayMode.BASIC)
    panel.thresholds(_steps([(0.0, GREEN)], below=RED))
    return panel.reduce_options(common.ReduceDataOptions().values(True).calcs([]))


def candles(title: str, about: str, queries: Sequence[Query]) -> candlestick.Panel:
    """Candles of the columns open, high, low and close, with whatever else there is as lines over them."""
    panel = _placed(candlestick.Panel(), title, about, queries, (WIDTH, 14))
    fields = candlestick.CandlestickFieldMap().open("open").high("high").low("low").close("close")
    panel.mode(VizDisplayMode.CANDLES).fields(fields).include_all_fields(True).legend(_legend()).line_width(1).fill_opacity(0)
    return panel


def row(title: str) -> RowPanel:
    """A heading over the panels that follow."""
    return RowPanel(title)


class Board:
    """A dashboard: variables, marks, and panels from left to right and from top to bottom."""

    def __init__(self, uid: str, title: str, about: str, *, since: str, refresh: str) -> None:
        """Shows the time from `since`, such as `now-6h`, to now."""
        self.uid = uid
        self._dashboard = Dashboard(title).uid(uid).description(about).tags([TAG]).readonly().timezone("browser")
        self._dashboard.time(since, "now").refresh(refresh).timepicker(TimePicker().refresh_intervals(_REFRESH))
        self._dashboard.tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        others = Link("klinestream").type(dashboard.DashboardLinkType.DASHBOARDS).tags([TAG]).as_dropdown(False)
        self._dashboard.link(others.keep_time(True).include_vars(False))

    def variables(self, *found: Builder[dashboard.VariableModel]) -> Self:
        """Ask for these, in this order: a later one may use an earlier one."""
        self._dashboard.variables(list(found))
        return self

    def marks(self, *found: Builder[dashboard.AnnotationQuery]) -> Self:
        """Mark these over all panels."""
        self._dashboard.annotations(list(found))
        return self

    def add(self, *found: "Panel | RowPanel") -> Self:
        """Panels, and headings between them."""
        for each in found:
            if isinstance(each, RowPanel):
                self._dashboard.with_row(each)
            else:
                self._dashboard.with_panel(_Built(each))
        return self

    def build(self) -> dashboard.Dashboard:
        """As the SDK has it, panels numbered."""
        built = self._dashboard.build()
        for place, panel in enumerate(built.panels or [], 1):
            panel.id_val = place
        return built


class _Built(Builder[dashboard.Panel]):
    def __init__(self, panel: Panel) -> None:
        self._panel = panel

    def build(self) -> dashboard.Panel:
        return self._panel.build()


def _placed(panel: P, title: str, about: str, queries: Sequence[Query], size: tuple[int, int], *, overrides: Sequence[Override] = ()) -> P:
    width, height = size
    # The panel's own source is where Grafana sends all of its queries, whatever they say.
    panel.datasource(POSTGRES if isinstance(queries[0], Sql) else PROMETHEUS)
    panel.title(title).description(about).targets(list(queries)).span(width).height(height)
    for fields, special in overrides:
        panel.override_by_regexp(fields, [dashboard.DynamicConfigValue(id_val=key, value=value) for key, value in special.items()])
    return panel


def _legend() -> common.VizLegendOptions:
    legend = common.VizLegendOptions().show_legend(True).placement(shapes.LegendPlacement.BOTTOM)
    return legend.display_mode(shapes.LegendDisplayMode.LIST)


def _steps(limits: Sequence[tuple[float, str]], below: str = GREEN) -> ThresholdsConfig:
    steps = [dashboard.Threshold(value=None, color=below), *(dashboard.Threshold(value=value, color=color) for value, color in limits)]
    return ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)
