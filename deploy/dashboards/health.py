"""The pipeline's health: how old, how far behind, what is missing, what was started again, from Prometheus and PostgreSQL."""

from deploy.dashboards.board import AGE_LIMITS, ORANGE, RED, Board, Override, Panel, Query, bars, lines, number, row, rows
from deploy.dashboards.queries import Shape, Sql, metrics, newest
from klinestream.market.events import GapState

_P = "klinestream_producer_"
_S = "klinestream_server_"
_D = "klinestream_postgres_"
_F = "klinestream_feed_"
_NAMED = f"* on (instance) group_left (feed) {_F}info"
"""Which feed it is tells one metric of each process."""
# Of two producers side by side one is enough; of one, each connection counts.
KLINES_AGE = f"min(max by (instance) ({_P}data_age_seconds))"
SINK_LAG = f"sum by (topic) ({_D}lag_records)"
JOB_LAG = "sum by (job_name) (flink_taskmanager_job_task_operator_pendingRecords)"
DEAD_LETTERS = tuple(f"klinestream_{part}_dead_letters_total" for part in ("producer", "feed", "alerts", "postgres"))
_ANY = [(1.0, ORANGE)]
_WRONG = [(1.0, RED)]
_REMEMBERED = "30 days"
_STATES = f"array_position(ARRAY[{', '.join(repr(state.value) for state in GapState)}], state::text)"
# By the order of the view gap_states and of klinestream/market/ledger.py: of an open gap the newest word counts, of a settled one the
# first. The view itself would look into every month: a condition on times doesn't reach what stands below its DISTINCT ON.
_GAPS = f"""
    SELECT DISTINCT ON (gap) symbol, state, from_time, to_time, klines, source, reason, producer, time
    FROM klinestream.gaps WHERE {{}}
    ORDER BY gap, {_STATES} DESC, CASE WHEN state IN ('detected', 'deferred') THEN time END DESC, time, klines DESC,
             coalesce(trades, -1) DESC, proved DESC, producer DESC, source DESC, reason DESC
"""
_OPEN = f"""
    SELECT symbol, from_time AS "from", extract(epoch FROM to_time - from_time)::bigint AS seconds, klines AS found,
           extract(epoch FROM now() - from_time) AS age, state, reason, producer
    FROM ({_GAPS.format(f"from_time > now() - interval '{_REMEMBERED}'")}) AS known
    WHERE state IN ('detected', 'deferred') ORDER BY from_time LIMIT 200
"""
_SETTLED = f"""
    SELECT $__timeGroupAlias(from_time, $__interval), state AS metric, sum(extract(epoch FROM to_time - from_time))::float8 AS seconds
    FROM ({_GAPS.format("$__timeFilter(from_time)")}) AS known GROUP BY 1, 2 ORDER BY 1, 2
"""
_HISTORY = f"""
    SELECT time, symbol, from_time AS "from", extract(epoch FROM to_time - from_time)::bigint AS seconds, state,
           klines AS found, source, reason
    FROM ({_GAPS.format("$__timeFilter(from_time)")}) AS known ORDER BY from_time DESC, symbol LIMIT 200
"""
_EVENTS = """
    SELECT time, component, event, detail FROM klinestream.events WHERE $__timeFilter(time) ORDER BY time DESC LIMIT 200
"""
_AGE_COLUMN: list[Override] = [("age", {"unit": "s"})]


def board() -> Board:
    """As Grafana shows it first: the last hour."""
    found = Board("klinestream-health", "Pipeline health", "Age, lag, latency, gaps, restarts.", since="now-1h", refresh="5s")
    found.add(*_now(), row("Age and latency"), *_latency(), row("How far behind"), *_lag())
    found.add(row("Missing seconds"), *_gaps(), row("The producer and the exchange"), *_producer())
    found.add(row("Feeds"), *_feeds())
    return found.add(row("Jobs, server, processes"), *_parts(), rows("Events", "What parts told.", Sql(_EVENTS, Shape.TABLE)))


def _now() -> tuple[Panel, ...]:
    letters = " + ".join(f"(sum(increase({name}[$__range])) or vector(0))" for name in DEAD_LETTERS)
    restarts = "sum(flink_jobmanager_job_numRestarts)"
    return (
        number("Oldest data", "The oldest connection of the best producer.", newest(KLINES_AGE), unit="s", limits=AGE_LIMITS),
        number("Oldest windows", "As the servers have them.", newest(f"max({_S}data_age_seconds)"), unit="s", limits=AGE_LIMITS),
        number(
            "Spans to repair",
            "That the feed went on without, and that are still being fetched.",
            newest(f"max({_P}backlog_spans)"),
            unit="none",
            limits=_ANY,
        ),
        number("Restarts of jobs", "Since they were submitted.", newest(restarts), unit="none", limits=_ANY),
        number(
            "Dead letters",
            "Over the time shown, of producer, feeds, alerts, PostgreSQL's sink.",
            newest(letters),
            unit="none",
            limits=_WRONG,
        ),
        number("Clients", "Websockets at the servers.", newest(f"sum({_S}clients)"), unit="none"),
    )


def _percentiles(what: str, metric: str) -> list[Query]:
    rates = f"sum by (le) (rate({metric}_bucket[$__rate_interval]))"
    return [
        metrics(f"histogram_quantile({share}, {rates})", f"{what}, {share:.0%} within", ref_id)
        for share, ref_id in ((0.5, "A"), (0.95, "B"), (0.99, "C"))
    ]


def _latency() -> tuple[Panel, ...]:
    age = [
        metrics(f"max by (connection) ({_P}data_age_seconds)", "klines of connection {{connection}}", "A"),
        metrics(f"max({_S}data_age_seconds)", "windows, by the servers", "B"),
    ]
    held, sent = f"{_S}kline_close_to_held_seconds", f"{_S}window_end_to_sent_seconds"
    return (
        lines("Data age", "Now less the time of the newest.", age, unit="s"),
        lines("From kline to window", "From a kline's close to its windows at the server.", _percentiles("held", held), unit="s"),
        lines("From window to client", "From a window's end to its hand-over to a client's socket.", _percentiles("sent", sent), unit="s"),
        lines(
            "Kafka's acknowledgement", "Of the producer's records.", _percentiles("acknowledged", f"{_P}publish_latency_seconds"), unit="s"
        ),
    )


def _lag() -> tuple[Panel, ...]:
    server = [
        metrics(f"sum({_S}lag_records)", "windows", "A"),
        metrics(f"sum by (topic) ({_S}store_lag_records)", "{{topic}}", "B"),
    ]
    waiting = [
        metrics("max(klinestream_archive_oldest_waiting_seconds)", "archive, oldest record", "A"),
        metrics("max(klinestream_replay_behind_seconds)", "proof, next stretch", "B"),
        metrics(f"max({_P}history_oldest_need_seconds)", "candles from the exchange, oldest need", "C"),
    ]
    stored = [
        metrics(f"max({_D}oldest_unsaved_seconds)", "oldest record", "A"),
        # It is zero until the first batch.
        metrics(f"time() - (max({_D}last_stored_seconds) > 0)", "newest batch", "B"),
    ]
    return (
        lines("Jobs", "Records of their topics that they have not read.", [metrics(JOB_LAG, "{{job_name}}")], unit="none", width=8),
        lines("Servers", "Records that they have not read.", server, unit="none", width=8),
        lines("Archive, proof, history", "How long the oldest has waited.", waiting, unit="s", width=8),
        lines("Tables of PostgreSQL", "Records that stand in no table yet.", [metrics(SINK_LAG, "{{topic}}")], unit="none", width=8),
        lines("Age of what is not stored", "The oldest record that was read, and the newest batch.", stored, unit="s", width=8),
        lines(
            "Batches of PostgreSQL", "How long their transactions took.", _percentiles("stored", f"{_D}batch_seconds"), unit="s", width=8
        ),
    )


def _gaps() -> tuple[Panel, ...]:
    told = "none of their seconds may ever come: an open gap is still being fetched."
    states = f"Seconds that were missing, by what became of them; {told} Where gaps of two producers overlap, both count."
    return (
        rows("Open gaps", f"Of the last {_REMEMBERED}.", Sql(_OPEN, Shape.TABLE), height=7, overrides=_AGE_COLUMN),
        bars("Missing seconds", states, [Sql(_SETTLED)], unit="s").interval("1m"),
        rows("History of gaps", "Of the time shown, each as it stands now.", Sql(_HISTORY, Shape.TABLE), width=12, height=8),
    )


def _producer() -> tuple[Panel, ...]:
    connections = [
        metrics(f"sum({_P}connections)", "open", "A"),
        metrics(f"sum(increase({_P}reconnects_total[$__rate_interval]))", "ended", "B"),
    ]
    missing = [
        metrics(f"sum(rate({_P}missing_klines_total[$__rate_interval]))", "missing", "A"),
        metrics(f"sum by (source) (rate({_P}refilled_klines_total[$__rate_interval]))", "refilled from {{source}}", "B"),
        metrics(f"sum(rate({_P}deferred_klines_total[$__rate_interval]))", "deferred", "C"),
        metrics(f"sum(rate({_P}repair_klines_total[$__rate_interval]))", "repaired", "D"),
    ]
    asked = [
        metrics(f"max({_P}rest_weight)", "weight used this minute", "A"),
        metrics(f"sum({_P}rest_waiting)", "requests waiting", "B"),
        metrics(f"max({_P}rest_closed_seconds)", "seconds closed by the exchange", "C"),
    ]
    published = [metrics(f"sum by (partition) (rate({_P}klines_published_total[$__rate_interval]))", "partition {{partition}}")]
    return (
        lines("Klines a second", "By partition, of all producers.", published, unit="none"),
        lines("Connections", "Websockets, and those that ended.", connections, unit="none"),
        lines("Klines missing a second", "And what became of them.", missing, unit="none"),
        lines("REST", "Weight, queue, and for how long the exchange wants no request.", asked, unit="none"),
    )


def _feeds() -> tuple[Panel, ...]:
    age = [metrics(f"min by (feed) (max by (feed, instance) ({_F}data_age_seconds {_NAMED}))", "{{feed}}")]
    missing = [
        metrics(f"max by (feed) ({_F}backlog_spans {_NAMED})", "{{feed}}, spans to repair", "A"),
        metrics(f"sum by (feed) (rate({_F}missing_ids_total[$__rate_interval]) {_NAMED})", "{{feed}}, ids missing a second", "B"),
        metrics(f"sum by (feed) (increase({_F}check_mismatches_total[$__rate_interval]) {_NAMED})", "{{feed}}, fields that differ", "C"),
    ]
    asked = [
        metrics(f"max by (feed) ({_F}rest_weight {_NAMED})", "{{feed}}, weight used this minute", "A"),
        metrics(f"max by (feed) ({_F}rest_closed_seconds {_NAMED})", "{{feed}}, seconds closed by the exchange", "B"),
    ]
    return (
        lines("Age of feeds", "The oldest connection of the best process; where nobody trades it grows.", age, unit="s", width=8),
        lines("Gaps of feeds", "And what the exchange says otherwise than was published.", missing, unit="none", width=8),
        lines("REST of feeds", "Weight, and for how long the exchange wants no request.", asked, unit="none", width=8),
    )


def _parts() -> tuple[Panel, ...]:
    restarts = [
        metrics("sum by (job_name) (flink_jobmanager_job_numRestarts)", "{{job_name}}", "A"),
        metrics("sum by (job) (changes(process_start_time_seconds[$__range]))", "{{job}}", "B"),
    ]
    checkpoints = [
        metrics("max by (job_name) (time() - flink_jobmanager_job_lastCheckpointCompletedTimestamp / 1000)", "{{job_name}}, age", "A"),
        metrics("max by (job_name) (flink_jobmanager_job_lastCheckpointDuration / 1000)", "{{job_name}}, took", "B"),
    ]
    clients = [
        metrics(f"sum({_S}clients)", "clients", "A"),
        metrics(f"sum(rate({_S}updates_sent_total[$__rate_interval]))", "updates a second", "B"),
        metrics(f"sum(rate({_S}windows_conflated_total[$__rate_interval]))", "left out for slow ones, a second", "C"),
    ]
    letters = [
        metrics(f"sum(increase({name}[$__rate_interval]))", name.split("_")[1], ref_id)
        for name, ref_id in zip(DEAD_LETTERS, "ABCD", strict=True)
    ]
    busy = "max by (job_name) (flink_taskmanager_job_task_busyTimeMsPerSecond / 1000)"
    memory = [metrics("sum by (job, instance) (process_resident_memory_bytes)", "{{job}} {{instance}}")]
    processor = [metrics("sum by (job, instance) (rate(process_cpu_seconds_total[$__rate_interval]))", "{{job}} {{instance}}")]
    return (
        lines("Restarts", "Of jobs since they were submitted, of processes over the time shown.", restarts, unit="none", width=8),
        lines("Checkpoints", "Age of the newest, and how long it took.", checkpoints, unit="s", width=8),
        lines("How busy jobs are", "The busiest of their tasks.", [metrics(busy, "{{job_name}}")], unit="percentunit", width=8),
        lines("Clients", "Websockets at the servers.", clients, unit="none", width=8),
        lines("Memory", "Of processes of ours.", memory, unit="bytes", width=8),
        lines("Processor", "Cores in use, of processes of ours.", processor, unit="none", width=8),
        bars("Dead letters", "What could not be used; jobs tell theirs in the topic alone.", letters, unit="none", width=24),
    )
