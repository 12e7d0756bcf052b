"""How alike the vectors of two arms are, seed by seed, beside what random directions reach. Knows arms and vectors, no behaviour."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfaware import stats
from selfaware.comparisons.arms import Arm, ByFamily
from selfaware.comparisons.comparison import Comparison
from selfaware.report.page import Figure, Heat, Mark, Panel, Role, Table
from selfaware.types import POLARITIES, Estimate, Row, Verdict

Array = NDArray[Any]
Units = Mapping[str, Sequence[Array | None]]
"""For each polarity the direction of every seed, of length one; None where a cell failed."""

UNIT = "cosine"


@dataclass(frozen=True)
class Cosine:
    """One kind of pairs: how it is written, how it is drawn, what it came to."""

    label: str
    role: Role
    estimate: Estimate


def vectors(made: Comparison, arm: Arm) -> Units:
    """The directions of an arm with one vector."""
    found: dict[str, list[Array | None]] = {p: [] for p in POLARITIES}
    for polarity in arm.polarities:
        found[polarity] = [_unit(made.vector(of)) for of in made.replicates(arm, polarity)]
    return found


def lengths(made: Comparison, arm: Arm) -> list[ByFamily]:
    """For each replicate whose vectors all came back, the norm at each polarity."""
    runs = zip(*(made.replicates(arm, p) for p in arm.polarities), strict=True)
    found: list[ByFamily] = []
    for run in runs:
        each = [made.vector(of) for of in run]
        known = [float(np.linalg.norm(v)) for v in each if v is not None]
        if len(known) == len(each):
            found.append(dict(zip(arm.polarities, known, strict=True)))
    return found


def halves(of: Units) -> Units:
    """(v_high − v_low) / 2 of unit vectors, seed by seed: what both polarities share, such as the data's form, drops out."""
    found = [None if a is None or b is None else _unit(a - b) for a, b in zip(of["high"], of["low"], strict=True)]
    return {"high": found, "low": []}


def crossed(first: Units, second: Units) -> Estimate:
    """Mean cosine of every seed of one with every seed of the other, both random and crossed; mean over the polarities that both have.

    Seeds of which a cell failed at any polarity are left out.
    """
    shared = [p for p in POLARITIES if first[p] and second[p]]
    rows, columns = (_whole(of, shared) for of in (first, second))
    values: list[ByFamily] = [
        {str(j): float(np.mean([_dot(first[p][i], second[p][j]) for p in shared])) for j in columns} for i in rows
    ]
    return stats.estimate(values, UNIT)


def within(of: Units) -> Estimate:
    """Mean cosine of two seeds of one arm, at one polarity; pairs share seeds, so that there is no interval."""
    pairs = [_dot(a, b) for p in POLARITIES for a, b in combinations(_known(of[p]), 2)]
    return _alone(pairs, max(len(_known(of[p])) for p in POLARITIES))


def opposite(of: Units) -> Estimate:
    """Mean cosine of a seed at one polarity with other seeds at the other, which do not share its start; no interval, as within."""
    pairs = [
        _dot(a, b)
        for i, j in permutations(range(min(len(of["high"]), len(of["low"]))), 2)
        for a, b in ((of["high"][i], of["low"][j]),)
        if a is not None and b is not None
    ]
    return _alone(pairs, len(_known(of["high"])))


def rows(cosines: Sequence[Cosine], null: Array | None, model: str, domain: str, site: str) -> list[Row]:
    """Every kind of pairs, and the null."""
    made = [
        Row.of(c.estimate, measure="cosine", kind="absolute", model=model, domain=domain, method=c.label, site=site, condition=_limits(null))
        for c in cosines
    ]  # fmt: skip
    if null is not None:
        middle, high = (float(np.quantile(null, q)) for q in (0.5, 0.95))
        estimate = Estimate(middle, 0.0, high, len(null), 0, "absolute cosine")
        made.append(Row.of(estimate, measure="cosine_null", kind="absolute", model=model, domain=domain, method="random pairs with the states' covariance", site=site))  # fmt: skip
    return made


def verdict(claim: str, cosines: Sequence[Cosine], null: Array | None, bound: float) -> Verdict:
    """Whether the first kind's cosine lies between the null and the bound: yes and no with the whole interval."""
    told = "; ".join(f"{c.label}: {stats.spoken(c.estimate)}" for c in cosines)
    if null is None:
        return Verdict(claim, "unclear", "the null was not drawn", told + ".")
    own, limit = cosines[0].estimate, round(float(np.quantile(null, 0.95)), 3)
    below, why = stats.at_most(own, bound)
    above, also = stats.at_least(own, limit)
    parts = [
        (below, f"one direction: {why}" if below == "no" else why),
        (above, f"no more alike than random directions: {also}" if above == "no" else also),
    ]
    said, reason = stats.all_of(parts)
    return Verdict(claim, said, reason, f"{told}. Null: 95 % of pairs below {limit:.2f}.")


def figure(cosines: Sequence[Cosine], null: Array | None) -> Figure:
    """The kinds that have an interval, with the null shaded; the others stand in `pairs`."""
    limit = None if null is None else float(np.quantile(null, 0.95))
    marks = tuple(Mark(c.label, c.estimate, "", c.role) for c in cosines if c.estimate.low is not None)
    panel = Panel("cosine", UNIT, marks, band=None if limit is None else (-limit, limit))
    return Figure(
        "cosines", "How alike the vectors are",
        "Cosines with their sign, mean over all pairs of seeds. Shaded: 95 % of pairs of random directions with the covariance of the model's states there.",
        (panel,) if marks else (),
    )  # fmt: skip


def pairs(of: Mapping[str, Units]) -> Figure:
    """Every seed's vector with every other.

    Args:
        of: the vectors by what they are called.
    """
    named = {
        f"{name}, {p}, seed {s}": v for name, units in of.items() for p in POLARITIES for s, v in enumerate(units[p])
    }
    known = {name: v for name, v in named.items() if v is not None}
    names, cells = tuple(known), tuple(tuple(_dot(a, b) for b in known.values()) for a in known.values())
    heat = Heat("cosine", UNIT, names, names, cells, (-1.0, 1.0))
    return Figure(
        "pairs", "Every vector with every other",
        "Cosines with their sign. Other starts and seeds of the same vector, blocks on the diagonal, are the ceiling for all others.",
        (heat,) if known else (),
    )  # fmt: skip


def norms(made: Comparison, arms: Sequence[Arm]) -> Table:
    """How long every arm's vectors are."""
    lines = []
    for arm in arms:
        each = lengths(made, arm)
        for polarity in arm.polarities:
            known = [v for row in each if (v := row.get(polarity)) is not None]
            cell = f"{np.mean(known):.2f} [{min(known):.2f}, {max(known):.2f}]" if known else "unknown"
            lines.append((arm.label, polarity, cell))
    return Table("norms", "How long the vectors are", "Mean norm over seeds, smallest and largest, in units of the site's output.", ("arm", "polarity", "norm"), tuple(lines))  # fmt: skip


def _limits(null: Array | None) -> dict[str, str | int | float | bool]:
    return {} if null is None else {"null_95": round(float(np.quantile(null, 0.95)), 4)}


def _alone(pairs: Sequence[float], seeds: int) -> Estimate:
    if not pairs:
        return Estimate(None, None, None, 0, seeds, UNIT, why="one seed" if seeds else "a cell failed")
    return Estimate(
        float(np.mean(pairs)), None, None, len(pairs), seeds, UNIT, why="pairs of seeds are not independent"
    )


def _whole(of: Units, polarities: Sequence[str]) -> list[int]:
    count = min((len(of[p]) for p in polarities), default=0)
    return [i for i in range(count) if all(of[p][i] is not None for p in polarities)]


def _known(some: Sequence[Array | None]) -> list[Array]:
    return [v for v in some if v is not None]


def _unit(v: Array | None) -> Array | None:
    length = 0.0 if v is None else float(np.linalg.norm(v.astype(np.float64)))
    return None if v is None or length == 0 else v.astype(np.float64) / length


def _dot(a: Array | None, b: Array | None) -> float:
    assert a is not None
    assert b is not None
    return float(a @ b)
