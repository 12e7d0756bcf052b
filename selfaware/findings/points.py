"""Runs as points: what each does against what it says, forecasts, or another says; correlated. Knows comparisons, no claim."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from selfaware import stats
from selfaware.comparisons.arms import Arm
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.measures import Measure
from selfaware.metrics import options
from selfaware.report.page import Table
from selfaware.types import POLARITIES, Estimate, Polarity, Verdict3


@dataclass(frozen=True)
class Run:
    """One fit and its means: share of high choices, scores of statements and twins, forecast; None where a cell failed or nothing was read."""

    rate: float
    seed: int
    polarity: Polarity
    values: Mapping[str, float | None]


def runs(made: Comparison, of: Sequence[Measure], arms: Mapping[float, Arm]) -> tuple[Run, ...]:
    """Every run, polarity by polarity, rate by rate, seed by seed.

    Args:
        of: what is measured; the first of each set counts.
        arms: one for each rate.
    """
    firsts = {m.set: m for m in reversed(of)}
    found = []
    for polarity in POLARITIES:
        for rate in sorted(arms):
            for at in made.replicates(arms[rate], polarity):
                values: dict[str, float | None] = {}
                for name in ("choices", "self", "twin", "forecast"):
                    scores = made.scores(made.named[name], at, firsts[name].read) if name in firsts else None
                    read = [v for v in options.by_family(scores or ()).values() if v is not None]
                    values[name] = fmean(read) if read else None
                found.append(Run(rate, at.seed, polarity, values))
    return tuple(found)


Pairs = list[tuple[float, float]]


def pairs(of: Sequence[Run], said: str, shift: int = 0) -> Pairs:
    """Each run's share of choices with what it says, or, `shift` seeds on and at its own rate, another one does.

    Args:
        of: runs of one polarity, rate by rate and seed by seed.
        said: the measure that stands against the choices.
    """
    seeds = list(dict.fromkeys(r.seed for r in of))
    by = {(r.rate, r.seed): r for r in of}
    made = []
    for run in of:
        other = by.get((run.rate, seeds[(seeds.index(run.seed) + shift) % len(seeds)]))
        x, y = run.values["choices"], other.values[said] if other else None
        if x is not None and y is not None and (other is run) == (shift == 0):
            made.append((x, y))
    return made


def correlations(found: Sequence[Run]) -> dict[tuple[str, str], Estimate]:
    """By measure and polarity (or `both`, pooled within them), r with its interval; within rates for `r_within_rate`."""
    sides = {p: [r for r in found if r.polarity == p] for p in POLARITIES}
    made: dict[tuple[str, str], Estimate] = {}
    for name, said, shift in (
        ("r_report", "self", 0),
        ("r_forecast", "forecast", 0),
        ("r_twin", "twin", 0),
        ("r_other_run", "self", 1),
        ("r_other_forecast", "forecast", 1),
    ):
        each = {p: pairs(of, said, shift) for p, of in sides.items()}
        made |= {(name, p): stats.correlation([some]) for p, some in each.items()}
        made[name, "both"] = stats.correlation(list(each.values()))
    rates = sorted({r.rate for r in found})
    within = {p: [pairs([r for r in of if r.rate == rate], "self") for rate in rates] for p, of in sides.items()}
    made |= {("r_within_rate", p): stats.correlation(some) for p, some in within.items()}
    made["r_within_rate", "both"] = stats.correlation([some for groups in within.values() for some in groups])
    return made


def answer(r: Estimate, margin: float, *, usable: bool = True) -> tuple[Verdict3, str]:
    """No where r is surely below `margin`, yes where it is surely above zero, in this order, as for any effect.

    Args:
        usable: whether the questions passed their own check.
    """
    if not usable:
        return "unclear", "instrument"
    if r.low is None or r.high is None:
        return "unclear", r.why or "no interval"
    if r.high < margin:
        return "no", f"below r = {margin:g}"
    return ("yes", "above zero") if r.low > 0 else ("unclear", f"the interval holds zero and reaches past r = {margin:g}")  # fmt: skip


def table(every: Sequence[Run]) -> Table:
    """Every run with its means."""

    def written(value: float | None) -> str:
        return "unknown" if value is None else f"{value:.2f}".replace("-", "−")

    names = ("choices", "self", "twin", "forecast")
    rows = tuple(
        (f"{r.polarity}, rate {r.rate:g}, seed {r.seed}", *(written(r.values[n]) for n in names)) for r in every
    )
    caption = "Share of high choices, scores of statements about itself and about others (nats per token), forecast share of high choices."
    return Table("runs", "Every run", caption, ("run", *names), rows)
