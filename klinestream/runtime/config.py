"""The configuration: one file, `klinestream.toml`, overridden by `KLINESTREAM_…`; secrets only from the environment.

`KLINESTREAM_KAFKA__BOOTSTRAP_SERVERS` overrides `bootstrap_servers` in `[kafka]`. An unknown key, an unknown
variable or a bad value is a ConfigError that names it.
"""

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from klinestream.market.errors import ConfigError
from klinestream.runtime.feed_sections import BooksConfig, FinnhubConfig, TradesConfig
from klinestream.runtime.ingest_section import IngestConfig
from klinestream.runtime.postgres_section import PostgresConfig
from klinestream.runtime.sections import (
    ArchiveConfig,
    CandlesConfig,
    ExchangeConfig,
    IndicatorsConfig,
    KafkaConfig,
    LogConfig,
    ModelsConfig,
    ProducerConfig,
    ProofConfig,
    RepairConfig,
    SignalsConfig,
    StackConfig,
    StandinConfig,
    WindowsConfig,
)
from klinestream.runtime.server_sections import ClientConfig, ServerConfig
from klinestream.runtime.workflow_section import WorkflowConfig

PREFIX = "KLINESTREAM_"
DEFAULT_FILE = Path("klinestream.toml")


class Config(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    kafka: KafkaConfig = KafkaConfig()
    exchange: ExchangeConfig = ExchangeConfig()
    producer: ProducerConfig = ProducerConfig()
    trades: TradesConfig = TradesConfig()
    books: BooksConfig = BooksConfig()
    finnhub: FinnhubConfig = FinnhubConfig()
    ingest: IngestConfig = IngestConfig()
    windows: WindowsConfig = WindowsConfig()
    candles: CandlesConfig = CandlesConfig()
    indicators: IndicatorsConfig = IndicatorsConfig()
    signals: SignalsConfig = SignalsConfig()
    repair: RepairConfig = RepairConfig()
    archive: ArchiveConfig = ArchiveConfig()
    proof: ProofConfig = ProofConfig()
    models: ModelsConfig = ModelsConfig()
    postgres: PostgresConfig = PostgresConfig()
    workflow: WorkflowConfig = WorkflowConfig()
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
    return load(file_of(config))


def file_of(config: Config) -> Path | None:
    """The file that `config` was read from, if it was."""
    source = type(config).model_config.get("toml_file")
    return source if isinstance(source, Path) else None


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
