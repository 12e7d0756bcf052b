"""The largest of several looks: by hand in the plane, its size under a true null, its power for a planted effect."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from selfaware import stats
from selfaware.errors import BadData
from selfaware.stats import looks as module

Table = list[dict[str, float | None]]

SPREADS = {"seeds": (0.4, 0.05, 0.1), "families": (0.1, 0.5, 0.2), "mixed": (0.3, 0.6, 0.3)}


def as_dicts(cells: np.ndarray) -> Table:
    return [{f"f{j:02}": float(v) for j, v in enumerate(row)} for row in cells]


def named(cells: np.ndarray) -> dict[str, Table]:
    """A look for each layer of `[looks, S, F]`."""
    return {f"layer {k}": as_dicts(each) for k, each in enumerate(cells)}


def tables(
    rng: np.random.Generator, spread: tuple[float, float, float], alike: float, looks: int = 10, s: int = 3, f: int = 10
) -> np.ndarray:
    """`[looks, S, F]` without an effect; every part of the spread correlates by `alike` between any two looks."""

    def part(sd: float, *shape: int) -> np.ndarray:
        own, common = rng.normal(0, sd, (looks, *shape)), rng.normal(0, sd, (1, *shape))
        return math.sqrt(1 - alike) * own + math.sqrt(alike) * common

    return part(spread[0], s, 1) + part(spread[1], 1, f) + part(spread[2], s, f)


def corrected(found: stats.Looks) -> list[float]:
    return [look.p for look in found.looks.values() if look.p is not None]


# by hand --------------------------------------------------------------------------------------------------------------


def in_the_plane(*angles: float) -> Mapping[str, Table]:
    """Two seeds, mean 1 ± tan(angle): a line at that angle to the mean's direction, and t = 1 / tan(angle)."""
    return named(np.array([[[1 + math.tan(a)] * 2, [1 - math.tan(a)] * 2] for a in angles]))


@pytest.mark.parametrize(
    ("angles", "first", "second"),
    [
        # A look's cap reaches its own angle to either side of its line: |t| of a direction there is at least its own.
        ((0.1, 0.1), 0.2, 0.2),  # the same line twice costs nothing
        ((0.1, -0.1), 0.4, 0.4),  # caps from −0.2 to 0 and 0 to 0.2 do not overlap: Bonferroni
        ((0.1, 0.15), 0.25, 0.35),  # caps of half-width 0.1: 0 to 0.2 and 0.05 to 0.25; of 0.15: −0.05 to 0.25 and 0 to 0.3
        ((0.1, -0.3), 0.4, 1.0),  # of 0.3: −0.2 to 0.4 and −0.6 to 0
    ],
)  # fmt: skip
def test_two_seeds_by_hand(angles: tuple[float, float], first: float, second: float) -> None:
    found = list(stats.largest(in_the_plane(*angles), draws=40_000).looks.values())
    assert [look.t for look in found] == pytest.approx([1 / abs(math.tan(a)) * 1 for a in angles])
    assert [look.alone for look in found] == pytest.approx([2 * abs(a) / math.pi for a in angles])
    assert [look.p for look in found] == pytest.approx([first / math.pi, second / math.pi], abs=0.006)


@pytest.mark.parametrize("spread", SPREADS.values(), ids=list(SPREADS))
def test_one_look_is_the_interval(spread: tuple[float, float, float]) -> None:
    rng, both = np.random.default_rng(2), set()
    for _ in range(60):
        values = as_dicts(rng.uniform(0, 2) + tables(rng, spread, 0.0, 1)[0])
        look = stats.largest({"only": values}, draws=50).looks["only"]
        alone = stats.estimate(values, "")
        assert look.estimate == alone
        assert alone.value is not None
        assert alone.error is not None
        assert look.t == pytest.approx(alone.value / alone.error)
        assert look.p is not None
        assert look.p == look.alone
        assert (look.p < 0.05) == alone.excludes_zero()
        both.add(alone.excludes_zero())
    assert both == {True, False}


def test_the_null_of_one_look_is_students_t() -> None:
    """Before any bound is put on p: the draws themselves have the right degrees of freedom."""
    for s, f in ((3, 10), (5, 10), (10, 4), (4, 4)):
        cells = tables(np.random.default_rng(s), (0.3, 0.3, 0.3), 0.0, 1, s, f)
        maxima = module._null(cells, 20_000, np.random.default_rng(1))
        for p in (0.5, 0.8, 0.95):
            t = stats.t_quantile(0.5 + p / 2, min(s, f) - 1)
            assert np.mean(maxima <= t) == pytest.approx(p, abs=0.01)


@pytest.mark.parametrize("spread", [(0.4, 0.0, 0.0), (0.0, 0.4, 0.0), (0.3, 0.3, 0.0)])
def test_the_null_of_unrelated_looks_is_wider_whatever_carries_their_spread(spread: tuple[float, float, float]) -> None:
    """Ten lines that families alone spread apart are as many as ten that seeds spread apart."""
    ratios = []
    for seed in range(5):
        cells = tables(np.random.default_rng(seed), spread, 0.0)
        maxima = module._null(cells, 4000, np.random.default_rng(1))
        ratios.append(np.quantile(maxima, 0.95) / stats.t_quantile(0.975, 2))
    assert np.median(ratios) > 1.7


# between once and Bonferroni ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_corrected_lies_between_alone_and_bonferroni(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = stats.largest(named(0.4 + tables(rng, SPREADS["seeds"], 0.5)), draws=300)
    for look in found.looks.values():
        assert look.alone is not None
        assert look.p is not None
        assert look.alone <= look.p <= min(1.0, 10 * look.alone)


def test_looks_that_say_the_same_are_corrected_for_once_and_others_as_many() -> None:
    rng = np.random.default_rng(5)
    one = 1.0 + tables(rng, SPREADS["seeds"], 0.0, 1)
    apart = np.concatenate([one, tables(rng, SPREADS["seeds"], 0.0, 9)])
    same = stats.largest(named(np.repeat(one, 10, axis=0)), draws=20_000)
    other = stats.largest(named(apart), draws=20_000)
    first, second = same.looks["layer 0"], other.looks["layer 0"]
    assert first.alone is not None
    assert second.p is not None
    assert first.p == pytest.approx(first.alone, abs=0.005)
    assert second.p > 3 * first.alone


def test_scale_sign_and_order_of_looks_do_not_matter() -> None:
    cells = 0.3 + tables(np.random.default_rng(6), SPREADS["mixed"], 0.5)
    found = stats.largest(named(cells), draws=500, seed=4)
    factors = np.array([3.0, -1, 0.1, -7, 1, 1, 2, 1, 1, 1])[:, None, None]
    assert corrected(stats.largest(named(factors * cells), draws=500, seed=4)) == pytest.approx(corrected(found))
    turned = stats.largest(dict(reversed(named(cells).items())), draws=500, seed=4)
    assert corrected(turned)[::-1] == pytest.approx(corrected(found))
    assert list(turned.looks) == list(reversed(found.looks))


def test_draws_are_fixed_by_the_seed() -> None:
    looks = named(0.3 + tables(np.random.default_rng(7), SPREADS["seeds"], 0.5))
    assert stats.largest(looks, 200, 1) == stats.largest(looks, 200, 1)
    assert corrected(stats.largest(looks, 200, 1)) != corrected(stats.largest(looks, 200, 2))


# size and power -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alike", [0.0, 0.95])
@pytest.mark.parametrize("spread", SPREADS.values(), ids=list(SPREADS))
def test_a_true_null_is_seldom_rejected(spread: tuple[float, float, float], alike: float) -> None:
    rng = np.random.default_rng(9)
    found = [stats.largest(named(tables(rng, spread, alike)), 200, run) for run in range(200)]
    assert np.mean([f.p is not None and f.p <= 0.05 for f in found]) <= 0.08
    if spread is SPREADS["seeds"] and alike < 0.9:  # the check has teeth: uncorrected, the same looks fail it
        alone = [min(look.alone for look in f.looks.values() if look.alone is not None) for f in found]
        assert np.mean([p <= 0.05 for p in alone]) > 0.2


@pytest.mark.parametrize(
    ("spread", "alike", "effect", "s"), [((0.05, 0.2, 0.1), 0.5, 1.5, 3), ((0.2, 0.05, 0.1), 0.95, 2.0, 3), ((0.1, 0.5, 0.2), 0.5, 1.5, 5)]
)  # fmt: skip
def test_an_effect_in_one_look_is_found_there(
    spread: tuple[float, float, float], alike: float, effect: float, s: int
) -> None:
    rng, hits, others = np.random.default_rng(10), [], []
    for run in range(40):
        cells = tables(rng, spread, alike, s=s)
        cells[6] += effect
        found = stats.largest(named(cells), 400, run)
        hits.append(found.largest == "layer 6" and found.p is not None and found.p < 0.05)
        others.append(any(look.p is not None and look.p < 0.05 for n, look in found.looks.items() if n != "layer 6"))
    assert np.mean(hits) > 0.8
    assert np.mean(others) < 0.1


# too little of something ----------------------------------------------------------------------------------------------


def test_a_family_unread_in_one_look_is_left_out_of_all() -> None:
    cells = 1 + tables(np.random.default_rng(11), SPREADS["mixed"], 0.5, looks=3)
    full = named(cells)
    holes: Mapping[str, Table] = {n: [{**row, "extra": 900.0} for row in values] for n, values in full.items()}
    holes["layer 1"][2]["extra"] = None
    del holes["layer 1"][0]["extra"]
    want, got = stats.largest(full), stats.largest(holes)
    assert corrected(got) == corrected(want)
    assert got.looks["layer 1"].estimate == replace(want.looks["layer 1"].estimate, unknown=2)
    assert got.looks["layer 0"] == want.looks["layer 0"]


@pytest.mark.parametrize(
    ("s", "f", "why"), [(1, 10, "one seed"), (3, 1, "too few families"), (0, 0, "no fit came back")]
)
def test_without_an_interval_there_is_no_p(s: int, f: int, why: str) -> None:
    found = stats.largest(named(np.ones((2, s, f))))
    assert (found.largest, found.p) == (None, None)
    assert [(look.t, look.alone, look.p, look.estimate.why) for look in found.looks.values()] == [
        (None, None, None, why)
    ] * 2


def test_looks_without_spread() -> None:
    rng = np.random.default_rng(12)
    cells = np.stack([np.zeros((3, 10)), np.ones((3, 10)), 0.01 * tables(rng, SPREADS["mixed"], 0, 1)[0]])
    found = stats.largest(named(cells), unit="nats")
    assert found.looks["layer 0"].t == 0
    assert found.looks["layer 0"].p == 1
    assert found.looks["layer 1"].p == pytest.approx(0, abs=1e-12)
    assert found.largest == "layer 1"
    assert found.looks["layer 2"].estimate.unit == "nats"
    assert stats.largest(named(np.zeros((2, 3, 10)))).p == 1


def test_looks_that_do_not_match_are_refused() -> None:
    with pytest.raises(BadData, match="looks with 1 and 3 seeds; every look needs the same seeds"):
        stats.largest({"a": [{"x": 1.0}], "b": [{"x": 1.0}] * 3})
    with pytest.raises(BadData, match="looks with no seeds"):
        stats.largest({})
