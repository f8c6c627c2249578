"""Which symbols to follow: what the configuration and people say of names, and what the exchange lists, in; a choice out.

    configuration   need *USDT            unwanted *UPUSDT
    control topic        LUNAUSDT: unwanted        BTCUPUSDT: wanted
    ─────────────────────────────────────────────────────────────────
    exchange        BTCUSDT  followed      the need's pattern
                    LUNAUSDT not followed  its own name outweighs the pattern
                    BTCUPUSDT followed     its own name outweighs both patterns

The most specific statement about a symbol wins: its own name over a pattern; among equals the control topic's newest
over the configuration; within the configuration unwanted over wanted. So the order in which things are listed, or
were read, never matters.
"""

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass

from klinestream.market.events import SymbolChoice

TRADING = "TRADING"
ALL = "*"
_CONFIG_MS = -1  # older than whatever is said at run time


@dataclass(frozen=True, slots=True)
class Choice:
    """What to follow, all sorted."""

    symbols: tuple[str, ...]
    """To follow: they trade."""
    unknown: tuple[str, ...]
    """Wanted by their own name, but the exchange does not list them."""
    not_trading: tuple[str, ...]
    """Wanted by their own name and listed, but they do not trade now."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What was said of a name, and where: `by` is empty for the configuration."""

    name: str
    wanted: bool
    time_ms: int = _CONFIG_MS
    by: str = ""

    @property
    def why(self) -> str:
        """For a person to read: where it was said, and of which name.

        >>> Statement("*USDT", True).why, Statement("BTCUSDT", False, 5, "cli").why
        ('config: *USDT', 'topic: BTCUSDT unwanted, by cli')
        """
        word = "" if self.wanted else " unwanted"
        return f"topic: {self.name}{word}, by {self.by}" if self.by else f"config: {self.name}{word}"


@dataclass(frozen=True, slots=True)
class Selection:
    """What is said of symbols: by the configuration (names or patterns), and at run time (by name).

    Nothing needed, or `*`, means all that trade.

    >>> market = {"BTCUSDT": "TRADING", "ETHBTC": "TRADING", "OLDUSDT": "BREAK"}
    >>> Selection(("*USDT", "OLDUSDT", "NEWUSDT")).chosen(market)
    Choice(symbols=('BTCUSDT',), unknown=('NEWUSDT',), not_trading=('OLDUSDT',))
    """

    need: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()

    def chosen(self, statuses: Mapping[str, str], said: Mapping[str, SymbolChoice] | None = None) -> Choice:
        """What to follow of an exchange that lists these symbols (symbol → status)."""
        rules = self.rules(said)
        trading = (symbol for symbol, status in statuses.items() if status == TRADING)
        named = rules.named()
        return Choice(
            tuple(sorted(symbol for symbol in trading if rules.wanted(symbol))),
            tuple(sorted(named - statuses.keys())),
            tuple(sorted(symbol for symbol in named if statuses.get(symbol, TRADING) != TRADING)),
        )

    def rules(self, said: Mapping[str, SymbolChoice] | None = None) -> "Rules":
        """What wins for each symbol, with what was said at run time (name → newest) on top."""
        statements = [Statement(name, True) for name in self.need or (ALL,)] + [Statement(name, False) for name in self.unwanted]
        statements += [Statement(name, choice.wanted, choice.time_ms, choice.by) for name, choice in (said or {}).items()]
        return Rules(statements)


class Rules:
    """Statements in the order in which they win."""

    def __init__(self, statements: list[Statement]) -> None:
        """Of these; their order does not matter."""
        ranked = sorted(statements, key=_rank, reverse=True)
        self._exact: dict[str, Statement] = {}
        for statement in ranked:
            if not is_pattern(statement.name):
                self._exact.setdefault(statement.name, statement)
        self._patterns = [(_compiled(statement.name), statement) for statement in ranked if is_pattern(statement.name)]

    def verdict(self, symbol: str) -> Statement | None:
        """The statement that decides on a symbol; None where nothing was said of it."""
        if symbol in self._exact:
            return self._exact[symbol]
        return next((statement for pattern, statement in self._patterns if pattern.fullmatch(symbol)), None)

    def wanted(self, symbol: str) -> bool:
        """Whether to follow a symbol, if it trades."""
        statement = self.verdict(symbol)
        return statement is not None and statement.wanted

    def named(self) -> set[str]:
        """Symbols that are wanted by their own name."""
        return {name for name, statement in self._exact.items() if statement.wanted}


def is_pattern(name: str) -> bool:
    """Whether a name stands for all symbols that match it.

    >>> is_pattern("*USDT"), is_pattern("BTCUSDT")
    (True, False)
    """
    return "*" in name or "?" in name


def matches(name: str, symbol: str) -> bool:
    """Whether a name, or pattern, means this symbol: `*` stands for any characters, `?` for one.

    >>> matches("*USDT", "BTCUSDT"), matches("BTC?", "BTCUSDT")
    (True, False)
    """
    return name == symbol or (is_pattern(name) and _compiled(name).fullmatch(symbol) is not None)


def _rank(statement: Statement) -> tuple[int, bool, str]:
    # Equally new ones of different patterns may contradict each other: then unwanted wins, and names make it deterministic.
    return statement.time_ms, not statement.wanted, statement.name


def _compiled(pattern: str) -> re.Pattern[str]:
    # fnmatch's expressions take no exponential time, however many stars; a bracket is no wildcard here.
    return re.compile(fnmatch.translate(pattern.replace("[", "[[]")))
