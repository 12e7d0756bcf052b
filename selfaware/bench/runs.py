"""One run of a plan: seconds, marks, numbers; which part of it a work counts. Knows no model."""

from dataclasses import dataclass

from selfaware.bench.works import Fits, Plan, Work


@dataclass(frozen=True)
class Run:
    """What came of doing a plan once.

    Attributes:
        seconds: from start to end.
        marks: seconds from the start to the end of each training step; empty for a grid.
        numbers: losses step after step, fit after fit, or scores `[L, S, Q]`, flat.
    """

    seconds: float
    marks: tuple[float, ...]
    numbers: tuple[float, ...]


def steps(plan: Fits) -> tuple[int, int]:
    """Steps in a fit, and those that begin in its first epoch."""
    return -(-plan.groups * plan.epochs // plan.batch), -(-plan.groups // plan.batch)


def taken(work: Work, run: Run) -> float:
    """Seconds of the part of a run that the work counts."""
    if work.measure == "whole":
        return run.seconds
    assert isinstance(work.plan, Fits)
    all_of, first = steps(work.plan)
    each = (run.marks[all_of - 1] - run.marks[first - 1]) / (all_of - first)
    return each if work.measure == "step" else each * work.plan.groups / work.plan.batch


def in_words(plan: Plan) -> str:
    """The plan's size for a reader."""
    if isinstance(plan, Fits):
        fits = len(plan.seeds) * len(plan.polarities)
        return f"{fits} × {steps(plan)[0]} steps of {plan.batch} questions, {plan.epochs} epochs"
    return f"{plan.layers} layers × {plan.strengths} strengths × {plan.questions} questions"
