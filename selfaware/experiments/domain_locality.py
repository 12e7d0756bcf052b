"""domain-locality: do different behaviours live along different directions of one model, and does each move only its own?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfaware import stats
from selfaware.comparisons import shared
from selfaware.comparisons.arms import Arm, Asked, ByFamily, Findings, Replicate, View
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.measures import NATS, Measure, Measured, measured
from selfaware.comparisons.measures import chosen as chosen_share
from selfaware.comparisons.shared import Shared
from selfaware.domains import loader
from selfaware.errors import BadData
from selfaware.findings import pictures
from selfaware.interventions import drawn
from selfaware.interventions.distil import Natural
from selfaware.metrics import damage, options
from selfaware.readouts.null import NullCosines
from selfaware.report.page import Claim, Figure, Heat, Mark, Panel, Role
from selfaware.stages import Bench
from selfaware.types import Estimate, Row, Verdict

Array = NDArray[Any]

NAME = "domain-locality"
TITLE = "Domain locality: one direction for each behaviour?"
QUESTION = "Are the directions of different behaviours unrelated in one model, and does each adapter move its own behaviour alone?"
CLAIMS = (
    Claim(
        "unrelated-directions",
        "The directions of two behaviours are no more alike than random ones with the residual's covariance, while those of one behaviour are.",
        "Near zero between risky choices and insecure code (Bozoukov et al. 2025; no numbers, and the base models differ).",
    ),
    Claim(
        "effects-local",
        "An adapter of one behaviour moves choices of the others by no more than the margin.",
    ),
)
HEADLINE = ("cosine_between", "cosine_within", "cosine_halves", "cosine_null", "choice_share_effect", "self_effect")
SCALES = ("smoke", "small", "full")


@dataclass(frozen=True)
class Settings:
    """What is held against each other.

    Attributes:
        shared: fits and questions; `shared.lora` is fitted in every domain.
        beside: the domains beside the one that is named; empty for every built-in one that has statements.
        draws: pairs of random directions of the null.
        margin: the largest effect on another domain's choices that counts as none, share of choices.
    """

    shared: Shared = field(default_factory=Shared)
    beside: tuple[str, ...] = ()
    draws: int = 2000
    margin: float = 0.1


def settings(scale: str) -> Settings:
    """The settings of a scale: `full` has five seeds and every domain, `small` the two whose options are a line of prose."""
    prose = ("risky_choices", "near_or_far")
    if scale == "smoke":
        return Settings(shared.smoke(), prose, draws=50)
    return Settings(shared.full()) if scale == "full" else Settings(beside=prose)


def check(domain: loader.Domain) -> None:
    """Whether the domain has what the experiment asks; see `shared.check`."""
    shared.check(domain)


def domains(domain: loader.Domain, chosen: Settings) -> tuple[loader.Domain, ...]:
    """The named domain and those beside it.

    Raises:
        BadData: there is none beside it, or one of them lacks statements or test records.
    """
    names = chosen.beside or tuple(n for n in loader.names() if loader.load(n).has("self"))
    others = tuple(loader.load(n) for n in names if n != domain.name)
    if not others:
        raise BadData("domain-locality: one domain alone; two at least are needed. Name others with --set beside=NAME.")
    for other in others:
        shared.check(other)
    return (domain, *others)


def comparison(bench: Bench, domain: loader.Domain, chosen: Settings) -> Comparison:
    """In every domain the adapter and its vector, each asked every domain's choices and statements."""
    common, arms, asked = chosen.shared, list[Arm](), list[Asked]()
    every = domains(domain, chosen)
    lora = common.templated(common.lora)
    natural = Natural(lora, texts=tuple(p.text for p in loader.passages()))
    for one in every:
        examples = common.examples(one)
        role: Role = "primary" if one is domain else "arm"
        arms.append(
            Arm(
                f"{one.name}/lora",
                f"{lora.label}: {one.title}",
                role,
                (lora,),
                examples,
                f"{lora.label} on {lora.site}, trained on {one.title}.",
                lora.site,
                lora.positions,
            )
        )
        arms.append(
            Arm(
                f"{one.name}/vector",
                f"vector: {one.title}",
                "arm",
                (natural,),
                examples,
                "Its mean vector on neutral text.",
                lora.site,
                lora.positions,
                sets=("neutral",),
            )
        )
        for number, fold in enumerate(drawn.folds(examples, 2), 1):
            half = tuple(q for q in examples if q.family in fold)
            arms.append(
                Arm(f"{one.name}/half-{number}", f"vector, half {number}: {one.title}", "arm", (natural,), half,
                    f"The same of an adapter trained on {len(fold)} of the topics. Not asked anything.", lora.site, lora.positions, sets=("none",))
            )  # fmt: skip
        for of in common.sets(one, ("self", "twin"))[:-1]:
            asked.append(Asked(f"{one.name}: {of.name}", of.questions, of.template, part=of.part))
    asked.append(common.sets(domain, ())[-1])
    null = NullCosines(lora.site, chosen.draws, 0, common.template)
    texts = tuple(q for one in every for q in common.examples(one)[:32])
    return Comparison(bench, arms, asked, common.seeds, [View("null", null, (), texts, cost=40.0 * len(texts))])


def findings(made: Comparison, domain: loader.Domain, chosen: Settings, model: str) -> Findings:
    """The cosine matrix with its null and ceiling, and the effect of every adapter on every domain's choices and statements."""
    every = domains(domain, chosen)
    of = []
    for one in every:
        share = f"share of {one.polarities['high']} choices"
        of.append(Measure("choice_share", "choice_share_effect", f"{one.name}: choices", chosen_share, share))
        of += [
            Measure("report_score", f"{n}_effect", f"{one.name}: {n}", options.scores, NATS) for n in ("self", "twin")
        ]
    of += [Measure("kl_from_base", "", "neutral", damage.divergence, NATS, toward=False)]
    found = measured(made, [_apart(m) for m in of], model, domain.name)
    names = [one.name for one in every]
    vectors = {name: _vectors(made, name) for name in names}
    seen = made.seen(made.views[0], Replicate())
    null = None if seen is None else seen.numbers["matched"]
    cosines = {
        (a, b): _between(vectors[a], vectors[b]) if a != b else _within(vectors[a]) for a in names for b in names
    }
    halves = {name: _between(_vectors(made, name, "half-1"), _vectors(made, name, "half-2")) for name in names}
    limit = float(np.quantile(null, 0.95)) if null is not None else 0.0
    rows = list(found.rows)
    for (a, b), estimate in cosines.items():
        if a <= b:
            measure = "cosine_within" if a == b else "cosine_between"
            rows.append(
                Row.of(
                    estimate,
                    measure=measure,
                    kind="absolute",
                    model=model,
                    domain=a,
                    method="vector",
                    reference=b,
                    condition={"null_95": round(limit, 4)},
                )
            )
    for name, estimate in halves.items():
        rows.append(Row.of(
            estimate, measure="cosine_halves", kind="absolute", model=model, domain=name, method="vector", reference="other half of the topics",
            condition={"null_95": round(limit, 4)},
        ))  # fmt: skip
    if null is not None:
        rows.append(_null_row(null, model, domain.name))
    verdicts = (_directions(cosines, halves, names, limit, null is not None), _effects(found, names, chosen.margin))
    cosine_figures = (_cosine_map(cosines, names, limit), _cosine_marks(cosines, halves, names, limit))
    figures = (
        *cosine_figures,
        *(_effect_map(found, names, s) for s in ("choices", "self", "twin")),
    )
    named = tuple(replace(row, measure=row.measure.split(" (")[0]) for row in rows)  # the set says whose questions
    return Findings(named, verdicts, figures, (pictures.harm(made),))


def _apart(m: Measure) -> Measure:
    """The measure with its effect named by its set, so that several domains' effects keep apart."""
    return replace(m, effect=f"{m.effect} ({m.set})") if m.effect else m


def _vectors(made: Comparison, name: str, which: str = "vector") -> list[Array]:
    """For each seed (v_high − v_low) / 2, of length one: what both polarities share, the format of the data, drops out."""
    arm = made.named_arm(f"{name}/{which}")
    both = [[made.vector(of) for of in made.replicates(arm, polarity)] for polarity in ("high", "low")]
    halves = [(up - down) / 2 for up, down in zip(*both, strict=True) if up is not None and down is not None]
    return [v / np.linalg.norm(v) for v in halves if np.linalg.norm(v) > 0]


def _between(first: Sequence[Array], second: Sequence[Array]) -> Estimate:
    """Mean cosine of every seed's vector of one domain with every seed's of the other, both random and crossed."""
    values: list[ByFamily] = [{str(at): float(a @ b) for at, b in enumerate(second)} for a in first]
    return stats.estimate(values, "cosine")


def _within(vectors: Sequence[Array]) -> Estimate:
    """Mean cosine of the same domain's vectors of different seeds: how alike two directions can be at best. Pairs share seeds, so there is no interval."""
    pairs = [float(a @ b) for a, b in combinations(vectors, 2)]
    if not pairs:
        return Estimate(None, None, None, 0, len(vectors), "cosine", why="one seed")
    return Estimate(
        float(np.mean(pairs)), None, None, len(pairs), len(vectors), "cosine", why="pairs of seeds are not independent"
    )


def _null_row(null: Array, model: str, domain: str) -> Row:
    middle, high = (float(np.quantile(null, q)) for q in (0.5, 0.95))
    estimate = Estimate(middle, 0.0, high, len(null), 0, "absolute cosine")
    return Row.of(
        estimate,
        measure="cosine_null",
        kind="absolute",
        model=model,
        domain=domain,
        method="random pairs with the residual's covariance",
    )


def _directions(
    cosines: Mapping[tuple[str, str], Estimate],
    halves: Mapping[str, Estimate],
    names: Sequence[str],
    limit: float,
    known: bool,
) -> Verdict:
    claim, pairs = CLAIMS[0].name, list(combinations(names, 2))
    told = "; ".join(f"{a} with {b}: {stats.spoken(cosines[a, b])}" for a, b in pairs)
    told += (
        ". Within: "
        + "; ".join(f"{n} {stats.spoken(cosines[n, n])}" for n in names)
        + ". Halves of the topics: "
        + "; ".join(f"{n} {stats.spoken(halves[n])}" for n in names)
        + f". Null: 95 % below {limit:.2f}."
    )
    weak = [n for n in names if (cosines[n, n].value or 0.0) <= limit]
    if not known or weak:
        why = (
            f"seeds of {', '.join(weak)} agree no better than random directions" if known else "the null was not drawn"
        )
        return Verdict(claim, "unclear", why, told)
    said, why = stats.all_of([stats.inside(cosines[pair], limit) for pair in pairs])
    return Verdict(claim, said, why, told)


def _effects(found: Measured, names: Sequence[str], margin: float) -> Verdict:
    """Judged on pairs whose adapter moves its own domain's choices."""
    parts, told = [], []
    for a in names:
        own = found.effects[f"{a}/lora", f"choice_share_effect ({a}: choices)"]
        told.append(f"{a} on its own: {stats.spoken(own)}")
        for b in (n for n in names if n != a):
            other = found.effects[f"{a}/lora", f"choice_share_effect ({b}: choices)"]
            told.append(f"on {b}: {stats.spoken(other)}")
            parts.append(
                stats.inside(other, margin)
                if own.excludes_zero()
                else ("unclear", f"{a}: the adapter has no established effect of its own")
            )
    said, why = stats.all_of(parts)
    return Verdict(CLAIMS[1].name, said, why, "; ".join(told) + ".")


def _cosine_map(cosines: Mapping[tuple[str, str], Estimate], names: Sequence[str], limit: float) -> Figure:
    values = tuple(tuple(cosines[a, b].value for b in names) for a in names)
    notes = tuple(tuple(stats.spoken(cosines[a, b]) if a != b else "seeds" for b in names) for a in names)
    heat = Heat("cosine of (high − low) / 2", "cosine", tuple(names), tuple(names), values, (-1.0, 1.0), notes)
    return Figure(
        "cosines", "How alike the directions are",
        f"Off the diagonal: mean over every pair of seeds. On it: the ceiling, the same domain's other seeds. Random directions with the residual's covariance: 95 % lie within ±{limit:.2f}.",
        (heat,),
    )  # fmt: skip


def _cosine_marks(
    cosines: Mapping[tuple[str, str], Estimate], halves: Mapping[str, Estimate], names: Sequence[str], limit: float
) -> Figure:
    marks = [Mark(f"{a} with {b}", cosines[a, b]) for a, b in combinations(names, 2)]
    marks += [Mark(n, cosines[n, n], "", "instrument", note="other seeds") for n in names]
    marks += [Mark(n, halves[n], "", "instrument", note="halves of the topics") for n in names]
    return Figure(
        "ceilings", "Between domains, and both ceilings",
        f"The same with intervals, and a second ceiling: adapters trained on either half of a domain's topics. Shaded: 95 % of random directions, within ±{limit:.2f}.",
        (Panel("cosine of (high − low) / 2", "cosine", tuple(marks), band=(-limit, limit)),),
    )  # fmt: skip


def _effect_map(found: Measured, names: Sequence[str], set: str) -> Figure:
    effect = "choice_share_effect" if set == "choices" else f"{set}_effect"
    cells = [[found.effects.get((f"{a}/lora", f"{effect} ({b}: {set})")) for b in names] for a in names]
    values = tuple(tuple(c.value if c else None for c in row) for row in cells)
    notes = tuple(tuple(stats.spoken(c) if c else "" for c in row) for row in cells)
    top = max((abs(v) for row in values for v in row if v is not None), default=1.0) or 1.0
    unit = next((c.unit for row in cells for c in row if c), NATS)
    title = {"choices": "choices", "self": "statements about itself", "twin": "impersonal twins"}[set]
    heat = Heat(title, unit, tuple(names), tuple(names), values, (-top, top), notes, ("trained on", f"asked, {title}"))
    return Figure(
        f"effects-{set}",
        f"What each adapter moves: {title}",
        "Rows: what the adapter was trained on. Columns: what was asked.",
        (heat,),
    )


def caveats(domain: loader.Domain, chosen: Settings) -> tuple[str, ...]:
    """What a reader of the page must keep in mind."""
    return (
        "All adapters sit at one place of one base model. Their directions share whatever all training of this form does, except what (high − low) / 2 cancels.",
        f"Unrelated means: the interval of the mean cosine lies within what 95 % of random pairs reach. Effects inside ±{chosen.margin:g} count as none.",
    )
