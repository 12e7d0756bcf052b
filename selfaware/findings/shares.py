"""One arm's effect as a share of another's: estimates, rows, figure, verdict. Knows measured effects, no claim."""

from collections.abc import Sequence

from selfaware import stats
from selfaware.comparisons import paired
from selfaware.comparisons.arms import Arm, Kept
from selfaware.comparisons.measures import Measured
from selfaware.report.page import Figure, Mark, Panel
from selfaware.types import Estimate, Row, Verdict3


def recovered(found: Measured, arm: Arm, of: Arm, effect: str) -> Estimate:
    """The arm's effect over the other's, with Fieller's interval; undefined where the other's interval holds zero.

    Paired by seed and family; replicates of which a cell failed are left out of both.
    """
    first, second = _kept(found, arm, effect), _kept(found, of, effect)
    pair = paired.both(first, second) if len(first) == len(second) else ([], [])
    return stats.ratio(*pair, unit=f"share of {of.label}", fitted=not arm.fixed)


def beyond(found: Measured, arm: Arm, of: Arm, effect: str, share: float) -> Estimate:
    """The arm's effect minus `share` of the other's: above zero, it is not inferior by more than 1 − `share`."""
    first, second = _kept(found, arm, effect), _kept(found, of, effect)
    values = paired.apart(first, second, share) if len(first) == len(second) else []
    return stats.estimate(values, found.effects[arm.name, effect].unit, fitted=not arm.fixed)


def _kept(found: Measured, arm: Arm, effect: str) -> Kept:
    """Its replicates in their places; those of a result that has no places are taken to be whole."""
    return found.kept.get((arm.name, effect)) or list(found.values[arm.name, effect])


def row(found: Measured, arm: Arm, of: Arm, effect: str, name: str, set: str, model: str, domain: str) -> Row:
    """The share as a row of the summary."""
    return Row.of(
        recovered(found, arm, of, effect), measure=name, kind="absolute", model=model, domain=domain, method=arm.label,
        polarity="effect", site=arm.site, positions=arm.positions, questions=set, reference=of.label,
    )  # fmt: skip


def figure(
    found: Measured, arms: Sequence[Arm], of: Arm, panels: Sequence[tuple[str, str]], name: str, title: str
) -> Figure:
    """One panel for each effect: the shares of all arms, with a line at the whole."""
    drawn = []
    for effect, heading in panels:
        known = [a for a in arms if (a.name, effect) in found.values]
        if known and (of.name, effect) in found.values:
            marks = tuple(Mark(a.label, recovered(found, a, of, effect), "", a.role) for a in known)
            drawn.append(Panel(heading, f"share of {of.label}", marks, zero=1.0))
    caption = f"The arm's effect over that of {of.label}, with Fieller's interval; the line is the whole of it. Undefined where that effect's own interval holds zero."
    return Figure(name, title, caption, tuple(drawn))


def answer(
    found: Measured, arm: Arm, of: Arm, effect: str, share: float, *, usable: bool = True
) -> tuple[Verdict3, str]:
    """Whether the arm has at least that share of the other's effect; judged only where the other has an effect.

    By the difference effect − share · other, and not by the ratio, whose interval is wide where the other's is close to zero.

    Args:
        usable: whether the questions passed their own check.
    """
    if not usable:
        return "unclear", "instrument"
    whole = found.effects[of.name, effect]
    if not whole.excludes_zero() or (whole.low or 0.0) <= 0:
        return "unclear", f"{of.label} has no established effect of its own"
    said, why = stats.at_least(beyond(found, arm, of, effect, share), 0.0)
    if why.startswith(("at least", "less than")):
        return said, f"{'not ' if said == 'yes' else ''}inferior to {share:.0%} of {of.label}"
    return said, f"it may have less or more than {share:.0%} of {of.label}" if why.startswith("the interval") else why


def beyond_random(own: Estimate, control: Estimate, said: Verdict3, why: str) -> tuple[Verdict3, str]:
    """A yes stands only where the vector's interval lies beyond that of a random direction of its length."""
    if said == "yes" and (own.low is None or control.high is None or own.low <= control.high):
        return "unclear", "not beyond a random direction of its length"
    return said, why


def undone(found: Measured, left: Arm, of: Arm, effect: str, share: float) -> tuple[Verdict3, str]:
    """Whether what is left has at most 1 − `share` of the other's effect."""
    said, why = answer(found, left, of, effect, 1 - share)
    turned: dict[Verdict3, Verdict3] = {"yes": "no", "no": "yes", "unclear": "unclear"}
    return turned[said], why


def text(found: Measured, arm: Arm, of: Arm, effect: str) -> str:
    """Both effects and the share, for a verdict."""
    own, whole = found.effects[arm.name, effect], found.effects[of.name, effect]
    part = stats.spoken(recovered(found, arm, of, effect)).replace("+", "")
    return f"{arm.label}: {stats.spoken(own)}; {of.label}: {stats.spoken(whole)} {whole.unit}; share {part}."
