"""What the parts' metrics say, as /api/v1/pipeline tells it: which metric is which figure. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.pipeline.flink import Cluster
from server.pipeline.model import Latency, Part, State
from server.pipeline.samples import STARTED, Samples, Spread, Trail

PRODUCER, REPAIR, ALERTS = "klinestream_producer_", "klinestream_repair_", "klinestream_alerts_"
ARCHIVE, PROOF, SERVER = "klinestream_archive_", "klinestream_replay_", "klinestream_server_"
FEED = "klinestream_feed_"
POSTGRES = "klinestream_postgres_"
ROUTE = "/api/v1/pipeline"
OPTIONAL = frozenset({"alerts", "archive", "proof", "feed", "ingest", "postgres", "workflow"})
"""Kinds of parts that need not be there: one that was never reached is no fault."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a part said when it was asked: its newest samples among the looks before, and what it says is wrong; else why it is away."""

    name: str
    trail: Trail
    samples: Samples | None
    faults: tuple[str, ...] = ()
    away: str = ""
    ever: bool = False
    """Whether it was ever reached."""

    @property
    def kind(self) -> str:
        """What kind of part it is."""
        return self.name.partition("-")[0]


def part_of(answer: Answer, now_ms: int) -> Part:
    """A part that serves its metrics."""
    samples = answer.samples
    if samples is None:
        never = answer.kind in OPTIONAL and not answer.ever
        state = State.UNKNOWN if never else State.AWAY
        return Part(
            answer.name, answer.kind, state, f"not started: {answer.away}" if never else answer.away, restarts=answer.trail.restarts
        )
    tells = {
        "producer": _producer,
        "repair": _repair,
        "alerts": _alerts,
        "archive": _archive,
        "proof": _proof,
        "postgres": _postgres,
        "server": _server,
        "feed": _feed,
    }
    return tells.get(answer.kind, _part)(answer, samples, now_ms)


def exchange(answers: Mapping[str, Answer]) -> Part:
    """The exchange, as the producers see it."""
    producers = [answer for answer in answers.values() if answer.kind == "producer"]
    seen = [(answer, answer.samples) for answer in producers if answer.samples is not None]
    if not seen:
        return Part("exchange", "exchange", State.UNKNOWN, "no producer tells" if producers else "no producer is known")
    # Of several producers one that is well tells that the exchange is.
    answer, samples = max(seen, key=lambda pair: pair[1].total(f"{PRODUCER}connections") or 0)
    connected = samples.total(f"{PRODUCER}connections") or 0
    return Part(
        "exchange",
        "exchange",
        State.RUNNING if connected else State.AWAY,
        "" if connected else "no websocket is open",
        over_s=answer.trail.over_s,
        per_s=answer.trail.rate(f"{PRODUCER}frames_total"),
        age_s=samples.greatest(f"{PRODUCER}data_age_seconds"),
        figures={
            "connections": connected,
            "clock_offset_s": samples.total(f"{PRODUCER}clock_offset_seconds"),
            "reconnects": samples.count(f"{PRODUCER}reconnects_total"),
            "hand_overs": samples.count(f"{PRODUCER}hand_overs_total"),
            "request_errors": samples.total(f"{PRODUCER}request_errors_total"),
            "rest_weight": samples.total(f"{PRODUCER}rest_weight"),
            "rest_waiting": samples.total(f"{PRODUCER}rest_waiting"),
            "rest_closed_s": samples.total(f"{PRODUCER}rest_closed_seconds"),
        },
    )


def history(answers: Mapping[str, Answer]) -> Part:
    """The exchange's own candles, which the producers fetch."""
    producers = [answer for answer in answers.values() if answer.kind == "producer"]
    seen = [(answer, answer.samples) for answer in producers if answer.samples is not None]
    if not seen:
        return Part("history", "history", State.UNKNOWN, "no producer tells" if producers else "no producer is known")
    # What is needed counts once, however many producers see it.
    answer, samples = min(seen, key=lambda pair: pair[1].total(f"{PRODUCER}history_needs") or 0)
    needs = samples.total(f"{PRODUCER}history_needs")
    return Part(
        "history",
        "history",
        State.RUNNING,
        over_s=answer.trail.over_s,
        per_s=answer.trail.rate(f"{PRODUCER}history_candles_total"),
        behind=_whole(needs),
        age_s=samples.total(f"{PRODUCER}history_oldest_need_seconds") if needs else None,
        figures={
            "candles": samples.count(f"{PRODUCER}history_candles_total"),
            "retries": samples.total(f"{PRODUCER}history_retries_total"),
        },
    )


def flink(cluster: Cluster) -> Part:
    """Flink itself."""
    if cluster.away:
        unknown = cluster.away.startswith("server.")
        return Part("flink", "flink", State.UNKNOWN if unknown else State.AWAY, cluster.away)
    state, reason = (State.RUNNING, "") if cluster.task_managers else (State.AWAY, "no task manager has registered")
    figures = {"task_managers": cluster.task_managers, "slots": cluster.slots, "slots_free": cluster.slots_free}
    return Part("flink", "flink", state, reason, figures=figures)


# What a job counts as taken, where that isn't klines, and as given, where that isn't called as the job.
_TAKEN, _GIVEN = {"trade_windows": "trades"}, {"trade_windows": "windows"}


def job_of(name: str, cluster: Cluster, trail: Trail, age_s: float | None) -> Part:
    """One of the jobs; `age_s` is how old its newest result is."""
    job = cluster.jobs.get(name)
    if job is None:
        return Part(name, "job", State.UNKNOWN, f"Flink can't be asked: {cluster.away}")
    counts = job.counts
    return Part(
        name,
        "job",
        job.state,
        job.reason,
        up_s=job.up_s,
        restarts=job.restarts,
        over_s=trail.over_s,
        per_s=trail.rate(f"{_TAKEN.get(name, 'klines')}_total"),
        behind=job.behind,
        age_s=age_s,
        # Flink shows a counter of ours when it has first counted something.
        dead_letters=_whole(counts.get("dead_letters", 0.0)) if counts else None,
        checkpoint=job.checkpoint,
        figures={counted: count for counted, count in counts.items() if counted != "dead_letters"}
        | {"busy": job.busy, "back_pressure": job.back_pressure, "results_per_s": trail.rate(f"{_GIVEN.get(name, name)}_total")},
    )


def _producer(answer: Answer, samples: Samples, now_ms: int) -> Part:
    name = PRODUCER
    return _part(
        answer,
        samples,
        now_ms,
        per_s=answer.trail.rate(f"{name}klines_published_total"),
        behind=_whole(samples.total(f"{name}queued_records")),
        age_s=samples.greatest(f"{name}data_age_seconds"),
        dead_letters=_whole(samples.total(f"{name}dead_letters_total")),
        latency={"published_to_acknowledged": latency(answer.trail.spread(f"{name}publish_latency_seconds"))},
        figures={
            "symbols": samples.total(f"{name}symbols"),
            "watched": samples.total(f"{name}watched_symbols"),
            "published": samples.total(f"{name}klines_published_total"),
            "gaps": samples.total(f"{name}gaps_total"),
            "missing": samples.total(f"{name}missing_klines_total"),
            "refilled": samples.count(f"{name}refilled_klines_total"),
            "deferred": samples.total(f"{name}deferred_klines_total"),
            "repaired": samples.total(f"{name}repair_klines_total"),
            "backlog": samples.total(f"{name}backlog_spans"),
            "repeats": samples.count(f"{name}repeats_total"),
            "reconciled": samples.count(f"{name}reconciled_klines_total"),
            "mismatches": samples.count(f"{name}reconcile_mismatches_total"),
        },
    )


def _feed(answer: Answer, samples: Samples, now_ms: int) -> Part:
    """A feed beside the klines': whatever it reads, it counts the same."""
    name = FEED
    return _part(
        answer,
        samples,
        now_ms,
        per_s=answer.trail.rate(f"{name}records_published_total"),
        behind=_whole(samples.total(f"{name}queued_records")),
        age_s=samples.greatest(f"{name}data_age_seconds"),
        dead_letters=_whole(samples.total(f"{name}dead_letters_total")),
        latency={"published_to_acknowledged": latency(answer.trail.spread(f"{name}publish_latency_seconds"))},
        figures={
            "symbols": samples.total(f"{name}symbols"),
            "published": samples.total(f"{name}records_published_total"),
            "waiting": samples.total(f"{name}waiting_symbols"),
            "connections": samples.total(f"{name}connections"),
            "reconnects": samples.count(f"{name}reconnects_total"),
            "missing": samples.total(f"{name}missing_ids_total"),
            "deferred": samples.total(f"{name}deferred_ids_total"),
            "repaired": samples.total(f"{name}repair_records_total"),
            "backlog": samples.total(f"{name}backlog_spans"),
            "repeats": samples.count(f"{name}repeats_total"),
            "checked": samples.count(f"{name}checked_items_total"),
            "mismatches": samples.count(f"{name}check_mismatches_total"),
        },
    )


def _repair(answer: Answer, samples: Samples, now_ms: int) -> Part:
    name = REPAIR
    waiting = samples.total(f"{name}clusters_waiting"), samples.total(f"{name}candle_clusters_waiting")
    return _part(
        answer,
        samples,
        now_ms,
        per_s=_sum(answer.trail.rate(f"{name}windows_total"), answer.trail.rate(f"{name}candles_total")),
        behind=_whole(_sum(*waiting)),
        figures={
            "klines": samples.total(f"{name}klines_total"),
            "seconds": samples.total(f"{name}seconds_total"),
            "windows": samples.total(f"{name}windows_total"),
            "candles": samples.total(f"{name}candles_total"),
            "too_old": _sum(samples.total(f"{name}clusters_too_old_total"), samples.total(f"{name}candle_clusters_too_old_total")),
            "reconnects": samples.total(f"{name}reconnects_total"),
        },
    )


def _alerts(answer: Answer, samples: Samples, now_ms: int) -> Part:
    name = ALERTS
    fates = samples.by(f"{name}messages_total", "fate")
    return _part(
        answer,
        samples,
        now_ms,
        per_s=answer.trail.rate(f"{name}messages_total"),
        behind=_whole(samples.total(f"{name}waiting")),
        dead_letters=_whole(samples.total(f"{name}dead_letters_total")),
        figures={
            **fates,
            "attempts_failed": samples.total(f"{name}attempts_failed_total"),
            "data_stale": samples.total(f"{name}data_stale"),
            "reconnects": samples.total(f"{name}reconnects_total"),
        },
    )


def _archive(answer: Answer, samples: Samples, now_ms: int) -> Part:
    name = ARCHIVE
    return _part(
        answer,
        samples,
        now_ms,
        per_s=answer.trail.rate(f"{name}records_total"),
        behind=_whole(samples.total(f"{name}records_waiting")),
        age_s=samples.total(f"{name}oldest_waiting_seconds"),
        figures={
            "records": samples.count(f"{name}records_total"),
            "files": samples.count(f"{name}files_total"),
            "compacted": samples.total(f"{name}files_compacted_total"),
            "lost": samples.count(f"{name}offsets_lost_total"),
            "reconnects": samples.total(f"{name}reconnects_total"),
        },
    )


def _postgres(answer: Answer, samples: Samples, now_ms: int) -> Part:
    name = POSTGRES
    return _part(
        answer,
        samples,
        now_ms,
        per_s=answer.trail.rate(f"{name}records_total"),
        behind=_whole(samples.total(f"{name}lag_records")),
        age_s=samples.total(f"{name}oldest_unsaved_seconds"),
        dead_letters=_whole(samples.total(f"{name}dead_letters_total")),
        figures={
            "records": samples.count(f"{name}records_total"),
            "rows": samples.count(f"{name}rows_total"),
            "expired": samples.total(f"{name}records_expired_total"),
            "lost": samples.count(f"{name}offsets_lost_total"),
            "failures": samples.count(f"{name}failures_total"),
        },
    )


def _proof(answer: Answer, samples: Samples, now_ms: int) -> Part:
    name = PROOF
    verified_s = samples.total(f"{name}verified_to_seconds")
    return _part(
        answer,
        samples,
        now_ms,
        per_s=answer.trail.rate(f"{name}equal_total"),
        age_s=max(0.0, now_ms / 1000 - verified_s) if verified_s else None,
        figures={
            "equal": samples.count(f"{name}equal_total"),
            "different": samples.count(f"{name}different_total"),
            "uncompared": samples.count(f"{name}uncompared_total"),
            "stretches": samples.total(f"{name}stretches_total"),
        },
    )


def _server(answer: Answer, samples: Samples, now_ms: int) -> Part:
    name, trail = SERVER, answer.trail
    spreads = {
        "kline_close_to_held": "kline_close_to_held_seconds",
        "published_to_sent": "published_to_sent_seconds",
        "window_end_to_sent": "window_end_to_sent_seconds",
        "http_request": "http_request_seconds",
    }
    return _part(
        answer,
        samples,
        now_ms,
        per_s=trail.rate(f"{name}windows_read_total"),
        behind=_whole(_sum(samples.total(f"{name}lag_records"), samples.total(f"{name}store_lag_records"))),
        age_s=samples.total(f"{name}data_age_seconds"),
        # Who looks at the pipeline waits for the slowest part of it: that is no answer's own time.
        latency={key: latency(trail.spread(f"{name}{metric}", without=("route", ROUTE))) for key, metric in spreads.items()},
        figures={
            "clients": samples.total(f"{name}clients"),
            "symbols": samples.total(f"{name}symbols"),
            "sent_per_s": trail.rate(f"{name}updates_sent_total"),
            "conflated": samples.total(f"{name}windows_conflated_total"),
            "closed": samples.count(f"{name}clients_closed_total"),
            "refused": samples.count(f"{name}clients_refused_total"),
            "rejected": samples.total(f"{name}records_rejected_total"),
            "requests_per_s": trail.rate(f"{name}http_requests_total"),
            "reconnects": samples.total(f"{name}broker_reconnects_total"),
        },
    )


def _part(answer: Answer, samples: Samples, now_ms: int, **told: Any) -> Part:
    """What all of them have in common, and what this one tells besides."""
    started_s = samples.greatest(STARTED)
    return Part(
        answer.name,
        answer.kind,
        State.RUNNING,
        faults=answer.faults,
        up_s=None if started_s is None else max(0.0, now_ms / 1000 - started_s),
        restarts=answer.trail.restarts,
        over_s=answer.trail.over_s,
        memory_bytes=_whole(samples.total("process_resident_memory_bytes")),
        cpu=answer.trail.rate("process_cpu_seconds_total"),
        **told,
    )


def latency(found: Spread) -> Latency:
    """Percentiles in milliseconds."""
    return Latency(found.count, *(None if value is None else round(value * 1000, 3) for value in (found.p50_s, found.p95_s, found.p99_s)))


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _sum(*values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
