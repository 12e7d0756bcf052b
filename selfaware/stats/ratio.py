"""One mean over another with Fieller's interval. Knows two paired tables; must not know what they measure."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from selfaware.errors import BadData
from selfaware.stats.intervals import (
    LEVEL,
    POWER,
    estimate,
    grid,
    mean_products,
    standard_error,
    why_no_interval,
    widest,
)
from selfaware.stats.quantile import t_quantile
from selfaware.types import Estimate

Matrix = NDArray[np.float64]


def ratio(
    numerator: Sequence[dict[str, float | None]],
    denominator: Sequence[dict[str, float | None]],
    unit: str = "ratio",
    *,
    fitted: bool = True,
) -> Estimate:
    """The ratio of two means, paired by seed and family, with Fieller's 95 % interval.

    The interval holds every r at which the two-way interval of numerator − r·denominator holds zero, and any gap
    between such r. So it is not symmetric about the value, it excludes zero only where the numerator's own interval
    does, and it covers the truth no less often than the two-way interval. Where the denominator's interval holds
    zero the set is unbounded and there is no value; that judgement is part of the method, so coverage among the
    ratios that are shown can be lower where it is a close call. `error` is the delta method's, for orientation: `low`
    and `high` do not follow from it. `detectable` is that of the numerator over the denominator's mean.

    Args:
        numerator: one dict for each seed, from family to value.
        denominator: the same seeds in the same order; families unread in either are left out of both.
        unit: of the ratio.
        fitted: False for arms without seeds (somebody's adapter and its vector), whose families alone are random.

    Raises:
        BadData: the two have different numbers of seeds.

    Source: Fieller 1954, J. Roy. Stat. Soc. B 16.
    """
    above, below, lost = _paired(numerator, denominator)
    s, f = above.shape
    why = why_no_interval(s if fitted or not s else 2, f)
    s = s if fitted else 0
    if above.size == 0:
        return Estimate(None, None, None, f, s, unit, lost, None, why)
    n, d = float(above.mean()), float(below.mean())
    if why:
        if d == 0:
            return Estimate(None, None, None, f, s, unit, lost, None, "undefined: the denominator is zero")
        return Estimate(n / d, None, None, f, s, unit, lost, None, why)
    parts = _squares(above, below) if fitted else [_families(above, below)]
    if d**2 <= max(float(c[1, 1]) for c in parts):
        return Estimate(None, None, None, f, s, unit, lost, None, "undefined: the denominator's interval holds zero")
    low, high = _accepted(n, d, parts)
    r = n / d
    error, df = _error(above, below, r, fitted)
    alone, own = _error(above, below, 0.0, fitted)
    detectable = (t_quantile(0.5 + LEVEL / 2, own) + t_quantile(POWER, own)) * alone
    return Estimate(r, min(low, r), max(high, r), f, s, unit, lost, detectable, "", error, df)


def mean_ratio(
    numerator: Sequence[dict[str, float | None]],
    denominator: Sequence[dict[str, float | None]],
    unit: str = "ratio",
    *,
    fitted: bool = True,
) -> Estimate:
    """The mean over seeds of each seed's own ratio, with a 95 % interval: for parts of an effect whose size differs from run to run.

    A seed's ratio is linear in its families up to second order (the delta method): cell = r + (numerator − r·denominator) / mean denominator,
    with the seed's own r and mean. The interval is the two-way interval of these cells. There is no value where some seed's
    denominator has an interval over families that holds zero.

    Args:
        numerator, denominator, unit, fitted: as for `ratio`; without `fitted` the seeds are averaged first.

    Raises:
        BadData: the two have different numbers of seeds.
    """
    above, below, lost = _paired(numerator, denominator)
    if not fitted and above.size:
        above, below = above.mean(0, keepdims=True), below.mean(0, keepdims=True)
    s, f = above.shape
    if above.size == 0:
        return Estimate(None, None, None, f, s, unit, lost, None, why_no_interval(s, f))
    if f < 2:
        return Estimate(None, None, None, f, s, unit, lost, None, why_no_interval(max(s, 2), f))
    means = below.mean(1)
    halves = t_quantile(0.5 + LEVEL / 2, f - 1) * below.std(1, ddof=1) / math.sqrt(f)
    if (abs(means) <= halves).any():
        return Estimate(
            None,
            None,
            None,
            f,
            s,
            unit,
            lost,
            None,
            "undefined: in one run or more the denominator's interval holds zero",
        )
    r = above.mean(1) / means
    cells = r[:, None] + (above - r[:, None] * below) / means[:, None]
    names = [str(i) for i in range(f)]
    found = estimate([dict(zip(names, map(float, row), strict=True)) for row in cells], unit, fitted=fitted)
    return replace(found, unknown=lost)


def _paired(
    numerator: Sequence[dict[str, float | None]], denominator: Sequence[dict[str, float | None]]
) -> tuple[Matrix, Matrix, int]:
    """Both tables over the families that were read in both, and how many pairs of cells were not."""
    if len(numerator) != len(denominator):
        raise BadData(
            f"ratio: {len(numerator)} seeds over {len(denominator)}; both sides need the same seeds. "
            "Leave out the seeds that only one side has."
        )
    families = sorted(set().union(*numerator, *denominator))
    above, below = grid(numerator, families), grid(denominator, families)
    read = np.isfinite(above) & np.isfinite(below)
    kept = read.all(0)
    return above[:, kept], below[:, kept], int((~read).sum())


def _squares(above: Matrix, below: Matrix) -> list[Matrix]:
    """The matrices of the two means by each of the three rules whose largest squared half-width counts.

    The interval's squared half-width is the largest of three (see `intervals.widest`). Each alone is a quadratic form and
    has an exact matrix (of mean products); their maximum has none, and polarising it would give an interval that
    disagrees with `estimate` wherever the maximum is not the last. Hence three matrices.
    """
    products = [mean_products(*pair) for pair in ((above, above), (above, below), (below, below))]
    seeds, families, rest = (np.array([[xx, xy], [xy, yy]]) for xx, xy, yy in zip(*products, strict=True))
    s, f = above.shape
    return [c / above.size for c in widest(s, f, seeds, families, rest)]


def _families(above: Matrix, below: Matrix) -> Matrix:
    """The same where families alone are random."""
    t = t_quantile(0.5 + LEVEL / 2, above.shape[1] - 1)
    return np.asarray(t**2 * np.cov(above.mean(0), below.mean(0)) / above.shape[1])


def _error(above: Matrix, below: Matrix, r: float, fitted: bool) -> tuple[float, float]:
    """Standard error of mean(numerator − r·denominator) over the denominator's mean, and its degrees of freedom."""
    left = above - r * below
    error, df = standard_error(left if fitted else left.mean(0, keepdims=True))
    return error / abs(float(below.mean())), df


def _accepted(n: float, d: float, parts: Sequence[Matrix]) -> tuple[float, float]:
    """Lowest and highest r that are not rejected: (n − r·d)² ≤ the largest of the three squared half-widths at r.

    "At most the largest" is "at most any": the accepted set is the union of three Fieller intervals, each the roots
    of a·r² − 2·b·r + c. The first two hold n/d; the third, whose matrix need not be positive, may be empty or lie
    apart, and then the gap is kept in: a wider interval errs on the careful side.
    """
    ends: list[float] = []
    for number, cov in enumerate(parts):
        a, b, c = (float(v - w) for v, w in ((d * d, cov[1, 1]), (n * d, cov[0, 1]), (n * n, cov[0, 0])))
        inside = b * b - a * c
        if inside < 0 and number == 2:
            continue
        root = math.sqrt(max(inside, 0.0))
        ends += [(b - root) / a, (b + root) / a]
    return min(ends), max(ends)
