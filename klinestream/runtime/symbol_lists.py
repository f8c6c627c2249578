"""What the configuration says of symbols: its own lists, and the files that it names."""

from collections.abc import Iterator
from pathlib import Path

from klinestream.market.codec import is_symbol_or_pattern
from klinestream.market.errors import ConfigError
from klinestream.market.selection import Selection
from klinestream.runtime.sections import ExchangeConfig


def configured(config: ExchangeConfig) -> Selection:
    """The configured selection, its files read anew; upper and lower case are alike.

    Raises ConfigError that names the key or the line of what can't be used.
    """
    need = *_listed("symbols", config.symbols), *_from_file("symbols_file", config.symbols_file)
    if config.symbols_file and not need:
        # An empty list means everything; a file that somebody just emptied, or that is being written, hardly does.
        raise ConfigError(f"exchange.symbols_file: expected at least one name in {config.symbols_file}; for all that trade write *")
    return Selection(need, (*_listed("unwanted", config.unwanted), *_from_file("unwanted_file", config.unwanted_file)))


def checked_name(name: str, where: str) -> str:
    """A symbol or pattern in upper case; raises ConfigError that says where it stands if it can be neither."""
    upper = name.strip().upper()
    if not is_symbol_or_pattern(upper):
        raise ConfigError(f"{where}: expected a symbol, or a pattern with * and ? such as *USDT, of up to 50 characters, got {name!r}")
    return upper


def _listed(key: str, names: tuple[str, ...]) -> Iterator[str]:
    return (checked_name(name, f"exchange.{key}") for name in names)


def _from_file(key: str, path: str) -> Iterator[str]:
    if not path:
        return
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ConfigError(f"exchange.{key}: expected a text file at {path}, one name or pattern a line: {error}") from None
    for number, line in enumerate(lines, 1):
        name = line.partition("#")[0].strip()
        if name:
            yield checked_name(name, f"exchange.{key}, {path} line {number}")
