"""How often intervals hold the truth, in simulated studies; and that these checks notice a wrong standard error."""

import math
from collections.abc import Callable, Sequence
from types import ModuleType

import numpy as np
import pytest

from selfaware import stats
from selfaware.stats import intervals
from selfaware.types import Estimate

SPREADS = ["seeds", "families", "rest", "mixed", "uneven", "skewed families", "skewed, mixed"]
EFFECTS = [0.0, 0.7]


def simulated(study: ModuleType, effect: float, spread: tuple[float, float, float], runs: int = 2500) -> list[Estimate]:
    rng = np.random.default_rng(20240607)
    draw = study.gaussian(*spread)
    return [stats.estimate(study.as_dicts(effect + draw(rng, 3, 10)), "nats") for _ in range(runs)]


def covered(estimates: Sequence[Estimate], truth: float) -> float:
    return float(np.mean([e.low <= truth <= e.high for e in estimates if e.low is not None and e.high is not None]))


def scaled(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = intervals.standard_error
    monkeypatch.setattr(intervals, "standard_error", lambda v: (factor * honest(v)[0], honest(v)[1]))


def test_the_printed_table_has_these_spreads(study: ModuleType) -> None:
    assert [*SPREADS, "skewed seeds"] == list(study.SPREADS)
    printed = list(study.lines(1))
    assert len(printed) == 2 + len(study.SPREADS) * len(EFFECTS) * len(study.SIZES)
    assert len({line.count("|") for line in printed}) == 1


# coverage -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("spread", SPREADS)
def test_intervals_cover_the_truth(spread: str, effect: float, study: ModuleType) -> None:
    """The mean, both polarities' shifts and the effect, with seeds and families as few as they are in a demo."""
    # Elsewhere coverage is far above what is asked, and fewer runs tell.
    found = study.coverage(spread, effect, 3, 10, runs=1000 if spread == "seeds" else 250)
    assert list(found) == list(study.MEASURES)
    assert min(found.values()) >= 0.92, found


@pytest.mark.parametrize("spread", ["seeds", "families", "mixed"])
def test_intervals_are_no_wider_than_they_must_be(spread: str, study: ModuleType) -> None:
    """Each factor has its own quantile: with the fewest degrees of freedom for both, families alone would cover .999."""
    assert study.coverage(spread, 0.7, 3, 10, runs=600)["effect"] < 0.99


@pytest.mark.parametrize(("s", "f"), [(3, 22), (5, 10)])
@pytest.mark.parametrize("spread", ["seeds", "uneven", "skewed, mixed"])
def test_intervals_cover_the_truth_in_larger_studies(spread: str, s: int, f: int, study: ModuleType) -> None:
    found = study.coverage(spread, 0.7, s, f, runs=250)
    assert min(found.values()) >= 0.92, found


def test_badly_skewed_seeds_are_the_known_limit(study: ModuleType) -> None:
    """Student's t with three values of an exponential: nothing that three seeds hold could mend it."""
    found = study.coverage("skewed seeds", 0.0, 3, 10, runs=800)
    assert 0.86 <= found["mean"] < 0.92


@pytest.mark.parametrize("effect", EFFECTS)
def test_a_standard_error_too_small_by_a_third_is_noticed(
    effect: float, study: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check above has teeth: where seeds carry the spread it fails once the standard error is 0.7 of what it is."""
    scaled(0.7, monkeypatch)
    found = study.coverage("seeds", effect, 3, 10, runs=1600)
    assert found["mean"] < 0.92
    assert found["effect"] < 0.92


def calibration(study: ModuleType, spread: str, s: int, f: int, runs: int = 500) -> float:
    """The mean squared standard error over the variance of the mean, both over the same runs."""
    rng = np.random.default_rng(11)
    draw = study.SPREADS[spread]
    made = [stats.estimate(study.as_dicts(draw(rng, s, f)), "nats") for _ in range(runs)]
    squares = [e.error**2 for e in made if e.error is not None]
    return float(np.mean(squares) / np.mean([e.value**2 for e in made if e.value is not None]))


@pytest.mark.parametrize("spread", [*SPREADS, "skewed seeds"])
def test_the_standard_error_is_the_spread_of_the_mean(
    spread: str, study: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where too few degrees of freedom hide a wrong one: then coverage alone would not notice a third."""
    assert 0.85 < calibration(study, spread, 5, 10) < (2.2 if spread == "rest" else 1.35)
    scaled(0.7, monkeypatch)
    assert calibration(study, spread, 5, 10) < 0.85 or spread == "rest"


@pytest.mark.parametrize("wrong", ["cells", "families"])
def test_counting_only_cells_or_families_would_not_cover(
    wrong: str, study: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cells(v: np.ndarray) -> tuple[float, int]:
        return float(v.std(ddof=1)) / math.sqrt(v.size), v.size - 1

    def families(v: np.ndarray) -> tuple[float, int]:
        return float(v.mean(0).std(ddof=1)) / math.sqrt(v.shape[1]), v.shape[1] - 1

    naive: dict[str, Callable[[np.ndarray], tuple[float, int]]] = {"cells": cells, "families": families}
    monkeypatch.setattr(intervals, "standard_error", naive[wrong])
    assert covered(simulated(study, 0.0, (0.4, 0.3, 0.2)), 0.0) < 0.85


def test_without_an_effect_it_is_hardly_ever_found(study: ModuleType) -> None:
    found = [e.excludes_zero() for e in simulated(study, 0.0, (0.4, 0.05, 0.1))]
    assert 0.02 < np.mean(found) < 0.08


def test_detectable_is_found_four_times_in_five(study: ModuleType) -> None:
    spread = (0.4, 0.1, 0.2)
    sizes = [e.detectable**2 for e in simulated(study, 0.0, spread) if e.detectable is not None]
    smallest = math.sqrt(np.mean(sizes))
    found = float(np.mean([e.low is not None and e.low > 0 for e in simulated(study, smallest, spread)]))
    assert 0.70 < found < 0.90
