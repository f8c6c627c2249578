"""The tables of the configuration, one for each part; the server's are in `server_sections`.

A key's docstring is what docs/operations.md says of it.
"""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from klinestream.market.events import SECOND_MS
from klinestream.market.topics import BY_NAME

Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Section(BaseModel):
    """A table of the file: unknown keys are errors, values can't change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class KafkaConfig(Section):
    """How to reach Kafka."""

    bootstrap_servers: str = "127.0.0.1:9092"
    """Brokers, `host:port`, comma separated."""
    client: Literal["kafka-python", "confluent-kafka"] = "kafka-python"
    """The client library; confluent-kafka needs the extra `fast`."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How the connection is protected."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """How the user proves itself, with SASL_*."""
    sasl_username: str = ""
    """User name, with SASL_*."""
    sasl_password: SecretStr = SecretStr("")
    """Password, with SASL_*; only from KLINESTREAM_KAFKA__SASL_PASSWORD."""
    ssl_cafile: str = ""
    """Certificate authorities (PEM file), with SSL; empty for the system's."""
    ssl_certfile: str = ""
    """Our own certificate (PEM file), where the broker asks for one."""
    ssl_keyfile: str = ""
    """The key of our own certificate (PEM file)."""
    topic_prefix: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._\-]{0,50}$")] = ""
    """Put before the name of each topic: to run over a replay, beside what is live."""
    linger_ms: Annotated[int, Field(ge=0, le=1000)] = 2
    """How long a producer waits to fill a batch."""
    queue_records: Annotated[int, Field(ge=1000)] = 100_000
    """How many records a producer holds at most before it blocks."""
    connect_timeout_s: Seconds = 30.0
    """How long a broker that is away is tried at the start."""
    delivery_timeout_s: Annotated[float, Field(ge=60, le=86_400)] = 600.0
    """How long a record is tried while the broker is away; then it is lost, which ends the process."""


class ExchangeConfig(Section):
    """Where the exchange is and how it is read."""

    websocket_url: str = "wss://data-stream.binance.vision"
    """Base address of the websocket."""
    fallback_websocket_url: str = "wss://data-stream.binance.vision"
    """Where to go on if the websocket is blocked in this region (HTTP 451): market data only."""
    rest_url: str = "https://data-api.binance.vision"
    """Base address of the REST interface."""
    fallback_rest_url: str = "https://data-api.binance.vision"
    """REST for public data, used once `rest_url` refuses our region (HTTP 451); empty for none; never instead of an `http://` address."""
    weight_per_minute: Annotated[int, Field(ge=100)] = 6000
    """Weight of REST requests that the exchange allows; 90 % are used where it is urgent, else 50 %."""
    symbols: tuple[str, ...] = ("BTCUSDT", "ETHUSDT")
    """Symbols to follow, or patterns such as `*USDT`; none, or `*`, means all that trade."""
    symbols_file: str = ""
    """File with further symbols or patterns to follow, one a line; `#` begins a comment."""
    unwanted: tuple[str, ...] = ()
    """Symbols or patterns not to follow; a symbol's own name in `symbols` outweighs a pattern here."""
    unwanted_file: str = ""
    """File with further symbols or patterns not to follow."""
    refresh_s: Seconds = 60.0
    """How often the exchange is asked which symbols it lists and which of them trade."""


class ProducerConfig(Section):
    """The producer."""

    streams_per_connection: Annotated[int, Field(ge=1, le=1024)] = 512
    """Streams on one connection (the exchange allows 1,024)."""
    name: str = ""
    """This producer's name in the ledger of gaps; the machine's name and the metrics' port if empty."""
    silence_s: Seconds = 5.0
    """A connection with no frame for this long is replaced."""
    stall_s: Seconds = 5.0
    """A symbol without a kline for this long, on a connection that is not silent, leads to a new connection."""
    session_s: Annotated[float, Field(ge=5, le=86_400)] = 85_800.0
    """A connection is handed over after this long, before the exchange ends it at 24 hours."""
    hand_over_s: Seconds = 10.0
    """How long the old connection is kept at most until the new one is proved."""
    hold_s: Seconds = 3.0
    """How long klines are held at most for missing ones before them; then these are deferred to the repairs."""
    repair_patience_s: Seconds = 3600.0
    """How long the exchange is asked for deferred klines that it doesn't have before they count as unfillable."""
    backoff_first_s: Seconds = 0.25
    """Wait before the first reconnect; doubled each time, with jitter."""
    backoff_most_s: Seconds = 30.0
    """The longest wait between reconnects."""
    clock_check_s: Seconds = 60.0
    """How often our clock is compared with the exchange's."""
    refill_workers: Annotated[int, Field(ge=1, le=64)] = 8
    """Requests for missing klines at once."""
    priority_symbols: tuple[str, ...] = ()
    """Symbols whose gaps are refilled before those of others, besides those that somebody looks at."""
    reconcile_s: Annotated[float, Field(ge=0, le=86_400)] = 600.0
    """In how many seconds 20 s of each symbol's published klines are compared with REST's klines and trades; 0 for never."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 9108
    """Prometheus metrics on this port of `host`; 0 for none."""
    metrics_host: str = "127.0.0.1"
    """Address the metrics listen on."""


class WindowsConfig(Section):
    """The windows jobs."""

    source: Literal["klines", "trades"] = "klines"
    """Which windows the server and its pages show: those over 1 s klines, or those over trades, which move with each slide."""
    size_ms: Annotated[int, Field(ge=1000, le=3_600_000)] = 3000
    """Length of a window; a multiple of `slide_ms`."""
    slide_ms: Annotated[int, Field(ge=10, le=3_600_000)] = 500
    """Distance of two windows; divides a second, or is a multiple of one."""
    rsi_period: Annotated[int, Field(ge=2, le=1000)] = 14
    """Period of Wilder's RSI, in steps of the window average."""
    batch_ms: Annotated[int, Field(ge=1, le=1000)] = 20
    """How long lines are gathered before Python sees them."""
    parallelism: Annotated[int, Field(ge=1, le=128)] = 1
    """Parallelism of the job; more than the topic's partitions gains nothing."""
    delivery: Literal["at-least-once", "exactly-once"] = "at-least-once"
    """Guarantee of the sink; identities are deterministic either way."""
    start: Literal["earliest", "latest", "committed"] = "earliest"
    """Where a job without a checkpoint starts to read."""
    checkpoint_interval_ms: Annotated[int, Field(ge=100, le=3_600_000)] = 1000
    """How often the job's state is saved."""
    remembered_s: Annotated[int, Field(ge=1, le=3600)] = 60
    """For how many seconds of a symbol the content is remembered, to tell a repeat from a conflict."""

    @model_validator(mode="after")
    def _grid(self) -> "WindowsConfig":
        if SECOND_MS % self.slide_ms and self.slide_ms % SECOND_MS:
            raise ValueError(f"slide_ms must divide 1000 or be a multiple of it, not {self.slide_ms}: klines come once a second")
        if self.size_ms % self.slide_ms:
            raise ValueError(f"size_ms must be a multiple of slide_ms ({self.slide_ms}), not {self.size_ms}")
        return self


class CandlesConfig(Section):
    """The candles job, and the history that warms it."""

    intervals: tuple[Literal["1m", "5m", "15m", "30m", "1h", "4h", "1d"], ...] = ("1m", "5m", "15m", "30m", "1h", "4h", "1d")
    """Which candles are built; 1m always is, since the longer ones are made of it."""
    history: Annotated[int, Field(ge=0, le=1000)] = 250
    """Closed candles of each symbol and interval that are fetched from the exchange before the first live one; 0 for none."""
    history_workers: Annotated[int, Field(ge=1, le=64)] = 4
    """Requests for candles at once."""
    refresh_s: Annotated[float, Field(ge=60, le=86_400)] = 21_600.0
    """How old the newest stored candle of the exchange may grow, beyond its own length, before those since are fetched too."""
    provisional: bool = True
    """Publish the candles in progress after each kline."""
    batch_ms: Annotated[int, Field(ge=1, le=1000)] = 100
    """How long lines are gathered before Python sees them; longer than for windows, which are to be first."""
    parallelism: Annotated[int, Field(ge=1, le=128)] = 1
    """Parallelism of the job; more than the topic's partitions gains nothing."""
    delivery: Literal["at-least-once", "exactly-once"] = "at-least-once"
    """Guarantee of the sink; identities are deterministic either way."""
    start: Literal["earliest", "latest", "committed"] = "earliest"
    """Where a job without a checkpoint starts to read klines; history is always read from its beginning."""
    checkpoint_interval_ms: Annotated[int, Field(ge=100, le=3_600_000)] = 5000
    """How often the job's state is saved."""

    @model_validator(mode="after")
    def _with_minutes(self) -> "CandlesConfig":
        if "1m" not in self.intervals or len(set(self.intervals)) != len(self.intervals):
            raise ValueError(f"intervals must hold 1m and each interval once, not {', '.join(self.intervals)}")
        return self


Periods = tuple[Annotated[int, Field(ge=2, le=1000)], ...]


class IndicatorsConfig(Section):
    """The indicators of each closed candle; an empty list leaves one out."""

    sma: Periods = (20, 50)
    """Simple moving averages."""
    ema: Periods = (12, 26)
    """Exponential moving averages."""
    rsi: Periods = (14,)
    """Wilder's RSI."""
    macd: tuple[tuple[int, int, int], ...] = ((12, 26, 9),)
    """MACD: fast, slow, signal."""
    bollinger: tuple[tuple[int, float], ...] = ((20, 2.0),)
    """Bollinger bands: period, deviations."""
    atr: Periods = (14,)
    """Average true range."""
    vwap: Periods = (20,)
    """Volume-weighted average price over the last candles; the session's is always there."""
    stochastic: tuple[tuple[int, int, int], ...] = ((14, 3, 3),)
    """Stochastic: period of %K, its smoothing, period of %D."""
    volatility: Periods = (20,)
    """Realised volatility."""


class SignalsConfig(Section):
    """Buy and sell signals."""

    rules: tuple[Literal["rsi", "macd_cross", "ema_cross"], ...] = ("rsi",)
    """Which rules fire. rsi: buy when it falls below `rsi_low`, sell when it rises above `rsi_high`."""
    rsi_period: Annotated[int, Field(ge=2, le=1000)] = 14
    """Which of the RSIs the rule looks at."""
    rsi_low: Annotated[float, Field(ge=0, le=100)] = 30.0
    """Buy below."""
    rsi_high: Annotated[float, Field(ge=0, le=100)] = 70.0
    """Sell above."""
    hysteresis: Annotated[float, Field(ge=0, le=50)] = 2.0
    """How far the RSI has to come back from a limit before the same signal can fire again."""
    macd: tuple[int, int, int] = (12, 26, 9)
    """Which MACD macd_cross looks at: buy when the line rises above its signal line, sell when it falls below."""
    ema: tuple[int, int] = (12, 26)
    """Which EMAs ema_cross looks at: buy when the first rises above the second, sell when it falls below."""
    webhook_url: str = ""
    """Where `klinestream alerts` posts signals, gaps and stale data; empty for nowhere."""
    webhook_secret: SecretStr = SecretStr("")
    """Key that each message is signed with, empty for no signature; only from KLINESTREAM_SIGNALS__WEBHOOK_SECRET."""
    webhook_attempts: Annotated[int, Field(ge=1, le=20)] = 5
    """How often one message is tried."""
    webhook_age_s: Seconds = 120.0
    """Signals whose candle closed longer ago are not posted."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 9110
    """Prometheus metrics of the alerts on this port of `metrics_host`; 0 for none."""
    metrics_host: str = "127.0.0.1"
    """Address the metrics listen on."""

    @model_validator(mode="after")
    def _limits(self) -> "SignalsConfig":
        if self.rsi_low >= self.rsi_high:
            raise ValueError(f"rsi_low must be below rsi_high, not {self.rsi_low} and {self.rsi_high}")
        if self.rsi_low + self.hysteresis > 100 or self.rsi_high < self.hysteresis:
            raise ValueError(f"hysteresis must leave the RSI room to come back from its limits, not {self.hysteresis}")
        if len(set(self.rules)) != len(self.rules):
            raise ValueError(f"rules must hold each rule once, not {', '.join(self.rules)}")
        return self

    @model_validator(mode="after")
    def _address(self) -> "SignalsConfig":
        # Not a check of the field: its error would show the address, which may hold a token.
        if self.webhook_url and not is_web_address(self.webhook_url):
            raise ValueError("webhook_url must be an address that begins with http:// or https:// and a host")
        return self


class RepairConfig(Section):
    """The repair of results after klines that came late."""

    settle_s: Seconds = 5.0
    """A symbol without a further repair for this long is repaired; earlier where the ledger of gaps says that it is complete."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 9109
    """Prometheus metrics on this port of `metrics_host`; 0 for none."""
    metrics_host: str = "127.0.0.1"
    """Address the metrics listen on."""


class ArchiveConfig(Section):
    """Topics as Parquet files."""

    url: str = ".klinestream/archive"
    """Folder of the files, or another address that fsspec knows, such as `s3://bucket/folder` (with its package installed)."""
    topics: tuple[str, ...] = ()
    """Topics to archive; none means all."""
    file_s: Annotated[float, Field(ge=1, le=3600)] = 60.0
    """A record stands in a file after this long at most."""
    file_mib: Annotated[int, Field(ge=1, le=1024)] = 64
    """A file is written once this much of a partition waits, as it stands in the topic."""
    waiting_mib: Annotated[int, Field(ge=16, le=16_384)] = 32
    """As much of all partitions together waits at most; a market of a thousand symbols makes fewer files with 128."""
    small_files: Annotated[int, Field(ge=2, le=10_000)] = 32
    """As many small files of a partition and day stay side by side before they become one; of a day that is over, none."""
    compacted_mib: Annotated[int, Field(ge=1, le=1024)] = 16
    """Small files become one up to this size."""
    keep_days: Annotated[int, Field(ge=0, le=36_500)] = 0
    """Days that are kept of each topic, today not counted; 0 for all."""
    metrics_host: str = "127.0.0.1"
    """Address of the metrics."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 9111
    """Prometheus metrics on this port of `metrics_host`; 0 for none."""

    @model_validator(mode="after")
    def _known(self) -> "ArchiveConfig":
        unknown = sorted(set(self.topics) - set(BY_NAME))
        if unknown:
            raise ValueError(
                f"topics: expected names such as crypto_kline_data (`klinestream topics list` shows them), got {', '.join(unknown)}"
            )
        return self


class ProofConfig(Section):
    """The proof that what is published is what a replay of the archive gives, stretch by stretch."""

    stretch_s: Annotated[int, Field(ge=60, le=86_400, multiple_of=60)] = 3600
    """So long is a stretch; whole minutes."""
    after_s: Annotated[float, Field(ge=0, le=86_400)] = 180.0
    """So long after its end a stretch is proved: more than `archive.file_s`, and time for repairs."""
    keep_snapshots: Annotated[int, Field(ge=0, le=100_000)] = 48
    """So many snapshots are kept, one a proved stretch: the next stretch, or a later look, goes on from there; 0 for none."""
    metrics_host: str = "127.0.0.1"
    """Address of the metrics."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 9112
    """Prometheus metrics on this port of `metrics_host`; 0 for none."""


class ModelsConfig(Section):
    """Models that forecast live: `klinestream model serve`."""

    metrics_host: str = "127.0.0.1"
    """Address of the metrics."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 9113
    """Prometheus metrics on this port of `metrics_host`; 0 for none. A process for each model: give each its own."""


class StackConfig(Section):
    """The local stack of `klinestream up`."""

    state_dir: Path = Path(".klinestream")
    """Where everything lives that it keeps."""
    broker_port: Port = 9092
    """Kafka."""
    controller_port: Port = 9093
    """Kafka's controller."""
    flink_port: Port = 8081
    """Flink's REST interface and page."""
    flink_rpc_port: Port = 6123
    """What Flink's task managers speak to."""
    standin_port: Port = 8090
    """The stand-in exchange."""
    postgres_port: Port = 5433
    """PostgreSQL, with `--with postgres`; its usual port may be that of another one."""
    task_managers: Annotated[int, Field(ge=1, le=16)] = 1
    """Flink task managers."""
    task_slots: Annotated[int, Field(ge=1, le=32)] = 4
    """Slots of each task manager."""


class StandinConfig(Section):
    """The stand-in exchange."""

    host: str = "127.0.0.1"
    """Address it listens on."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    """The seeded market; the same seed gives the same market."""
    symbols: Annotated[int, Field(ge=1, le=5000)] = 1400
    """How many symbols the seeded market lists."""
    frames: str = ""
    """Folder of recorded frames to serve in place of the seeded market."""
    speed: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """How fast recorded frames are served."""
    retime: bool = True
    """Shift recorded frames' times to now."""
    lead_s: Annotated[float, Field(ge=0, le=600)] = 5.0
    """Recorded frames begin this long after the start, so that clients can connect first."""
    ago_s: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    """Re-timed frames begin with times this long past: at a higher speed they would end in the future otherwise."""
    session_s: Seconds = 86_400.0
    """A connection is ended after this long."""
    ping_s: Seconds = 20.0
    """How often the server pings."""
    pong_s: Seconds = 60.0
    """A client that owes a pong for this long is disconnected."""
    connections_per_5_min: Annotated[int, Field(ge=1)] = 300
    """Attempts to open a websocket, an address."""
    weight_per_minute: Annotated[int, Field(ge=1)] = 6000
    """Weight of REST requests, an address; past it comes 429, then 418."""
    client_buffer_bytes: Annotated[int, Field(ge=65_536)] = 16_777_216
    """A websocket client with more than this unread is disconnected."""


class LogConfig(Section):
    """Logs."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level that is written."""
    format: Literal["console", "json"] = "console"
    """For a person, or a line of JSON an event."""


def is_web_address(text: str) -> bool:
    """Whether it is an address of HTTP, with a host."""
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
