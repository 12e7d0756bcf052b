"""Figures and tables that several experiments show: levels, shifts, effects, items, surface cues, damage. Knows no claim."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from selfaware import stats
from selfaware.comparisons.arms import Arm, by_group, estimated, mean_of
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.instrument import Check
from selfaware.comparisons.measures import NATS, Measure, Measured
from selfaware.domains import surface
from selfaware.domains.loader import Domain
from selfaware.metrics import damage, parse
from selfaware.report.page import Figure, Mark, Panel, Table
from selfaware.types import Estimate


def levels(
    made: Comparison, measures: Sequence[Measure], name: str, title: str, caption: str, zero: float | None = 0.5
) -> Figure:
    """One panel a measure: the base model and every arm at either polarity."""
    panels = []
    for m in measures:
        asked = made.named[m.set]
        marks = [Mark("base", estimated(None, made.levels(asked, None, "high", m.read), m.unit), "", "base")]
        for arm in made.arms:
            for polarity in arm.polarities if arm.asked(m.set) else ():
                values = made.levels(asked, arm, polarity, m.read)
                marks.append(Mark(arm.label, estimated(arm, values, m.unit), polarity, arm.role, mean_of(values)))
        panels.append(Panel(m.set, m.unit, tuple(marks), zero=zero))
    return Figure(name, title, caption, tuple(panels))


def shifts(made: Comparison, m: Measure, name: str, title: str, caption: str) -> Figure:
    """Every arm's shift from the base model at either polarity."""
    asked, marks = made.named[m.set], []
    for arm in made.arms:
        for polarity in arm.polarities if arm.asked(m.set) else ():
            values = made.shift(asked, arm, polarity, m.read)
            marks.append(Mark(arm.label, estimated(arm, values, m.unit), polarity, arm.role, mean_of(values)))
    return Figure(name, title, caption, (Panel(m.set, m.unit, tuple(marks)),))


def effects(
    made: Comparison,
    found: Measured,
    panels: Sequence[tuple[str, str, float | None]],
    name: str,
    title: str,
    caption: str,
) -> Figure:
    """One panel for each effect: its name, the panel's title, and the margin to shade."""
    drawn = []
    for effect, heading, margin in panels:
        of = [a for a in made.arms if (a.name, effect) in found.effects]
        if of:
            marks = tuple(
                Mark(a.label, found.effects[a.name, effect], "", a.role, mean_of(found.values[a.name, effect]))
                for a in of
            )
            unit = found.effects[of[0].name, effect].unit
            drawn.append(Panel(heading, f"effect, {unit}", marks, band=None if margin is None else (-margin, margin)))
    return Figure(name, title, caption, tuple(drawn))


def items(made: Comparison, arm: Arm, measures: Sequence[Measure], checks: Mapping[str, Check], name: str) -> Figure:
    """The arm's effect on each item, largest first, and on the twins of the same family beside it."""
    first = made.named[measures[0].set]
    own = _by_item(made, arm, measures[0])
    family = first.families
    size = {g: e.value if e.value is not None else -math.inf for g, (e, _) in own.items()}
    order = sorted(own, key=lambda g: -size[g])
    panels = []
    for m in measures:
        of = own if m is measures[0] else _by_item(made, arm, m)
        by_family = {f: g for g, f in made.named[m.set].families.items()}
        stiff = checks[m.set].insensitive if m.set in checks else ()
        marks = []
        for group in order:
            other = by_family.get(family[group])
            if other in of:
                note = "insensitive" if other in stiff else ""
                marks.append(Mark(family[group], of[other][0], "", "control" if note else "arm", of[other][1], note))
        panels.append(Panel(m.set, f"effect, {m.unit}", tuple(marks)))
    return Figure(
        name, f"Which items carry it: {arm.label}",
        "Effect on each item, with the interval over replicates alone; hollow where the positive controls did not move it. Right: the impersonal twin of the same item.",
        tuple(panels),
    )  # fmt: skip


def _by_item(made: Comparison, arm: Arm, m: Measure) -> dict[str, tuple[Estimate, tuple[float, ...]]]:
    values = made.effect(made.named[m.set], arm, m.read, by_group)
    found = {}
    for group in made.named[m.set].families:
        known = [v[group] for v in values if v.get(group) is not None]
        each = stats.estimate([{str(i): v for i, v in enumerate(known)}], m.unit, fitted=False)
        found[group] = (each, tuple(float(v) for v in known if v is not None))
    return found


def wording(domain: Domain) -> Table:
    """What the wording alone gives away, so that nobody mistakes it for the behaviour."""
    rows = [
        (b.name, *("–" if x is None else f"{x:.2f}" for x in (b.validation, b.test)), str(b.records[1]))
        for b in surface.baselines(domain)
    ]
    return Table(
        "surface", "What the wording alone gives away",
        "Share of options that a shallow cue, learnt on the train part, puts on the right side; one half is chance. Choices that such a cue can make are no sign of anything deeper.",
        ("cue", "validation", "test", "test records"), tuple(rows),
    )  # fmt: skip


def harm(made: Comparison) -> Table:
    """Perplexity on neutral text and divergence from the base model, for every arm."""
    asked = made.named["neutral"]
    rows = []
    for arm in (None, *(a for a in made.arms if a.asked("neutral"))):
        for polarity in arm.polarities if arm else ("high",):
            nll = estimated(arm, made.levels(asked, arm, polarity, damage.scores), NATS)
            kl = estimated(arm, made.levels(asked, arm, polarity, damage.divergence), NATS)
            words = f"{math.exp(nll.value):.1f}" if nll.value is not None else "unknown"
            if nll.low is not None and nll.high is not None:
                words += f" [{math.exp(nll.low):.1f}, {math.exp(min(nll.high, 50)):.1f}]"
            name = f"{arm.label} · {polarity}" if arm else "base"
            rows.append((name, words, stats.spoken(kl).replace("+", "") if arm else "0"))
    return Table(
        "damage", "Damage: what else the training did",
        f"Perplexity on {len(asked.questions)} neutral passages written for this project, and KL(base ‖ arm) a token, nats.",
        ("arm", "perplexity", "KL from base"), tuple(rows),
    )  # fmt: skip


def unread(made: Comparison, sets: Sequence[str]) -> Table:
    """Sampled answers that could not be read, by reason."""
    rows = []
    for name in (s for s in sets if s in made.named):
        for arm in (None, *(a for a in made.arms if a.asked(name))):
            counts: Counter[str] = Counter()
            for polarity in arm.polarities if arm else ("high",):
                for of in made.replicates(arm, polarity):
                    got = made.answers(made.named[name], of)
                    if got is not None:
                        counts.update(sum(parse.reasons(got[0], got[2]).values(), Counter()))  # type: ignore[arg-type]
            total, read = sum(counts.values()), counts.pop(parse.READ, 0)
            why = ", ".join(f"{reason} {n}" for reason, n in counts.most_common())
            rows.append(
                (name, arm.label if arm else "base", str(total), f"{read / total:.2f}" if total else "–", why or "none")
            )
    return Table(
        "unread", "Sampled answers that could not be read",
        "They are unknown, not zero, and are left out of the scores; where few can be read a score says little.",
        ("question set", "arm", "answers", "share read", "not read, by reason"), tuple(rows),
    )  # fmt: skip
