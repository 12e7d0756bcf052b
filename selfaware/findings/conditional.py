"""What patches, patterns and knock-outs say of an edit that waits for a trigger: estimates and figures. Knows looks, no claim."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfaware import stats
from selfaware.comparisons.arms import Arm, ByFamily, View, mean_of
from selfaware.comparisons.comparison import Comparison
from selfaware.readouts.conditional import PARTS, TOP
from selfaware.report.page import Curves, Figure, Heat, Line, Mark, Panel, Table
from selfaware.types import Estimate, Question, Row

Values = NDArray[Any]
NATS = "nats per token"
SHOWN = 12
"""Heads in the table."""


@dataclass(frozen=True)
class Looks:
    """Every replicate's look at one arm, with the families of the questions.

    Attributes:
        runs: by replicate, arrays by name; see `readouts.conditional.Conditional`.
    """

    arm: Arm
    families: tuple[str, ...]
    runs: tuple[dict[str, Values], ...]

    @classmethod
    def of(cls, made: Comparison, view: View, arm: Arm) -> "Looks":
        """Those that came back."""
        seen = [made.seen(view, of) for of in made.replicates(arm, "high")]
        families = tuple(q.family for q in view.questions if isinstance(q, Question))
        return cls(
            arm, families, tuple({k: np.asarray(v) for k, v in s.numbers.items()} for s in seen if s is not None)
        )

    def by_family(self, of: Callable[[dict[str, Values]], Values]) -> list[ByFamily]:
        """For each replicate the mean over each topic's questions of a value of every question."""
        made = []
        for run in self.runs:
            values = np.asarray(of(run), float)
            found: dict[str, list[float]] = {}
            for family, value in zip(self.families, values, strict=True):
                found.setdefault(family, []).append(float(value))
            made.append({f: float(np.mean(v)) for f, v in found.items()})
        return made  # type: ignore[return-value]

    def estimate(self, of: Callable[[dict[str, Values]], Values], unit: str) -> Estimate:
        """The mean of such a value, with its interval over replicates and topics."""
        return stats.estimate(self.by_family(of), unit, fitted=not self.arm.fixed)

    @property
    def whole(self) -> Estimate:
        """What the edit does where the trigger stands, nats per token."""
        return self.estimate(lambda r: r["edited"] - r["base"], NATS)

    def share(self, of: Callable[[dict[str, Values]], Values]) -> Estimate:
        """A score's distance from the base model's, as a share of what the edit does in the same run; undefined where that holds zero."""
        above, below = self.by_family(lambda r: of(r) - r["base"]), self.by_family(lambda r: r["edited"] - r["base"])
        return stats.mean_ratio(above, below, "share of what the edit does", fitted=not self.arm.fixed)

    @property
    def moves(self) -> bool:
        """Whether the edit raises the score where the trigger stands, and every run by itself establishes that it moves."""
        size = self.whole.value
        return size is not None and size > 0 and self.share(lambda r: r["edited"]).value is not None

    def patched(self, way: int, part: str, at: int) -> Estimate:
        """The share with that part of the other model put in from the `at`-th start on."""
        return self.share(lambda r: r["patched"][way, PARTS.index(part), at])

    @property
    def starts(self) -> tuple[int, ...]:
        """Blocks where patching starts."""
        return tuple(int(x) for x in self.runs[0]["starts"]) if self.runs else ()

    def lost(self, at: int) -> Estimate:
        """What hiding the trigger from the first `TOP[at]` heads takes away beyond what it takes from random heads, nats per token."""
        return self.estimate(lambda r: r["spared"][at].mean(0) - r["knocked"][at], NATS)

    def pointing(self, heads: int) -> Estimate:
        """How far the first heads' writes for the trigger point along the direction, beyond other tokens and random directions; a cosine."""

        def value(run: dict[str, Values]) -> Values:
            depth, count, _ = run["values"].shape
            own = run["values"].reshape(depth * count, -1) - run["null"].mean(2).reshape(-1, 1)
            return np.asarray(own[run["order"][:heads]].mean(0))

        if not all("values" in run for run in self.runs):
            return Estimate(None, None, None, 0, 0, "cosine", why="no direction was given")
        return self.estimate(value, "cosine")


def rows(looks: Sequence[Looks], trigger: str, model: str, domain: str) -> list[Row]:
    """Shares by part and block, knock-outs, attention to the trigger."""
    made: list[Row] = []
    for found in looks:
        arm = found.arm

        def row(estimate: Estimate, measure: str, kind: str, condition: dict[str, str | int], of: Arm = arm) -> Row:
            return Row.of(
                estimate, measure=measure, kind=kind, model=model, domain=domain, polarity="high", method=of.label, site=of.site,  # type: ignore[arg-type]
                positions=of.positions, questions=f"with {trigger}", reference="base" if kind == "shift" else "", condition=condition,
            )  # fmt: skip

        made.append(row(found.whole, "triggered_shift", "shift", {}))
        for at, start in enumerate(found.starts):
            for part in PARTS:
                made.append(row(found.patched(0, part, at), "share_left", "absolute", {"part": part, "from_block": start}))  # fmt: skip
                made.append(row(found.patched(1, part, at), "share_brought", "absolute", {"part": part, "from_block": start}))  # fmt: skip
        for at, count in enumerate(TOP):
            made.append(row(found.lost(at), "lost_without_heads", "absolute", {"heads": count}))
        made.append(row(found.pointing(TOP[-1]), "values_point", "absolute", {"heads": TOP[-1]}))
        for number, name in enumerate(("base", "edited")):
            made.append(row(found.estimate(lambda r, n=number: r["attended"][n].mean((0, 1)), "share of attention"),  # type: ignore[misc]
                            "attention_to_trigger", "absolute", {"who": name}))  # fmt: skip
    return made


def patches(looks: Sequence[Looks]) -> Figure:
    """What is left, and what is brought, by the block where patching starts."""
    panels = []
    for found in looks:
        for way, title in enumerate(("left with the base model's", "brought by the edited model's")):  # fmt: skip
            lines = tuple(
                Line(part, tuple(float(s) for s in found.starts), tuple(found.patched(way, part, at) for at in range(len(found.starts))),
                     "", "primary" if part == "query" else "arm")
                for part in PARTS
            )  # fmt: skip
            panels.append(Curves(f"{found.arm.label}: {title}", "share of what the edit does", "from this block to the last", lines, zero=0.0, band=None))  # fmt: skip
    return Figure(
        "patches", "Queries, keys, values and patterns put back",
        "At the positions that the edit changes, from the block on the axis to the last, one part of attention is taken from the other model. "
        "Left: 0 means that the part carried everything. Right: 1 means that it brings everything by itself.",
        tuple(panels),
    )  # fmt: skip


def heads(looks: Sequence[Looks]) -> Figure:
    """Which heads look at the trigger more with the edit than without, and which match it more."""
    panels = []
    for found in looks:
        if not found.runs:
            continue
        gain = np.mean([(r["attended"][1] - r["attended"][0]).mean(2) for r in found.runs], 0)
        match = np.mean([r["match"].mean(2) for r in found.runs], 0)
        for title, unit, table in (("attention gained", "share", gain), ("match q·k", "logit", match)):  # fmt: skip
            end = float(np.abs(table).max()) or 1.0
            panels.append(Heat(
                f"{found.arm.label}: {title}", unit, tuple(str(b) for b in range(len(table))), tuple(str(h) for h in range(table.shape[1])),
                tuple(tuple(float(x) for x in line) for line in table), (-end, end), over=("block", "head"),
            ))  # fmt: skip
    return Figure(
        "heads", "Heads that look at the trigger",
        "Of the last prompt token, edited minus base, mean over questions and seeds. Attention gained: the share that goes to the trigger. Match: how much better the head's query fits the trigger's keys than those of the other tokens, before the softmax.",
        tuple(panels),
    )  # fmt: skip


def knocked(looks: Sequence[Looks]) -> Figure:
    """What is left when heads can't see the trigger."""
    panels = []
    for found in looks:
        marks = []
        for at, count in enumerate(TOP):
            name = f"{count} head{'s' if count > 1 else ''}"
            own = found.share(lambda r, a=at: r["knocked"][a])  # type: ignore[misc]
            control = found.share(lambda r, a=at: r["spared"][a].mean(0))  # type: ignore[misc]
            marks += [Mark(f"first {name}", own, "", "primary"), Mark(f"{name} at random", control, "", "control")]
        panels.append(Panel(found.arm.label, "share of what the edit does", tuple(marks), zero=1.0))
    return Figure(
        "knocked", "What is left when heads can't see the trigger",
        "The heads that gain most attention to the trigger give it none, and as many random heads of the same blocks beside them. The line is the whole of the edit's effect.",
        tuple(panels),
    )  # fmt: skip


def ranked(looks: Sequence[Looks]) -> Table:
    """The heads that gain most attention to the trigger."""
    lines = []
    for found in looks:
        if not found.runs:
            continue
        mean = {k: np.mean([r[k].mean(-1) for r in found.runs], 0) for k in ("attended", "match", *(("values",) if "values" in found.runs[0] else ()))}  # fmt: skip
        gain = mean["attended"][1] - mean["attended"][0]
        for place in np.argsort(-gain, axis=None)[:SHOWN]:
            block, head = divmod(int(place), gain.shape[1])
            value = f"{mean['values'][block, head]:+.2f}".replace("-", "−") if "values" in mean else "–"
            lines.append((
                found.arm.label, f"{block}.{head}", f"{mean['attended'][0][block, head]:.2f}", f"{mean['attended'][1][block, head]:.2f}",
                f"{mean['match'][block, head]:+.2f}".replace("-", "−"), value,
            ))  # fmt: skip
    return Table(
        "ranked-heads", "The heads that gain most",
        "Share of the last prompt token's attention that goes to the trigger, base and edited; match: q·k at the trigger against other tokens, edited minus base; value: cosine of "
        "what the head writes for the trigger with the direction of the trait, less that for other tokens. Means over questions and seeds.",
        ("arm", "block.head", "base", "edited", "match", "value"), tuple(lines),
    )  # fmt: skip


def seeds(found: Looks, of: Callable[[dict[str, Values]], Values]) -> tuple[float, ...]:
    """Each replicate's mean of a value."""
    return mean_of(found.by_family(of))
