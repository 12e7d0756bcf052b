"""Fieller's interval: by hand, as the inverse of the two-way test, and its coverage in paired simulated tables."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from types import ModuleType

import numpy as np
import pytest

from selfaware import stats
from selfaware.errors import BadData
from selfaware.stats import ratio as ratio_function
from selfaware.types import Estimate

Table = list[dict[str, float | None]]

# Five shapes of spread (seeds, families, rest): in the fourth the rest outweighs both, and the largest of the three
# variances is not the first.
SPREADS = [(0.4, 0.05, 0.1), (0.1, 0.5, 0.2), (0.3, 0.6, 0.3), (0.02, 0.02, 0.5), (0.2, 0.2, 0.0)]


def as_dicts(cells: np.ndarray) -> Table:
    return [{f"f{j:02}": float(v) for j, v in enumerate(row)} for row in cells]


def cells_of(rng: np.random.Generator, spread: tuple[float, float, float], s: int, f: int) -> np.ndarray:
    seeds, families, rest = spread
    return rng.normal(0, seeds, (s, 1)) + rng.normal(0, families, (1, f)) + rng.normal(0, rest, (s, f))


def paired(seed: int, truth: float = 0.5, mean: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Numerator and denominator that share part of their spread."""
    rng = np.random.default_rng(seed)
    s, f = int(rng.integers(2, 6)), int(rng.integers(2, 12))
    shared, one, two = (cells_of(rng, SPREADS[int(rng.integers(5))], s, f) for _ in range(3))
    return truth * (mean + shared) + 0.5 * one, mean + shared + 0.5 * two


def made(above: np.ndarray, below: np.ndarray) -> Estimate:
    return stats.ratio(as_dicts(above), as_dicts(below))


def ends(found: Estimate) -> tuple[float, float, float]:
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    return found.low, found.value, found.high


def remainder(above: np.ndarray, below: np.ndarray, r: float) -> Estimate:
    return stats.estimate(as_dicts(above - r * below), "")


@cache
def defined(count: int) -> list[tuple[int, np.ndarray, np.ndarray]]:
    found = [(seed, *paired(seed)) for seed in range(3 * count)]
    return [(seed, a, b) for seed, a, b in found if made(a, b).value is not None][:count]


# by hand --------------------------------------------------------------------------------------------------------------


def test_the_name_is_the_function_and_not_its_module() -> None:
    assert ratio_function is stats.ratio
    assert callable(stats.ratio)


def test_by_hand_where_seeds_alone_vary() -> None:
    """Families that agree leave one pair a seed, Fieller's own case: pairs (1, 10), (2, 11), (3, 12).

    Means 2 and 11; variances and covariance of the means 1/3 each; t = 4.302653, t²/3 = 6.170941. So the roots of
    (121 − 6.170941) r² − 2 (22 − 6.170941) r + (4 − 6.170941): r = (15.829059 ± √(250.559 + 249.288)) / 114.829059.
    """
    above = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    # two families give one degree of freedom only, so a third that changes nothing
    above = np.hstack([above, above[:, :1]])
    low, value, high = ends(made(above, above + 9))
    assert value == pytest.approx(2 / 11)
    assert low == pytest.approx((15.829059 - math.sqrt(15.829059**2 + 114.829059 * 2.170941)) / 114.829059, abs=1e-6)
    assert high == pytest.approx((15.829059 + math.sqrt(15.829059**2 + 114.829059 * 2.170941)) / 114.829059, abs=1e-6)


def test_over_a_constant_it_is_the_numerator_divided() -> None:
    above = paired(4)[0]
    whole, part = stats.estimate(as_dicts(above), "nats"), made(above, np.full_like(above, -4.0))
    assert whole.low is not None
    assert whole.high is not None
    assert whole.error is not None
    assert whole.detectable is not None
    assert ends(part) == pytest.approx((whole.high / -4, (whole.low + whole.high) / -8, whole.low / -4))
    assert part.error == pytest.approx(whole.error / 4)
    assert part.detectable == pytest.approx(whole.detectable / 4)
    assert (part.n, part.seeds, part.unit) == (whole.n, whole.seeds, "ratio")
    assert part.freedom == pytest.approx(whole.freedom)


def test_of_a_multiple_it_is_a_point() -> None:
    below = paired(2)[1]
    assert ends(made(0.3 * below, below)) == pytest.approx((0.3, 0.3, 0.3), abs=1e-6)


# the inverse of a test ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(60))
def test_it_holds_what_the_two_way_interval_does_not_reject(number: int) -> None:
    _, above, below = defined(60)[number]
    low, value, high = ends(made(above, below))
    width = high - low
    for r in (low, high):
        at = remainder(above, below, r)
        assert at.low is not None
        assert at.high is not None
        assert min(abs(at.low), abs(at.high)) < 1e-9 * (1 + abs(at.high - at.low))
    for r in (low - 0.01 * width, low - width, high + 0.01 * width, high + width, 100.0, -100.0):
        assert remainder(above, below, r).excludes_zero() or low <= r <= high
    assert not any(remainder(above, below, r).excludes_zero() for r in (value, low + 1e-6 * width, high - 1e-6 * width))


@pytest.mark.parametrize("number", range(20))
def test_its_error_and_what_it_can_detect_are_those_of_the_remainder(number: int) -> None:
    _, above, below = defined(20)[number]
    found, size = made(above, below), abs(float(below.mean()))
    assert found.value is not None
    assert found.error is not None
    assert found.detectable is not None
    at_value, at_zero = remainder(above, below, found.value), remainder(above, below, 0.0)
    assert found.error * size == pytest.approx(at_value.error)
    assert found.detectable * size == pytest.approx(at_zero.detectable)
    assert found.freedom == pytest.approx(at_value.freedom)


def test_some_of_these_tables_are_beyond_polarising_the_largest_square() -> None:
    """The choice matters: a covariance polarised from the clamped square gives other ends where the clamp bites."""

    def polarised(above: np.ndarray, below: np.ndarray) -> tuple[float, float]:
        def square(v: np.ndarray) -> float:
            error, df = stats.standard_error(v)
            return (stats.t_quantile(0.975, df) * error) ** 2

        n, d = above.mean(), below.mean()
        cov = (square(above + below) - square(above - below)) / 4
        a, b, c = d * d - square(below), n * d - cov, n * n - square(above)
        root = math.sqrt(max(b * b - a * c, 0.0))
        return (b - root) / a, (b + root) / a

    apart = []
    for _, above, below in defined(60):
        low, _, high = ends(made(above, below))
        apart.append(max(abs(low - polarised(above, below)[0]), abs(high - polarised(above, below)[1])) / (high - low))
    assert sum(gap < 1e-6 for gap in apart) > 3
    assert sum(gap > 0.01 for gap in apart) > 3


def test_zero_lies_in_it_when_it_lies_in_the_numerators() -> None:
    both = set()
    for seed in range(60):
        above, below = paired(seed, truth=0.1)
        found = made(above, below)
        if found.value is not None:
            both.add(found.excludes_zero())
            assert found.excludes_zero() == stats.estimate(as_dicts(above), "").excludes_zero()
    assert both == {True, False}


def test_it_is_undefined_when_the_denominators_interval_holds_zero() -> None:
    both = set()
    for seed in range(120):
        above, below = paired(seed, mean=0.6)
        found = made(above, below)
        both.add(found.value is None)
        assert (found.value is None) == (not stats.estimate(as_dicts(below), "").excludes_zero())
        if found.value is None:
            assert found.why == "undefined: the denominator's interval holds zero"
            assert (found.low, found.high, found.error, found.detectable) == (None, None, None, None)
            assert (found.seeds, found.n) == below.shape
    assert both == {True, False}


@pytest.mark.parametrize("number", range(20))
def test_it_turns_over_scales_and_changes_sign(number: int) -> None:
    _, above, below = defined(20)[number]
    low, value, high = ends(made(above, below))
    assert ends(made(-3 * above, 2 * below)) == pytest.approx((-1.5 * high, -1.5 * value, -1.5 * low))
    assert ends(made(above, -below)) == pytest.approx((-high, -value, -low))
    over = made(below, above)
    if over.value is not None and low > 0:
        assert ends(over) == pytest.approx((1 / high, 1 / value, 1 / low))


# coverage -------------------------------------------------------------------------------------------------------------


def coverage(measure: Callable[[Table, Table], Estimate], runs: int = 1500) -> float:
    rng, held = np.random.default_rng(8), []
    for _ in range(runs):
        shared, one, two = (cells_of(rng, (0.4, 0.05, 0.1), 3, 10) for _ in range(3))
        found = measure(as_dicts(2 + 0.5 * (shared + one)), as_dicts(4 + shared + 0.3 * two))
        held.append(found.low is not None and found.high is not None and found.low <= 0.5 <= found.high)
    return float(np.mean(held))


def test_it_covers_the_truth() -> None:
    assert 0.93 < coverage(stats.ratio) < 0.975


def test_an_interval_too_narrow_by_a_third_would_not() -> None:
    def narrow(above: Table, below: Table) -> Estimate:
        found = stats.ratio(above, below)
        if found.value is None or found.low is None or found.high is None:
            return found
        low, high = (found.value + 0.7 * (end - found.value) for end in (found.low, found.high))
        return replace(found, low=low, high=high)

    assert coverage(narrow) < 0.92


def test_forgetting_that_the_two_are_paired_would_be_seen(study: ModuleType) -> None:
    """Pairs share their spread here; with another study's denominator the interval is wider."""
    rng = np.random.default_rng(3)
    wider = []
    for _ in range(200):
        shared, other = (study.SPREADS["mixed"](rng, 3, 10) for _ in range(2))
        pair, apart = made(2 + shared, 5 + 2 * shared), made(2 + shared, 5 + 2 * other)
        if pair.value is not None and apart.value is not None:
            wider.append(ends(apart)[2] - ends(apart)[0] > ends(pair)[2] - ends(pair)[0])
    assert len(wider) > 50
    assert np.mean(wider) > 0.95


# too little of something ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hole", [None, math.nan, math.inf])
def test_a_family_unread_in_either_is_left_out_of_both(hole: float | None) -> None:
    _, above, below = defined(1)[0]
    one, two = as_dicts(above), as_dicts(below)
    one[0]["extra"], two[0]["extra"] = hole, hole
    for row in (*one[1:], *two[1:]):
        row["extra"] = 900.0
    one[1]["more"] = 1.0
    found = stats.ratio(one, two)
    assert found == replace(made(above, below), unknown=1 + len(above))


def test_one_seed_or_family_has_a_value_and_no_interval() -> None:
    one = stats.ratio([{"a": 1.0, "b": 3.0}], [{"a": 4.0, "b": 4.0}], "share")
    assert (one.value, one.low, one.high, one.error, one.detectable) == (0.5, None, None, None, None)
    assert (one.why, one.unit, one.seeds, one.n) == ("one seed", "share", 1, 2)
    assert stats.ratio([{"a": 1.0}, {"a": 2.0}], [{"a": 2.0}, {"a": 1.0}]).why == "too few families"
    none = stats.ratio([{"a": 1.0, "b": 3.0}], [{"a": 4.0, "b": -4.0}])
    assert (none.value, none.why) == (None, "undefined: the denominator is zero")


def test_nothing_left_is_undefined_with_a_reason() -> None:
    assert stats.ratio([], []).why == "no fit came back"
    empty = stats.ratio([{"a": 1.0}, {"a": 1.0}], [{"a": 1.0}, {"a": None}])
    assert (empty.value, empty.why, empty.unknown) == (None, "no family was read for every seed", 1)


def test_zero_over_zero_is_undefined() -> None:
    assert made(np.zeros((3, 4)), np.zeros((3, 4))).value is None
    assert ends(made(np.zeros((3, 4)), np.ones((3, 4)))) == (0, 0, 0)


def test_seeds_that_do_not_pair_are_refused() -> None:
    with pytest.raises(BadData, match="2 seeds over 1; both sides need the same seeds"):
        stats.ratio([{"a": 1.0}, {"a": 1.0}], [{"a": 1.0}])


def test_without_seeds_it_holds_what_the_one_way_interval_does_not_reject() -> None:
    """One given adapter: families alone are random, and the ends are where the remainder's interval just holds zero."""
    rng = np.random.default_rng(4)
    below = {f"f{n}": 1.0 + 0.3 * float(rng.normal()) for n in range(12)}
    above = {f: 0.7 * v + 0.1 * float(rng.normal()) for f, v in below.items()}
    found = stats.ratio([above], [below], fitted=False)
    assert found.value == pytest.approx(sum(above.values()) / sum(below.values()))
    assert (found.seeds, found.why) == (0, "")
    assert found.low is not None and found.high is not None
    for end in (found.low, found.high):
        rest = stats.estimate([{f: above[f] - end * below[f] for f in below}], "rest", fitted=False)
        assert rest.low is not None and rest.high is not None
        assert min(abs(rest.low), abs(rest.high)) < 1e-9
    assert stats.ratio([above], [below]).why == "one seed"
    assert stats.ratio([{"a": 1.0}], [{"a": 2.0}], fitted=False).why == "too few families"
    noise = {f: float(rng.normal()) for f in below}
    assert stats.ratio([above], [noise], fitted=False).why.startswith("undefined")


class TestMeanOfRatios:
    def test_of_runs_that_differ_in_size_alone_it_is_each_ones_ratio(self) -> None:
        shape = np.random.default_rng(0).normal(1, 0.3, 12)
        below = np.array([[1.0], [20.0], [3.0]]) * shape
        found = stats.mean_ratio(as_dicts(0.25 * below), as_dicts(below))
        assert ends(found) == pytest.approx((0.25, 0.25, 0.25))

    def test_one_run_that_does_nothing_leaves_no_value(self) -> None:
        rng = np.random.default_rng(1)
        below = np.array([[1.0], [0.0], [1.0]]) + rng.normal(0, 0.1, (3, 12))
        below[1] -= below[1].mean()
        found = stats.mean_ratio(as_dicts(below), as_dicts(below))
        assert found.value is None
        assert "one run or more" in found.why

    def test_the_sign_of_the_denominator_does_not_matter(self) -> None:
        rng = np.random.default_rng(2)
        above, below = rng.normal(1, 0.2, (3, 12)), rng.normal(2, 0.2, (3, 12))
        one, other = (stats.mean_ratio(as_dicts(k * above), as_dicts(k * below)) for k in (1, -1))
        assert ends(one) == pytest.approx(ends(other))

    def test_without_seeds_families_alone_count(self) -> None:
        rng = np.random.default_rng(3)
        below = rng.normal(2, 0.2, (1, 12))
        found = stats.mean_ratio(as_dicts(0.5 * below), as_dicts(below), fitted=False)
        assert (found.seeds, found.value) == (0, pytest.approx(0.5))

    def test_too_little_to_say(self) -> None:
        assert stats.mean_ratio([], []).value is None
        assert stats.mean_ratio(as_dicts(np.ones((3, 1))), as_dicts(np.ones((3, 1)))).value is None
        with pytest.raises(BadData, match="same seeds"):
            stats.mean_ratio(as_dicts(np.ones((2, 3))), as_dicts(np.ones((3, 3))))

    @pytest.mark.parametrize("truth", [0.0, 0.5, 1.0])
    @pytest.mark.parametrize("spread", [0.0, 0.15])
    def test_coverage_over_runs_of_different_sizes(self, truth: float, spread: float) -> None:
        rng, hits, count = np.random.default_rng(4), 0, 0
        for _ in range(300):
            size = np.exp(rng.normal(0, 0.6, (3, 1)))
            below = size * (1 + rng.normal(0, 0.8, (1, 16)) + rng.normal(0, 0.5, (3, 16)))
            own = truth + spread * rng.normal(0, 1, (3, 1))
            above = own * below + size * (0.25 * rng.normal(0, 1, (3, 16)) + 0.1 * rng.normal(0, 1, (1, 16)))
            found = stats.mean_ratio(as_dicts(above), as_dicts(below))
            if found.value is not None:
                low, _, high = ends(found)
                hits += low <= truth <= high
                count += 1
        assert count > 100
        assert hits / count >= 0.93
