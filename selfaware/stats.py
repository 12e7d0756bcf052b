"""Numbers to `Estimate`s: seeds and question families both count as random. Knows no model, no domain, no file."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from selfaware.types import Estimate, Verdict3

LEVEL = 0.95
POWER = 0.80


@lru_cache(maxsize=1024)
def t_quantile(p: float, df: int | float) -> float:
    """The `p` quantile of Student's t with `df` degrees of freedom, by bisection on its distribution function.

    Own code for one function, so that the core needs no scipy; checked against scipy's values in the tests.
    """
    if df <= 0:
        return math.inf
    low, high = -1e9, 1e9
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_cdf(middle, df) < p else (low, middle)
    return (low + high) / 2


def _t_cdf(t: float, df: int | float) -> float:
    tail = 0.5 * _beta(df / (df + t * t), df / 2, 0.5)
    return 1 - tail if t > 0 else tail


def _beta(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta function by Lentz's continued fraction (Abramowitz and Stegun 26.5.8)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    out = d
    for m in range(1, 400):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for k in (even, odd):
            d = 1 / (1 + k * d)
            c = 1 + k / c
            out *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return front * out


def standard_error(values: NDArray[np.float64]) -> tuple[float, int]:
    """Standard error of the grand mean of a seeds × families table, and its degrees of freedom.

    Both factors are random and crossed: with mean squares MS_s (seeds), MS_f (families) and MS_e (rest) of an
    S × F table, Var = (MS_s + MS_f − MS_e) / (S·F), never below either factor's own part. Degrees of freedom: the
    smaller of S − 1 and F − 1. With one seed only families count, and the caller must say so.

    Args:
        values: `[S, F]`, no missing cells.

    Source: two-way random-effects analysis of variance (Cornfield and Tukey 1956).
    """
    s, f = values.shape
    grand = values.mean()
    by_seed, by_family = values.mean(1) - grand, values.mean(0) - grand
    if s == 1 and f == 1:
        return math.nan, 0
    if s == 1:
        return math.sqrt(float((by_family**2).sum()) / (f - 1) / f), f - 1
    if f == 1:
        return math.sqrt(float((by_seed**2).sum()) / (s - 1) / s), s - 1
    ms_s = f * float((by_seed**2).sum()) / (s - 1)
    ms_f = s * float((by_family**2).sum()) / (f - 1)
    rest = values - grand - by_seed[:, None] - by_family[None, :]
    ms_e = float((rest**2).sum()) / ((s - 1) * (f - 1))
    return math.sqrt(max(ms_s + ms_f - ms_e, ms_s, ms_f) / (s * f)), min(s, f) - 1


def table(values: Sequence[dict[str, float | None]]) -> tuple[NDArray[np.float64], int]:
    """The `[S, F]` table of one dict a seed (family to value), and how many of its cells were missing or unread.

    A family that is missing, unread or not a finite number for any seed is left out for all, so that the table stays
    crossed.
    """
    families = sorted(set().union(*values))
    lost = [[not _known(v.get(f)) for v in values] for f in families]
    kept = [f for f, gone in zip(families, lost, strict=True) if not any(gone)]
    cells = np.array([[v[f] for f in kept] for v in values], dtype=np.float64)
    return cells.reshape(len(values), len(kept)), sum(map(sum, lost))


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


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
    f = cells.shape[1]
    if cells.size == 0:
        why = "no family was read for every seed" if values else "no fit came back"
        return Estimate(None, None, None, f, seeds, unit, missing, None, why)
    if not fitted:
        cells = cells.mean(0, keepdims=True)
    s = cells.shape[0]
    mean = float(cells.mean())
    if f == 1:
        return Estimate(mean, None, None, f, seeds, unit, missing, None, "too few families")
    if fitted and s == 1:
        return Estimate(mean, None, None, f, seeds, unit, missing, None, "one seed")
    error, df = standard_error(cells)
    if single and s > 1:
        # The degrees of freedom stay those of the mean: S − 1 alone would make this interval the narrower one where
        # families are fewer than replicates and carry the spread.
        error = math.sqrt(error**2 + float(cells.mean(1).var(ddof=1)))
    half = t_quantile(0.5 + LEVEL / 2, df) * error
    return Estimate(mean, mean - half, mean + half, f, seeds, unit, missing, half + t_quantile(POWER, df) * error)


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


def verdict(effect: Estimate, controls: Sequence[tuple[str, Estimate]], margin: float) -> tuple[Verdict3, str]:
    """The answer to "is there an effect?" with the reason, by the rule of the glossary.

    `no`: the effect's interval lies inside ± `margin` (an effect that small counts as none, even if it is not zero).
    `yes`: it lies above zero and beyond every control's interval. Anything else is `unclear`, and the reason names
    what stood in the way.

    Args:
        effect: in the direction of training, so that a positive value agrees with it.
        controls: names and estimates in the same unit.
        margin: the largest absolute value that still counts as none, in the same unit.
    """
    if effect.value is None:
        return "unclear", effect.why or "undefined"
    if effect.low is None or effect.high is None:
        return "unclear", effect.why or "no interval"
    if not math.isfinite(effect.low) or not math.isfinite(effect.high):
        return "unclear", "its interval is not finite"
    if not math.isfinite(margin) or margin < 0:
        return "unclear", f"the margin is {margin:g}, which bounds nothing"
    if -margin < effect.low and effect.high < margin:
        return "no", f"inside ±{margin:g} {effect.unit}"
    if effect.high < 0:
        return "unclear", "it moves against the training"
    if effect.low <= 0:
        return "unclear", "too few families" if effect.n < 10 else "the interval holds zero and reaches past the margin"
    if not controls:
        return "unclear", "no control was run"
    unread = [name for name, c in controls if not _known(c.low) or not _known(c.high)]
    if unread:
        return "unclear", f"no interval for {', '.join(unread)}"
    beside = [name for name, c in controls if c.high is not None and effect.low <= c.high]
    if beside:
        return "unclear", f"controls move too: not beyond the interval of {', '.join(beside)}"
    return "yes", "beyond zero and every control"


def spoken(estimate: Estimate) -> str:
    """A signed value with its interval, as text."""
    if estimate.value is None:
        return f"undefined ({estimate.why})"
    value = f"{estimate.value:+.2f}".replace("-", "−")
    if estimate.low is None or estimate.high is None:
        return f"{value} (no interval: {estimate.why})"
    return f"{value} [{estimate.low:+.2f}, {estimate.high:+.2f}]".replace("-", "−")
