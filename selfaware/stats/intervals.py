"""The mean of a seeds × families table with its interval. Knows tables; must not know what was measured.

A table is given as one dict a seed, from family to value, None where a family could not be read.
"""

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from selfaware.stats.quantile import freedom, t_quantile
from selfaware.types import Estimate

Square = TypeVar("Square", float, NDArray[np.float64])

LEVEL = 0.95
POWER = 0.80


def mean_products(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean products of two tables between seeds, between families and for the rest; mean squares where `y` is `x`.

    They are to a covariance what mean squares are to a variance: bilinear, so that the mean squares of x − r·y are
    `mean_products(x, x) − 2·r·mean_products(x, y) + r²·mean_products(y, y)`, part by part.

    Args:
        x: `[S, F]`, S and F at least 2, no missing cells.
        y: `[S, F]`, paired with `x` cell by cell.
    """
    s, f = x.shape
    (seeds_x, families_x, rest_x), (seeds_y, families_y, rest_y) = _parts(x), _parts(y)
    return (
        f * float((seeds_x * seeds_y).sum()) / (s - 1),
        s * float((families_x * families_y).sum()) / (f - 1),
        float((rest_x * rest_y).sum()) / ((s - 1) * (f - 1)),
    )


def _parts(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    grand = values.mean()
    by_seed, by_family = values.mean(1) - grand, values.mean(0) - grand
    return by_seed, by_family, values - grand - by_seed[:, None] - by_family[None, :]


def widest(s: int, f: int, seeds: Square, families: Square, rest: Square) -> tuple[Square, Square, Square]:
    """The three squared half-widths of the interval of an S × F table's mean, times S·F; the largest is the interval's.

    Given mean squares they are numbers; given matrices of mean products they are matrices.
    """
    t_s, t_f = (t_quantile(0.5 + LEVEL / 2, n - 1) ** 2 for n in (s, f))
    return t_s * seeds, t_f * families, t_s * seeds + t_f * families - min(t_s, t_f) * rest


def standard_error(values: NDArray[np.float64]) -> tuple[float, float]:
    """Standard error of the grand mean of a seeds × families table, and the degrees of freedom of its 95 % interval.

    Both factors are random and crossed: with mean squares MS_s (seeds), MS_f (families) and MS_e (rest) of an
    S × F table, Var = (MS_s + MS_f − MS_e) / (S·F), never below either factor's own part. Each mean square has its own
    degrees of freedom and so its own quantile: the interval's half-width h has h² = (t_s² MS_s + t_f² MS_f − t² MS_e) / (S·F),
    t_s and t_f being Student's .975 quantiles with S − 1 and F − 1 degrees of freedom and t the smaller of the two, and is
    never below what either factor gives alone. The degrees of freedom are those, between S − 1 and F − 1 and seldom whole,
    whose quantile times the error is h. With one seed only families count, and the caller must say so.

    Args:
        values: `[S, F]`, no missing cells.

    Source: two-way random-effects analysis of variance (Cornfield and Tukey 1956); quantiles by mean square as in
        modified large-sample limits (Burdick and Graybill 1992, Confidence Intervals on Variance Components).
    """
    s, f = values.shape
    if s == 1 and f == 1:
        return math.nan, 0
    if s == 1 or f == 1:
        n = s * f
        return math.sqrt(float(((values - values.mean()) ** 2).sum()) / (n - 1) / n), n - 1
    ms_s, ms_f, ms_e = mean_products(values, values)
    error = math.sqrt(max(ms_s + ms_f - ms_e, ms_s, ms_f) / (s * f))
    half = math.sqrt(max(widest(s, f, ms_s, ms_f, ms_e)) / (s * f))
    return error, _freedom(half, error, s - 1, f - 1)


def joined(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Standard error and degrees of freedom of a sum of independent estimates: squared half-widths are added.

    Args:
        parts: standard error and degrees of freedom of each.
    """
    error = math.hypot(*(e for e, _ in parts))
    half = math.hypot(*(t_quantile(0.5 + LEVEL / 2, df) * e for e, df in parts if e))
    return error, _freedom(half, error, *(df for _, df in parts))


def _freedom(half: float, error: float, *of: float) -> float:
    return freedom(0.5 + LEVEL / 2, half / error, min(of), max(of)) if error else min(of)


def table(values: Sequence[dict[str, float | None]]) -> tuple[NDArray[np.float64], int]:
    """The `[S, F]` table of one dict a seed (family to value), and how many of its cells were missing or unread.

    A family that is missing, unread or not a finite number for any seed is left out for all, so that the table stays
    crossed.
    """
    cells = grid(values, sorted(set().union(*values)))
    read = np.isfinite(cells)
    return cells[:, read.all(0)], int((~read).sum())


def grid(values: Sequence[dict[str, float | None]], families: Sequence[str]) -> NDArray[np.float64]:
    """The `[S, F]` table of one dict a seed, not finite where a family is missing or unread.

    Args:
        values: one dict for each seed, from family to value.
        families: the columns, in this order.
    """
    cells = np.array([[row.get(f) for f in families] for row in values], dtype=np.float64)  # None becomes NaN
    return cells.reshape(len(values), len(families))


def why_no_interval(seeds: int, families: int) -> str:
    """Why a table of that many fitted seeds and families that were read has no value or no interval; empty if it has.

    Args:
        seeds: independent fits.
        families: families that were read for every seed.
    """
    if not seeds:
        return "no fit came back"
    if not families:
        return "no family was read for every seed"
    return "too few families" if families == 1 else "one seed" if seeds == 1 else ""


def estimate(
    values: Sequence[dict[str, float | None]], unit: str, *, fitted: bool = True, single: bool = False
) -> Estimate:
    """The mean over seeds and families with its 95 % interval.

    Args:
        values: one dict for each seed, from family to that family's mean value, `unit`.
        fitted: False for an arm without seeds (the base model), whose families alone are random.
        single: True for the interval of one *new* replicate rather than of the mean (random vectors: what a single
            one of them may do), wider by the spread between replicates.
    """
    cells, missing = table(values)
    seeds = len(values) if fitted else 0
    s, f = cells.shape
    # An arm without seeds is judged as if it had enough of them: only its families can be too few.
    why = why_no_interval(s if fitted or not s else 2, f)
    if cells.size == 0:
        return Estimate(None, None, None, f, seeds, unit, missing, None, why)
    if not fitted:
        cells = cells.mean(0, keepdims=True)
    mean = float(cells.mean())
    if why:
        return Estimate(mean, None, None, f, seeds, unit, missing, None, why)
    error, df = standard_error(cells)
    if single and cells.shape[0] > 1:
        error, df = joined([(error, df), (float(cells.mean(1).std(ddof=1)), cells.shape[0] - 1)])
    half = t_quantile(0.5 + LEVEL / 2, df) * error
    detectable = half + t_quantile(POWER, df) * error
    return Estimate(mean, mean - half, mean + half, f, seeds, unit, missing, detectable, "", error, df)


def half_difference(
    high: Sequence[dict[str, float | None]], low: Sequence[dict[str, float | None]]
) -> list[dict[str, float | None]]:
    """The effect, (shift of the high arm − shift of the low arm) / 2, for each seed and family; None stays None."""
    out: list[dict[str, float | None]] = []
    for up, down in zip(high, low, strict=True):
        both: dict[str, float | None] = {}
        for family in sorted(set(up) | set(down)):
            a, b = up.get(family), down.get(family)
            both[family] = None if a is None or b is None else (a - b) / 2
        out.append(both)
    return out


def difference(
    first: Sequence[dict[str, float | None]], second: Sequence[dict[str, float | None]]
) -> list[dict[str, float | None]]:
    """first − second for each seed and family; a `second` of one dict (the base model) serves every seed."""
    seconds = list(second) * len(first) if len(second) == 1 else list(second)
    return [{k: 2 * v if v is not None else None for k, v in d.items()} for d in half_difference(first, seconds)]
