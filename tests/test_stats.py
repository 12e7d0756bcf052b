"""Statistics: quantiles from a printed table, an interval worked by hand, and coverage in crossed random designs."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from selfaware import stats
from selfaware.types import Estimate

Table = list[dict[str, float | None]]

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


def simulated(effect: float, spread: tuple[float, float, float], runs: int = 2500) -> list[Estimate]:
    rng = np.random.default_rng(20240607)
    return [stats.estimate(crossed(rng, effect, spread), "nats") for _ in range(runs)]


def covered(estimates: Sequence[Estimate], truth: float) -> float:
    return float(np.mean([e.low <= truth <= e.high for e in estimates if e.low is not None and e.high is not None]))


def est(low: float | None, high: float | None, n: int = 12, why: str = "") -> Estimate:
    value = None if low is None or high is None else (low + high) / 2
    return Estimate(value, low, high, n, 3, "nats", why=why)


QUIET = [("random vectors", est(-0.1, 0.1)), ("unrelated fine-tune", est(-0.2, 0.05))]


# quantiles ------------------------------------------------------------------------------------------------------------


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


# coverage -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", [0.0, 0.7])
@pytest.mark.parametrize("spread", [(0.4, 0.05, 0.1), (0.1, 0.5, 0.2), (0.3, 0.9, 0.3), (0.0, 0.0, 0.5)])
def test_interval_covers_the_truth(effect: float, spread: tuple[float, float, float]) -> None:
    assert covered(simulated(effect, spread), effect) >= 0.92


@pytest.mark.parametrize("effect", [0.0, 0.7])
def test_a_standard_error_too_small_by_a_third_is_noticed(effect: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above has teeth: where seeds carry the spread it fails once the standard error is 0.7 of what it is."""
    honest = stats.standard_error
    monkeypatch.setattr(stats, "standard_error", lambda v: (0.7 * honest(v)[0], honest(v)[1]))
    assert covered(simulated(effect, (0.4, 0.05, 0.1)), effect) < 0.92


@pytest.mark.parametrize("wrong", ["cells", "families"])
def test_counting_only_cells_or_families_would_not_cover(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def cells(v: np.ndarray) -> tuple[float, int]:
        return float(v.std(ddof=1)) / math.sqrt(v.size), v.size - 1

    def families(v: np.ndarray) -> tuple[float, int]:
        return float(v.mean(0).std(ddof=1)) / math.sqrt(v.shape[1]), v.shape[1] - 1

    naive: dict[str, Callable[[np.ndarray], tuple[float, int]]] = {"cells": cells, "families": families}
    monkeypatch.setattr(stats, "standard_error", naive[wrong])
    assert covered(simulated(0.0, (0.4, 0.3, 0.2)), 0.0) < 0.85


def test_without_an_effect_it_is_hardly_ever_found() -> None:
    found = [e.excludes_zero() for e in simulated(0.0, (0.4, 0.05, 0.1))]
    assert 0.02 < np.mean(found) < 0.08


def test_detectable_is_found_four_times_in_five() -> None:
    spread = (0.4, 0.1, 0.2)
    smallest = math.sqrt(np.mean([e.detectable**2 for e in simulated(0.0, spread) if e.detectable is not None]))
    found = float(np.mean([e.low is not None and e.low > 0 for e in simulated(smallest, spread)]))
    assert 0.70 < found < 0.90


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


@pytest.mark.parametrize("margin", [0.0, 0.1])
@pytest.mark.parametrize("controls", [[], QUIET, [("random vectors", est(-2.0, -1.0))]])
def test_nothing_happened_is_never_a_yes(margin: float, controls: list[tuple[str, Estimate]]) -> None:
    made = stats.estimate(as_dicts(np.zeros((3, 10))), "nats")
    assert stats.verdict(made, controls, margin)[0] == ("no" if margin else "unclear")


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


# verdicts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("effect", "controls", "answer", "reason"),
    [
        (est(0.3, 0.9), QUIET, "yes", "beyond zero and every control"),
        (est(0.06, 0.9), [("random vectors", est(-0.1, 0.05))], "yes", "beyond zero and every control"),
        (est(0.3, 0.9), [("random vectors", est(-3.0, -2.0))], "yes", "beyond zero and every control"),
        (est(-0.05, 0.05), QUIET, "no", "inside ±0.1 nats"),
        (est(0.02, 0.03), QUIET, "no", "inside ±0.1 nats"),
        (est(-0.03, -0.02), QUIET, "no", "inside ±0.1 nats"),
        (est(0.02, 0.03), [], "no", "inside ±0.1 nats"),
        (est(-0.9, -0.3), QUIET, "unclear", "it moves against the training"),
        (est(-0.9, -0.05), QUIET, "unclear", "it moves against the training"),
        (est(-0.2, 0.9), QUIET, "unclear", "the interval holds zero and reaches past the margin"),
        (est(0.0, 0.9), QUIET, "unclear", "the interval holds zero and reaches past the margin"),
        (est(-0.2, 0.9, n=9), QUIET, "unclear", "too few families"),
        (est(0.3, 0.9), [], "unclear", "no control was run"),
        (est(0.3, 0.9), [*QUIET, ("shuffled labels", est(0.0, 0.3))], "unclear", "controls move too: not beyond the interval of shuffled labels"),
        (est(0.04, 0.9), QUIET, "unclear", "controls move too: not beyond the interval of random vectors, unrelated fine-tune"),
        (est(0.3, 0.9), [*QUIET, ("shuffled labels", est(None, None))], "unclear", "no interval for shuffled labels"),
        (est(None, None), QUIET, "unclear", "undefined"),
        (est(None, None, why="no fit came back"), QUIET, "unclear", "no fit came back"),
        (Estimate(0.5, None, None, 12, 1, "nats", why="one seed"), QUIET, "unclear", "one seed"),
        (Estimate(0.5, None, None, 12, 1, "nats"), QUIET, "unclear", "no interval"),
        (est(math.nan, math.nan), QUIET, "unclear", "its interval is not finite"),
        (est(0.3, math.inf), QUIET, "unclear", "its interval is not finite"),
        (est(0.3, 0.9), [("random vectors", est(math.nan, math.nan))], "unclear", "no interval for random vectors"),
    ],
)  # fmt: skip
def test_verdict(effect: Estimate, controls: list[tuple[str, Estimate]], answer: str, reason: str) -> None:
    assert stats.verdict(effect, controls, 0.1) == (answer, reason)


@pytest.mark.parametrize("margin", [math.nan, -0.1, math.inf])
def test_a_margin_that_bounds_nothing_gives_no_verdict(margin: float) -> None:
    answer, reason = stats.verdict(est(0.3, 0.9), QUIET, margin)
    assert answer == "unclear"
    assert "margin" in reason


def test_an_effect_that_ends_at_the_margin_is_not_inside_it() -> None:
    assert stats.verdict(est(-0.1, 0.1), QUIET, 0.1)[0] == "unclear"


def test_significant_but_tiny_is_a_no() -> None:
    effect = stats.estimate(crossed(np.random.default_rng(2), 0.03, (0.001, 0.001, 0.001)), "nats")
    assert effect.excludes_zero()
    assert stats.verdict(effect, QUIET, 0.1)[0] == "no"


def test_a_real_effect_is_a_yes_from_raw_tables() -> None:
    rng = np.random.default_rng(3)
    effect = stats.estimate(crossed(rng, 1.0, (0.05, 0.2, 0.1)), "nats")
    random = stats.estimate(crossed(rng, 0.0, (0.02, 0.05, 0.05), s=15), "nats", single=True)
    assert stats.verdict(effect, [("random vectors", random)], 0.1)[0] == "yes"


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (est(-0.5, 1.0), "+0.25 [−0.50, +1.00]"),
        (est(None, None, why="no fit came back"), "undefined (no fit came back)"),
        (Estimate(-0.5, None, None, 12, 1, "nats", why="one-seed run"), "−0.50 (no interval: one-seed run)"),
    ],
)
def test_spoken(estimate: Estimate, text: str) -> None:
    assert stats.spoken(estimate) == text
