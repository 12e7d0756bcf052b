"""Decision by decision: a run's own forecast against what it chooses, beside another run's and the untouched model's. Knows comparisons, no claim."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from selfaware import stats
from selfaware.comparisons.arms import Arm, ByFamily, Replicate, by_group
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.measures import Measure
from selfaware.report.page import Figure, Mark, Panel, Role
from selfaware.types import POLARITIES, Estimate, Row

Whose = Literal["own", "other_run", "base"]
WHOSE: Mapping[Whose, tuple[str, Role]] = {
    "own": ("its own forecast", "primary"),
    "other_run": ("another run's forecast", "control"),
    "base": ("the untouched model's forecast", "control"),
}
LEAST = 5
"""Decisions below which a run has no correlation."""


def correlations(made: Comparison, of: Sequence[Measure], arms: Mapping[float, Arm]) -> dict[str, list[ByFamily]]:
    """By whose forecast, for each seed a table from rate and polarity to r over decisions; `gain` is own minus another run's.

    Unlike means over runs these do not vary with the dose: a run that only knows how much it was trained says the same of every decision.

    Args:
        of: measures; the first of each set counts. Needs `choices` and `forecast`.
        arms: one for each rate.
    """
    firsts = {m.set: m for m in reversed(of)}
    chosen, said = firsts["choices"], firsts["forecast"]

    def read(m: Measure, at: Replicate) -> ByFamily:
        return by_group(made.scores(made.named[m.set], at, m.read) or ())

    base = read(said, Replicate())
    found: dict[str, list[ByFamily]] = {name: [] for name in (*WHOSE, "gain")}
    for number in range(len(made.seeds)):
        tables: dict[str, ByFamily] = {name: {} for name in found}
        for rate, arm in arms.items():
            for polarity in POLARITIES:
                runs = made.replicates(arm, polarity)
                did, other = read(chosen, runs[number]), read(said, runs[(number + 1) % len(runs)])
                key = f"{rate:g}/{polarity}"
                tables["own"][key] = correlation(read(said, runs[number]), did)
                tables["other_run"][key] = correlation(other, did) if len(runs) > 1 else None
                tables["base"][key] = correlation(base, did)
                own, beside = tables["own"][key], tables["other_run"][key]
                tables["gain"][key] = None if own is None or beside is None else own - beside
        for name, table in tables.items():
            found[name].append(table)
    return found


def correlation(first: ByFamily, second: ByFamily) -> float | None:
    """Pearson's r over the decisions that both have; None where they are too few or one side is the same throughout."""
    both = [(a, second[k]) for k, a in first.items() if a is not None and second.get(k) is not None]
    if len(both) < LEAST:
        return None
    x, y = np.array(both, dtype=np.float64).T
    if x.std() == 0 or y.std() == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def estimates(found: Mapping[str, list[ByFamily]]) -> dict[str, Estimate]:
    """Over seeds and settings, a run without a correlation left out with its setting."""
    return {name: stats.estimate(values, "r over decisions") for name, values in found.items()}


def rows(found: Mapping[str, Estimate], row: Callable[[str, Estimate, str], Row]) -> list[Row]:
    """A row for each.

    Args:
        row: makes one of its measure, estimate and method.
    """
    called = {name: label for name, (label, _) in WHOSE.items()} | {"gain": "its own minus another run's"}
    return [row(f"r_decisions_{name}", estimate, called[name]) for name, estimate in found.items()]


def figure(found: Mapping[str, Estimate]) -> Figure:
    """The three side by side."""
    marks = tuple(Mark(label, found[name], "", role) for name, (label, role) in WHOSE.items())
    return Figure(
        "decisions", "Decision by decision",
        "Correlation, within a run, of forecasts with its choices over decisions; mean over runs with the 95 % interval over seeds and settings. A model that knows its own "
        "choices forecasts them better than another run, or the model before training, forecasts them.",
        (Panel("forecasts with its choices", "r", marks),),
    )  # fmt: skip
