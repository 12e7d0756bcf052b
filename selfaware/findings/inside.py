"""What looks at differences saw, as values by text, and their figures. Knows arms, sites and texts; no claim."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfaware import stats
from selfaware.comparisons.arms import ByFamily, estimated, mean_of
from selfaware.comparisons.comparison import Comparison
from selfaware.domains.loader import Domain, passages
from selfaware.report.page import Curves, Figure, Heat, Line, Mark, Panel
from selfaware.stages import Seen
from selfaware.types import Estimate, Form, Passage, Question, Row, Verdict3

Array = NDArray[Any]
Pick = Callable[[Seen], Array]
"""What a look saw → one number for each text, `[N]`."""

KINDS = ("passages", "prompts")
GATE = (
    ("sign_share", "sign_share", "share of tokens with the commoner sign"),
    ("coefficient_variation", "variation", "standard deviation over mean of a·x"),
    ("identity_cosine", "identity", "absolute cosine with B"),
)
"""Of a·x at rank 1: measure, number of the look, unit."""
CENTRED = ("uncentred", "centred")


def at(number: str, site: int) -> Pick:
    """The number of that name at a site."""
    return lambda seen: np.asarray(seen.numbers[number][site])


def fall(site: int) -> Pick:
    """How far the first token's cosine with the others lies below the others' own."""
    return lambda seen: np.asarray(seen.numbers["cosine"][site] - seen.numbers["first"][site])


def component(site: int, centred: int, number: int) -> Pick:
    """The share of one principal component."""
    return lambda seen: np.asarray(seen.numbers["explained"][site, :, centred, number])


def plain(number: str) -> Pick:
    """The number of that name, which has no sites."""
    return lambda seen: np.asarray(seen.numbers[number])


def relative(site: int, token: int) -> Pick:
    """Norm of what is added over that of the base model's output, at one token."""
    return lambda seen: np.asarray(seen.numbers["norms"][site, :, token] / seen.numbers["base"][site, :, token])


def texts(domain: Domain, form: Form, count: int) -> tuple[tuple[Passage, ...], tuple[Question, ...]]:
    """Neutral passages, and decisions of the test part, one of each topic."""
    by_topic = {q.family: q for q in reversed(domain.questions("choices", "test", form))}
    return passages()[:count], tuple(reversed(by_topic.values()))[:count]


def sites(own: str, block: int, depth: int, downstream: Sequence[int]) -> tuple[str, ...]:
    """Where an adapter is looked at: its own site where it has one, its block's output, blocks above, the last one."""
    above = sorted({b for b in (*(block + d for d in downstream), depth - 1) if block < b < depth})
    return tuple(dict.fromkeys(filter(None, (own, str(block), *map(str, above)))))


@dataclass(frozen=True)
class Inside:
    """What the looks of `readouts.differences.Differences` saw.

    Attributes:
        families: of the texts, by kind, in their order.
        sites: by arm, as the look was given them.
        homes: by arm, which of its sites is its block's output.
    """

    made: Comparison
    families: Mapping[str, tuple[str, ...]]
    sites: Mapping[str, tuple[str, ...]]
    homes: Mapping[str, int]

    def label(self, arm: str) -> str:
        """As written on the page."""
        return self.made.named_arm(arm).label

    def seen(self, arm: str) -> list[list[Seen]]:
        """For each seed whose cells all came back, what was seen at each of the arm's polarities."""
        of, view = self.made.named_arm(arm), next(v for v in self.made.views if arm in v.arms)
        runs = zip(*(self.made.replicates(of, p) for p in of.polarities), strict=True)
        found = [[self.made.seen(view, one) for one in run] for run in runs]
        return [[s for s in run if s is not None] for run in found if all(s is not None for s in run)]

    def values(self, arm: str, kind: str, pick: Pick) -> list[ByFamily]:
        """For each seed the number of every text of a kind, mean over polarities; None where there is no number."""
        start, names = 0 if kind == KINDS[0] else len(self.families[KINDS[0]]), self.families[kind]
        found = list[ByFamily]()
        for run in self.seen(arm):
            each = np.stack([pick(s)[start : start + len(names)] for s in run]).astype(np.float64).mean(0)
            found.append({n: float(v) if np.isfinite(v) else None for n, v in zip(names, each, strict=True)})
        return found

    def estimate(self, arm: str, kind: str, pick: Pick, unit: str = "cosine") -> Estimate:
        """Over seeds and texts; over texts alone for somebody's adapter."""
        return estimated(self.made.named_arm(arm), self.values(arm, kind, pick), unit)

    def beyond(self, arm: str, control: str, kind: str, pick: Pick) -> Estimate:
        """The arm's number minus the control's, seed by seed and text by text; undefined where a cell failed.

        Somebody's adapter has no seeds: it is held against each copy of the control, and the interval is that of a new copy.
        """
        own, other = self.values(arm, kind, pick), self.values(control, kind, pick)
        fixed = self.made.named_arm(arm).fixed
        own = own * len(other) if fixed else own
        if len(own) != len(other):
            return Estimate(None, None, None, 0, len(own), "cosine", why="a cell failed")
        return stats.estimate(stats.difference(own, other), "cosine", single=fixed)


def constant(inside: Inside, arms: tuple[str, str], site: int, kind: str, bound: float) -> tuple[Verdict3, str, str]:
    """Whether the mean cosine reaches the bound, beyond the control's; the reason, and the numbers.

    Args:
        arms: the one judged, and its control.
    """
    pick, name = at("cosine", site), f"{kind} at {inside.sites[arms[0]][site]}"
    own, control = (inside.estimate(arm, kind, pick) for arm in arms)
    gap = inside.beyond(*arms, kind, pick)
    said, why = stats.at_least(own, bound)
    if said == "yes" and not (gap.low is not None and gap.low > 0):
        said, why = "unclear", gap.why or "its control may be as constant"
    text = f"{name[0].upper()}{name[1:]}: {stats.spoken(own)}; {inside.label(arms[1])} {stats.spoken(control)}."
    return said, f"{name}: {why}", text


def rows(inside: Inside, model: str, domain: str) -> list[Row]:
    """Cosines and first components of every arm at every site, on both kinds of text."""
    made: list[Row] = []
    for arm, names in inside.sites.items():
        for site, name in enumerate(names):
            there = "" if site == inside.homes[arm] else "_elsewhere"
            for kind in KINDS:
                about = (inside, arm, kind, model, domain)
                made += [
                    _row(*about, f"pairwise_cosine{there}", at("cosine", site), name),
                    _row(*about, f"first_token_gap{there}", fall(site), name),
                    _row(*about, "pairwise_cosine_with_first", at("with_first", site), name),
                    _row(*about, "first_token_cosine", at("first", site), name),
                    _row(*about, "cosine_across_texts", at("across", site), name),
                ]
                for number, centred in enumerate(CENTRED):
                    pick, unit = component(site, number, 0), "share of the sum of squares"
                    made.append(_row(*about, "first_component", pick, name, unit, rows=centred))
            about = (inside, arm, KINDS[1], model, domain)
            made.append(_row(*about, "pairwise_cosine_of_answer", at("answer", site), name))
    return made


def gate_rows(inside: Inside, arm: str, model: str, domain: str) -> list[Row]:
    """What a·x of an adapter of rank 1 is like."""
    return [
        _row(inside, arm, kind, model, domain, measure, plain(number), inside.sites[arm][0], unit)
        for kind in KINDS
        for measure, number, unit in GATE
    ]


def _row(
    inside: Inside, arm: str, kind: str, model: str, domain: str, measure: str, pick: Pick, site: str, unit: str = "cosine", **told: str
) -> Row:  # fmt: skip
    of = inside.made.named_arm(arm)
    polarity = of.polarities[0] if len(of.polarities) == 1 else ""
    return Row.of(
        inside.estimate(arm, kind, pick, unit), measure=measure, kind="absolute", model=model, domain=domain, method=of.label,
        polarity=polarity, site=site, positions="all", questions=kind, condition=told,
    )  # fmt: skip


def maps(inside: Inside, shown: Sequence[tuple[str, int]], polarity: str) -> Figure:
    """The first seed's map of the first passage, for arms at sites.

    Args:
        shown: arm's name and the site's number.
        polarity: of the adapter that is drawn.
    """
    heats = []
    for arm, site in shown:
        runs = inside.seen(arm)
        if runs:
            values = runs[0][0].numbers["map"][site]
            names = tuple(str(t) for t in range(len(values)))
            cells = tuple(tuple(float(v) if np.isfinite(v) else None for v in row) for row in values)
            title = f"{inside.label(arm)}, at {inside.sites[arm][site]}"
            heats.append(Heat(title, "cosine", names, names, cells, (-1.0, 1.0), over=("token", "token")))
    return Figure(
        "maps", "Token by token: cosine of the differences",
        f"Cosine of what is added at one token with what is added at another, on the first neutral passage, first seed, {polarity} training. One direction at all tokens "
        "is one colour throughout. At rank 1, at the adapter's own module, all are ±1 by construction: only the signs say something.",
        tuple(heats),
    )  # fmt: skip


def cosines(inside: Inside, bound: float) -> Figure:
    """Mean cosine of two tokens of one text, for every arm at every site.

    Args:
        bound: shaded from here to 1.
    """
    panels = []
    for kind in KINDS:
        marks = tuple(
            _mark(inside, arm, kind, at("cosine", site), inside.label(arm), f"at {name}")
            for arm, names in inside.sites.items()
            for site, name in enumerate(names)
        )
        panels.append(Panel(kind, "cosine", marks, band=(bound, 1.0)))
    return Figure(
        "cosines", "How constant the direction is",
        f"Mean cosine, with its sign, of what is added at two tokens of one text, the first tokens left out. Shaded: one direction, by the bound of {bound:g}.",
        tuple(panels),
    )  # fmt: skip


def others(inside: Inside) -> Figure:
    """The first token, and other texts, beside the tokens of one text; at each arm's block."""
    panels = []
    for kind in KINDS:
        marks = tuple(
            _mark(inside, arm, kind, at(number, inside.homes[arm]), inside.label(arm), note)
            for arm in inside.sites
            for number, note in (("cosine", "one text"), ("first", "first token"), ("across", "other texts"))
        )
        panels.append(Panel(kind, "cosine", marks))
    return Figure(
        "first", "The first token, and other texts",
        "At the block's output: mean cosine of two tokens of one text but the first; of the first token with those; of tokens of different texts of a kind.",
        tuple(panels),
    )  # fmt: skip


def variances(inside: Inside) -> Figure:
    """Shares of three principal components at each arm's block."""
    panels = []
    for arm in inside.sites:
        home = inside.homes[arm]
        marks = [
            _mark(inside, arm, KINDS[0], component(home, number, c), f"component {c + 1}", name, "share")
            for number, name in enumerate(CENTRED)
            for c in range(3)
        ]
        title = f"{inside.label(arm)}, at {inside.sites[arm][home]}"
        panels.append(Panel(title, "share of the sum of squares", tuple(marks)))
    return Figure(
        "explained", "Variance explained",
        "Share of the sum of squares of a passage's differences, the first token left out, along three principal components. One direction at all tokens "
        "is the first uncentred component; centring takes away the direction itself where its length is the same at all tokens.",
        tuple(panels),
    )  # fmt: skip


def gate(inside: Inside, arm: str) -> Figure:
    """Signs and spread of a·x of the adapter of rank 1."""
    panels = []
    for _, name, unit in GATE[:2]:
        marks = tuple(_mark(inside, arm, kind, plain(name), kind, unit=unit) for kind in KINDS)
        panels.append(Panel(unit, unit, marks, zero=0.5 if name == "sign_share" else 0.0))
    return Figure(
        "gate", "Rank 1: the gate a·x",
        "Share of tokens whose a·x has the commoner sign (one half: no sign prevails), and its spread over its mean. A constant vector has 1 and 0.",
        tuple(panels),
    )  # fmt: skip


def by_token(inside: Inside) -> Figure:
    """Norm of what is added over that of the stream, token by token, at the outputs of blocks."""
    panels, unit = [], "share of the stream's norm"
    for arm, names in inside.sites.items():
        runs = inside.seen(arm)
        if not runs or not inside.families[KINDS[0]]:
            continue
        known = np.isfinite(runs[0][0].numbers["norms"][0, : len(inside.families[KINDS[0]])])
        length, lines = int(known.all(0).sum()), []
        for site, name in ((s, n) for s, n in enumerate(names) if n.isdigit()):
            each = tuple(inside.estimate(arm, KINDS[0], relative(site, token), unit) for token in range(length))
            lines.append(Line(f"at {name}", tuple(map(float, range(length))), each))
        panels.append(Curves(inside.label(arm), unit, "token", tuple(lines)))
    return Figure(
        "norms", "How much is added, token by token",
        "Norm of the difference over the norm of the base model's residual stream at the same token; neutral passages, 95 % bands over seeds and passages. Token 0 is the first.",
        tuple(panels),
    )  # fmt: skip


def _mark(inside: Inside, arm: str, kind: str, pick: Pick, label: str, note: str = "", unit: str = "cosine") -> Mark:
    values = inside.values(arm, kind, pick)
    of = inside.made.named_arm(arm)
    return Mark(label, estimated(of, values, unit), "", of.role, mean_of(values), note)
