"""The training of the kind `graph`: the same network as `graph.Graph`, in JAX, on the processor, with fixed seeds."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from klinestream.market.decimals import Floats, Ints
from klinestream.market.errors import ConfigError


def fit(inputs: Floats, labels: Floats, known: npt.NDArray[np.bool_], near: Ints, settings: Mapping[str, Any]) -> dict[str, Floats]:
    """Weights by Adam over batches of moments: inputs (moments, symbols, inputs) and labels (moments, symbols) in their scale.

    Only where `known` is true a label is looked at. Raises ConfigError without JAX.
    """
    jax, optax = _libraries()
    moments = np.flatnonzero(known.any(axis=1))
    x, y = inputs[moments].astype(np.float32), np.where(known, np.nan_to_num(labels), 0.0)[moments].astype(np.float32)
    counted = known[moments].astype(np.float32)
    made = np.random.default_rng(settings["seed"])
    weights = _initial(made, inputs.shape[2], int(settings["width"]), int(settings["layers"]))
    optimiser = optax.adamw(settings["rate"], weight_decay=settings["decay"])
    state = optimiser.init(weights)

    def one_step(weights: Any, state: Any, *batch: Any) -> Any:
        gradient = jax.grad(_loss)(weights, near, *batch)
        updates, state = optimiser.update(gradient, state, weights)
        return optax.apply_updates(weights, updates), state

    step = jax.jit(one_step)
    size = min(int(settings["moments"]), len(moments))
    for _ in range(int(settings["epochs"])):
        order = made.permutation(len(moments))
        for at in range(0, len(order) - size + 1, size):  # what is left over has its turn in another epoch
            batch = order[at : at + size]
            weights, state = step(weights, state, x[batch], y[batch], counted[batch])
    return {name: np.asarray(value, np.float64) for name, value in weights.items()}


def _initial(made: np.random.Generator, inputs: int, width: int, layers: int) -> dict[str, npt.NDArray[np.float32]]:
    weights = {}
    for layer in range(layers):
        size = inputs if layer == 0 else width
        for part in ("own", "heard"):
            weights[f"{part}_{layer}"] = made.normal(0, np.sqrt(1 / size), (size, width)).astype(np.float32)
        weights[f"bias_{layer}"] = np.zeros(width, np.float32)
    # Begin with the forecast of nothing: no return, even odds.
    return weights | {"own_out": np.zeros((width, 2), np.float32), "bias_out": np.zeros(2, np.float32)}


def _forward(weights: Any, near: Ints, x: Any) -> Any:
    import jax

    held = x
    for layer in range(sum(name.startswith("heard_") for name in weights)):
        heard = held[:, near].mean(axis=2)
        held = jax.nn.relu(held @ weights[f"own_{layer}"] + heard @ weights[f"heard_{layer}"] + weights[f"bias_{layer}"])
    return held @ weights["own_out"] + weights["bias_out"]


def _loss(weights: Any, near: Ints, x: Any, y: Any, counted: Any) -> Any:
    """Squared error of the return in deviations, and log loss of its sign, each row of the batch alike."""
    import jax

    out = _forward(weights, near, x)
    squared = (out[..., 0] - y) ** 2
    # A return of exactly zero is neither up nor down.
    log_loss = (y != 0) * (jax.nn.softplus(out[..., 1]) - (y > 0) * out[..., 1])
    return ((0.5 * squared + log_loss) * counted).sum() / counted.sum()


def _libraries() -> tuple[Any, Any]:
    try:
        import jax
        import optax
    except ImportError:
        raise ConfigError(
            "training a model of the kind graph needs JAX and optax, which aren't installed: `pip install 'klinestream[ml]'`, "
            "or take --kind linear"
        ) from None
    jax.config.update("jax_platforms", "cpu")
    return jax, optax
