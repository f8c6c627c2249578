"""The model card: what a model is, what it was made from, how good it was beside knowing nothing, and what it is not good for. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from klinestream.models.inputs import input_names
from klinestream.models.model import Header
from klinestream.models.storage import Stored

_SYMBOLS_SHOWN = 20
_FORECASTERS = {
    "model": "the model",
    "zero": "no return, majority sign",
    "last_return": "last return again",
    "momentum": "momentum (five horizons)",
}

_WHAT = {
    "linear": "ridge regression of the return and ridge logistic regression of its sign",
    "boosting": "gradient-boosted trees (LightGBM), one booster for the return and one for its sign",
    "graph": "a graph neural network of two layers, in which each symbol hears its most correlated ones",
}


def write(stored: Stored, measured: Mapping[str, Any]) -> str:
    """The card of a trained model and its walk-forward evaluation (`Evaluation.plain`)."""
    header = stored.header
    parts = [
        f"# {header.kind}, {header.task.horizon} ahead of {header.task.interval} candles\n",
        f"Model `{stored.id}`: {_WHAT[header.kind]}. From one closed candle's indicators it says how large the log return of the close "
        f"over the next {header.task.horizon} will be, and with what probability it is above zero rather than below.\n",
        "## Verdict\n",
        verdict(measured) + "\n",
        "## How good it was\n",
        _walk(measured),
        scores_table(measured["scores"]),
        _legend(measured),
        "### By fold\n",
        _folds_table(measured),
        "## What it was made from\n",
        _made_from(header),
        "## What it is not good for\n",
        _limits(header, measured),
    ]
    return "\n".join(parts) + "\n"


def verdict(measured: Mapping[str, Any]) -> str:
    """What the numbers say, in plain words."""
    spans = measured["intervals"]
    low, high = spans["r_squared"]
    gain = spans["brier_gain"]
    numbers = f"R² {_percent(low)} to {_percent(high)}; gain in the Brier score {gain[0]:+.5f} to {gain[1]:+.5f}; each with 95 % confidence"
    if not measured["skill_shown"]:
        return f"**No skill is shown.** It can't be told from forecasting nothing ({numbers}). Don't act on its forecasts."
    net = spans["net_bps"]
    costs = f"{measured['cost_bps']:g} bp for buying and selling"
    if measured["pays_after_costs"]:
        return (
            f"**Some skill is shown** ({numbers}), and following every forecast would have gained {net[0]:+.1f} to {net[1]:+.1f} bp after "
            f"{costs}. A single history shows no more than that it was so once."
        )
    return (
        f"**Some skill is shown** ({numbers}), **but it doesn't pay for its costs**: following every forecast would have gained "
        f"{net[0]:+.1f} to {net[1]:+.1f} bp after {costs}."
    )


def scores_table(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Forecasters beside each other."""
    rows = [
        f"| {_FORECASTERS[name]} | {100 * one['accuracy']:.2f} % | {one['brier']:.5f} | {_percent(one['r_squared'])} "
        f"| {one['gross_bps']:+.2f} | {one['net_bps']:+.2f} |"
        for name, one in scores.items()
    ]
    return "\n".join(["| forecaster | sign right | Brier | R² | gross bp | net bp |", "|---|---|---|---|---|---|", *rows, ""])


def _walk(measured: Mapping[str, Any]) -> str:
    folds = measured["folds"]
    return (
        f"Walk-forward: {len(folds)} folds, {measured['tested_rows']:,} forecasts. For each fold a model of the same settings was trained "
        "on what came before, less the rows whose labels reach into the test; it never saw a row of the test or after it.\n"
    )


def _legend(measured: Mapping[str, Any]) -> str:
    return (
        f"Sign right: share of forecasts with the right sign. Brier: mean squared error of the probability; less is better. Both of "
        f"rows whose return isn't exactly zero, {measured['moved_rows']:,} of them. R²: against the forecast zero; above 0 is better. "
        f"Bp: mean return in 1/10,000 of going with each forecast's sign, before and after costs of {measured['cost_bps']:g} bp for "
        "buying and selling once; spread, slippage and what one's own orders move are not in it. "
        "Intervals are of a block bootstrap over time, blocks of two horizons or more, all symbols of a time together.\n"
    )


def _folds_table(measured: Mapping[str, Any]) -> str:
    lines = ["| test | trained rows | tested rows | forecaster | sign right | Brier | R² | net bp |", "|---|---|---|---|---|---|---|---|"]
    for fold in measured["folds"]:
        span = f"{_time(fold['from_ms'])} to {_time(fold['to_ms'])} | {fold['trained_rows']:,} | {fold['tested_rows']:,}"
        for name, one in fold["scores"].items():
            lines.append(
                f"| {span} | {_FORECASTERS[name]} | {100 * one['accuracy']:.2f} % | {one['brier']:.5f} "
                f"| {_percent(one['r_squared'])} | {one['net_bps']:+.2f} |"
            )
    return "\n".join([*lines, ""])


def _made_from(header: Header) -> str:
    names = header.symbols
    shown = ", ".join(names[:_SYMBOLS_SHOWN]) + (f" and {len(names) - _SYMBOLS_SHOWN:,} more" if len(names) > _SYMBOLS_SHOWN else "")
    lines = {
        "candles": f"{header.task.interval}, closed, closes from {_time(header.trained_from_ms)} to {_time(header.trained_to_ms)} (UTC)",
        "symbols": f"{len(names):,}: {shown}",
        "rows": f"{header.rows:,}, whose indicators are ready and whose horizon is there",
        "data": f"`{header.data}` (digest of inputs and labels)",
        "features": header.features or "made by hand",
        "inputs": ", ".join(f"`{name}`" for name in input_names(header.task.indicators)),
        "settings": ", ".join(f"{name} {value}" for name, value in header.settings.items()),
        "fingerprint": f"`{header.fingerprint}` (kind, task, symbols, settings, definitions of the indicators)",
        "made with": ", ".join(f"{name} {version}" for name, version in header.versions.items()),
    }
    return "\n".join([f"- {name}: {value}" for name, value in lines.items()] + [""])


def _limits(header: Header, measured: Mapping[str, Any]) -> str:
    points = [
        "Advice, or trading without a person who knows what the table above means.",
        "Other intervals or horizons, and markets in other times than the one it was trained on: it knows one history.",
        "Symbols with hardly any trades: their returns are often exactly zero, and can't be had.",
        "Choosing among many models by these numbers: the best of twenty without skill looks as if it had some.",
        "A comparison of gross and net with a real account: fills at the close, without a spread, are nobody's.",
    ]
    if header.kind == "graph":
        points.append("Symbols other than its own; and it is silent for a symbol while one in its reach is missing.")
    if not measured["skill_shown"]:
        points.insert(0, "Forecasting: see the verdict.")
    return "\n".join(f"- {point}" for point in points)


def _percent(share: float) -> str:
    return f"{100 * share:+.3f} %"


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
