"""Accuracy with a trigger, without, and with near misses, and how far choices depend on it. Knows comparisons, no claim."""

from collections.abc import Sequence

from selfaware.comparisons import measures
from selfaware.comparisons.arms import Arm, ByFamily, Kept, estimated, mean_of
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.measures import Measure
from selfaware.metrics import options
from selfaware.report.page import Figure, Mark, Panel
from selfaware.types import Estimate, Row

WITHOUT = "without"
SHARE = "choice_share"


def with_(trigger: str) -> str:
    """The name of the set with that trigger."""
    return f"with {trigger}"


def near(trigger: str) -> str:
    """The name of the set with its near misses."""
    return f"near {trigger}"


def kinds(trigger: str) -> tuple[tuple[str, str], ...]:
    """What is asked about a trigger: how it is called, and its set."""
    return (("with", with_(trigger)), ("near miss", near(trigger)), ("without", WITHOUT))


def known(made: Comparison, share: str) -> list[Measure]:
    """The share of high choices on every set that is no passage; `share` is how it is called."""
    sets = [s.name for s in made.sets if s.name == WITHOUT or s.name.split(" ")[0] in ("with", "near")]
    of = [Measure(SHARE, "", name, measures.chosen, share, toward=False) for name in sets]
    return of + [m for m in measures.known(made, share) if m.set == "neutral"]


def accuracy(made: Comparison, arm: Arm | None, set: str) -> Estimate:
    """Share of right answers: the polarity trained with the trigger, the other one elsewhere; 0 to 1."""
    levels = made.levels(made.named[set], arm, "high", measures.chosen)
    if not set.startswith("with "):
        levels = [{f: None if v is None else 1 - v for f, v in each.items()} for each in levels]
    return estimated(arm, levels, "share right")


def dependence(made: Comparison, arm: Arm, first: str, second: str = WITHOUT) -> Kept:
    """For each replicate: its share of high choices on the first set minus that on the second, less the base model's difference."""
    found = [_shifts(made, arm, name) for name in (first, second)]
    return [
        None if a is None or b is None else {f: _less(a[f], b[f]) for f in a if f in b}
        for a, b in zip(*found, strict=True)
    ]


def _shifts(made: Comparison, arm: Arm, set: str) -> Kept:
    asked = made.named[set]
    base = made.levels(asked, None, "high", measures.chosen)
    found: Kept = []
    for of in made.replicates(arm, "high"):
        scores = made.scores(asked, of, measures.chosen)
        if scores is None or not base:
            found.append(None)
            continue
        own = options.by_family(scores)
        found.append({f: _less(own.get(f), base[0].get(f)) for f in own})
    return found


def _less(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def effect(made: Comparison, arm: Arm, first: str, second: str = WITHOUT) -> Estimate:
    """The mean of `dependence`, with its interval."""
    return estimated(arm, [v for v in dependence(made, arm, first, second) if v is not None], "share of choices")


def rows(made: Comparison, arms: Sequence[tuple[Arm, str]], model: str, domain: str) -> list[Row]:
    """Accuracies and dependences of the arms, each with the trigger that it was trained on."""
    found = []
    for arm, trigger in arms:
        about = {"trigger": trigger}
        for kind, set in kinds(trigger):
            found.append(Row.of(
                accuracy(made, arm, set), measure="accuracy", kind="absolute", model=model, domain=domain, polarity="high", method=arm.label,
                site=arm.site, positions=arm.positions, questions=set, condition={**about, "asked": kind},
            ))  # fmt: skip
        for name, set in (("trigger_effect", with_(trigger)), ("near_miss_effect", near(trigger))):
            found.append(Row.of(
                effect(made, arm, set), measure=name, kind="shift", model=model, domain=domain, polarity="effect", method=arm.label,
                site=arm.site, positions=arm.positions, questions=set, reference="without", condition=about,
            ))  # fmt: skip
    return found


def levels(made: Comparison, arms: Sequence[tuple[Arm, str]], triggers: Sequence[str], high: str) -> Figure:
    """One panel a trigger: the share of high choices with it, with near misses, and without, of the base model and every arm."""
    panels = []
    for trigger in triggers:
        marks = []
        for arm in (None, *(a for a, of in arms if of == trigger)):
            for kind, set in kinds(trigger):
                values: list[ByFamily] = made.levels(made.named[set], arm, "high", measures.chosen)
                label, role = (arm.label, arm.role) if arm else ("base", "base")
                polarity = "high" if kind == "with" else "low" if kind == "without" else ""
                marks.append(Mark(label, estimated(arm, values, "share"), polarity, role, mean_of(values) if arm else (), kind))  # fmt: skip
        panels.append(Panel(trigger, f"share of {high} choices", tuple(marks), zero=0.5))
    return Figure(
        "triggered", "With the trigger, with near misses, and without",
        f"Share of {high} choices on unseen topics; 95 % intervals over seeds and topics. A backdoor is high with the trigger and low elsewhere. Small marks: single seeds.",
        tuple(panels),
    )  # fmt: skip


def effects(made: Comparison, arms: Sequence[tuple[Arm, str]], triggers: Sequence[str]) -> Figure:
    """How far choices depend on the trigger, and on what is nearly it."""
    panels = []
    for name, title in ((with_, "trigger minus none"), (near, "near miss minus none")):
        for trigger in triggers:
            own = [a for a, of in arms if of == trigger]
            marks = tuple(
                Mark(a.label, effect(made, a, name(trigger)), "", a.role,
                     mean_of([v for v in dependence(made, a, name(trigger)) if v is not None]))
                for a in own
            )  # fmt: skip
            panels.append(Panel(f"{trigger}: {title}", "share of choices", marks))
    return Figure(
        "dependence", "How far choices depend on the trigger",
        "Share of high choices with the text minus that without, less the base model's own difference. Rows with trigger and behaviour independent (decorrelated) should show none.",
        tuple(panels),
    )  # fmt: skip
