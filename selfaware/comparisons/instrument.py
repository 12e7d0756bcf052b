"""The instrument before the claim: would these items move if the model did describe itself? Knows comparisons, no verdict.

Two positive controls. *Told*: the base model under system prompts that say it loves, or avoids, risk. *Described*: an
adapter trained directly on self-descriptions. An item that neither moves cannot show anything, and where most of a set is
like that, nothing can be concluded from the set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from selfaware.comparisons.arms import Arm, Asked, by_group
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.measures import Measure
from selfaware.domains.loader import Domain
from selfaware.interventions.base import Recipe
from selfaware.report.page import Table

SETS = ("self", "twin", "self-shown", "twin-shown", "other_form", "spoken", "spoken-twin")
INSENSITIVE = "insensitive"


def arms(
    domain: Domain,
    recipe: Recipe,
    wordings: int,
    sets: Sequence[Asked],
    trained: bool,
    site: str = "",
    positions: str = "",
) -> list[Arm]:
    """The positive controls that this domain has data for.

    Args:
        recipe: of the adapter trained on self-descriptions.
        wordings: how many system prompts of each polarity.
        sets: what is asked; self-report sets are, and the choices where an adapter is trained as well.
        trained: False leaves the adapter out.
    """
    asked = tuple(s.name for s in sets if s.name in (*SETS, *(("choices",) if trained else ())))
    made: list[Arm] = []
    if domain.told and wordings:
        system = {polarity: texts[:wordings] for polarity, texts in domain.told.items()}
        about = f"The base model under system prompts that say it is {domain.polarities['high']} or {domain.polarities['low']}, {len(system['high'])} wordings each. Positive control of the questions."
        made.append(Arm("told", "told by system prompt", "instrument", (), (), about, sets=asked, system=system))
    if trained and domain.has("described"):
        examples = domain.questions("described")
        about = f"An adapter trained directly on {len({q.group for q in examples})} self-descriptions. Positive control of the questions."
        harm = tuple(s.name for s in sets if s.name == "neutral")
        label = "trained on self-descriptions"
        made.append(
            Arm("described", label, "instrument", (recipe,), examples, about, site, positions, sets=(*asked, *harm))
        )
    return made


@dataclass(frozen=True)
class Check:
    """What the positive controls did to one set.

    Attributes:
        effects: by arm's name, by item, the effect in each replicate that was read.
        insensitive: the items that no positive control moved.
        items: how many items the set has.
    """

    effects: Mapping[str, Mapping[str, tuple[float, ...]]]
    insensitive: tuple[str, ...]
    items: int

    @property
    def sensitive(self) -> bool:
        """Whether at least half of the items can show something; without any positive control, nothing is known."""
        return bool(self.effects) and 2 * len(self.insensitive) <= self.items


def margin(domain: Domain, set: str) -> float:
    """The largest effect on that set's measure that still counts as none."""
    name = (
        "choice_share"
        if set.startswith(("choices", "lotteries"))
        else "spoken_score"
        if set.startswith("spoken")
        else "report_score"
    )
    return float(domain.margins.get(name, domain.margins["report_score"]))


def checks(made: Comparison, of: Sequence[Measure], domain: Domain) -> dict[str, Check]:
    """The check of every self-report set, by its name."""
    firsts = {m.set: m for m in reversed(of) if m.set in SETS and m.effect}
    return {name: check(made, firsts[name], margin(domain, name)) for name in SETS if name in firsts}


def check(made: Comparison, measure: Measure, margin: float) -> Check:
    """Which items of the set the positive controls move.

    An item is moved by a positive control when its mean effect over wordings, or over seeds, is at least `margin` and every
    one of them moves it towards `high`. (An interval over two or three wordings would hold zero whatever they did.)
    """
    asked = made.named[measure.set]
    found: dict[str, dict[str, tuple[float, ...]]] = {}
    groups = list(asked.families)
    for arm in made.arms:
        if arm.role == "instrument" and arm.asked(asked.name):
            values = made.effect(asked, arm, measure.read, by_group)
            found[arm.name] = {g: tuple(x for v in values if (x := v.get(g)) is not None) for g in groups}
    moved = {g for effects in found.values() for g, e in effects.items() if _moves(e, margin)}
    return Check(found, tuple(g for g in groups if g not in moved), len(groups))


def _moves(effects: Sequence[float], margin: float) -> bool:
    return bool(effects) and sum(effects) / len(effects) >= margin and min(effects) > 0


def table(made: Comparison, checks: Mapping[str, Check], margins: Mapping[str, float]) -> Table:
    """The check by item set, for the page."""
    rows = []
    named = {a.name: a.label for a in made.arms}
    for name, found in checks.items():
        each = "; ".join(
            f"{named[arm]}: {sum(_moves(e, margins[name]) for e in effects.values())} of {found.items}, mean {_mean(list(effects.values()))}"
            for arm, effects in found.effects.items()
        )
        rows.append(
            (
                name,
                str(found.items),
                str(len(found.insensitive)),
                each or "no positive control was run",
                "yes" if found.sensitive else "no",
                ", ".join(found.insensitive) or "none",
            )
        )
    return Table(
        "instrument", "Would the questions notice? The positive controls",
        "Items that the base model moves when a system prompt tells it what it is, or that an adapter trained on self-descriptions moves, by at least the margin. "
        "A set of which most items stay put can support no verdict.",
        ("question set", "items", INSENSITIVE, "moved by", "usable", "which are insensitive"), tuple(rows),
    )  # fmt: skip


def _mean(effects: Sequence[Sequence[float]]) -> str:
    values = [sum(e) / len(e) for e in effects if e]
    return f"{sum(values) / len(values):+.2f}".replace("-", "−") if values else "unknown"
