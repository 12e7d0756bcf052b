"""The two-way interval: worked by hand, with cells missing, for one new replicate, of shifts and effects."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from selfaware import stats

Table = list[dict[str, float | None]]

# Worked by hand: 2 seeds × 3 families. Grand mean 3; seed means 2, 4; family means 2, 3, 4.
# SS_seeds = 3·(1 + 1) = 6, MS_s = 6; SS_families = 2·(1 + 0 + 1) = 4, MS_f = 2; what is left:
# row 1: 1−2−2+3 = 0, 1−2−3+3 = −1, 4−2−4+3 = 1; row 2 the opposite; SS_e = 4, MS_e = 4 / 2 = 2.
# Var = (6 + 2 − 2) / 6 = 1, so the standard error is 1, with 1 degree of freedom.
BY_HAND: Table = [{"a": 1.0, "b": 1.0, "c": 4.0}, {"a": 3.0, "b": 5.0, "c": 4.0}]


def crossed(
    rng: np.random.Generator, effect: float, spread: tuple[float, float, float], s: int = 3, f: int = 10
) -> Table:
    """A table with random seeds, random families and noise of those standard deviations."""
    seeds, families, rest = (
        rng.normal(0, sd, shape) for sd, shape in zip(spread, [(s, 1), (1, f), (s, f)], strict=True)
    )
    return as_dicts(effect + seeds + families + rest)


def as_dicts(cells: np.ndarray) -> Table:
    return [{f"f{j:02}": float(v) for j, v in enumerate(row)} for row in cells]


# the interval ---------------------------------------------------------------------------------------------------------


def test_two_way_interval_by_hand() -> None:
    error, df = stats.standard_error(stats.table(BY_HAND)[0])
    assert (error, df) == pytest.approx((1.0, 1))
    made = stats.estimate(BY_HAND, "nats")
    assert made.value == pytest.approx(3)
    assert made.low == pytest.approx(3 - 12.706205, abs=1e-6)
    assert made.high == pytest.approx(3 + 12.706205, abs=1e-6)
    assert made.detectable == pytest.approx(12.706205 + 1.376382, abs=1e-6)
    assert (made.n, made.seeds, made.unknown, made.unit, made.why) == (3, 2, 0, "nats", "")


def test_each_factor_has_its_own_quantile_by_hand() -> None:
    """3 seeds × 2 families, so that seeds have two degrees of freedom and families one."""
    cells = np.array([[-1.0, 3.0], [-1.0, 3.0], [1.0, 7.0]])
    # means of rows 1, 1, 4; of columns −1/3, 13/3; grand 2. MS_s = 2·(1 + 1 + 4)/2 = 6; MS_f = 3·2·(7/3)² = 98/3;
    # left: ±(1/3), ±(1/3), ∓(2/3): squares 2·(1 + 1 + 4)/9 = 4/3 over 2 degrees, MS_e = 2/3.
    ms_s, ms_f, ms_e = 6.0, 98 / 3, 2 / 3
    error, df = stats.standard_error(cells)
    assert error == pytest.approx(math.sqrt((ms_s + ms_f - ms_e) / 6))
    t_s, t_f = 4.302653, 12.706205  # 2 degrees and 1
    half = math.sqrt((t_s**2 * ms_s + t_f**2 * ms_f - t_s**2 * ms_e) / 6)
    assert stats.t_quantile(0.975, df) * error == pytest.approx(half, rel=1e-6)
    assert 1 < df < 2


def test_parts_are_joined_by_their_own_quantiles() -> None:
    error, df = stats.joined([(3.0, 2), (4.0, 9)])
    assert error == pytest.approx(5)
    assert stats.t_quantile(0.975, df) * 5 == pytest.approx(math.hypot(3 * 4.302653, 4 * 2.262157), rel=1e-6)
    assert stats.joined([(3.0, 4), (0.0, 1)]) == pytest.approx((3.0, 4))
    assert stats.joined([(0.0, 4), (0.0, 1)]) == (0.0, 1)


@pytest.mark.parametrize("spread", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0)])
def test_one_factor_alone_is_the_textbook_standard_error(spread: tuple[float, float, float]) -> None:
    """With all the spread in one factor the interval is that factor's own, not that of S × F independent cells."""
    cells = stats.table(crossed(np.random.default_rng(1), 0.0, spread))[0]
    means = cells.mean(1) if spread[0] else cells.mean(0)
    assert stats.standard_error(cells)[0] == pytest.approx(means.std(ddof=1) / math.sqrt(len(means)))


def test_order_of_seeds_and_families_does_not_matter() -> None:
    turned = [dict(reversed(list(row.items()))) for row in reversed(BY_HAND)]
    assert stats.estimate(turned, "nats") == stats.estimate(BY_HAND, "nats")


def test_interval_moves_and_scales_with_the_values() -> None:
    made = stats.estimate(BY_HAND, "nats")
    other = stats.estimate([{k: -2 * v + 7 for k, v in row.items() if v is not None} for row in BY_HAND], "nats")
    assert made.low is not None
    assert other.high == pytest.approx(-2 * made.low + 7)


# missing cells, too little of something -------------------------------------------------------------------------------


@pytest.mark.parametrize("hole", [None, math.nan, math.inf])
def test_a_family_unread_for_one_seed_is_left_out_for_all(hole: float | None) -> None:
    full: Table = [{**BY_HAND[0], "d": 900.0}, {**BY_HAND[1], "d": hole}]
    made = stats.estimate(full, "nats")
    assert made == replace(stats.estimate(BY_HAND, "nats"), unknown=1)


def test_a_family_that_one_seed_never_had_is_left_out_and_counted() -> None:
    rows: Table = [{**BY_HAND[0], "d": 900.0}, BY_HAND[1]]
    assert stats.estimate(rows, "nats") == replace(stats.estimate(BY_HAND, "nats"), unknown=1)


def test_nothing_left_is_undefined_with_a_reason() -> None:
    made = stats.estimate([{"a": 1.0, "b": None}, {"a": None, "b": 2.0}], "nats")
    assert (made.value, made.low, made.high, made.n, made.unknown) == (None, None, None, 0, 2)
    assert made.why == "no family was read for every seed"
    none = stats.estimate([], "nats")
    assert (none.value, none.n, none.seeds, none.why) == (None, 0, 0, "no fit came back")


def test_one_seed_has_a_value_and_no_interval() -> None:
    made = stats.estimate([{"a": 1.0, "b": 3.0}], "nats")
    assert (made.value, made.low, made.high, made.detectable, made.why) == (2, None, None, None, "one seed")


@pytest.mark.parametrize("fitted", [True, False])
def test_one_family_has_a_value_and_no_interval(fitted: bool) -> None:
    made = stats.estimate([{"a": 1.0}, {"a": 2.0}], "nats", fitted=fitted)
    assert (made.value, made.low, made.high, made.detectable, made.why) == (1.5, None, None, None, "too few families")


def test_an_arm_without_seeds_has_the_interval_of_its_families() -> None:
    made = stats.estimate([{"a": 1.0, "b": 2.0, "c": 3.0}], "nats", fitted=False)
    assert made.seeds == 0
    assert made.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-6)
    # rows of an arm without seeds are no replicates
    assert stats.estimate([{"a": 1.0, "b": 2.0, "c": 3.0}] * 9, "nats", fitted=False) == made


# no variance ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, 0.1, -1 / 3])
def test_a_constant_table_has_an_interval_of_no_width(value: float) -> None:
    made = stats.estimate(as_dicts(np.full((3, 10), value)), "nats")
    assert made.low == pytest.approx(value, abs=1e-12)
    assert made.high == pytest.approx(value, abs=1e-12)


# one new replicate ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("s", "f", "spread"), itertools.product([2, 3, 15], [2, 5, 10], [(1, 0.1, 0.1), (0.0, 1, 0.01), (0.3, 0.3, 0.3)])
)
def test_the_interval_of_a_new_replicate_is_wider(s: int, f: int, spread: tuple[float, float, float]) -> None:
    rows = crossed(np.random.default_rng(s * f), 0.5, spread, s, f)
    mean, one = stats.estimate(rows, "nats"), stats.estimate(rows, "nats", single=True)
    assert mean.low is not None
    assert mean.high is not None
    assert one.low is not None
    assert one.high is not None
    assert one.value == mean.value
    assert one.low < mean.low
    assert one.high > mean.high


def test_the_interval_of_a_new_replicate_holds_a_new_replicate() -> None:
    rng = np.random.default_rng(5)
    held = []
    for _ in range(1500):
        cells = stats.table(crossed(rng, 0.0, (0.4, 0.2, 0.2), s=6))[0]
        made = stats.estimate(as_dicts(cells[:5]), "nats", single=True)
        held.append(made.low is not None and made.high is not None and made.low <= cells[5].mean() <= made.high)
    assert np.mean(held) >= 0.92


# shifts and effects ---------------------------------------------------------------------------------------------------


def test_effect_is_half_the_difference_of_the_polarities() -> None:
    assert stats.half_difference([{"a": 3.0, "b": 1.0}], [{"a": -1.0, "b": 2.0}]) == [{"a": 2.0, "b": -0.5}]


def test_unknown_stays_unknown_in_an_effect() -> None:
    up: Table = [{"a": 3.0, "b": None, "c": 1.0}]
    assert stats.half_difference(up, [{"a": None, "b": 1.0, "d": 1.0}]) == [dict.fromkeys("abcd")]


def test_one_base_serves_every_seed() -> None:
    base: Table = [{"a": 1.0, "b": 0.1}]
    arm: Table = [{"a": 2.0, "b": 0.3}, {"a": 4.0, "b": None}]
    assert stats.difference(arm, base) == [{"a": 1.0, "b": pytest.approx(0.2)}, {"a": 3.0, "b": None}]
    assert stats.difference(arm, arm) == [{"a": 0.0, "b": 0.0}, {"a": 0.0, "b": None}]
    assert stats.difference([], base) == []


def test_base_cancels_out_of_the_effect() -> None:
    rng = np.random.default_rng(0)
    up, down = crossed(rng, 1.0, (1, 1, 1)), crossed(rng, -1.0, (1, 1, 1))
    base = crossed(rng, 5.0, (1, 1, 1), s=1)
    shifted = stats.half_difference(stats.difference(up, base), stats.difference(down, base))
    for got, want in zip(shifted, stats.half_difference(up, down), strict=True):
        assert got == pytest.approx(want)


def test_seeds_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        stats.half_difference(BY_HAND, BY_HAND[:1])
