"""Laws of the choice of symbols."""

import functools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from klinestream.market.codec import decode_choice, encode_event
from klinestream.market.events import SymbolChoice
from klinestream.market.selection import TRADING, Selection, is_pattern, matches

# Few letters, so that names meet patterns and each other; one of another script, as the exchange has some.
symbols = st.text("AB币", min_size=1, max_size=4)
names = st.text("AB币*?", min_size=1, max_size=4)
lists = st.lists(names, max_size=5).map(tuple)
markets = st.dictionaries(symbols, st.sampled_from([TRADING, TRADING, "BREAK", "HALT"]), max_size=12)
choices = st.builds(SymbolChoice, names, st.booleans(), st.integers(0, 5), st.just("test"))
topics = st.lists(choices, max_size=5).map(lambda found: {choice.name: choice for choice in found})


@functools.cache
def means(pattern: str, symbol: str) -> bool:
    """Whether a pattern means a symbol, from the definition of its wildcards alone."""
    if not pattern:
        return not symbol
    if pattern[0] == "*":
        return means(pattern[1:], symbol) or (bool(symbol) and means(pattern, symbol[1:]))
    return bool(symbol) and pattern[0] in ("?", symbol[0]) and means(pattern[1:], symbol[1:])


@given(names, symbols)
def test_a_pattern_means_what_its_wildcards_say(name: str, symbol: str) -> None:
    """`*` is any characters, `?` is one, all else is itself."""
    assert matches(name, symbol) == means(name, symbol)


@given(lists, lists, topics, markets)
def test_only_what_trades_is_chosen_and_nothing_twice(
    need: tuple[str, ...], unwanted: tuple[str, ...], said: dict[str, SymbolChoice], market: dict[str, str]
) -> None:
    """Symbols trade, unknown ones are not listed, the rest is listed and does not trade; all are sorted and in one place only."""
    choice = Selection(need, unwanted).chosen(market, said)
    assert all(market[symbol] == TRADING for symbol in choice.symbols)
    assert not set(choice.unknown) & market.keys()
    assert all(market[symbol] != TRADING for symbol in choice.not_trading)
    for part in (choice.symbols, choice.unknown, choice.not_trading):
        assert list(part) == sorted(set(part))


@given(lists, lists, topics, markets, st.randoms())
def test_order_does_not_matter(
    need: tuple[str, ...], unwanted: tuple[str, ...], said: dict[str, SymbolChoice], market: dict[str, str], random: Any
) -> None:
    """Lists, topic and market in any order give the same choice."""

    def shuffled(items: Any) -> list[Any]:
        return random.sample(list(items), len(items))

    turned = Selection(tuple(shuffled(need)), tuple(shuffled(unwanted)))
    assert turned.chosen(dict(shuffled(market.items())), dict(shuffled(said.items()))) == Selection(need, unwanted).chosen(market, said)


@given(lists, lists, topics, markets)
def test_other_symbols_do_not_matter(
    need: tuple[str, ...], unwanted: tuple[str, ...], said: dict[str, SymbolChoice], market: dict[str, str]
) -> None:
    """Whether a symbol is followed depends on it alone: a listing or a delisting moves no other symbol."""
    selection = Selection(need, unwanted)
    each = [symbol for symbol in market if selection.chosen({symbol: market[symbol]}, said).symbols]
    assert selection.chosen(market, said).symbols == tuple(sorted(each))


@given(lists, lists, topics, markets, symbols, st.booleans())
def test_the_last_word_of_a_name_counts(  # noqa: PLR0917  # hypothesis gives them
    need: tuple[str, ...], unwanted: tuple[str, ...], said: dict[str, SymbolChoice], market: dict[str, str], symbol: str, wanted: bool
) -> None:
    """What is said of a symbol's own name holds for it whatever else is said, and changes nothing for the others."""
    selection = Selection(need, unwanted)
    before = set(selection.chosen(market, said).symbols)
    after = set(selection.chosen(market, said | {symbol: SymbolChoice(symbol, wanted, 0, "test")}).symbols)
    assert (symbol in after) == (wanted and market.get(symbol) == TRADING)
    assert before - {symbol} == after - {symbol}


@given(lists, lists, markets, names, st.booleans())
def test_a_new_pattern_rules_all_but_named_symbols(
    need: tuple[str, ...], unwanted: tuple[str, ...], market: dict[str, str], name: str, wanted: bool
) -> None:
    """A pattern said at run time decides on all that it means, except where the configuration has the symbol's own name."""
    chosen = Selection(need, unwanted).chosen(market, {name: SymbolChoice(name, wanted, 9, "test")}).symbols
    for symbol, status in market.items():
        if is_pattern(name) and means(name, symbol) and symbol not in need + unwanted and status == TRADING:
            assert (symbol in chosen) == wanted


@given(choices)
def test_a_choice_survives_the_codec(choice: SymbolChoice) -> None:
    """Encoded and decoded, a choice is the same."""
    assert decode_choice(encode_event(choice)) == choice
