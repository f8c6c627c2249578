"""The laws of the correlation graph, on series with holes, steady and flat ones among them."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinestream.market import correlations
from klinestream.market.correlation_groups import groups_of
from klinestream.market.correlation_layout import layout_of
from klinestream.market.correlations import COMMON_LEAST, Graph, Rule, correlated, graph, log_returns, strongest
from klinestream.market.errors import ConfigError

Floats = npt.NDArray[np.float64]
EXAMPLES = settings(max_examples=40)


def names_of(count: int) -> list[str]:
    return [f"S{place:03d}USDT" for place in range(count)]


@st.composite
def markets(draw: st.DrawFn, most: int = 24) -> Floats:
    """Closes of a few symbols: some follow a common walk, some are flat, some grow steadily, some have holes or hardly anything."""
    count, moments = draw(st.integers(2, most)), draw(st.integers(31, 90))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    common = rng.normal(0, 10.0 ** rng.uniform(-6, -1), (3, moments))
    returns = rng.normal(0, 0.002, (count, moments)) + rng.uniform(-1.5, 1.5, (count, 3)) @ common
    kinds = rng.integers(0, 8, count)
    returns[kinds == 0] = 0.0
    returns[kinds == 1] = 0.0003
    closes = np.exp(returns.cumsum(axis=1)) * 10.0 ** rng.uniform(-6, 5, (count, 1))
    closes[rng.random(closes.shape) < rng.choice([0.0, 0.05, 0.4])] = np.nan
    closes[kinds == 2, : moments - 4] = np.nan
    return closes


def same(one: Floats, other: Floats) -> bool:
    """To the last bit, nan being nan."""
    return one.shape == other.shape and one.tobytes() == other.tobytes()


@EXAMPLES
@given(markets())
def test_correlations_are_bounded_and_symmetric(closes: Floats) -> None:
    """From -1 to 1, the same both ways to the last bit, as are the counts; a series with itself has 1 wherever it moves at all."""
    pairs = correlated(log_returns(closes))
    assert same(pairs.r, pairs.r.T.copy())
    assert (pairs.observations == pairs.observations.T).all()
    known = pairs.r[np.isfinite(pairs.r)]
    assert (np.abs(known) <= 1).all()
    own = pairs.r.diagonal()
    assert np.allclose(own[np.isfinite(own)], 1, atol=1e-12)


@EXAMPLES
@given(markets(), st.data())
def test_a_pair_does_not_depend_on_other_symbols(closes: Floats, data: st.DataObject) -> None:
    """Of any of the symbols, in any order: each pair's value and each symbol's volatility to the last bit."""
    places = np.array(data.draw(st.lists(st.integers(0, len(closes) - 1), min_size=1, unique=True)))
    whole, part = correlated(log_returns(closes)), correlated(log_returns(closes[places]))
    assert same(part.r, whole.r[np.ix_(places, places)])
    assert (part.observations == whole.observations[np.ix_(places, places)]).all()
    assert same(part.volatility, whole.volatility[places])


@EXAMPLES
@given(markets(), st.integers(1, 9))
def test_a_table_made_in_parts_is_the_whole_table(closes: Floats, rows: int) -> None:
    """However many rows are made at once, table and edges are the same to the last bit."""
    whole = correlated(log_returns(closes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(correlations, "_ROWS_AT_ONCE", rows)
        parts = correlated(log_returns(closes))
        edges = strongest(parts, Rule(0.1, 3))
    assert same(parts.r, whole.r)
    assert same(edges.r, strongest(whole, Rule(0.1, 3)).r)


@EXAMPLES
@given(markets(), st.randoms(use_true_random=False))
def test_the_order_of_symbols_does_not_matter(closes: Floats, random: object) -> None:
    """Nodes, groups, places and edges are those of the symbols' names, to the last bit."""
    names = names_of(len(closes))
    order = list(range(len(names)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert told(graph(names, closes, Rule(0.2, 4))) == told(graph([names[place] for place in order], closes[order], Rule(0.2, 4)))


def told(found: Graph) -> list[object]:
    nodes = (found.candles, found.returns, found.volatility, found.degree, found.x, found.y)
    edges = (found.edges.a, found.edges.b, found.edges.r, found.edges.observations)
    return [list(found.symbols), list(found.group), *(each.tobytes() for each in (*nodes, *edges))]


@EXAMPLES
@given(markets(most=12))
def test_values_are_those_of_pandas_on_what_both_have(closes: Floats) -> None:
    """Pairwise complete, null below the least number; where a series stands still pandas' rounding may give one, this gives none."""
    returns = log_returns(closes)
    pairs = correlated(returns)
    expected = pd.DataFrame(returns.T).corr(min_periods=COMMON_LEAST).to_numpy()
    known = np.isfinite(pairs.r)
    assert np.allclose(pairs.r[known], expected[known], atol=1e-8)
    moving = np.nanstd(np.where(np.isfinite(returns).sum(axis=1, keepdims=True) > 0, returns, 0.0), axis=1) > 1e-8
    wanted = np.isfinite(expected) & moving[:, None] & moving[None, :]
    assert (known[wanted]).all()
    assert (pairs.observations == np.isfinite(returns).astype(int) @ np.isfinite(returns).T.astype(int)).all()


def test_whole_series_have_numpys_coefficients() -> None:
    """Without holes: numpy.corrcoef of the logarithms' differences, and numpy.std of a sample."""
    rng = np.random.default_rng(7)
    closes = np.exp((rng.normal(0, 0.01, (40, 121)) + rng.normal(0, 0.01, 121)).cumsum(axis=1))
    pairs = correlated(log_returns(closes))
    returns = np.diff(np.log(closes), axis=1)
    assert np.abs(pairs.r - np.corrcoef(returns)).max() < 1e-10
    assert np.abs(pairs.volatility - returns.std(axis=1, ddof=1)).max() < 1e-12


@pytest.mark.parametrize(("moments", "known"), [(30, False), (31, True)])
def test_too_few_common_returns_are_no_correlation(moments: int, known: bool) -> None:
    """29 of them are null, 30 are a value."""
    closes = np.exp(np.random.default_rng(1).normal(0, 0.01, (2, moments)).cumsum(axis=1))
    assert np.isfinite(correlated(log_returns(closes)).r).all() == known


def test_what_stands_still_has_no_correlation_and_no_place() -> None:
    """Flat, growing steadily, and not there at all: null with everything, no edge, no group; the others are as if it were not there."""
    rng = np.random.default_rng(3)
    walk = np.exp(rng.normal(0, 0.01, 60).cumsum())
    closes = np.array([walk, walk * 2, np.full(60, 5.0), np.exp(np.arange(60) * 0.001), np.full(60, np.nan)])
    found = graph(["A", "B", "FLAT", "GROWS", "GONE"], closes, Rule(0.0, 5))
    assert list(zip(found.edges.a.tolist(), found.edges.b.tolist(), strict=True)) == [(0, 1)]
    places = {symbol: place for place, symbol in enumerate(found.symbols)}
    for symbol in ("FLAT", "GROWS", "GONE"):
        place = places[symbol]
        assert found.group[place] is None
        assert np.isnan(found.x[place])
        assert found.degree[place] == 0
    assert found.candles[places["GONE"]] == 0
    assert np.isnan(found.volatility[places["GONE"]])


@EXAMPLES
@given(markets(), st.floats(0, 1), st.integers(1, 6))
def test_edges_are_the_strongest_of_an_end(closes: Floats, least: float, most: int) -> None:
    """A pair is an edge if it is strong enough and fewer than `most` others of one of its ends are stronger; and no symbol misses one."""
    pairs = correlated(log_returns(closes))
    edges = strongest(pairs, Rule(least, most))
    strength = np.nan_to_num(np.abs(pairs.r), nan=-1.0)
    np.fill_diagonal(strength, -1.0)
    assert (np.abs(edges.r) >= least).all()
    assert (edges.a < edges.b).all()
    stronger = [min((strength[end] > abs(r)).sum() for end in (a, b)) for a, b, r in zip(edges.a, edges.b, edges.r, strict=True)]
    assert all(count < most for count in stronger)
    degree = np.bincount(np.concatenate([edges.a, edges.b]), minlength=len(closes))
    assert (degree >= np.minimum(most, (strength >= max(least, 0)).sum(axis=1))).all()


def test_fishers_z_is_that_of_his_book() -> None:
    """Statistical Methods for Research Workers, § 35: r = 0.6 has z = 0.6931; with 28 pairs it is five times that of 4."""
    found = correlations.Edges(np.array([0, 0]), np.array([1, 2]), np.array([0.6, 0.6]), np.array([4, 28]))
    assert np.allclose(found.z, [0.6931, 3.4657], atol=1e-4)


def test_planted_groups_are_found() -> None:
    """Three markets of their own: symbols of each are one group, named by one of them, and lie closer to each other than to others."""
    rng = np.random.default_rng(11)
    of = np.arange(60) % 3
    closes = np.exp((rng.normal(0, 0.01, (3, 200))[of] + rng.normal(0, 0.006, (60, 200))).cumsum(axis=1))
    found = graph(names_of(60), closes, Rule(0.4, 6))
    assert len(set(found.group)) == 3
    for market in range(3):
        assert len({found.group[place] for place in np.flatnonzero(of == market)}) == 1
    places = np.column_stack([found.x, found.y])
    middles = np.array([places[of == market].mean(axis=0) for market in range(3)])
    nearest = np.linalg.norm(places[:, None] - middles[None], axis=2).argmin(axis=1)
    assert (nearest == of).all()


@EXAMPLES
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.floats(-1, 1)), max_size=25))
def test_groups_are_never_worse_than_none(found: Sequence[tuple[int, int, float]]) -> None:
    """Every symbol with a positive edge has a group, others have none; and modularity is that of single symbols at least."""
    edges = {(min(a, b), max(a, b)): r for a, b, r in found if a != b}
    a, b = (np.array([pair[end] for pair in edges], np.int64) for end in (0, 1))
    r = np.array(list(edges.values()), float)
    groups = groups_of(names_of(10), a, b, r)
    bound = {end for pair, strength in edges.items() if strength > 0 for end in pair}
    assert [group is not None for group in groups] == [place in bound for place in range(10)]
    if bound:
        alone: list[str | None] = list(names_of(10))
        assert modularity(groups, edges) >= modularity(alone, edges) - 1e-6


def modularity(groups: Sequence[str | None], edges: dict[tuple[int, int], float]) -> float:
    """Newman and Girvan's, of the positive edges."""
    weights = np.zeros((len(groups), len(groups)))
    for (a, b), r in edges.items():
        weights[a, b] = weights[b, a] = max(r, 0.0)
    strengths = weights.sum(axis=1)
    together = np.array([[one is not None and one == other for other in groups] for one in groups])
    return float(((weights - np.outer(strengths, strengths) / weights.sum()) * together).sum() / weights.sum())


def test_places_keep_distances_that_fit_a_plane() -> None:
    """Points whose distances are known: scaling gives them back, whatever way they are turned."""
    rng = np.random.default_rng(5)
    points = rng.normal(0, 0.3, (50, 2))
    squared = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    x, y = layout_of(names_of(50), 1 - squared / 2)
    found = (x[:, None] - x[None]) ** 2 + (y[:, None] - y[None]) ** 2
    assert np.allclose(found, squared, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_windows_that_follow_each_other_look_alike(seed: int) -> None:
    """A candle further nothing is turned or mirrored, where no two directions are as strong: symbols move by a tenth of their distances."""
    rng = np.random.default_rng(seed)
    betas = rng.uniform(-1, 1, (80, 3)) * (1.5, 1.0, 0.6)
    closes = np.exp((betas @ rng.normal(0, 0.01, (3, 160)) + rng.normal(0, 0.004, (80, 160))).cumsum(axis=1))
    found = [graph(names_of(80), closes[:, begin : begin + 120], Rule()) for begin in range(40)]
    for one, other in pairwise(found):
        moved = np.hypot(one.x - other.x, one.y - other.y)
        apart = np.hypot(one.x - one.x.mean(), one.y - one.y.mean())
        assert np.median(moved) < 0.1 * np.median(apart)


@pytest.mark.parametrize(("least", "most"), [(-0.1, 5), (1.1, 5), (float("nan"), 5), (0.5, 0), (0.5, 51)])
def test_a_rule_out_of_its_bounds_is_refused(least: float, most: int) -> None:
    """With what was expected and what came."""
    with pytest.raises(ConfigError, match="expected"):
        Rule(least, most)


def test_more_than_can_be_held_is_refused() -> None:
    """Too many symbols, too many candles."""
    for shape in ((2001, 2), (2, 1001)):
        with pytest.raises(ConfigError, match="choose fewer"):
            graph(names_of(shape[0]), np.ones(shape), Rule())
