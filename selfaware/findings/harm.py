"""An arm's effect at another's damage: between its multiples, where neutral text is as far from the base model. Knows effects and KL, no claim."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from selfaware import stats
from selfaware.comparisons import paired
from selfaware.comparisons.arms import Arm, ByFamily, Kept, estimated
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.measures import Measured
from selfaware.interventions.distil import Scalable, Scaled
from selfaware.metrics import damage
from selfaware.report.page import Curves, Figure, Line
from selfaware.types import Estimate, Row

FACTORS = (0.25, 0.5, 2.0)
"""Multiples that are asked beside the arm itself."""
SETS = ("choices", "self", "neutral")
EFFECTS = (("choice_share_effect", "choices"), ("self_effect", "about itself"))


def multiples(arm: Arm, recipe: Scalable) -> list[Arm]:
    """The arm's recipe times each factor, asked what is compared and neutral text."""
    return [
        replace(
            arm, name=f"{arm.name} × {factor:g}", label=f"{arm.label} × {factor:g}", role="arm", recipes=(Scaled(recipe, factor),),
            about=f"{arm.label}, times {factor:g}.", sets=SETS,
        )
        for factor in FACTORS
    ]  # fmt: skip


def is_multiple(arm: Arm) -> bool:
    """Whether the arm is a multiple of another."""
    return any(isinstance(recipe, Scaled) for recipe in arm.recipes)


def ladder(made: Comparison, arm: Arm) -> list[Arm]:
    """The arm among its multiples, weakest first."""
    found = {1.0: arm, **{f: made.named_arm(f"{arm.name} × {f:g}") for f in FACTORS}}
    return [found[factor] for factor in sorted(found)]


def divergence(made: Comparison, arm: Arm) -> list[float | None]:
    """For each replicate the KL from the base model on neutral text, nats a token, mean over polarities; None where a cell failed."""
    asked = made.named["neutral"]
    found: list[float | None] = []
    for run in zip(*(made.replicates(arm, polarity) for polarity in arm.polarities), strict=True):
        scores = [made.scores(asked, of, damage.divergence) for of in run]
        values = [s.value for got in scores for s in got or ()]
        known = [v for v in values if v is not None]
        whole = all(got is not None for got in scores) and len(known) == len(values) > 0
        found.append(sum(known) / len(known) if whole else None)
    return found


def matched(made: Comparison, found: Measured, arm: Arm, of: Arm, effect: str) -> Kept:
    """For each replicate the arm's effect by family at the multiple whose divergence is that of `of`, None where there is none.

    Between two neighbouring multiples effects are taken to be linear in √KL, as a small change's size is. Beyond the multiples nothing
    is guessed.
    """
    rungs = ladder(made, arm)
    roots = [[None if k is None else math.sqrt(max(k, 0.0)) for k in divergence(made, rung)] for rung in rungs]
    values = [found.kept[rung.name, effect] for rung in rungs]
    made_up: Kept = []
    for number, target in enumerate(divergence(made, of)):
        steps = [(r[number], v[number]) for r, v in zip(roots, values, strict=True) if number < len(r)]
        known = sorted(((r, v) for r, v in steps if r is not None and v is not None), key=lambda step: step[0])
        made_up.append(None if target is None else _between(known, math.sqrt(max(target, 0.0))))
    return made_up


def _between(steps: Sequence[tuple[float, ByFamily]], target: float) -> ByFamily | None:
    for (low, first), (high, second) in pairwise(steps):
        if low <= target <= high and high > low:
            share = (target - low) / (high - low)
            return {f: _mixed(first[f], second.get(f), share) for f in first}
    return None


def _mixed(first: float | None, second: float | None, share: float) -> float | None:
    return None if first is None or second is None else (1 - share) * first + share * second


def recovered(made: Comparison, found: Measured, arm: Arm, of: Arm, effect: str) -> Estimate:
    """The arm's effect over the other's at the other's damage, with Fieller's interval.

    Replicates whose damage no multiple of the arm reaches are left out; where that leaves none there is no value.
    """
    values = matched(made, found, arm, of, effect)
    other = found.kept[of.name, effect]
    pair = paired.both(values, other) if len(values) == len(other) else ([], [])
    if not pair[0]:
        why = f"no multiple from {min(FACTORS):g} to {max(FACTORS):g} has the damage of {of.label}"
        return Estimate(None, None, None, 0, 0, f"share of {of.label}", why=why)
    return stats.ratio(*pair, unit=f"share of {of.label}", fitted=not arm.fixed)


def rows(made: Comparison, found: Measured, arm: Arm, of: Arm, model: str, domain: str) -> list[Row]:
    """The recovered shares at equal damage, of choices and of self-report."""
    return [
        Row.of(
            recovered(made, found, arm, of, effect), measure=f"{name}_at_equal_damage", kind="absolute", model=model, domain=domain,
            method=arm.label, polarity="effect", site=arm.site, positions=arm.positions, questions=set, reference=of.label,
        )
        for effect, name, set in (("choice_share_effect", "recovered_behaviour", "choices"), ("self_effect", "recovered_report", "self"))
    ]  # fmt: skip


def figure(made: Comparison, found: Measured, arm: Arm, of: Arm) -> Figure:
    """Effect against damage: the arm at every multiple, and the other."""
    panels = []
    for effect, title in EFFECTS:
        lines = []
        for label, arms, role in ((arm.label, ladder(made, arm), "primary"), (of.label, [of], "arm")):
            points = []
            for one in arms:
                known = [k for k in divergence(made, one) if k is not None]
                if known and (one.name, effect) in found.values:
                    points.append((sum(known) / len(known), estimated(one, found.values[one.name, effect], found.effects[one.name, effect].unit)))  # fmt: skip
            points.sort(key=lambda point: point[0])
            rising = [p for at, p in enumerate(points) if at == 0 or p[0] > points[at - 1][0]]
            lines.append(Line(label, tuple(k for k, _ in rising), tuple(e for _, e in rising), "", role))  # type: ignore[arg-type]
        drawn = tuple(line for line in lines if line.x)
        if drawn:
            unit = drawn[0].estimates[0].unit
            panels.append(Curves(title, f"effect, {unit}", "KL from base, nats a token", drawn, log=True))
    return Figure(
        f"equal-damage-{arm.name}".replace("/", "-"), f"At equal damage: {arm.label} and {of.label}",
        f"Effect against the divergence from the base model on neutral text. The line is {arm.label} times {', '.join(f'{f:g}' for f in sorted((*FACTORS, 1.0)))}. "
        "Of two at the same height the one further left does less else.",
        tuple(panels),
    )  # fmt: skip


def text(made: Comparison, found: Measured, arm: Arm, of: Arm, effect: str) -> str:
    """The share at equal damage, for a verdict's text."""
    return f" At equal damage: {stats.spoken(recovered(made, found, arm, of, effect)).replace('+', '')}."
