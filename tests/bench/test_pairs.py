"""Pairs and rows: who begins alternates, medians and ends of ratios, numbers that differ are told."""

import math
from dataclasses import replace

import pytest

from selfaware.bench.pairs import Line, alternating, line
from selfaware.bench.runs import Run
from selfaware.bench.works import PEFT, TRL, Contender, Fits, Grid, Work

FITS = Work("fits", Fits("lora", "all", groups=4, epochs=2, batch=2, seeds=(0, 1)), (PEFT,))
GRID = Work("grid", Grid("all", layers=1, strengths=2, questions=2), (PEFT,))
LOSSES = (3.0, 2.0, 1.0, 0.5, 3.5, 2.5, 1.5, 1.0)


def run(seconds: float, numbers: tuple[float, ...] = LOSSES) -> Run:
    return Run(seconds, (), numbers)


def made(
    work: Work, ours: tuple[float, ...], theirs: tuple[float, ...], tolerance: float = 0.1, contender: Contender = PEFT
) -> Line:
    return line(work, contender, "m", "float32", [(run(1.0, ours), run(2.0, theirs))], tolerance, 3.0, {"peft": "1"})


def test_who_begins_alternates() -> None:
    seen: list[str] = []
    told: list[int] = []

    def side(name: str, seconds: float) -> Run:
        seen.append(name)
        return run(seconds)

    found = alternating(lambda: side("o", 1.0), lambda: side("t", 2.0), 3, told.append)
    assert seen == ["o", "t", "t", "o", "o", "t"]
    assert [(o.seconds, t.seconds) for o, t in found] == [(1.0, 2.0)] * 3
    assert told == [1, 2, 3]


def test_ratio_is_the_median_of_pairs() -> None:
    pairs = [(run(1.0), run(3.0)), (run(2.0), run(4.0)), (run(1.0), run(10.0))]
    row = line(FITS, PEFT, "m", "float32", pairs, 0.1, 0.0, {})
    assert (row.ratio, row.low, row.high, row.pairs) == (3.0, 2.0, 10.0, 3)
    assert row.ratios == (3.0, 2.0, 10.0)
    assert (row.seconds_ours, row.seconds_theirs) == (1.0, 4.0)
    assert row.same is True
    assert row.max_difference == 0


def test_the_first_step_of_every_fit_is_held_to_the_tolerance() -> None:
    later = list(LOSSES)
    later[3] += 0.4
    row = made(FITS, LOSSES, tuple(later))
    assert row.same is True
    assert row.strict_difference == 0
    assert row.max_difference == pytest.approx(0.4)
    second = list(LOSSES)
    second[4] += 0.4
    assert made(FITS, LOSSES, tuple(second)).same is False


def test_every_score_of_a_grid_is() -> None:
    assert made(GRID, (1.0, 2.0, 3.0, 4.0), (1.0, 2.0, 3.0, 4.05)).same is True
    row = made(GRID, (1.0, 2.0, 3.0, 4.0), (1.0, 2.0, 3.0, 4.2))
    assert row.same is False
    assert row.strict_difference == row.max_difference == pytest.approx(0.2)


def test_what_is_no_number_is_no_agreement() -> None:
    assert made(GRID, (1.0, 2.0, 3.0, 4.0), (1.0, 2.0, 3.0, math.nan)).same is False
    assert made(GRID, (1.0, 2.0, 3.0, 4.0), (1.0, 2.0, 3.0)).same is False


def test_any_pair_can_spoil_it() -> None:
    good, bad = (run(1.0), run(2.0)), (run(1.0), run(2.0, (9.0, *LOSSES[1:])))
    assert line(FITS, PEFT, "m", "float32", [good, bad, good], 0.1, 0.0, {}).same is False


def test_a_loss_over_tokens_is_held_against_ours_over_tokens() -> None:
    one = replace(FITS, plan=replace(FITS.plan, seeds=(0,)))  # type: ignore[arg-type]
    assert made(one, (9.0, 1.0, 1.0, 1.0), (3.05, 7.0, 7.0, 7.0), contender=TRL).same is True
    assert made(one, (3.0, 1.0, 1.0, 1.0), (3.2, 1.0, 1.0, 1.0), contender=TRL).same is False
