"""Student's t: quantiles from a printed table, closed forms, and the tails that p-values need."""

import math

import pytest

from selfaware import stats

# scipy.stats.t.ppf(p, df), to six decimals or seven figures; the same as in printed tables of the distribution.
QUANTILES = [
    (0.975, 1, 12.706205), (0.975, 2, 4.302653), (0.975, 3, 3.182446), (0.975, 4, 2.776445), (0.975, 5, 2.570582),
    (0.975, 6, 2.446912), (0.975, 7, 2.364624), (0.975, 8, 2.306004), (0.975, 9, 2.262157), (0.975, 10, 2.228139),
    (0.975, 15, 2.131450), (0.975, 20, 2.085963), (0.975, 29, 2.045230), (0.975, 30, 2.042272), (0.975, 60, 2.000298),
    (0.975, 120, 1.979930), (0.80, 1, 1.376382), (0.80, 2, 1.060660), (0.80, 3, 0.978472), (0.80, 4, 0.940965),
    (0.80, 9, 0.883404), (0.80, 10, 0.879058), (0.80, 20, 0.859964), (0.80, 30, 0.853767), (0.95, 1, 6.313752),
    (0.95, 2, 2.919986), (0.95, 10, 1.812461), (0.995, 1, 63.656741), (0.995, 2, 9.924843), (0.995, 10, 3.169273),
    (0.9995, 2, 31.599055), (0.9995, 1, 636.619249),
]  # fmt: skip


@pytest.mark.parametrize(("p", "df", "value"), QUANTILES)
def test_quantiles_are_the_tables(p: float, df: int, value: float) -> None:
    assert stats.t_quantile(p, df) == pytest.approx(value, abs=6e-7, rel=1e-7)
    assert stats.t_quantile(1 - p, df) == pytest.approx(-value, abs=6e-7, rel=1e-7)


@pytest.mark.parametrize("p", [0.001, 0.2, 0.5, 0.51, 0.8, 0.975, 0.99999])
def test_quantiles_have_their_closed_forms(p: float) -> None:
    assert stats.t_quantile(p, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)), abs=2e-8, rel=1e-8)
    assert stats.t_quantile(p, 2) == pytest.approx((2 * p - 1) / math.sqrt(2 * p * (1 - p)), abs=2e-8, rel=1e-8)


def test_quantile_becomes_normal_and_is_infinite_without_freedom() -> None:
    assert stats.t_quantile(0.975, 1e6) == pytest.approx(1.959964, abs=1e-5)
    assert stats.t_quantile(0.975, 0) == math.inf


@pytest.mark.parametrize("t", [-1e6, -50.0, -4.302653, -1.0, 0.0, 0.3, 9.0])
def test_probabilities_have_their_closed_forms(t: float) -> None:
    """Lower tails to full relative precision: a p-value of a millionth is not rounded to nothing."""
    one = 0.5 + math.atan(t) / math.pi if t > -10 else math.atan(-1 / t) / math.pi
    two = 1 / (2 + t * t + abs(t) * math.sqrt(2 + t * t))
    assert stats.t_cdf(t, 1) == pytest.approx(one, rel=1e-12)
    assert stats.t_cdf(t, 2) == pytest.approx(1 - two if t > 0 else two, rel=1e-12)


@pytest.mark.parametrize(("p", "df", "value"), QUANTILES)
def test_probability_undoes_the_quantile(p: float, df: int, value: float) -> None:
    assert stats.t_cdf(value, df) == pytest.approx(p, abs=4e-7)
    assert stats.t_cdf(-value, df) == pytest.approx(1 - p, abs=4e-7)


def test_an_infinite_t_leaves_no_tail() -> None:
    assert stats.t_cdf(-math.inf, 2) == 0
    assert stats.t_cdf(math.inf, 2) == 1
