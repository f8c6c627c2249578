"""Places in a plane, close where symbols move together: classical scaling of the distances √(2 (1 - r)). Pure and deterministic.

Distance: Mantegna, "Hierarchical structure in financial markets", European Physical Journal B 11, 1999: 0 for series that move as one,
√2 for such that have nothing to do with each other, 2 for opposite ones. Scaling: Torgerson, "Multidimensional scaling: I. Theory and
method", Psychometrika 17, 1952. With these distances the matrix to decompose, -½ J D² J, is J R J: the correlations, centred.

Scaling leaves open how the plane is turned and mirrored. Each symbol has a direction of its own, made from its name, and the plane is
turned and mirrored to where the symbols lie in their directions as much as they can (Schönemann, "A generalized solution of the orthogonal
Procrustes problem", Psychometrika 31, 1966). So pictures of windows that follow each other look alike, and none has to know another;
but now and then one is mirrored, when the second and third axis are about as strong, or the symbols lie in their directions as much one
way as the other.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_BLOCK = 8
_STEPS = 60
"""Of the subspace iteration: axes a tenth weaker than the second are gone to 0.2 % then; and a picture needs no more."""
DECIMALS = 6


def layout_of(symbols: Sequence[str], r: Floats) -> tuple[Floats, Floats]:
    """x and y of each symbol from all correlations; nan for one that has none. What isn't known counts as uncorrelated."""
    places = np.full((len(symbols), 2), np.nan)
    known = np.isfinite(r).any(axis=1)
    if known.sum() > 1:
        centred = _centred(np.nan_to_num(r[np.ix_(known, known)]))
        places[known] = _turned(_scaled(centred), [symbol for symbol, is_known in zip(symbols, known, strict=True) if is_known])
    # A zero without a sign.
    rounded = np.round(places, DECIMALS) + 0.0
    return rounded[:, 0], rounded[:, 1]


def _centred(r: Floats) -> Floats:
    np.fill_diagonal(r, 1.0)
    means = r.mean(axis=1)
    centred: Floats = r - means[:, None] - means[None, :] + means.mean()
    return centred


def _scaled(centred: Floats) -> Floats:
    """The two greatest eigenvectors, each as long as its eigenvalue's root, by subspace iteration: all of them would take seconds."""
    count = len(centred)
    block = np.random.default_rng(0).standard_normal((count, min(_BLOCK, count)))
    for _ in range(_STEPS):
        block, _ = np.linalg.qr(centred @ block)
    values, vectors = np.linalg.eigh(block.T @ centred @ block)
    found = np.zeros((count, 2))
    kept = min(2, len(values))
    found[:, :kept] = (block @ vectors[:, ::-1][:, :kept]) * np.sqrt(np.maximum(values[::-1][:kept], 0.0))
    return found


def _turned(places: Floats, symbols: Sequence[str]) -> Floats:
    angles = np.array([_angle(symbol) for symbol in symbols])
    left, _, right = np.linalg.svd(places.T @ np.column_stack([np.cos(angles), np.sin(angles)]))
    turned: Floats = places @ (left @ right)
    return turned


def _angle(symbol: str) -> float:
    digest = hashlib.blake2b(symbol.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") / 2**32 * 2 * np.pi
