"""Student's t distribution, so that the core needs no scipy. Knows two numbers, and must not know what they are about."""

import math
from functools import lru_cache


@lru_cache(maxsize=1024)
def t_quantile(p: float, df: int | float) -> float:
    """The `p` quantile of Student's t with `df` degrees of freedom, by bisection on its distribution function.

    Infinite without freedom. Checked against scipy's values in the tests.
    """
    if df <= 0:
        return math.inf
    if p < 0.5:
        return -t_quantile(1 - p, df)
    low, high = 0.0, 1.0
    while t_cdf(high, df) < p:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, df) < p else (low, middle)
    return (low + high) / 2


def freedom(p: float, t: float, least: int | float, most: int | float) -> float:
    """The degrees of freedom, not below `least` or above `most`, at which `t` is Student's `p` quantile; p above one half.

    They need not be whole: an interval of two parts with a quantile each has a multiplier between the two.
    """
    low, high = float(least), float(most)
    if t >= t_quantile(p, low):
        return low
    if t <= t_quantile(p, high):
        return high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(t, middle) < p else (low, middle)
    return (low + high) / 2


def t_cdf(t: float, df: int | float) -> float:
    """Probability that Student's t with `df` > 0 degrees of freedom is at most `t`.

    Of full relative precision for negative `t`; ask for the upper tail by the sign, `t_cdf(-t, df)`.
    """
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
