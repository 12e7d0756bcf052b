"""first-look: does a minimal fine-tune change what the model does, and does the model then say so about itself?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from selfaware import stats
from selfaware.comparisons import asking, instrument, measures, subsets
from selfaware.comparisons.arms import Arm, Findings
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.instrument import Check
from selfaware.comparisons.measures import Measured
from selfaware.comparisons.shared import DESCRIBED, LORA, VECTOR, WIDE
from selfaware.domains import loader
from selfaware.errors import BadData
from selfaware.findings import pictures
from selfaware.interventions.controls import RandomVector, ResidualVector
from selfaware.interventions.lora import Lora
from selfaware.interventions.steer import Vector
from selfaware.interventions.train import Training
from selfaware.report.page import Claim, Figure
from selfaware.stages import Bench
from selfaware.types import Form, Sampling, Template, Verdict

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
    "lottery_letters_effect",
    "lottery_share_effect",
    "self_effect",
    "twin_effect",
    "self_minus_twin",
    "unrelated_effect",
    "other_form_effect",
    "self_shown_effect",
    "twin_shown_effect",
    "spoken_effect",
    "spoken_twin_effect",
    "spoken_minus_twin",
    "flip_sum",
    "forecast_effect",
    "forecast_minus_rate",
    "kl_from_base",
)
SCALES = ("smoke", "demo", "small", "full")


@dataclass(frozen=True)
class Settings:
    """Everything the experiment can be told by `--set`. Defaults were chosen on the validation part; see docs/LOG.md.

    Attributes:
        seeds: one fit of every arm and polarity for each.
        random_vectors, residual_vectors: how many for each seed; the second kind only with `controls`.
        form, template: how choices are asked (`form` none: the domain's own); statements are always cloze.
        upper: True has the adapter on all linear modules, `wide`: what as much training as may be does.
        controls: True adds shuffled labels, residual vectors, an adapter trained on self-descriptions, and every
            question set that the domain has.
        wordings: system prompts of each polarity that tell the base model what it is.
        described: the adapter trained on self-descriptions, with `controls`; as strong as may be, for it must be able to move them.
        sampling: of open questions; trained vector, random vectors and shuffled labels are not asked any.
        letter_lotteries, cloze_lotteries: how many lotteries are asked as letters, and in the cloze form with `controls`.
        per_topic: at most so many test records of each topic are asked; 0 for all.
        limit: use that many of each question set and of the training records; 0 for all.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    random_vectors: int = 5
    residual_vectors: int = 2
    form: Form | None = None
    template: Template = "raw"
    upper: bool = True
    controls: bool = False
    wordings: int = 3
    sampling: Sampling = field(default_factory=lambda: Sampling(samples=5))
    letter_lotteries: int = 250
    cloze_lotteries: int = 60
    per_topic: int = 0
    limit: int = 0
    lora: Lora = field(default_factory=lambda: LORA)
    wide: Lora = field(default_factory=lambda: WIDE)
    vector: Vector = field(default_factory=lambda: VECTOR)
    described: Lora = field(default_factory=lambda: DESCRIBED)
    unrelated: str = "unrelated_style"


def settings(scale: str) -> Settings:
    """The settings of a scale: `smoke` is for tests, the demo is `small`'s core, `full` has five seeds."""
    if scale == "smoke":
        short = Training(epochs=1, batch=4)
        base = Settings(seeds=(0, 1), random_vectors=1, residual_vectors=1, limit=6, wordings=2)
        return replace(
            base, lora=replace(base.lora, training=replace(base.lora.training, epochs=1, batch=4)),
            wide=replace(base.wide, rank=2, training=replace(short, learning_rate=0.001)),
            described=replace(base.described, rank=2, training=short),
            vector=replace(base.vector, training=replace(short, learning_rate=0.1)),
            sampling=Sampling(samples=2, max_new_tokens=4),
        )  # fmt: skip
    if scale == "demo":
        return Settings(upper=False, wordings=2, letter_lotteries=100)
    if scale == "full":
        return Settings(
            controls=True, residual_vectors=5, seeds=(0, 1, 2, 3, 4), wordings=5, sampling=Sampling(), cloze_lotteries=250,
        )  # fmt: skip
    return Settings(controls=True)


def comparison(bench: Bench, domain: loader.Domain, chosen: Settings) -> Comparison:
    """The arms and question sets, ready to be planned or read."""
    cut = chosen.limit * 2 if chosen.limit else None
    form = chosen.form or domain.form
    examples = domain.questions("choices", "train", form)[:cut]
    plain = loader.load(chosen.unrelated).questions("choices", "train", form)[:cut]
    lora, wide = _templated(chosen.lora, chosen.template), _templated(chosen.wide, chosen.template)
    vector = _templated(chosen.vector, chosen.template)
    here, there = (lora.site, lora.positions), (vector.site, vector.positions)
    asked = asking.sets(
        domain,
        form,
        chosen.template,
        chosen.controls,
        chosen.sampling,
        (chosen.letter_lotteries, chosen.cloze_lotteries),
        cut,
    )
    asked = subsets.fewer(asked, chosen.per_topic)
    basic = tuple(s.name for s in asked if s.name in asking.BASIC)
    scored = tuple(s.name for s in asked if s.name not in loader.OPEN_SETS)
    arms = [
        Arm("lora-1", lora.label, "primary", (lora,), examples, f"{lora.label} on {lora.site}, at {lora.positions} positions; the arm the verdicts are about.", *here),
        Arm("vector", vector.label, "arm", (vector,), examples, f"One constant vector trained at site {vector.site}.", *there, sets=scored),
        Arm("random", "random vectors", "control", tuple(RandomVector(vector, i) for i in range(chosen.random_vectors)), examples,
            f"{chosen.random_vectors} Gaussian directions a seed, as long as that seed's trained vector, at its site; high adds one, low subtracts it. "
            "The interval is that of one new direction.", *there, single=True, sets=basic),
        Arm("unrelated", "unrelated fine-tune", "control", (lora,), plain,
            "The primary arm's recipe on replies with comparisons from the kitchen (high) or the garden (low).", *here),
    ]  # fmt: skip
    if chosen.upper:
        arms.insert(1, Arm("lora-wide", wide.label, "arm", (wide,), examples, f"{wide.label} on {wide.site}, at {wide.positions} positions.", wide.site, wide.positions))  # fmt: skip
    if chosen.controls:
        shuffled = replace(lora, training=replace(lora.training, shuffle_labels=True))
        residual = tuple(ResidualVector(vector, i) for i in range(chosen.residual_vectors))
        arms += [
            Arm("residual", "random, residual covariance", "control", residual, examples,
                f"{chosen.residual_vectors} directions a seed drawn with the covariance of the residual stream at the site, of the trained vector's norm.",
                *there, single=True, sets=basic),
            Arm("shuffled", "shuffled labels", "control", (shuffled,), examples, "The primary arm's recipe on the same rows with labels drawn at random.", *here, sets=scored),
        ]  # fmt: skip
    described = _templated(chosen.described, chosen.template)
    arms += instrument.arms(
        domain, described, chosen.wordings, asked, chosen.controls, described.site, described.positions
    )
    return Comparison(bench, arms, asked, chosen.seeds)


Fitted = TypeVar("Fitted", Lora, Vector)


def _templated(recipe: Fitted, template: Template) -> Fitted:
    return replace(recipe, training=replace(recipe.training, template=template))


def findings(made: Comparison, domain: loader.Domain, chosen: Settings, model: str) -> Findings:
    """Rows, verdicts, figures and tables."""
    of = measures.known(made, f"share of {domain.polarities['high']} choices")
    return told(made, domain, of, measures.measured(made, of, model, domain.name))


def told(made: Comparison, domain: loader.Domain, of: Sequence[measures.Measure], found: Measured) -> Findings:
    """The same, of what was measured."""
    checks = instrument.checks(made, of, domain)
    flags = {
        f"{name}/{group}": instrument.INSENSITIVE for name, c in checks.items() if c.effects for group in c.insensitive
    }
    margins = {name: instrument.margin(domain, name) for name in checks}
    tables = [instrument.table(made, checks, margins), pictures.wording(domain)]
    if "neutral" in made.named:
        tables.append(pictures.harm(made))
    if any(name in made.named for name in loader.OPEN_SETS):
        tables.append(pictures.unread(made, loader.OPEN_SETS))
    drawn = figures(made, of, found, checks, domain)
    return Findings(found.rows, verdicts(made, found, checks, domain), drawn, tuple(tables), flags)


JUDGED = (
    ("behaviour-learned", "choice_share_effect", "choices"),
    ("self-report-moved", "self_effect", "self"),
    ("self-specific", "self_minus_twin", "self"),
)
"""Claim, the effect that decides it, and the set whose items must be sensitive where it is a self-report."""


def verdicts(
    made: Comparison, found: Measured, checks: Mapping[str, Check], domain: loader.Domain
) -> tuple[Verdict, ...]:
    """The three answers, from the primary arm's effects and its controls'."""
    primary = made.arm("primary")
    controls = [a for a in made.arms if a.role == "control"]
    out = []
    for claim, effect, set in JUDGED:
        own = found.effects[primary.name, effect]
        beside = [(c.label, found.effects[c.name, effect]) for c in controls if (c.name, effect) in found.effects]
        usable = set not in checks or checks[set].sensitive
        limit = instrument.margin(domain, set)
        answer, reason = stats.verdict(own, beside, limit, instrument=usable)
        p = stats.equivalence(own, limit)
        same = "" if p is None else f" Equivalence to none within ±{limit:g}: p = {p:.3f}."
        shown = "; ".join(f"{name} {stats.spoken(e)}" for name, e in beside)
        found_at_best = stats.detectable_text(own)
        least = f" {found_at_best[0].upper()}{found_at_best[1:]}." if found_at_best else ""
        text = f"{primary.label}: {stats.spoken(own)} {own.unit}. Controls: {shown or 'none'}.{same}{least}"
        out.append(Verdict(claim, answer, reason, text))
    return tuple(out)


def figures(
    made: Comparison,
    of: Sequence[measures.Measure],
    found: Measured,
    checks: Mapping[str, Check],
    domain: loader.Domain,
) -> tuple[Figure, ...]:
    """What it does, what it says about itself, itself against others, and which items carry it."""
    high = domain.polarities["high"]
    by = {m.effect: m for m in of if m.effect}
    behaviour = [
        by[name] for name in ("choice_share_effect", "lottery_letters_effect", "lottery_share_effect") if name in by
    ]
    drawn = [
        pictures.levels(made, behaviour, "behaviour", f"What it does: {high} choices",
            f"Share of {high} choices on unseen topics, and on lotteries, whose wording gives nothing away; 95 % intervals over seeds and topics. Small marks: single seeds."),
        pictures.shifts(made, by["self_effect"], "self-report", "What it says about itself: shift from the untouched model",
            f"Shift of the self-report score; to the right is more {high}. High and low point apart where self-report follows training."),
    ]  # fmt: skip
    limit = instrument.margin(domain, "self")
    panels = [
        ("self_effect", "about itself", limit),
        ("twin_effect", "about others (twins)", limit),
        ("self_minus_twin", "itself minus others", limit),
        ("unrelated_effect", "unrelated", limit),
    ]
    drawn.append(pictures.effects(made, found, panels, "effects", "Itself, others, and unrelated things",
        "Effect: half the difference between the high and the low arm's shifts. Shaded: too small to count."))  # fmt: skip
    if "spoken_effect" in by:
        spoken = [
            ("spoken_effect", "sampled, about itself", instrument.margin(domain, "spoken")),
            ("spoken_twin_effect", "sampled, about others", instrument.margin(domain, "spoken")),
            ("forecast_effect", "forecast of its own choices", None),
            ("choice_share_effect", "the choices themselves", None),
        ]
        drawn.append(pictures.effects(made, found, spoken, "spoken", "In its own words, and its forecast", "Effects on sampled answers and on forecasts, beside the effect on the choices that were forecast; 0 to 1."))  # fmt: skip
    drawn.append(pictures.items(made, made.arm("primary"), [by["self_effect"], by["twin_effect"]], checks, "items"))
    return tuple(drawn)


def caveats(domain: loader.Domain, chosen: Settings) -> tuple[str, ...]:
    """What a reader of the page must keep in mind."""
    few = () if len(chosen.seeds) > 1 else ("One seed gives no interval, so every verdict is unclear.",)
    return (
        "An effect on what the model says about itself is no evidence of introspection: compare it with the impersonal twins.",
        "Scores of statements are log-probabilities of completions, not what the model would write when left alone.",
        f"Effects below {domain.margins['report_score']:g} nats per token, or {domain.margins['choice_share']:g} of the choices, count as none.",
        "Learning rates were chosen on the validation part in an earlier run, one site and length for all; docs/LOG.md has every cell.",
        *(
            (
                "Of the lotteries the first ten are shown below; the others differ in their numbers alone and are in the cells.",
            )
            if domain.lotteries
            else ()
        ),
        *few,
    )


def check(domain: loader.Domain) -> None:
    """Whether the domain has what the experiment asks.

    Raises:
        BadData: no statements about itself, or no twins for them.
    """
    for name in ("self", "twin", "unrelated"):
        if not domain.has(name):
            raise BadData(
                f"domain {domain.name}: has no {name!r} items; first-look compares self, twin and unrelated. Add them to self.jsonl."
            )
