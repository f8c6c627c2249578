"""The configuration: one file, overridden by the environment; whatever is wrong is named with its place."""

from pathlib import Path

import pytest

from klinestream.market.errors import ConfigError
from klinestream.runtime import config
from klinestream.stack.commands import configuration


def write(folder: Path, text: str) -> Path:
    file = folder / "klinestream.toml"
    file.write_text(text)
    return file


def test_without_file_and_variables_the_defaults_hold(empty_folder: Path) -> None:
    """Nothing has to be configured."""
    assert config.load().model_dump() == config.Config().model_dump()
    assert not (empty_folder / "klinestream.toml").exists()


def test_the_file_in_the_working_directory_is_read(empty_folder: Path) -> None:
    """klinestream.toml is found where the command runs; other keys keep their defaults."""
    write(empty_folder, "[server]\nport = 9999\n")
    loaded = config.load()
    assert loaded.server.port == 9999
    assert loaded.server.history_s == config.ServerConfig().history_s


def test_the_environment_wins_over_the_file(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable overrides its one key; the file's other keys of the same section stay."""
    write(empty_folder, '[kafka]\nbootstrap_servers = "file:9092"\nlinger_ms = 7\n')
    monkeypatch.setenv("KLINESTREAM_KAFKA__BOOTSTRAP_SERVERS", "variable:9092")
    loaded = config.load()
    assert loaded.kafka.bootstrap_servers == "variable:9092"
    assert loaded.kafka.linger_ms == 7


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    """A file given by hand must exist."""
    with pytest.raises(ConfigError, match=r"expected a configuration file at .*absent\.toml.*--config"):
        config.load(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nprot = 1\n", r"server\.prot: no such key"),
        ("[sever]\nport = 1\n", r"sever: no such key"),
        ("[server]\nport = 70000\n", r"server\.port: .*65535, got 70000"),
        ('[server]\nport = "many"\n', r"server\.port: .*got 'many'"),
        ("[windows]\nslide_ms = 300\n", r"windows: .*slide_ms must divide 1000 or be a multiple of it, not 300"),
        ("[windows]\nsize_ms = 3100\n", r"windows: .*size_ms must be a multiple of slide_ms \(500\), not 3100"),
        ('[windows]\ndelivery = "perhaps"\n', r"windows\.delivery: .*'at-least-once' or 'exactly-once', got 'perhaps'"),
        ('[kafka]\nsasl_password = "secret"\n', r"sasl_password stands in .*set KLINESTREAM_KAFKA__SASL_PASSWORD"),
        ("[server\n", r"expected TOML in .*klinestream\.toml: .*line 1"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(empty_folder: Path, text: str, said: str) -> None:
    """An unknown key, a bad value, a secret or broken TOML raises ConfigError that names it."""
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        config.load(write(empty_folder, text))


def test_all_faults_are_told_at_once(empty_folder: Path) -> None:
    """Two faults make one error with two lines."""
    file = write(empty_folder, "[server]\nprot = 1\n[windows]\nbatch_ms = 0\n")
    with pytest.raises(ConfigError, match=r"(?s)2 fault\(s\).*windows\.batch_ms.*server\.prot"):
        config.load(file)


@pytest.mark.parametrize("variable", ["KLINESTREAM_SERVER__PROT", "KLINESTREAM_SEVER__PORT", "KLINESTREAM_PORT"])
@pytest.mark.usefixtures("empty_folder")
def test_an_unknown_variable_is_named(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable is a setting that would not be made: ConfigError."""
    monkeypatch.setenv(variable, "1")
    with pytest.raises(ConfigError, match=rf"got {variable}: see docs/operations\.md"):
        config.load()


@pytest.mark.usefixtures("empty_folder")
def test_a_bad_variable_is_named_without_its_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad value in the environment is named by key; the password is in no representation."""
    monkeypatch.setenv("KLINESTREAM_KAFKA__SASL_PASSWORD", "hush")
    assert "hush" not in repr(config.load())
    monkeypatch.setenv("KLINESTREAM_SERVER__PORT", "0")
    with pytest.raises(ConfigError, match=r"server\.port: ") as raised:
        config.load()
    assert "hush" not in str(raised.value)


def test_the_whole_configuration_survives_the_environment(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `configuration` writes as variables is read back as the same configuration, over any file."""
    monkeypatch.setenv("KLINESTREAM_KAFKA__SASL_PASSWORD", "hush")
    given = config.load(None, exchange={"symbols": ["*"]}, server={"allowed_origins": ["http://a.example"]}, standin={"retime": False})
    write(empty_folder, '[exchange]\nsymbols = ["XRPUSDT"]\n[server]\nport = 1\n')
    for variable, value in configuration(given).items():
        monkeypatch.setenv(variable, value)
    assert config.load().model_dump() == given.model_dump()
