"""What dose grids saw, as shifts by question set, layer and strength. Knows looks and families, no claim."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfaware import stats
from selfaware.comparisons.measures import NATS
from selfaware.report.page import Heat, Line, Role
from selfaware.stages import Seen
from selfaware.types import Estimate, Question

Array = NDArray[Any]


@dataclass(frozen=True)
class Shifts:
    """One question set under one arm's doses.

    Attributes:
        groups: the items; the questions of one (orders, mirrors) are averaged.
        families: each item's.
        values: `[seeds, items, layers, strengths]`, shift of the logit difference from the base model, nats, turned so that
            the direction expected of each strength's sign is positive.
        fixed: whether there is one vector and no other is meant, so that families alone are random.
    """

    groups: tuple[str, ...]
    families: tuple[str, ...]
    values: Array
    fixed: bool = False

    def within(self, strengths: Sequence[float], limit: float, sign: int) -> Array:
        """`[items, layers, strengths kept]`, the mean over seeds, of the strengths of that sign up to `limit`."""
        kept = [at for at, a in enumerate(strengths) if a * sign > 0 and abs(a) <= limit * (1 + 1e-9)]
        return np.asarray(self.values.mean(0)[:, :, kept])

    def estimate(self, layer: int, strength: int, unit: str) -> Estimate:
        """The mean over seeds and families at one layer and strength, by their numbers."""
        return stats.estimate(self.tables(layer, strength), unit, fitted=not self.fixed)

    def tables(self, layer: int, strength: int) -> list[dict[str, float | None]]:
        """For each seed every family's mean shift at one layer and strength, by their numbers."""
        return [self._by_family(seed[:, layer, strength]) for seed in self.values]

    def _by_family(self, items: Array) -> dict[str, float | None]:
        found: dict[str, list[float]] = {}
        for family, value in zip(self.families, items.tolist(), strict=True):
            found.setdefault(family, []).append(value)
        return {family: sum(v) / len(v) for family, v in found.items()}


def shifts(
    seen: Sequence[Seen], questions: Sequence[Question], strengths: Sequence[float], *, fixed: bool = False
) -> dict[str, Shifts]:
    """The shifts of every question set, items that could not be read in every seed left out.

    Args:
        seen: one look of `readouts.doses.Doses` a seed.
        questions: those that it was given, in order.
        strengths: its strengths, in order.
        fixed: see `Shifts`.
    """
    sign = np.sign(np.array(strengths))
    made = {}
    for name in dict.fromkeys(q.set for q in questions):
        items: Mapping[str, list[int]] = {}
        families = {}
        for at, q in enumerate(questions):
            if q.set == name:
                items = {**items, q.group: [*items.get(q.group, []), at]}
                families[q.group] = q.family
        each = []
        for look in seen:
            moved = (look.numbers["scores"] - look.numbers["base"]).astype(np.float64) * sign[None, :, None]
            each.append(np.stack([moved[:, :, at].mean(2) for at in items.values()]))
        values = np.stack(each)
        kept = np.isfinite(values).all((0, 2, 3))
        names = [g for g, k in zip(items, kept, strict=True) if k]
        made[name] = Shifts(tuple(names), tuple(families[g] for g in names), values[:, kept], fixed)
    return made


def best(found: Shifts, strengths: Sequence[float], limit: float, sign: int) -> list[int]:
    """For each layer the number of the strength, of that sign and up to `limit`, with the largest mean shift."""
    kept = [at for at, a in enumerate(strengths) if a * sign > 0 and abs(a) <= limit * (1 + 1e-9)]
    means = found.values.mean((0, 1))[:, kept]
    return [kept[at] for at in means.argmax(1)]


@dataclass(frozen=True)
class Sweep:
    """An arm's vector at every block and dose.

    Attributes:
        sets: its shifts by question set.
        blocks, strengths: what the last two axes of `Shifts.values` are.
        kl: `[layers, strengths]`, damage to neutral text, mean over seeds, not a number where it was not read.
    """

    sets: Mapping[str, Shifts]
    blocks: tuple[int, ...]
    strengths: tuple[float, ...]
    kl: Array

    @classmethod
    def of(
        cls, seen: Sequence[Seen], questions: Sequence[Question], strengths: Sequence[float], *, fixed: bool = False
    ) -> "Sweep":
        """What the looks of an arm's replicates saw; `fixed` as for `Shifts`."""
        blocks = tuple(int(b) for b in seen[0].numbers["blocks"])
        kl = np.stack([look.numbers["kl"] for look in seen]).mean(0)
        return cls(shifts(seen, questions, strengths, fixed=fixed), blocks, tuple(strengths), kl)

    def line(self, set: str, label: str, limit: float, sign: int, role: Role = "arm") -> Line:
        """The set's profile: at each block the strength that moves it most, with the interval at that strength."""
        found = self.sets[set]
        chosen = best(found, self.strengths, limit, sign)
        each = tuple(found.estimate(layer, at, NATS) for layer, at in enumerate(chosen))
        return Line(label, tuple(map(float, self.blocks)), each, "", role)

    def items(self, set: str, title: str, limit: float, sign: int) -> Heat:
        """A profile for each item, a row of colours each, at the strengths chosen for its set; means over replicates, without intervals."""
        found = self.sets[set]
        chosen = best(found, self.strengths, limit, sign)
        means = found.values.mean(0)
        values = np.stack([means[:, layer, at] for layer, at in enumerate(chosen)], 1)
        top = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 0.0
        cells = tuple(tuple(float(v) if np.isfinite(v) else None for v in row) for row in values)
        blocks = tuple(map(str, self.blocks))
        return Heat(title, NATS, tuple(found.groups), blocks, cells, (-top or -1.0, top or 1.0), over=("item", "block"))

    def map(self, set: str, title: str) -> Heat:
        """Mean shift by block and strength, the strengths' own signs kept."""
        sign = np.sign(np.array(self.strengths))
        values = self.sets[set].values.mean((0, 1)) * sign
        return self._heat(values, title, NATS, float(np.abs(values).max()) or 1.0)

    def damage(self) -> Heat:
        """KL from the base model by block and strength."""
        top = float(np.nanmax(self.kl)) if np.isfinite(self.kl).any() else 1.0
        return self._heat(self.kl, "damage to neutral text", "KL from base, nats a token", top or 1.0)

    def _heat(self, values: Array, title: str, unit: str, top: float) -> Heat:
        cells = tuple(tuple(float(v) if np.isfinite(v) else None for v in row) for row in values)
        rows, columns = tuple(map(str, self.blocks)), tuple(f"{a:+.3g}".replace("-", "−") for a in self.strengths)
        return Heat(title, unit, rows, columns, cells, (-top, top), over=("block", "strength"))
