"""/api/v1/correlations: which symbols move together. Made once in five seconds at most for the same question, however many ask."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from klinestream.market.correlations import (
    CANDLES_LEAST,
    CANDLES_MOST,
    COMMON_LEAST,
    LEAST_DEFAULT,
    MOST_DEFAULT,
    MOST_MOST,
    SYMBOLS_MOST,
    Rule,
)
from server.rest import tables
from server.rest.columns import Table
from server.rest.correlation_table import Window, edge_table, graph_of, node_columns
from server.rest.docs import CORRELATION_RESPONSES
from server.rest.errors import RestError
from server.rest.kept import Body, Kept, answered, body_of
from server.rest.query import Format, Interval, Written
from server.rest.sources import Sources

KEPT_S = 5.0
QUESTIONS_MOST = 32
"""Different ones of which the answer is kept; some hundred kilobytes each."""
CANDLES_DEFAULT = 120
_NAMES_MOST_CHARS = 8000


class CorrelationsQuery(Written):
    """Of which candles and symbols, and which pairs are edges."""

    interval: Interval = Field("1m", description="Of the candles.")
    candles: int = Field(CANDLES_DEFAULT, ge=CANDLES_LEAST, le=CANDLES_MOST, description="Of the window, up to the newest closed one.")
    symbols: str | None = Field(
        None,
        min_length=1,
        max_length=_NAMES_MOST_CHARS,
        pattern=r"^[\w\-.:]+(,[\w\-.:]+)*$",
        description="In upper case, parted by commas; all by default.",
        examples=["BTCUSDT,ETHBTC"],
    )
    least: float = Field(
        LEAST_DEFAULT, ge=0, le=1, allow_inf_nan=False, description="The weakest correlation of an edge, whatever its sign."
    )
    most: int = Field(MOST_DEFAULT, ge=1, le=MOST_MOST, description="Edges that a symbol may call its own: its strongest.")

    @property
    def question(self) -> "_Question":
        """What is asked, however it is written."""
        names = () if self.symbols is None else tuple(sorted(set(self.symbols.split(","))))
        return _Question(Window(self.interval, self.candles), Rule(self.least, self.most), names)


@dataclass(frozen=True, slots=True)
class _Question:
    window: Window
    rule: Rule
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Found:
    """An answer in JSON, and its edges for other formats."""

    body: Body
    edges: Table


def routes(sources: Sources) -> APIRouter:
    """The one route."""
    router = APIRouter(prefix="/api/v1", tags=["now"])
    answers = _Answers(sources)

    @router.get(
        "/correlations", response_class=Response, responses=CORRELATION_RESPONSES, summary="Which symbols move together, as a graph"
    )
    async def correlations(query: Annotated[CorrelationsQuery, Query()], request: Request) -> Response:
        form = query.written_as(request.headers.get("accept"))
        found = await answers.get(query.question)
        if form is Format.JSON:
            answer = answered(found.body, request)
            answer.headers["vary"] = "accept, accept-encoding"
            return answer
        body = await sources.encodings.run(lambda: tables.encoded(found.edges, form, {}, "edges"))
        return Response(body, 200, {"cache-control": "no-store", "vary": "accept"}, form.media_type)

    return router


class _Answers:
    """Answers to the questions that were asked last."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._kept: OrderedDict[_Question, Kept[_Found]] = OrderedDict()

    async def get(self, question: _Question) -> _Found:
        self._check(question.names)
        kept = self._kept.pop(question, None) or Kept(partial(self._made, question), KEPT_S)
        self._kept[question] = kept
        if len(self._kept) > QUESTIONS_MOST:
            self._kept.popitem(last=False)
        return await kept.get()

    def _check(self, names: Sequence[str]) -> None:
        """Raise RestError where a name is not known, or there are too many to be compared with each other."""
        knows = self._sources.store.candles.knows
        if not all(knows(name) for name in names):
            self._sources.candles_read()
            for name in names:
                self._sources.known(name)
        if (count := len(names or self._sources.store.candles.symbols())) > SYMBOLS_MOST:
            raise RestError(422, f"at most {SYMBOLS_MOST} symbols", f"{count}", "name some of them in symbols")

    async def _made(self, question: _Question) -> _Found:
        # Before the candles are looked at: what is said to be read is in the graph.
        read = self._sources.candle_feed.complete
        return await self._sources.encodings.run(lambda: self._make(question, read))

    def _make(self, question: _Question, candles_read: bool) -> _Found:
        store, window, rule = self._sources.store, question.window, question.rule
        end_ms, found = graph_of(question.names or store.candles.symbols()[:SYMBOLS_MOST], store, window, rule)
        head = {
            **{"interval": window.interval, "candles": window.candles, "least": rule.least, "most": rule.most},
            **{"common_least": COMMON_LEAST, "candles_read": candles_read},
            **{"from": None if end_ms is None else end_ms - window.candles * window.length_ms, "time": end_ms},
        }
        edges = edge_table(found)
        told = {"nodes": orjson.dumps(node_columns(found)), "edges": orjson.dumps(dict(edges.columns))}
        return _Found(body_of(self._sources.now_ms(), head, told), edges)
