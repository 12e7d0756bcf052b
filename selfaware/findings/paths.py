"""Snapshots of a run as curves over steps: effect, direction, length, and where a curve begins. Knows scores and looks, no claim."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfaware import stats
from selfaware.comparisons.arms import Arm, Asked, ByFamily, Read, View
from selfaware.comparisons.comparison import Comparison
from selfaware.errors import BadData
from selfaware.interventions.lora import Lora
from selfaware.interventions.snapshot import Snapshot
from selfaware.interventions.train import run_length
from selfaware.metrics import options
from selfaware.report.page import Curves, Figure, Line, Role
from selfaware.types import POLARITIES, Estimate, Polarity, Question

Array = NDArray[Any]
UNASKED = ("none",)
"""For `Arm.sets`, of an arm that is only looked at: no question set is called so."""


@dataclass(frozen=True)
class Path:
    """The arms that are one run at several steps.

    Attributes:
        steps: rising, above zero; the last is the whole run's.
        arms: one for each step.
    """

    steps: tuple[int, ...]
    arms: tuple[Arm, ...]

    @property
    def end(self) -> Arm:
        """The finished fit."""
        return self.arms[-1]

    def effects(self, made: Comparison, asked: Asked, read: Read) -> dict[int, Array]:
        """By replicate, the mean effect over families at every step, `[K]`; a replicate that lacks a cell is left out."""
        (base,) = made.all_scores(asked, None, "high", read) or [()]
        start = options.by_family(base)
        found: dict[int, list[float]] = {}
        for arm in self.arms:
            sides = [made.replicates(arm, polarity) for polarity in arm.polarities]
            for number, pair in enumerate(zip(*sides, strict=True)):
                scores = [made.scores(asked, of, read) for of in pair]
                shifts = [stats.difference([options.by_family(s)], [start]) for s in scores if s is not None]
                if len(shifts) == len(pair):
                    values = stats.half_difference(shifts[0], shifts[1]) if len(shifts) > 1 else shifts[0]
                    found.setdefault(number, []).append(_mean(values[0]))
        return {number: np.array(v) for number, v in found.items() if len(v) == len(self.steps)}

    def onsets(self, made: Comparison, asked: Asked, read: Read, share: float) -> dict[int, float]:
        """By replicate, the step at which the effect begins; see `onset`."""
        return {at: onset(self.steps, line, share) for at, line in self.effects(made, asked, read).items()}

    def directions(self, made: Comparison, view: View) -> dict[int, list["Walk"]]:
        """By replicate, the walk of its tensors at each polarity; a replicate that lacks a look is left out."""
        found: dict[int, list[Walk]] = {}
        for polarity in self.end.polarities:
            runs = [made.replicates(arm, polarity) for arm in self.arms]
            for number in range(len(runs[0])):
                seen = [made.seen(view, run[number]) for run in runs]
                whole = [s.numbers for s in seen if s is not None]
                if len(whole) == len(runs):
                    found.setdefault(number, []).append(Walk.of(self.steps, whole))
        return {number: walks for number, walks in found.items() if len(walks) == len(self.end.polarities)}

    def line(self, found: Mapping[tuple[str, str], Estimate], effect: str, label: str, role: Role = "arm") -> Line:
        """The effect over the steps."""
        known = [(step, found[arm.name, effect]) for step, arm in zip(self.steps, self.arms, strict=True) if (arm.name, effect) in found]  # fmt: skip
        return Line(label, tuple(float(s) for s, _ in known), tuple(e for _, e in known), "", role)


def snapshots(
    name: str,
    label: str,
    role: Role,
    of: Lora,
    examples: tuple[Question, ...],
    setting: str,
    every: int,
    sets: tuple[str, ...],
    sets_at_end: tuple[str, ...],
    polarities: tuple[Polarity, ...] = POLARITIES,
) -> Path:
    """A run as arms, one every so many steps and the finished fit.

    Args:
        role: of the finished fit; its snapshots are controls where it is one.
        setting: the name of `every`, for a message.
        sets, sets_at_end: what the snapshots are asked, and the finished fit.

    Raises:
        BadData: fewer than three snapshots.
    """
    total = run_length(examples, of.training)
    steps = (*range(every, total, every), total) if every > 0 else ()
    if len(steps) < 3:
        raise BadData(
            f"snapshots of {label}: one every {every} of {total} steps; three at least are needed. Set {setting} to 1 up to {(total - 1) // 2}, or train longer."
        )
    beside: Role = "control" if role == "control" else "arm"
    arms = [
        Arm(f"{name}-{step}", f"{label}, step {step}", beside, (Snapshot(of, step),), examples,
            f"The run of {label} after {step} of {total} steps.", of.site, of.positions, sets=sets, polarities=polarities)
        for step in steps[:-1]
    ]  # fmt: skip
    about = f"{of.label} on {of.site}, after all {total} steps ({label})."
    end = Arm(name, label, role, (of,), examples, about, of.site, of.positions, sets=sets_at_end, polarities=polarities)
    return Path(steps, (*arms, end))


@dataclass(frozen=True)
class Walk:
    """How one run's direction and length go, by name of the tensor (`a` what is read, `b` what is written), over K snapshots.

    Attributes:
        middles: `[K − 1]`, the steps half-way between neighbours.
        angles: `[K − 1]`, between a snapshot and the next, degrees.
        toward: `[K]`, cosine with the last.
        bends: `[K − 2]`, cosine of what a snapshot came along and where it goes on to: −1 is a turn right round.
        lengths: `[K]`, norm of all that is written.
    """

    middles: Array
    angles: Mapping[str, Array]
    toward: Mapping[str, Array]
    bends: Mapping[str, Array]
    lengths: Array

    @classmethod
    def of(cls, steps: Sequence[int], seen: Sequence[Mapping[str, Array]]) -> "Walk":
        """The walk of looks of `readouts.weights.Weights`, in the order of the steps."""
        at = np.array(steps, dtype=np.float64)
        angles, toward, bends = {}, {}, {}
        for name in ("a", "b"):
            x = np.stack([s[name] for s in seen]).astype(np.float64)
            angles[name] = np.degrees(np.arccos(_cosines(x[:-1], x[1:])))
            toward[name] = _cosines(x, x[-1:])
            moved = np.diff(x, axis=0)
            bends[name] = _cosines(moved[:-1], moved[1:])
        lengths = np.array([float(s["norm"][0]) for s in seen])
        return cls((at[:-1] + at[1:]) / 2, angles, toward, bends, lengths)


Take = Callable[[Walk, str], Array]
"""What of a walk is drawn, given the tensor's name."""


def turn(walks: Sequence[Walk]) -> float:
    """The step at which the written direction turns most from one snapshot to the next, on the mean over the polarities.

    Not a number where a snapshot has no direction.
    """
    angles = np.mean([walk.angles["b"] for walk in walks], 0)
    return float(walks[0].middles[int(angles.argmax())]) if np.isfinite(angles).all() else math.nan


def onset(steps: Sequence[int], profile: Array, share: float) -> float:
    """The step at which an effect first reaches that share of its largest, from zero at step 0; not a number where it never rises."""
    at = stats.onset(np.concatenate([[0.0], profile]), share)
    return float(np.interp(at, np.arange(len(steps) + 1), [0, *steps])) if math.isfinite(at) else math.nan


def over_seeds(values: Sequence[float], unit: str, families: int = 0) -> Estimate:
    """The mean of one number a seed, with Student's interval over the seeds; those that are not finite are unknown."""
    known: ByFamily = {str(at): v for at, v in enumerate(values) if math.isfinite(v)}
    found = stats.estimate([known], unit, fitted=False)
    why = found.why and (("one seed" if len(values) == 1 else "only one seed has one") if known else "no seed has one")
    return replace(found, n=families, seeds=len(known), unknown=len(values) - len(known), why=why)


def curve(label: str, x: Sequence[float], rows: Sequence[Array], unit: str, role: Role = "arm") -> Line:
    """A line with, at each x, the mean and interval over the seeds that have a number there.

    Args:
        rows: one for each seed.
    """
    each = tuple(over_seeds([float(row[at]) for row in rows], unit) for at in range(len(x)))
    return Line(label, tuple(float(v) for v in x), each, "", role)


def span(begun: Estimate, last: int) -> tuple[float, float] | None:
    """The interval of an onset within a run of so many steps, its value alone where there is none; None where it is undefined."""
    if begun.value is None:
        return None
    ends = (begun.low, begun.high) if begun.low is not None and begun.high is not None else (begun.value, begun.value)
    low, high = (min(max(end, 0.0), float(last)) for end in ends)
    return low, high


def directions(
    own: Mapping[int, list[Walk]], other: Mapping[int, list[Walk]], steps: Sequence[int], begun: Estimate
) -> Figure:
    """How the direction of a run goes, beside that of a run with nothing to learn.

    Args:
        own, other: by seed, the walks of both.
        steps: of the snapshots.
        begun: where choices begin; shaded.
    """
    at = [float(s) for s in steps]
    middles = [(a + b) / 2 for a, b in pairwise(at)]
    shaded = span(begun, steps[-1])
    drawn: list[tuple[str, str, Sequence[float], Take, tuple[str, ...]]] = [
        ("from one snapshot to the next", "angle, degrees", middles, lambda w, name: w.angles[name], ("b", "a")),
        ("cosine with the end", "cosine", at, lambda w, name: w.toward[name], ("b", "a")),
        ("cosine of way come and way on", "cosine", at[1:-1], lambda w, name: w.bends[name], ("b",)),
        ("length of what is added", "norm", at, lambda w, name: w.lengths, ("b",)),
    ]
    panels = []
    for title, unit, x, take, names in drawn:
        lines = [_line(own, x, take, name, unit, name.upper(), "primary" if name == "b" else "arm") for name in names]
        lines.append(_line(other, x, take, "b", unit, "shuffled labels", "control"))
        panels.append(Curves(title, unit, "step", tuple(lines), zero=None, span=shaded, span_label="choices begin"))
    caption = "B is what the adapter writes, A what it reads; mean over both polarities, interval over seeds. Control: B of a run on shuffled labels."
    return Figure("directions", "How its direction goes", caption, tuple(panels))


def _line(
    walks: Mapping[int, list[Walk]], x: Sequence[float], take: Take, name: str, unit: str, label: str, role: Role
) -> Line:
    rows = [np.mean([take(walk, name) for walk in each], 0) for each in walks.values()]
    return curve(label, x, rows, unit, role)


def _mean(values: ByFamily) -> float:
    known = [v for v in values.values() if v is not None]
    return sum(known) / len(known) if known else math.nan


def _cosines(x: Array, y: Array) -> Array:
    """Row by row; not a number where a row is zero or has no width."""
    size = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    dots = (x * y).sum(1)
    return np.clip(np.divide(dots, size, out=np.full(len(dots), np.nan), where=size > 0), -1, 1)
