"""Claims about size, correlation and profiles: each answer can come out yes, no and unclear; truth that was planted is found."""

import math

import numpy as np
import pytest

from selfaware import stats
from selfaware.errors import BadData
from selfaware.types import Estimate


def est(low: float | None, high: float | None) -> Estimate:
    value = None if low is None or high is None else (low + high) / 2
    return Estimate(value, low, high, 20, 3, "ratio", why="" if value is not None else "undefined: no denominator")


@pytest.mark.parametrize(
    ("rule", "low", "high", "answer"),
    [
        (stats.at_least, 0.8, 1.1, "yes"),
        (stats.at_least, 0.1, 0.7, "no"),
        (stats.at_least, 0.5, 1.0, "unclear"),
        (stats.at_most, 0.1, 0.8, "yes"),
        (stats.at_most, 0.9, 1.0, "no"),
        (stats.at_most, 0.5, 1.0, "unclear"),
        (stats.inside, -0.5, 0.8, "yes"),
        (stats.inside, 0.9, 1.0, "no"),
        (stats.inside, -2.0, -0.9, "no"),
        (stats.inside, -0.9, 0.1, "unclear"),
        (stats.inside, None, None, "unclear"),
        (stats.at_least, -math.inf, math.inf, "unclear"),
    ],
)
def test_answers(rule, low, high, answer) -> None:
    said, why = rule(est(low, high), 0.8)
    assert said == answer
    assert why


def test_all_of() -> None:
    assert stats.all_of([("yes", "a"), ("no", "b"), ("unclear", "c")]) == ("no", "b")
    assert stats.all_of([("yes", "a"), ("unclear", "c"), ("unclear", "c")]) == ("unclear", "c")
    assert stats.all_of([("yes", "a"), ("yes", "b")]) == ("yes", "a; b")
    assert stats.all_of([])[0] == "unclear"


def test_correlation_within_groups_ignores_the_gap_between_them() -> None:
    rng = np.random.default_rng(0)
    apart = [[(m + a, m + b) for a, b in rng.normal(size=(40, 2))] for m in (0.0, 50.0)]
    found = stats.correlation(apart)
    assert found.low < 0 < found.high
    assert found.seeds == 80
    noise = rng.normal(size=(40, 2))
    related = [[(float(a), float(a + 0.3 * b)) for a, b in noise]]
    assert stats.correlation(related).low > 0.8
    assert stats.correlation([[(x, -y) for x, y in related[0]]]).high < -0.8


def test_correlation_interval_covers() -> None:
    rng, rho, hits = np.random.default_rng(1), 0.6, 0
    for _ in range(400):
        groups = []
        for n in (8, 12):
            x = rng.normal(size=n)
            y = rho * x + math.sqrt(1 - rho**2) * rng.normal(size=n)
            groups.append(list(zip(x.tolist(), y.tolist(), strict=True)))
        found = stats.correlation(groups)
        hits += found.low <= rho <= found.high
    assert 0.92 <= hits / 400 <= 0.98


@pytest.mark.parametrize("groups", [[], [[(1.0, 2.0)] * 3], [[(1.0, float(i)) for i in range(9)]]])
def test_too_little_to_correlate(groups) -> None:
    found = stats.correlation(groups)
    assert found.value is None
    assert found.why


def shifts(center: float, size: float, noise: float, seed: int, questions: int = 30) -> np.ndarray:
    rng = np.random.default_rng(seed)
    layers, doses = np.arange(12.0), np.linspace(0, 1, 5)
    bump = np.exp(-((layers - center) ** 2) / 6)[:, None] * doses
    return size * bump[None] + noise * size * rng.normal(size=(questions, 12, 5))


def test_the_same_place_is_found_whatever_the_size() -> None:
    found = stats.alike(shifts(6, 1.0, 0.1, 0), shifts(6, 8.0, 0.1, 1))
    assert found.answer(0.25)[0] == "yes"


def test_another_place_is_found() -> None:
    found = stats.alike(shifts(4, 1.0, 0.3, 0), shifts(8, 1.0, 0.3, 1))
    assert found.p < 0.01
    assert found.answer(0.25)[0] == "no"


def test_noise_decides_nothing() -> None:
    assert stats.alike(shifts(6, 1.0, 4.0, 0), shifts(6, 1.0, 4.0, 1)).answer(0.25)[0] == "unclear"


def test_the_test_holds_its_level() -> None:
    ps = [stats.alike(shifts(6, 1.0, 1.0, 2 * s), shifts(6, 1.0, 1.0, 2 * s + 1), draws=99).p for s in range(100)]
    assert sum(p <= 0.05 for p in ps) <= 12


def test_a_profile_without_a_peak_is_unclear() -> None:
    assert stats.alike(shifts(6, 1.0, 0.1, 0), -shifts(6, 1.0, 0.0, 0) - 1).answer(0.25)[0] == "unclear"


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(BadData, match="same layers"):
        stats.alike(np.ones((3, 2, 2)), np.ones((3, 3, 2)))
    with pytest.raises(BadData, match="not finite"):
        stats.alike(np.full((3, 2, 2), np.nan), np.ones((3, 2, 2)))


def test_onset() -> None:
    assert stats.onset(np.array([0.0, 0.0, 1.0, 2.0])) == 2.0
    assert stats.onset(np.array([0.0, 0.0, 2.0])) == 1.5
    assert math.isnan(stats.onset(np.zeros(3)))
    assert stats.onset(np.array([2.0, 1.0])) == 0.0
