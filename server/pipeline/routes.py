"""The route /api/v1/pipeline. See docs/rest.md."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Response

from server.pipeline.model import Checkpoint, Fault, Flow, Gaps, Latency, Part, State, Told, WorkflowRun, WorkflowStep
from server.pipeline.pipeline import Pipeline
from server.rest.docs import GAP, STATUS_RESPONSES

_NOW_MS = 1_790_000_000_410
_PRODUCER = Part(
    "producer",
    "producer",
    State.RUNNING,
    up_s=228.5,
    restarts=0,
    over_s=61.2,
    per_s=20.01,
    behind=0,
    age_s=0.62,
    latency={"published_to_acknowledged": Latency(76, 6.4, 32.0, 46.4)},
    figures={"symbols": 20, "published": 4400},
)
_JOB = Part("windows", "job", State.RUNNING, per_s=20.02, behind=0, checkpoint=Checkpoint(0.789, 124_958, 26, 174, 43))
_GAPS = Gaps(detected=0, deferred=0, unfillable=0, refilled=1, repaired=0, newest=[{**GAP}])
_FAULT = Fault("producer", _NOW_MS, "away: nothing listens at its address", over=True)
_STEPS = [
    WorkflowStep("load", "done", 1, _NOW_MS - 9000, _NOW_MS - 7000, "load ended after 2.0 s"),
    WorkflowStep("features", "running", 1, _NOW_MS - 7000, None, ""),
]
_RUN = WorkflowRun("train", "20261129t212520-7fe9", "running", _NOW_MS - 9000, _NOW_MS - 7000, None, "features started", _STEPS)
EXAMPLE = asdict(Told(_NOW_MS, [_PRODUCER, _JOB], [Flow("crypto_kline_data", 20.01, 0)], _GAPS, [_FAULT], [_RUN]))
RESPONSES: dict[int | str, Any] = {
    200: {"description": "As it was a second ago at most", "content": {"application/json": {"example": EXAMPLE}}},
    429: STATUS_RESPONSES[429],
}


def routes(pipeline: Pipeline) -> APIRouter:
    """The one route."""
    router = APIRouter(prefix="/api/v1", tags=["pipeline"])

    @router.get(
        "/pipeline",
        response_model=Told,
        responses=RESPONSES,
        summary="Parts, topics, gaps, faults and workflows",
    )
    async def told() -> Response:
        return Response(await pipeline.told(), media_type="application/json", headers={"cache-control": "no-store"})

    return router
