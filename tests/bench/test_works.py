"""The table of works: entries that can be done, names that differ, a quick form of each."""

from collections import Counter
from pathlib import Path

import pytest

from selfaware.bench.runs import Run, in_words, steps, taken
from selfaware.bench.works import CONTRAST, LAST, MIDDLE, SIX, WORKS, Fits, Grid, Work, named
from selfaware.errors import UnknownName

CONTENDERS = Path(__file__).parents[2] / "benchmarks" / "contenders"


def test_names_are_one_each_and_scripts_exist() -> None:
    assert max(Counter(w.name for w in WORKS).values()) == 1
    assert all((CONTENDERS / c.script).is_file() for w in WORKS for c in w.against)
    assert all(len({c.name for c in w.against}) == len(w.against) > 0 for w in WORKS)


def test_only_fits_have_steps_and_only_single_ones() -> None:
    for work in WORKS:
        assert work.measure == "whole" or (isinstance(work.plan, Fits) and len(work.plan.arms) == 1), work.name


def test_a_name_that_is_none() -> None:
    assert [w.name for w in named(["six fits"])] == ["six fits"]
    assert named([]) == WORKS
    with pytest.raises(UnknownName, match="lora-fit middle"):
        named(["lora-fit midle"])


def test_quick_is_less_of_the_same() -> None:
    for whole, part in zip(WORKS, named([], quick=True), strict=True):
        assert (whole.name, whole.against, whole.measure) == (part.name, part.against, part.measure)
        if isinstance(whole.plan, Fits) and isinstance(part.plan, Fits):
            assert steps(part.plan)[0] > steps(part.plan)[1] >= 1
            assert steps(part.plan)[0] < steps(whole.plan)[0]
        else:
            assert isinstance(part.plan, Grid) and isinstance(whole.plan, Grid)
            assert part.plan.layers * part.plan.strengths < whole.plan.layers * whole.plan.strengths


def test_sites_follow_the_depth() -> None:
    assert MIDDLE.recipe(30).site == "15.mlp"
    assert next(w.plan for w in WORKS if w.name == "lora-fit 5/6").recipe(30).site == "25.mlp"  # type: ignore[union-attr]
    assert LAST.recipe(24).site == "12"
    assert CONTRAST.recipe(30).training.objective == "contrast"
    assert len(SIX.arms) == 6
    assert len(set(SIX.arms)) == 6


def test_what_counts_of_a_run() -> None:
    plan = Fits("lora", "all", groups=10, epochs=3, batch=4)
    assert steps(plan) == (8, 3)
    run = Run(100.0, tuple(float(x * x) for x in range(1, 9)), ())
    assert taken(Work("a", plan, ()), run) == 100.0
    assert taken(Work("a", plan, (), "step"), run) == (64 - 9) / 5
    assert taken(Work("a", plan, (), "epoch"), run) == (64 - 9) / 5 * 10 / 4
    assert in_words(SIX) == "6 × 3 steps of 12 questions, 3 epochs"
