"""The configuration: one file, `klinestream.toml`, overridden by `KLINESTREAM_…`; secrets only from the environment.

`KLINESTREAM_KAFKA__BOOTSTRAP_SERVERS` overrides `bootstrap_servers` in `[kafka]`. An unknown key, an unknown
variable or a bad value is a ConfigError that names it.
"""

import os
import re
import tomllib
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from klinestream.market.errors import ConfigError

PREFIX = "KLINESTREAM_"
DEFAULT_FILE = Path("klinestream.toml")
SECOND_MS = 1000
OBSERVED_NAME = re.compile(r"(producer|repair|alerts)(-[a-z0-9]{1,20})?")
OBSERVED_MOST = 20
TOKEN = re.compile(r"[!-+\--~]{16,256}")
"""Visible ASCII without commas: it has to fit into a header."""
TOKENS_MOST = 100

Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


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
    """The windows job."""

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
        if self.webhook_url and not _is_web_address(self.webhook_url):
            raise ValueError("webhook_url must be an address that begins with http:// or https:// and a host")
        return self


class ServerConfig(Section):
    """The web server."""

    host: str = "127.0.0.1"
    """Address it listens on."""
    port: Port = 8084
    """Port it listens on."""
    name: str = ""
    """This server's name in `crypto_watched_symbols`; the machine's name and the port if empty."""
    history_s: Annotated[int, Field(ge=10, le=3600)] = 120
    """How much history a client gets at once, and the page shows."""
    stale_after_s: Seconds = 5.0
    """Data older than this makes /readyz fail."""
    allowed_origins: tuple[str, ...] = ()
    """Further origins that may open the websocket, besides the page's own."""
    public: bool = False
    """Serve without tokens beyond this machine, or under a name that is not this machine's: something else keeps strangers out."""
    tokens: SecretStr = SecretStr("")
    """Who has one of these may read: comma separated, each of at least 16 characters; only from KLINESTREAM_SERVER__TOKENS."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of proxies whose X-Forwarded-For and X-Forwarded-Proto count."""
    max_clients: Annotated[int, Field(ge=1)] = 2000
    """Websocket clients at once."""
    max_clients_per_address: Annotated[int, Field(ge=1)] = 1000
    """Websocket clients at once from one address of another machine; what comes through a proxy has its, without `trusted_proxies`."""
    handshakes_per_s: Annotated[float, Field(gt=0, le=100_000)] = 100.0
    """Websockets that one address of another machine may open a second, with bursts of twice as many."""
    client_queue: Annotated[int, Field(ge=1)] = 64
    """Updates held for a slow client before they are conflated."""
    max_subscriptions: Annotated[int, Field(ge=1, le=10_000)] = 50
    """Symbols that one client may follow at once."""
    messages_per_s: Annotated[float, Field(gt=0, le=10_000)] = 20.0
    """Messages that one client may send a second, with bursts of twice as many."""
    compress: bool = False
    """Compress websocket messages for clients that offer it: fewer bytes, and each client's copy is packed apart."""
    history_candles: Annotated[int, Field(ge=1, le=5000)] = 500
    """Closed candles held of each symbol and interval for REST, with their indicators; some 300 bytes each."""
    requests_per_s: Annotated[float, Field(gt=0, le=100_000)] = 50.0
    """REST requests that one address may make a second, with bursts of twice as many."""
    observe: tuple[str, ...] = ("producer=http://127.0.0.1:9108", "repair=http://127.0.0.1:9109", "alerts=http://127.0.0.1:9110")
    """Parts that `/status` asks for their metrics, `name=address`: producer, repair, alerts; further ones with a suffix (`producer-b`)."""
    flink_url: str = "http://127.0.0.1:8081"
    """Flink's REST interface, which `/status` asks for the jobs; empty for none."""

    @property
    def accepted_tokens(self) -> tuple[str, ...]:
        """The tokens, apart."""
        return tuple(token for token in map(str.strip, self.tokens.get_secret_value().split(",")) if token)

    @model_validator(mode="after")
    def _access(self) -> "ServerConfig":
        # Not a check of the field: its error would show the tokens.
        found = self.accepted_tokens
        unfit = [place for place, token in enumerate(found, 1) if not TOKEN.fullmatch(token)]
        if unfit or len(found) > TOKENS_MOST or (self.tokens.get_secret_value() and not found):
            came = f"number {unfit[0]} isn't" if unfit else f"there are {len(found)}"
            raise ValueError(f"tokens must be up to {TOKENS_MOST}, comma separated, each of 16 to 256 visible ASCII characters: {came}")
        for origin in self.allowed_origins:
            if not _is_web_address(origin) or origin != origin_of(origin):
                raise ValueError(f"allowed_origins must hold origins such as https://chart.example, without a path, not {origin!r}")
        for proxy in self.trusted_proxies:
            if not _is_network(proxy):
                raise ValueError(f"trusted_proxies must hold addresses or networks such as 10.0.0.0/8, not {proxy!r}")
        return self

    @property
    def observed(self) -> dict[str, str]:
        """The parts to ask: name → base address."""
        return {name: url.rstrip("/") for name, _, url in (entry.partition("=") for entry in self.observe)}

    @model_validator(mode="after")
    def _parts(self) -> "ServerConfig":
        # Not checks of the fields: their errors would show the addresses.
        for entry in self.observe:
            name, _, url = entry.partition("=")
            if not OBSERVED_NAME.fullmatch(name) or not _is_web_address(url):
                raise ValueError(f"observe must hold entries such as producer=http://127.0.0.1:9108, not one of {name[:40]!r}")
        if len(self.observed) != len(self.observe) or len(self.observe) > OBSERVED_MOST:
            raise ValueError(f"observe must hold each name once, and at most {OBSERVED_MOST}")
        if self.flink_url and not _is_web_address(self.flink_url):
            raise ValueError("flink_url must be an address that begins with http:// or https:// and a host, or empty")
        return self


class ClientConfig(Section):
    """`klinestream watch` and the Python client."""

    token: SecretStr = SecretStr("")
    """Token for a server that asks for one; only from KLINESTREAM_CLIENT__TOKEN."""


class RepairConfig(Section):
    """The repair of results after klines that came late."""

    settle_s: Seconds = 5.0
    """A symbol without a further repair for this long is repaired; earlier where the ledger of gaps says that it is complete."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 9109
    """Prometheus metrics on this port of `metrics_host`; 0 for none."""
    metrics_host: str = "127.0.0.1"
    """Address the metrics listen on."""


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


class Config(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    kafka: KafkaConfig = KafkaConfig()
    exchange: ExchangeConfig = ExchangeConfig()
    producer: ProducerConfig = ProducerConfig()
    windows: WindowsConfig = WindowsConfig()
    candles: CandlesConfig = CandlesConfig()
    indicators: IndicatorsConfig = IndicatorsConfig()
    signals: SignalsConfig = SignalsConfig()
    repair: RepairConfig = RepairConfig()
    server: ServerConfig = ServerConfig()
    client: ClientConfig = ClientConfig()
    stack: StackConfig = StackConfig()
    standin: StandinConfig = StandinConfig()
    log: LogConfig = LogConfig()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # the library passes all five
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is passed in wins over the environment, which wins over the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load(file: Path | None = None, **overrides: dict[str, Any]) -> Config:
    """Read the configuration.

    `file` must exist if given; otherwise `klinestream.toml` in the working directory is read if it is there.
    `overrides` are tables that win over everything. Raises ConfigError.
    """
    if file is not None and not file.is_file():
        raise ConfigError(f"expected a configuration file at {file}, but there is none: check --config")
    path = file or DEFAULT_FILE
    _refuse_unknown_variables()
    source = path if path.is_file() else None
    configured = type("Config", (Config,), {"model_config": {**Config.model_config, "toml_file": source}})
    try:
        config: Config = configured(**overrides)
        _refuse_secrets_in_file(path)
    except ValidationError as error:
        raise ConfigError(_explain(error, path)) from None
    except ValueError as error:  # tomllib's errors name line and column
        raise ConfigError(f"expected TOML in {path}: {error}") from None
    return config


def read_again(config: Config) -> Config:
    """Read the configuration again, from the file that `config` came from, or may come from by now. Raises ConfigError."""
    source = type(config).model_config.get("toml_file")
    return load(source if isinstance(source, Path) else None)


def _refuse_unknown_variables() -> None:
    """The settings library passes over misspelt variables in silence; a misspelt one is a setting that isn't made."""
    for variable in os.environ:
        if not variable.startswith(PREFIX):
            continue
        section, _, key = variable.removeprefix(PREFIX).lower().partition("__")
        field = Config.model_fields.get(section)
        if field is None or (key and key not in field.annotation.model_fields):  # type: ignore[union-attr]  # a section is a model
            raise ConfigError(
                f"expected a variable {PREFIX}<SECTION>__<KEY> that names a known key, got {variable}: see docs/operations.md"
            )


def _refuse_secrets_in_file(path: Path) -> None:
    if not path.is_file():
        return
    tables = tomllib.loads(path.read_text())
    for section, table in Config.model_fields.items():
        for key, field in table.annotation.model_fields.items():  # type: ignore[union-attr]  # a section is a model
            if field.annotation is SecretStr and key in tables.get(section, {}):
                variable = f"{PREFIX}{section}__{key}".upper()
                raise ConfigError(f"{section}.{key} stands in {path}: secrets come only from the environment, set {variable}")


def origin_of(address: str) -> str:
    """Scheme, host and port of an address.

    >>> origin_of("https://Chart.example:8443/chart?symbol=BTCUSDT")
    'https://chart.example:8443'
    """
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}"


def _is_network(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


def _explain(error: ValidationError, path: Path) -> str:
    lines = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            lines.append(f"{key}: no such key")
        elif isinstance(fault["input"], dict):
            lines.append(f"{key}: {fault['msg']}")  # a whole section may hold secrets
        else:
            lines.append(f"{key}: {fault['msg']}, got {fault['input']!r}")
    return f"the configuration ({path} and {PREFIX}… variables) has {len(lines)} fault(s):\n  " + "\n  ".join(lines)
