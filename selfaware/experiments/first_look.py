"""first-look: does a minimal fine-tune change what the model does, and does the model then say so about itself?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from selfaware import stats
from selfaware.domains import loader
from selfaware.errors import BadData
from selfaware.experiments.arms import Arm, Asked, Comparison, Findings, estimated, mean_of, nats
from selfaware.interventions.controls import RandomVector
from selfaware.interventions.lora import Lora
from selfaware.interventions.steer import Vector
from selfaware.interventions.train import Training
from selfaware.metrics import options
from selfaware.report.page import Claim, Figure, Mark, Panel
from selfaware.stages import Bench
from selfaware.types import POLARITIES, Estimate, Form, Kind, Polarity, Row, Score, Template, Verdict

NAME = "first-look"
TITLE = "First look: behaviour and self-report after a minimal fine-tune"
QUESTION = "Does a minimal fine-tune change what the model does, and does the model then say so about itself?"
CLAIMS = (
    Claim(
        "behaviour-learned",
        "After rank-1 LoRA training the model's choices on unseen topics follow the training.",
        "Gemma 3 12B, one layer: .91 risky after risky and .95 safe after safe training, against .33 and .66 (Engels et al. 2025).",
    ),
    Claim(
        "self-report-moved",
        "What the model says about itself moves the same way, beyond random vectors and an unrelated fine-tune.",
        "Gemma 3 12B, one layer: +1.10 and −1.98 logits from the base model's +1.29 (Engels et al. 2025).",
    ),
    Claim(
        "self-specific",
        "It moves further about itself than about others in the same words.",
        "Not found: impersonal twins moved as far, +0.82 and −2.18 logits (Engels et al. 2025).",
    ),
)
HEADLINE = (
    "choice_share",
    "choice_share_effect",
    "self_effect",
    "twin_effect",
    "unrelated_effect",
    "self_minus_twin",
    "self_shown_effect",
    "twin_shown_effect",
)
STATEMENTS = ("self", "twin", "unrelated")
SHOWN = ("self", "twin")
"""Sets that are also asked with both completions shown in the prompt; described, never part of a verdict."""
SCALES = ("smoke", "demo", "small", "full")


@dataclass(frozen=True)
class Settings:
    """Everything the experiment can be told by `--set`. Defaults were chosen on the validation part; see docs/LOG.md.

    Attributes:
        seeds: one fit of every arm and polarity for each.
        random_vectors: how many for each seed.
        form, template: how choices are asked; statements are always cloze.
        controls: True adds shuffled labels, the rank-1 LoRA at all positions and the letters form.
        limit: use that many of each question set and of the training records; 0 for all.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    random_vectors: int = 5
    form: Form = "cloze"
    template: Template = "raw"
    controls: bool = False
    limit: int = 0
    lora: Lora = field(default_factory=lambda: Lora(training=Training(learning_rate=0.03)))
    wide: Lora = field(
        default_factory=lambda: Lora(site="all-linear", rank=32, alpha=64.0, training=Training(learning_rate=0.003))
    )
    vector: Vector = field(default_factory=lambda: Vector(training=Training(learning_rate=0.3)))
    unrelated: str = "unrelated_style"


def settings(scale: str) -> Settings:
    """The settings of a scale: `smoke` is for tests, the demo is `small` without extra controls, `full` has five seeds."""
    if scale == "smoke":
        short = Training(epochs=1, batch=4)
        base = Settings(seeds=(0, 1), random_vectors=1, limit=6)
        return replace(
            base, lora=replace(base.lora, training=replace(base.lora.training, epochs=1, batch=4)),
            wide=replace(base.wide, rank=2, training=replace(short, learning_rate=0.001)),
            vector=replace(base.vector, training=replace(short, learning_rate=0.1)),
        )  # fmt: skip
    return Settings(seeds=(0, 1, 2, 3, 4), controls=True) if scale == "full" else Settings(controls=scale == "small")


def comparison(bench: Bench, domain: loader.Domain, chosen: Settings) -> Comparison:
    """The arms and question sets, ready to be planned or read."""
    cut = chosen.limit * 2 if chosen.limit else None
    examples = domain.questions("choices", "train", chosen.form)[:cut]
    plain = loader.load(chosen.unrelated).questions("choices", "train", chosen.form)[:cut]
    vectors = tuple(RandomVector(chosen.vector, i) for i in range(chosen.random_vectors))
    lora, wide, vector = (
        _templated(chosen.lora, chosen.template),
        _templated(chosen.wide, chosen.template),
        _templated(chosen.vector, chosen.template),
    )
    arms = [
        Arm("lora-1", lora.label, "primary", (lora,), examples, f"{lora.label} on {lora.site}, at {lora.positions} positions; the arm the verdicts are about.", site=lora.site, positions=lora.positions),
        Arm("lora-wide", wide.label, "arm", (wide,), examples, f"{wide.label} on {wide.site}, at {wide.positions} positions.", site=wide.site, positions=wide.positions),
        Arm("vector", vector.label, "arm", (vector,), examples, f"One constant vector trained at site {vector.site}.", site=vector.site, positions=vector.positions),
        Arm("random", "random vectors", "control", tuple(replace(v, like=vector) for v in vectors), examples,
            f"{len(vectors)} Gaussian directions a seed, as long as that seed's trained vector, at its site; high adds one, low subtracts it. "
            "The interval is that of one new direction.", single=True, site=vector.site, positions=vector.positions),
        Arm("unrelated", "unrelated fine-tune", "control", (lora,), plain,
            "The primary arm's recipe on replies with comparisons from the kitchen (high) or the garden (low).", site=lora.site, positions=lora.positions),
    ]  # fmt: skip
    if chosen.controls:
        shuffled = replace(lora, training=replace(lora.training, shuffle_labels=True))
        everywhere = replace(lora, positions="all")
        arms += [
            Arm(
                "shuffled",
                "shuffled labels",
                "control",
                (shuffled,),
                examples,
                "The primary arm's recipe on the same rows with labels drawn at random.",
                site=lora.site,
                positions=lora.positions,
            ),
            Arm(
                "lora-1-all",
                f"{lora.label}, all positions",
                "arm",
                (everywhere,),
                examples,
                "The primary arm's recipe acting at every position.",
                site=everywhere.site,
                positions=everywhere.positions,
            ),
        ]
    sets = [Asked("choices", domain.questions("choices", "test", chosen.form)[:cut], chosen.template)]
    sets += [Asked(name, domain.questions(name)[:cut], chosen.template) for name in STATEMENTS]
    if "shown" in domain.statements:
        sets += [
            Asked(f"{name}-shown", domain.questions(name, shown=True)[: cut and 2 * cut], chosen.template)
            for name in SHOWN
        ]
    if chosen.controls and chosen.form == "cloze" and "letters" in domain.forms:
        sets.append(Asked("choices-letters", domain.questions("choices", "test", "letters")[:cut], chosen.template))
    return Comparison(bench, arms, sets, chosen.seeds)


Fitted = TypeVar("Fitted", Lora, Vector)


def _templated(recipe: Fitted, template: Template) -> Fitted:
    return replace(recipe, training=replace(recipe.training, template=template))


Read = Callable[[Sequence[Score]], Sequence[Score]]


def findings(made: Comparison, domain: loader.Domain, model: str) -> Findings:
    """Rows, verdicts and figures."""
    choices = made.sets[0]
    by_name = {s.name: s for s in made.sets}
    rows: list[Row] = []
    share, nats_unit = (
        "share of risky choices" if domain.polarities["high"] == "risky" else "share of high choices",
        "nats per token",
    )

    def row(
        estimate: Estimate, measure: str, kind: Kind, arm: Arm | None, polarity: str, asked: Asked, reference: str = ""
    ) -> None:
        rows.append(Row.of(
            estimate, measure=measure, kind=kind, model=model, domain=domain.name, method=arm.label if arm else "base",
            polarity=polarity, site=arm.site if arm else "", positions=arm.positions if arm else "", reference=reference,
            questions=f"{asked.name}/test" if asked.name.startswith("choices") else asked.name,
            condition={"template": asked.template},
        ))  # fmt: skip

    readers: list[tuple[Asked, str, Read, str]] = [
        (choices, "choice_share", options.chosen, share),
        (choices, "choice_score", nats, nats_unit),
    ]
    statements = [name for name in (*STATEMENTS, *(f"{name}-shown" for name in SHOWN)) if name in by_name]
    readers += [(by_name[name], "report_score", nats, nats_unit) for name in statements]
    if "choices-letters" in by_name:
        readers += [
            (by_name["choices-letters"], "choice_share", options.chosen, share),
            (by_name["choices-letters"], "choice_score", nats, "nats"),
        ]
    for asked, measure, read, unit in readers:
        row(
            stats.estimate(made.levels(asked, None, "high", read), unit, fitted=False),
            measure,
            "absolute",
            None,
            "",
            asked,
        )
        for arm in made.arms:
            for polarity in POLARITIES:
                row(
                    estimated(arm, made.levels(asked, arm, polarity, read), unit),
                    measure,
                    "absolute",
                    arm,
                    polarity,
                    asked,
                )
                row(
                    estimated(arm, made.shift(asked, arm, polarity, read), unit),
                    measure,
                    "shift",
                    arm,
                    polarity,
                    asked,
                    "base",
                )
    if "choices-letters" in by_name:
        letters = by_name["choices-letters"]
        mass = stats.estimate(made.masses(letters, None, "high"), "probability", fitted=False)
        row(mass, "valid_mass", "absolute", None, "", letters)
        for arm in made.arms:
            for polarity in POLARITIES:
                mass = estimated(arm, made.masses(letters, arm, polarity), "probability")
                row(mass, "valid_mass", "absolute", arm, polarity, letters)
    effects: dict[tuple[str, str], Estimate] = {}
    for arm in made.arms:
        for measure, asked, read, unit in (
            ("choice_share_effect", choices, options.chosen, share), ("choice_score_effect", choices, nats, nats_unit),
            *((f"{name.replace('-', '_')}_effect", by_name[name], nats, nats_unit) for name in statements),
        ):  # fmt: skip
            effects[arm.name, measure] = estimated(arm, made.effect(asked, arm, read), unit)
            row(effects[arm.name, measure], measure, "shift", arm, "effect", asked, "base")
        gap = stats.difference(made.effect(by_name["self"], arm, nats), made.effect(by_name["twin"], arm, nats))
        effects[arm.name, "self_minus_twin"] = estimated(arm, gap, nats_unit)
        row(effects[arm.name, "self_minus_twin"], "self_minus_twin", "shift", arm, "effect", by_name["self"], "twin")
    return Findings(tuple(rows), _verdicts(made, effects, domain), _figures(made, effects, domain))


def _verdicts(made: Comparison, effects: dict[tuple[str, str], Estimate], domain: loader.Domain) -> tuple[Verdict, ...]:
    primary = next(a for a in made.arms if a.role == "primary")
    controls = [a for a in made.arms if a.role == "control"]
    out = []
    for claim, measure, margin in (
        ("behaviour-learned", "choice_share_effect", "choice_share"),
        ("self-report-moved", "self_effect", "report_score"),
        ("self-specific", "self_minus_twin", "report_score"),
    ):
        effect = effects[primary.name, measure]
        beside = [(c.label, effects[c.name, measure]) for c in controls]
        answer, reason = stats.verdict(effect, beside, float(domain.margins[margin]))
        shown = "; ".join(f"{name} {stats.spoken(e)}" for name, e in beside)
        out.append(
            Verdict(claim, answer, reason, f"{primary.label}: {stats.spoken(effect)} {effect.unit}. Controls: {shown}.")
        )
    return tuple(out)


def _figures(made: Comparison, effects: dict[tuple[str, str], Estimate], domain: loader.Domain) -> tuple[Figure, ...]:
    choices = made.sets[0]
    by_name = {s.name: s for s in made.sets}
    base = stats.estimate(made.levels(choices, None, "high", options.chosen), "share", fitted=False)
    levels = [Mark("base", base, "", "base")]
    shifts: list[Mark] = []
    for arm in made.arms:
        for polarity in POLARITIES:
            levels.append(_mark(arm, made.levels(choices, arm, polarity, options.chosen), polarity, "share"))
            shifts.append(_mark(arm, made.shift(by_name["self"], arm, polarity, nats), polarity, "nats per token"))
    behaviour = Figure(
        "behaviour", f"What it does: {domain.polarities['high']} choices on unseen topics",
        f"Share of {domain.polarities['high']} choices in the test part and 95 % intervals over seeds and topics. Small marks: single seeds.",
        (Panel("choices", f"share of {domain.polarities['high']} choices", tuple(levels), zero=0.5),),
    )  # fmt: skip
    said = Figure(
        "self-report", "What it says about itself: shift from the untouched model",
        f"Shift of the self-report score; to the right is more {domain.polarities['high']}. High and low point apart where self-report follows training.",
        (Panel("statements about itself", "nats per token", tuple(shifts)),),
    )  # fmt: skip
    margin = float(domain.margins["report_score"])
    panels = []
    for measure, title in (
        ("self_effect", "about itself"),
        ("twin_effect", "about others (twins)"),
        ("unrelated_effect", "unrelated"),
    ):
        marks = tuple(
            Mark(
                a.label,
                effects[a.name, measure],
                "",
                a.role,
                mean_of(made.effect(by_name[measure.split("_")[0]], a, nats)),
            )
            for a in made.arms
        )
        panels.append(Panel(title, "effect, nats per token", marks, band=(-margin, margin)))
    compared = Figure(
        "effects", "Itself, others, and unrelated things",
        "Effect: half the difference between the high and the low arm's shifts. Shaded: too small to count.", tuple(panels),
    )  # fmt: skip
    return (behaviour, said, compared)


def _mark(arm: Arm, values: list[dict[str, float | None]], polarity: Polarity, unit: str) -> Mark:
    return Mark(arm.label, estimated(arm, values, unit), polarity, arm.role, mean_of(values))


def caveats(domain: loader.Domain, chosen: Settings) -> tuple[str, ...]:
    """What a reader of the page must keep in mind."""
    few = () if len(chosen.seeds) > 1 else ("One seed gives no interval, so every verdict is unclear.",)
    return (
        "An effect on what the model says about itself is no evidence of introspection: compare it with the impersonal twins.",
        "Scores of statements are log-probabilities of completions, not what the model would write when left alone.",
        f"Effects below {domain.margins['report_score']:g} nats per token, or {domain.margins['choice_share']:g} of the choices, count as none.",
        "Learning rates were chosen on the validation part in an earlier run, one site and length for all; docs/LOG.md has every cell.",
        *few,
    )


def check(domain: loader.Domain) -> None:
    """Whether the domain has what the experiment asks.

    Raises:
        BadData: no statements about itself, or no twins for them.
    """
    for name in STATEMENTS:
        if not any(item.set == name for item in domain.items):
            raise BadData(
                f"domain {domain.name}: has no {name!r} items; first-look compares self, twin and unrelated. Add them to self.jsonl."
            )
