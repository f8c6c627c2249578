"""The choice of symbols: who outweighs whom, what becomes of names that do not trade, and how lists and files are read."""

from pathlib import Path

import pytest

from klinestream.market import codec
from klinestream.market.errors import ConfigError, RecordError
from klinestream.market.events import SymbolChoice
from klinestream.market.selection import Choice, Selection, matches
from klinestream.runtime.sections import ExchangeConfig
from klinestream.runtime.symbol_lists import configured

MARKET = {"BTCUSDT": "TRADING", "ETHUSDT": "TRADING", "ETHBTC": "TRADING", "OLDUSDT": "BREAK", "币安人生USDT": "TRADING"}
TRADING = ("BTCUSDT", "ETHBTC", "ETHUSDT", "币安人生USDT")


def said(*choices: tuple[str, bool]) -> dict[str, SymbolChoice]:
    """Said one after the other."""
    return {name: SymbolChoice(name, wanted, time_ms, "test") for time_ms, (name, wanted) in enumerate(choices)}


@pytest.mark.parametrize("need", [(), ("*",), ("*", "BTCUSDT")])
def test_nothing_or_a_star_means_all_that_trade(need: tuple[str, ...]) -> None:
    """An empty list or `*` is every symbol that trades, less the unwanted; names of any script count."""
    assert Selection(need).chosen(MARKET) == Choice(TRADING, (), ())
    assert Selection(need, ("ETH*",)).chosen(MARKET).symbols == ("BTCUSDT", "币安人生USDT")


def test_patterns_expand_to_trading_symbols_only() -> None:
    """A pattern takes what matches and trades; what matches and does not trade is no news."""
    assert Selection(("*USDT",)).chosen(MARKET) == Choice(("BTCUSDT", "ETHUSDT", "币安人生USDT"), (), ())


def test_names_that_cannot_be_followed_are_told() -> None:
    """A name that isn't listed is unknown, a listed one that does not trade waits until it does."""
    selection = Selection(("BTCUSDT", "NOUSDT", "OLDUSDT"))
    assert selection.chosen(MARKET) == Choice(("BTCUSDT",), ("NOUSDT",), ("OLDUSDT",))
    assert selection.chosen(MARKET | {"OLDUSDT": "TRADING"}) == Choice(("BTCUSDT", "OLDUSDT"), ("NOUSDT",), ())


def test_a_name_that_is_not_wanted_is_not_missed() -> None:
    """An unwanted name is neither unknown nor waiting, whatever the need says of it."""
    selection = Selection(("NOUSDT", "OLDUSDT", "BTCUSDT"), ("NOUSDT",))
    assert selection.chosen(MARKET, said(("OLDUSDT", False))) == Choice(("BTCUSDT",), (), ())


def test_a_symbols_own_name_outweighs_patterns() -> None:
    """Its own name decides on a symbol, even if a pattern was said later, or on the topic."""
    assert Selection(("BTCUSDT",), ("*USDT",)).chosen(MARKET).symbols == ("BTCUSDT",)
    assert Selection(("BTCUSDT", "ETHUSDT")).chosen(MARKET, said(("*", False))).symbols == ("BTCUSDT", "ETHUSDT")
    assert Selection(("*",)).chosen(MARKET, said(("BTCUSDT", False), ("B*", True))).symbols == TRADING[1:]


def test_the_topic_outweighs_the_configuration() -> None:
    """Among names, and among patterns, what was said at run time wins."""
    assert Selection(("BTCUSDT",), ("ETHUSDT",)).chosen(MARKET, said(("BTCUSDT", False), ("ETHUSDT", True))).symbols == ("ETHUSDT",)
    assert Selection(("*",), ("*USDT",)).chosen(MARKET, said(("ETHU*", True))).symbols == ("ETHBTC", "ETHUSDT")


def test_the_newest_pattern_wins() -> None:
    """Of two patterns of the topic the one said later decides."""
    assert Selection(("BTCUSDT",)).chosen(MARKET, said(("*USDT", False), ("ETH*", True))).symbols == ("BTCUSDT", "ETHBTC", "ETHUSDT")
    assert Selection(("BTCUSDT",)).chosen(MARKET, said(("ETH*", True), ("*USDT", False))).symbols == ("BTCUSDT", "ETHBTC")


def test_each_symbol_says_why() -> None:
    """The statement that decides names its source."""
    rules = Selection(("BTCUSDT",), ("*UP",)).rules(said(("*USDT", False)))
    verdicts = [rules.verdict(symbol) for symbol in ("BTCUSDT", "ETHUSDT", "BTCUP", "ETHBTC")]
    assert [verdict and verdict.why for verdict in verdicts] == [
        "config: BTCUSDT",
        "topic: *USDT unwanted, by test",
        "config: *UP unwanted",
        None,
    ]


def test_only_stars_and_question_marks_are_wild() -> None:
    """Brackets and dots mean themselves."""
    assert matches("BTC????", "BTCUSDT")
    assert not matches("BTC???", "BTCUSDT")
    assert matches("A.[B]*", "A.[B]C")
    assert not matches("A.[B]*", "AXBC")


def test_many_stars_cost_no_exponential_time() -> None:
    """A pattern of stars that almost matches is answered; backtracking would not end in years."""
    assert not matches("*A" * 24 + "*B", "A" * 50)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "name: missing"),
        (b'{"name":"A","wanted":1,"time":1,"by":"x"}', "wanted: expected true or false"),
        (b'{"name":"A","wanted":true,"time":-1,"by":"x"}', "time: expected ms since 1970"),
        (b'{"name":"a","wanted":true,"time":1,"by":"x"}', "name: expected a symbol or a pattern, upper case"),
        (b'{"name":"TWO WORDS","wanted":true,"time":1,"by":"x"}', "name: expected a symbol or a pattern, upper case"),
        (b'{"name":"A","wanted":true,"time":1,"by":""}', "by: expected text"),
    ],
)
def test_what_is_no_choice_is_refused(line: bytes, reason: str) -> None:
    """A value of crypto_control that can't be used raises RecordError that says why."""
    with pytest.raises(RecordError, match=reason):
        codec.decode_choice(line)


def test_lists_and_files_are_read_together(tmp_path: Path) -> None:
    """Files add to the lists, in any case, with comments and empty lines between the names."""
    (tmp_path / "need").write_text("# majors\n\n ethusdt # the second\n币安*\n", encoding="utf-8")
    (tmp_path / "unwanted").write_text("*up\n")
    config = ExchangeConfig(
        symbols=("btcusdt",), symbols_file=str(tmp_path / "need"), unwanted=("A*",), unwanted_file=str(tmp_path / "unwanted")
    )
    assert configured(config) == Selection(("BTCUSDT", "ETHUSDT", "币安*"), ("A*", "*UP"))
    assert configured(ExchangeConfig(symbols=())) == Selection()


def test_what_lists_and_files_cannot_mean_is_named(tmp_path: Path) -> None:
    """A bad name is told with its key or line; so are a file that is missing, or names nothing where nothing would mean all."""
    file = tmp_path / "need"
    config = ExchangeConfig(symbols=(), symbols_file=str(file))
    with pytest.raises(ConfigError, match=r"exchange\.symbols_file: expected a text file at .*need"):
        configured(config)
    file.write_text("# nothing yet\n")
    with pytest.raises(ConfigError, match="expected at least one name"):
        configured(config)
    file.write_text("BTCUSDT\nETH USDT\n")
    with pytest.raises(ConfigError, match="need line 2: expected a symbol"):
        configured(config)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="expected a text file"):
        configured(config)
    with pytest.raises(ConfigError, match=r"exchange\.unwanted: expected a symbol.*got ''"):
        configured(ExchangeConfig(unwanted=("",)))
