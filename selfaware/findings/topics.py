"""Training without a fold of topics, and on it alone: effects by fold, whether a fold is missed, figures. Knows no claim's text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from selfaware import stats
from selfaware.comparisons import paired
from selfaware.comparisons.arms import Arm, ByFamily, mean_of
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.measures import Measure, Measured
from selfaware.interventions import drawn
from selfaware.interventions.drawn import Drawn
from selfaware.report.page import Figure, Mark, Panel, Role, Table
from selfaware.types import Question, Row, Verdict3

WITHOUT, ALONE = "without", "alone"
"""Names of the arms trained on all folds but one, and on one."""
CHANCE = 0.05
"""A fold is missed where its shortfall has a corrected p-value below this."""


@dataclass(frozen=True)
class Folds:
    """The folds by name: the topic where it is one alone, else `fold` and a number."""

    topics: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, examples: Sequence[Question], number: int) -> "Folds":
        """Those of the examples; see `drawn.folds`."""
        parts = drawn.folds(examples, number)
        return cls({p[0] if len(p) == 1 else f"fold {at}": p for at, p in enumerate(parts, 1)})

    def effects(self, made: Comparison, m: Measure, arm: Arm) -> dict[str, list[tuple[int, ByFamily | None]]]:
        """By fold, each seed that has that fold with the arm's effect; None where a cell failed."""
        found: dict[str, list[tuple[int, ByFamily | None]]] = {}
        names = list(self.topics)
        each = made.effects(made.named[m.set], arm, m.read)
        for of, effect in zip(made.replicates(arm, "high"), each, strict=True):
            if isinstance(of.recipe, Drawn):
                found.setdefault(names[of.recipe.part(of.seed)], []).append((of.seed, effect))
        return found

    def table(self) -> Table:
        """Which topics are in which fold."""
        rows = tuple((name, str(len(topics)), ", ".join(topics)) for name, topics in self.topics.items())
        caption = "Training topics, dealt at random; none of them is asked about in the test part."
        return Table("folds", "Which topics are in which fold", caption, ("fold", "topics", "which"), rows)


def arms(recipe: Drawn, number: int, by_seed: bool, examples: tuple[Question, ...], label: str) -> tuple[Arm, Arm]:
    """The arm that leaves a fold out and the one of a fold alone.

    Args:
        recipe: with the number of folds set.
        number: how many folds there are.
        by_seed: True gives each seed another fold, False runs every seed with every fold.
        label: how long it is trained, for the page.
    """
    made = []
    each = "each seed another one" if by_seed else "every one in turn"
    for name, alone, what in ((WITHOUT, False, "a fold left out"), (ALONE, True, "a fold alone")):
        recipes = tuple(
            Drawn(recipe.of, recipe.rows, recipe.folds, at, alone) for at in ((-1,) if by_seed else range(number))
        )
        about = f"Topics dealt into {number} folds, {each}; {label}. The interval is that of one new fold."
        site, positions = recipe.of.site, recipe.of.positions
        made.append(Arm(name, what, "arm", recipes, examples, about, site, positions, single=True))
    return made[0], made[1]


def answer(made: Comparison, m: Measure, whole: Arm, folds: Folds, share: float, by_seed: bool) -> tuple[Verdict3, str]:
    """Whether every fold can be left out and `share` of the effect of all rows stays."""
    theirs = dict(zip(made.seeds, made.effects(made.named[m.set], whole, m.read), strict=True))
    short: dict[str, list[ByFamily]] = {}
    for name, effects in folds.effects(made, m, made.named_arm(WITHOUT)).items():
        for seed, effect in effects:
            one = paired.apart([effect], [theirs[seed]], share)
            if not one:
                return "unclear", "a cell failed"
            short.setdefault(name, []).extend(one)
    return one_new_fold(short, m.unit) if by_seed else every_fold(short, m.unit)


def one_new_fold(short: Mapping[str, Sequence[ByFamily]], unit: str) -> tuple[Verdict3, str]:
    """The answer where each seed left out another fold: by the interval of one new fold, which each of them may be.

    Args:
        short: by fold, one table a seed: the effect without it minus what is needed.
        unit: of the effects.
    """
    each = [effect for values in short.values() for effect in values]
    said, why = stats.at_least(stats.estimate(each, unit, single=True), 0.0)
    if why.startswith("the interval"):
        return said, "a fold that is left out may or may not be missed"
    return said, {"yes": "no fold is missed", "no": "a fold that is left out is missed"}.get(said, why)


def every_fold(short: Mapping[str, Sequence[ByFamily]], unit: str) -> tuple[Verdict3, str]:
    """The answer where every fold has every seed.

    Yes needs the interval of each fold by itself, and so asks more the more folds there are. No needs one that falls short
    with a p-value corrected for having looked at all of them: of many, one would by chance.

    Args:
        short: by fold, one table a seed: the effect without it minus what is needed.
        unit: of the effects.
    """
    looks = stats.largest(short, unit=unit).looks
    missed = [
        n for n, k in looks.items() if k.p is not None and k.p < CHANCE and k.estimate.value is not None and k.estimate.value < 0
    ]  # fmt: skip
    if missed:
        return "no", f"missed when left out: {', '.join(missed)}"
    answers = [stats.at_least(stats.estimate(values, unit), 0.0) for values in short.values()]
    left = [why for said, why in answers if said != "yes"]
    if left and all(look.estimate.low is None for look in looks.values()):
        return "unclear", left[0]
    return ("unclear", f"{len(left)} of {len(short)} folds may be missed") if left else ("yes", "no fold is missed")


def rows(made: Comparison, m: Measure, folds: Folds, model: str, domain: str) -> list[Row]:
    """The effect without each fold and on it alone."""
    found = []
    for arm in (made.named_arm(WITHOUT), made.named_arm(ALONE)):
        for name, effects in folds.effects(made, m, arm).items():
            known = paired.known([effect for _, effect in effects])
            found.append(Row.of(
                stats.estimate(known, m.unit), measure=f"{m.effect}_by_fold", kind="shift", model=model, domain=domain,
                method=arm.label, polarity="effect", site=arm.site, positions=arm.positions, questions=m.set, reference="base",
                condition={"fold": name},
            ))  # fmt: skip
    return found


def figure(made: Comparison, found: Measured, m: Measure, whole: Arm, folds: Folds, title: str) -> Figure:
    """All rows, one new fold, and every fold, left out and alone."""
    panels = []
    for name, heading in ((WITHOUT, "fold left out"), (ALONE, "fold alone")):
        arm, marks = made.named_arm(name), []
        beside: tuple[tuple[str, Arm, Role], ...] = ((whole.label, whole, "base"), ("one new fold", arm, "primary"))
        for label, one, role in beside:
            key = (one.name, m.effect)
            marks.append(Mark(label, found.effects[key], "", role, mean_of(found.values[key])))
        each = folds.effects(made, m, arm)
        for fold in (f for f in folds.topics if f in each):
            known = paired.known([effect for _, effect in each[fold]])
            estimate = stats.estimate(known, m.unit, fitted=len(known) > 1)
            marks.append(Mark(fold, estimate, "", "arm", mean_of(known)))
        panels.append(Panel(f"{title}: {heading}", f"effect, {m.unit}", tuple(marks)))
    return Figure(
        f"folds-{m.set}", f"Which topics: {title}",
        "Effect after training without each fold of topics, and on it alone. A fold with a single fit has the interval over test topics alone.",
        tuple(panels),
    )  # fmt: skip
