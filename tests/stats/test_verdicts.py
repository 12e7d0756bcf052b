"""Verdicts, equivalence and the text of an estimate: each rule by a case, and against the interval it comes from."""

import math
from dataclasses import replace

import numpy as np
import pytest

from selfaware import stats
from selfaware.types import Estimate

Table = list[dict[str, float | None]]


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


def est(low: float | None, high: float | None, n: int = 12, why: str = "") -> Estimate:
    value = None if low is None or high is None else (low + high) / 2
    return Estimate(value, low, high, n, 3, "nats", why=why)


QUIET = [("random vectors", est(-0.1, 0.1)), ("unrelated fine-tune", est(-0.2, 0.05))]


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


@pytest.mark.parametrize("margin", [0.0, 0.1])
@pytest.mark.parametrize("controls", [[], QUIET, [("random vectors", est(-2.0, -1.0))]])
def test_nothing_happened_is_never_a_yes(margin: float, controls: list[tuple[str, Estimate]]) -> None:
    made = stats.estimate(as_dicts(np.zeros((3, 10))), "nats")
    assert stats.verdict(made, controls, margin)[0] == ("no" if margin else "unclear")


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


@pytest.mark.parametrize("margin", [0.0, 0.1, math.nan])
@pytest.mark.parametrize("effect", [est(0.3, 0.9), est(-0.05, 0.05), est(-0.9, -0.3), est(None, None)])
@pytest.mark.parametrize("controls", [[], QUIET])
def test_a_failed_instrument_answers_nothing(
    effect: Estimate, controls: list[tuple[str, Estimate]], margin: float
) -> None:
    assert stats.verdict(effect, controls, margin, instrument=False) == ("unclear", "instrument")
    assert stats.verdict(effect, controls, margin, instrument=True) == stats.verdict(effect, controls, margin)


# equivalence ----------------------------------------------------------------------------------------------------------


def known(value: float, error: float, df: int) -> Estimate:
    half = stats.t_quantile(0.975, df) * error
    return Estimate(value, value - half, value + half, 12, 3, "nats", error=error, freedom=df)


@pytest.mark.parametrize("sign", [1, -1])
def test_equivalence_by_hand(sign: int) -> None:
    """(0.1 − 0.3) / 0.05 = −4; with 2 degrees of freedom P(T < −4) = 1/2 − 4 / (2 √18)."""
    assert stats.equivalence(known(sign * 0.1, 0.05, 2), 0.3) == pytest.approx(0.5 - 4 / (2 * math.sqrt(18)))
    # at the margin a coin's toss, beyond it worse; with 1 degree of freedom P(T < 1) = 3/4
    assert stats.equivalence(known(sign * 0.3, 0.05, 2), 0.3) == pytest.approx(0.5)
    assert stats.equivalence(known(sign * 0.35, 0.05, 1), 0.3) == pytest.approx(0.75)


def test_an_interval_inside_the_margin_is_a_p_below_025() -> None:
    rng, both = np.random.default_rng(1), set()
    for _ in range(300):
        spread = tuple(rng.uniform(0.01, 0.3, 3))
        effect = stats.estimate(crossed(rng, rng.normal(0, 0.3), spread, *rng.integers(2, 8, 2)), "nats")
        margin = float(rng.uniform(0, 2))
        p = stats.equivalence(effect, margin)
        assert p is not None
        inside = stats.verdict(effect, QUIET, margin)[0] == "no"
        assert (p < 0.025) == inside
        both.add(inside)
    assert both == {True, False}


def test_an_effect_as_large_as_the_margin_seldom_counts_as_none() -> None:
    rng = np.random.default_rng(4)
    for effect in (0.5, -0.5):
        made = [stats.estimate(crossed(rng, effect, (0.1, 0.01, 0.02)), "nats") for _ in range(1500)]
        found = [stats.equivalence(e, 0.5) for e in made]
        assert 0.03 < np.mean([p is not None and p < 0.05 for p in found]) < 0.07


def test_equivalence_of_a_single_replicate_follows_its_wider_interval() -> None:
    rows = crossed(np.random.default_rng(6), 0.0, (0.1, 0.1, 0.1), 5)
    one, mean = (stats.equivalence(stats.estimate(rows, "nats", single=s), 0.5) for s in (True, False))
    assert one is not None
    assert mean is not None
    assert one > mean


@pytest.mark.parametrize(
    ("estimate", "margin"),
    [
        (est(None, None), 0.3),
        (Estimate(0.5, None, None, 12, 1, "nats", why="one seed"), 0.3),
        (est(-0.1, 0.1), 0.3),
        (replace(known(0.1, 0.05, 2), high=math.inf), 0.3),
        (known(0.1, 0.05, 2), math.nan),
        (known(0.1, 0.05, 2), math.inf),
        (known(0.1, 0.05, 2), -0.1),
        # a ratio's interval does not follow from its standard error
        (replace(known(0.1, 0.05, 2), high=0.5), 0.3),
    ],
)
def test_no_equivalence_without_what_it_needs(estimate: Estimate, margin: float) -> None:
    assert stats.equivalence(estimate, margin) is None


def test_a_ratio_has_no_equivalence() -> None:
    rng = np.random.default_rng(7)
    above, below = crossed(rng, 1.0, (0.1, 0.1, 0.1)), crossed(rng, 5.0, (0.3, 0.3, 0.3))
    made = stats.ratio(above, below)
    assert made.low is not None
    assert stats.equivalence(made, 0.5) is None


@pytest.mark.parametrize(("value", "p"), [(0.1, 0.0), (0.5, 1.0), (0.6, 1.0), (-0.6, 1.0), (0.0, 0.0)])
def test_without_spread_the_value_alone_decides(value: float, p: float) -> None:
    assert stats.equivalence(known(value, 0.0, 2), 0.5) == p


# as text --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (est(-0.5, 1.0), "+0.25 [−0.50, +1.00]"),
        (est(None, None, why="no fit came back"), "undefined (no fit came back)"),
        (est(None, None, why="undefined: the denominator is zero"), "undefined: the denominator is zero"),
        (Estimate(-0.5, None, None, 12, 1, "nats", why="one-seed run"), "−0.50 (no interval: one-seed run)"),
    ],
)
def test_spoken(estimate: Estimate, text: str) -> None:
    assert stats.spoken(estimate) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0.1234, "0.12 nats"), (12.345, "12.35 nats"), (0.0, "0.00 nats"), (0.01234, "0.012 nats"),
        (0.00056, "0.00056 nats"), (1.0, "1.00 nats"),
    ],
)  # fmt: skip
def test_what_could_have_been_found(size: float, text: str) -> None:
    made = replace(est(0.1, 0.2), detectable=size)
    assert stats.detectable_text(made) == f"smallest shift this run could have found: {text}"


@pytest.mark.parametrize("size", [None, math.nan, math.inf])
def test_nothing_is_said_where_nothing_is_known(size: float | None) -> None:
    assert stats.detectable_text(replace(est(0.1, 0.2), detectable=size)) == ""
