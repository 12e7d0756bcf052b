"""A vector's doses and a random one's, block by block: profiles, whether they are alike, figures. Knows sweeps, no claim."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from selfaware import stats
from selfaware.comparisons import measures
from selfaware.comparisons.arms import Arm, Asked, View
from selfaware.comparisons.comparison import Comparison
from selfaware.findings.profiles import Sweep
from selfaware.report.page import Curves, Figure
from selfaware.types import Estimate, Question, Row, Verdict3

Answered = tuple[Verdict3, str]
Pair = tuple[str, str]

LIMITS = (0.02, 0.1)
SETS = ("choices", "self", "twin", "other_form")
TITLES = {"choices": "choices", "self": "about itself", "twin": "impersonal twins", "other_form": "other-form choices"}

PAIRS: tuple[Pair, ...] = (("choices", "self"), ("self", "twin"), ("choices", "other_form"))
"""Question sets whose profiles are held against each other."""


DAMAGE_FROM = 0.03
"""Neutral text is read at strengths from here up; what is weaker does no damage to speak of."""


def strengths(weakest: float, doublings: int) -> tuple[float, ...]:
    """±`weakest`·2^k for k below `doublings`: falling from the strongest negative one to the weakest, then rising."""
    up = [weakest * 2**k for k in range(doublings)]
    return (*(-a for a in reversed(up)), *up)


def items(asked: Sequence[Asked], count: int) -> tuple[Question, ...]:
    """The items swept, set by set: the first order of each.

    Args:
        count: at most so many of a set; 0 for all.
    """
    made: list[Question] = []
    for some in asked:
        firsts = {q.group: q for q in reversed(some.questions) if isinstance(q, Question)}
        made += list(reversed(firsts.values()))[: count or None]
    return tuple(made)


def sweep(
    made: Comparison, view: View, arm: Arm, items: Sequence[Question], strengths: Sequence[float]
) -> Sweep | None:
    """What the doses of the arm's replicates did; None where no cell came back."""
    seen = [made.seen(view, of) for of in made.replicates(arm, arm.polarities[0])]
    whole = [s for s in seen if s is not None]
    return Sweep.of(whole, items, strengths, fixed=arm.fixed) if whole else None


@dataclass(frozen=True)
class Depths:
    """What comparing two sweeps gave.

    Attributes:
        answers: by pair of question sets, whether their profiles are the same, for each sign and limit of strength.
    """

    rows: tuple[Row, ...]
    figures: tuple[Figure, ...]
    answers: Mapping[Pair, tuple[Answered, ...]]

    def answer(self, pair: Pair) -> Answered:
        """Over all signs and limits."""
        return stats.all_of(self.answers.get(pair, ()))

    def text(self, pair: Pair) -> str:
        """What was compared, for a verdict."""
        limits = " and ".join(f"{x:g}" for x in LIMITS)
        return f"{len(self.answers.get(pair, ()))} comparisons: vector added and subtracted, strengths up to {limits}."


def compared(own: Sweep, other: Sweep, usable: Mapping[str, bool], margin: float, model: str, domain: str) -> Depths:
    """Profiles of every question set under the vector and under the random direction.

    Args:
        usable: by question set, whether it passed its own check.
        margin: how far, as a share of the peak, profiles may differ and count as the same.
    """
    rows, figures, answers = list[Row](), list[Figure](), dict[Pair, tuple[Answered, ...]]()
    sweeps = {"natural": own, "random": other}
    for limit in LIMITS:
        for sign, side in ((1, "added"), (-1, "subtracted")):
            arrays = {n: s.within(own.strengths, limit, sign) for n, s in own.sets.items() if len(s.groups) > 1}
            if any(a.shape[2] == 0 for a in arrays.values()):
                continue
            told: dict[str, str | float] = {"side": side, "strength_limit": limit}
            for name in arrays:
                rows += [_peak(s, name, limit, sign, told, model, domain, arm) for arm, s in sweeps.items()]
            for pair in PAIRS:
                if pair[0] in arrays and pair[1] in arrays:
                    found = stats.alike(arrays[pair[0]], arrays[pair[1]])
                    rows.append(_distance(found, "/".join(pair), told, model, domain))
                    said = judged(found, own, other, pair, limit, sign, usable, margin)
                    answers[pair] = (*answers.get(pair, ()), said)
            figures.append(_curves(own, other, limit, sign, side))
    figures.append(Figure(
        "doses", "Block × dose", "Mean shift of the logit difference; strength is norm added over the residual stream's mean norm there.",
        (*(own.map(n, TITLES[n]) for n in own.sets), own.damage()),
    ))  # fmt: skip
    figures.append(Figure(
        "profile-of-items", "Every item's own profile",
        f"Each row is one item's curve over the blocks, mean over seeds; vector added, strengths up to {LIMITS[-1]:g}, at the strength chosen for its set.",
        tuple(own.items(n, TITLES[n], LIMITS[-1], 1) for n in own.sets),
    ))  # fmt: skip
    return Depths(tuple(rows), tuple(figures), answers)


def moved(own: Sweep, other: Sweep, set: str, margin: float) -> tuple[Verdict3, str, str]:
    """Whether the vector moves the set at any block and strength up to the largest limit; the reason, and the numbers.

    Yes where the largest shift stands out among as many looks as there are blocks and strengths, and exceeds the random direction's; no
    where no look reaches the margin.
    """
    limit, layers = LIMITS[-1], range(len(own.blocks))
    kept = [at for at, a in enumerate(own.strengths) if 0 < a <= limit * (1 + 1e-9)]
    names = {
        f"block {own.blocks[layer]}, strength {own.strengths[at]:g}": (layer, at) for layer in layers for at in kept
    }
    looks = stats.largest({name: own.sets[set].tables(*at) for name, at in names.items()}, unit=measures.NATS)
    top = looks.largest
    if top is None:
        return "unclear", next(iter(looks.looks.values())).estimate.why or "no interval", ""
    best = looks.looks[top].estimate
    beside = float(stats.peaks(other.sets[set].within(other.strengths, limit, 1)).max())
    p = looks.p if looks.p is not None else 1.0
    text = f"Largest of {len(names)} looks, {top}: {stats.spoken(best)}, p = {p:.3f} for the largest of so many. Random direction at its best: {beside:+.2f}."
    if p < 0.05 and (best.value or 0.0) > max(beside * (1 + 1e-6), 0.0):
        return "yes", "beyond what so many looks would show, and beyond a random direction", text
    highs = [look.estimate.high for look in looks.looks.values()]
    if all(high is not None and high < margin for high in highs):
        return "no", f"below {margin:g} {measures.NATS} at every block and strength", text
    return "unclear", "not beyond what so many looks would show", text


def described(own: Sweep, other: Sweep) -> Figure:
    """Profile and map of the positive arm's own statements, the vector added."""
    limit, name = LIMITS[-1], "described"
    lines = (
        own.line(name, "vector of the positive arm", limit, 1, "primary"),
        other.line(name, "random direction", limit, 1, "control"),
    )
    curve = Curves("the statements it was trained on", measures.NATS, "block", lines)
    return Figure(
        "positive-arm", "Positive arm: where self-descriptions move",
        f"The natural vector of the adapter trained on self-descriptions, on those same statements; vector added, strengths up to {limit:g}.",
        (curve,),
    )  # fmt: skip


def judged(
    pair: stats.Alike, own: Sweep, other: Sweep, sets: Pair, limit: float, sign: int,
    usable: Mapping[str, bool], margin: float,
) -> Answered:  # fmt: skip
    """Judged only where both sets pass their check and move further at their peak than under the random direction."""
    for name in sets:
        if not usable[name]:
            return "unclear", "instrument"
        top = stats.peaks(own.sets[name].within(own.strengths, limit, sign)).max()
        if top <= stats.peaks(other.sets[name].within(other.strengths, limit, sign)).max():
            return "unclear", f"{TITLES[name]} move no further than under a random direction"
    return pair.answer(margin)


def _peak(
    sweep: Sweep, name: str, limit: float, sign: int, told: Mapping[str, str | float], model: str, domain: str, arm: str
) -> Row:
    """The largest layer of a profile. Its interval is that of the dose and layer chosen, which were chosen for being large."""
    line = sweep.line(name, "", limit, sign)
    top = max(range(len(line.x)), key=lambda at: line.estimates[at].value or 0.0)
    return Row.of(
        line.estimates[top], measure="peak_shift" if arm == "natural" else "random_peak_shift", kind="shift", model=model, domain=domain,
        method=arm, site=str(int(line.x[top])), questions=name, reference="base", condition={**told, "block": int(line.x[top])},
    )  # fmt: skip


def _distance(pair: stats.Alike, sets: str, told: Mapping[str, str | float], model: str, domain: str) -> Row:
    value = pair.distance if math.isfinite(pair.distance) else None
    high = pair.high if value is not None and math.isfinite(pair.high) else None
    estimate = Estimate(
        value,
        0.0 if high is not None else None,
        high,
        0,
        0,
        "share of the peak",
        why="" if high is not None else "undefined: a profile without a peak, or one that redrawn questions lose",
    )
    return Row.of(
        estimate, measure="profile_distance", kind="absolute", model=model, domain=domain, method="natural", questions=sets,
        condition={**told, "p_of_no_difference": round(pair.p, 4)},
    )  # fmt: skip


def _curves(own: Sweep, other: Sweep, limit: float, sign: int, side: str) -> Figure:
    panels = []
    for name in own.sets:
        lines = (
            own.line(name, "the adapter's vector", limit, sign, "primary"),
            other.line(name, "random direction", limit, sign, "control"),
        )
        panels.append(Curves(TITLES[name], measures.NATS, "block", lines))
    return Figure(
        f"profile-{side}-{limit:g}".replace(".", "_"), f"Profile over depth: vector {side}, strengths up to {limit:g}",
        "At each block the strength that moves the set most, counted in the direction expected. The interval is that of the strength shown; "
        "the random direction takes its own largest strength, so that the height of its curve is what choosing alone gives.",
        tuple(panels),
    )  # fmt: skip
