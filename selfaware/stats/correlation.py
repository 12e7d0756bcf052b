"""Correlation over runs, within groups, with its interval. Knows pairs of numbers; must not know what they are."""

import math
from collections.abc import Sequence

import numpy as np

from selfaware.types import Estimate

Z = 1.959963984540054
LEAST = 4
"""Pairs that a group needs: Fisher's z has a variance from four on."""


def correlation(groups: Sequence[Sequence[tuple[float, float]]], unit: str = "r") -> Estimate:
    """Pearson's r within groups, with Fisher's 95 % interval.

    Each group's r becomes z = artanh r, with variance 1/(n − 3); the groups' z are averaged with weights n − 3. So a
    difference between the groups' means, which alone would give a high r over all pairs, counts for nothing.

    Args:
        groups: pairs (x, y) of each group, one a run. A group of fewer than four pairs, or in which x or y is the same
            throughout, is left out.

    Source: Fisher 1921, Metron 1; Hedges and Olkin 1985, chapter 11 (pooling).
    """
    parts: list[tuple[float, int]] = []
    for pairs in groups:
        array = np.array([p for p in pairs if math.isfinite(p[0]) and math.isfinite(p[1])], dtype=np.float64)
        if len(array) >= LEAST and (array.std(0) > 0).all():
            parts.append((float(np.corrcoef(array[:, 0], array[:, 1]).ravel()[1]), len(array)))
    pairs_used = sum(n for _, n in parts)
    if not parts:
        return Estimate(None, None, None, 0, 0, unit, why=f"no group has {LEAST} runs that differ")
    weights = [n - 3 for _, n in parts]
    z: float = sum(w * math.atanh(max(-1 + 1e-12, min(1 - 1e-12, r))) for w, (r, _) in zip(weights, parts, strict=True))
    z, error = z / sum(weights), 1 / math.sqrt(sum(weights))
    return Estimate(
        math.tanh(z), math.tanh(z - Z * error), math.tanh(z + Z * error), len(parts), pairs_used, unit,
        detectable=math.tanh((Z + 0.8416) * error),
    )  # fmt: skip
