"""natural-vector: is the adapter's effect that of one constant vector, read off its activations, and does removing it undo it?"""

from dataclasses import dataclass, field, replace

from selfaware.comparisons import instrument, measures, shared
from selfaware.comparisons.arms import Arm, Asked, Findings
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.shared import Shared
from selfaware.domains import loader
from selfaware.findings import harm, pictures, shares
from selfaware.interventions.ablate import AblatedB, AblatedStream
from selfaware.interventions.controls import Scrambled
from selfaware.interventions.directions import Way
from selfaware.interventions.distil import Natural
from selfaware.interventions.lora import Lora
from selfaware.report.page import Claim, Figure, Role
from selfaware.stages import Bench
from selfaware.types import Question, Verdict

NAME = "natural-vector"
TITLE = "Natural vector: how much of the adapter is one constant?"
QUESTION = "Does one constant vector, read off an adapter's activations, do what the adapter does, and does its removal undo it?"
CLAIMS = (
    Claim(
        "recovers-behaviour",
        "The mean vector of the rank-1 adapter has at least the stated share of its effect on choices.",
        "“Nearly all” (Bozoukov et al. 2025); partial (Turner et al. 2025, on emergent misalignment).",
    ),
    Claim(
        "recovers-wider",
        "So has the mean vector of an adapter of higher rank on several modules, where this is no matter of course.",
        "The same.",
    ),
    Claim(
        "recovers-report",
        "The mean vector has at least that share of the adapter's effect on what the model says about itself.",
        "A learned vector: 1.14 (risky) and 1.29 (safe) of the layer-22 LoRA's shift (computed from Engels et al. 2025).",
    ),
    Claim(
        "recovers-trained-report",
        "Positive arm: for an adapter trained on self-descriptions, on those same statements.",
    ),
    Claim(
        "removal-undoes",
        "Pinning that one direction in the stream to the base model's level leaves at most the rest of the effect.",
        "Without the direction in B, all recorded answers return to the base model's (co-author's notebook of Bozoukov et al. 2025).",
    ),
)
HEADLINE = (
    "choice_share_effect",
    "recovered_behaviour",
    "recovered_behaviour_at_equal_damage",
    "recovered_report",
    "recovered_trained_report",
    "self_effect",
    "kl_from_base",
)
SCALES = ("smoke", "small", "full")
WAYS: tuple[Way, ...] = ("mean", "unitized", "pc1", "pc1-centred")
FULL: tuple[str, ...] = ("choices", "self", "twin", "other_form", "neutral")
HARMED, BRIEF = ("choices", "self", "neutral"), ("choices", "self")
"""What arms are asked: the rank-1 adapter and its mean vector everything, others what they are judged by."""


@dataclass(frozen=True)
class Settings:
    """What is distilled, and how.

    Attributes:
        shared: fits and questions; `shared.lora` is the rank-1 adapter, `shared.wider` the wider one, and on self-descriptions with `shared.told_rate`.
        ways: how the rank-1 adapter's vector is made of the differences; the others' is the mean.
        last: tokens at the end of each neutral passage whose differences are taken.
        share: of the adapter's effect that counts as recovered; 1 − share that may be left after removal.
        wordings: system prompts of each polarity that check the questions.
    """

    shared: Shared = field(default_factory=Shared)
    ways: tuple[Way, ...] = WAYS
    last: int = 20
    share: float = 0.8
    wordings: int = 3


def settings(scale: str) -> Settings:
    """The settings of a scale: `full` has five seeds."""
    if scale == "smoke":
        return Settings(shared.smoke(), ways=("mean", "pc1"), wordings=2)
    if scale == "full":
        return Settings(shared.full(), wordings=5)
    return Settings()


@dataclass(frozen=True)
class Subject:
    """An adapter that is distilled, and the effects on which its vector is held against it."""

    name: str
    recipe: Lora
    examples: tuple[Question, ...]
    ways: tuple[Way, ...]
    sets: tuple[str, ...] = ()


def check(domain: loader.Domain) -> None:
    """Whether the domain has what the experiment asks.

    Raises:
        BadData: no statements, no twins, or no self-descriptions to train the positive arm on.
    """
    shared.check(domain, described=True)


def subjects(domain: loader.Domain, chosen: Settings) -> tuple[Subject, ...]:
    """The rank-1 adapter, the wider one, and the one trained on self-descriptions."""
    common = chosen.shared
    small, examples = common.templated(common.lora), common.examples(domain)
    wide = common.templated(common.wider)
    told = common.templated(common.told)
    own = domain.questions("described")[: common.cut]
    return (
        Subject("rank-1", small, examples, chosen.ways),
        Subject("wider", wide, examples, chosen.ways[:1]),
        Subject("described", told, own, chosen.ways[:1], ("self", "twin", "described", "neutral")),
    )


def comparison(bench: Bench, domain: loader.Domain, chosen: Settings) -> Comparison:
    """For each subject: the adapter, its vectors, a random vector of the mean one's length, and what is left after removal."""
    common, arms = chosen.shared, list[Arm]()
    texts = tuple(p.text for p in loader.passages())
    for subject in subjects(domain, chosen):
        of = subject.recipe
        at = (of.site, of.positions)
        mean = Natural(of, texts=texts, last=chosen.last)
        lora = Arm(subject.name, f"{of.label}, {of.site}" if subject.name != "described" else "trained on self-descriptions",
                   "arm", (of,), subject.examples, f"{of.label} on {of.site}.", *at, sets=subject.sets or (FULL if subject.name == "rank-1" else HARMED))  # fmt: skip
        arms.append(lora)
        for way in subject.ways:
            recipe = replace(mean, way=way)
            role: Role = "primary" if subject.name == "rank-1" and way == chosen.ways[0] else "arm"
            about = f"The constant vector of {lora.label} ({way} of the differences on the last {chosen.last} tokens of neutral passages)."
            arms.append(
                Arm(
                    f"{subject.name}/{way}",
                    f"{way} vector of {lora.label}",
                    role,
                    (recipe,),
                    subject.examples,
                    about,
                    *at,
                    sets=subject.sets or (FULL if role == "primary" else BRIEF),
                )
            )
        if subject.name == "rank-1":
            arms += harm.multiples(arms[-len(subject.ways)], replace(mean, way=subject.ways[0]))
        arms += [
            Arm(f"{subject.name}/random", f"random, as long as that of {lora.label}", "control", (Scrambled(mean),), subject.examples,
                "A Gaussian direction of the mean vector's norm.", *at, sets=subject.sets or HARMED),
            Arm(f"{subject.name}/stream", f"{lora.label}, direction pinned", "arm", (AblatedStream(of, mean, texts=texts),), subject.examples,
                "The adapter, with the stream's component along the mean vector pinned to the base model's level from its block on.", *at, sets=subject.sets or HARMED),
            Arm(f"{subject.name}/b", f"{lora.label}, direction out of B", "arm", (AblatedB(of, mean),), subject.examples,
                "The adapter with the direction removed from every B that writes to the stream. At rank 1 this deletes the adapter.", *at, sets=subject.sets or BRIEF),
        ]  # fmt: skip
    asked = common.sets(domain)
    asked.insert(-1, Asked("described", domain.questions("described")[: common.cut], common.template))
    arms += instrument.arms(
        domain, common.lora, chosen.wordings, [a for a in asked if a.name != "described"], trained=False
    )
    return Comparison(bench, arms, asked, common.seeds)


JUDGED = (
    ("recovers-behaviour", "rank-1", "choice_share_effect", "recovered_behaviour", "choices"),
    ("recovers-wider", "wider", "choice_share_effect", "recovered_behaviour", "choices"),
    ("recovers-report", "rank-1", "self_effect", "recovered_report", "self"),
    ("recovers-trained-report", "described", "described_effect", "recovered_trained_report", "described"),
)


def findings(made: Comparison, domain: loader.Domain, chosen: Settings, model: str) -> Findings:
    """Every vector's share of its adapter's effect, and what removal leaves."""
    of = measures.known(made, f"share of {domain.polarities['high']} choices")
    found = measures.measured(made, of, model, domain.name)
    checks = instrument.checks(made, of, domain)
    margins = {name: instrument.margin(domain, name) for name in checks}
    rows, verdicts = list(found.rows), list[Verdict]()
    for claim, subject, effect, name, set in JUDGED:
        whole = made.named_arm(subject)
        parts = _parts(made, subject, set)
        rows += [shares.row(found, a, whole, effect, name, set, model, domain.name) for a in parts]
        usable = set not in checks or checks[set].sensitive
        mean = made.named_arm(f"{subject}/{chosen.ways[0]}")
        said, why = shares.answer(found, mean, whole, effect, chosen.share, usable=usable)
        said, why = shares.beyond_random(
            found.effects[mean.name, effect], found.effects[f"{subject}/random", effect], said, why
        )
        beside = shares.text(found, made.named_arm(f"{subject}/random"), whole, effect)
        equal = harm.text(made, found, mean, whole, effect) if subject == "rank-1" else ""
        verdicts.append(
            Verdict(claim, said, why, f"{shares.text(found, mean, whole, effect)}{equal} Control: {beside}")
        )
    verdicts.append(_removal(made, found, chosen.share))
    small, mean = made.named_arm("rank-1"), made.named_arm(f"rank-1/{chosen.ways[0]}")
    rows += harm.rows(made, found, mean, small, model, domain.name)
    figures = [_figure(made, found, subject, effect, set) for _, subject, effect, _, set in JUDGED]
    panels = [("choice_share_effect", "choices", None), ("self_effect", "about itself", margins.get("self"))]
    drawn = pictures.effects(
        made,
        found,
        panels,
        "effects",
        "Effects",
        "Half the difference between the shifts after high and after low training.",
    )
    return Findings(
        tuple(rows),
        tuple(verdicts),
        (*figures, harm.figure(made, found, mean, small), drawn),
        (instrument.table(made, checks, margins), pictures.harm(made)),
    )


def _parts(made: Comparison, subject: str, set: str) -> list[Arm]:
    """What is made of that adapter and asked that set, multiples left out."""
    return [a for a in made.arms if a.name.startswith(f"{subject}/") and a.asked(set) and not harm.is_multiple(a)]


def _figure(made: Comparison, found: measures.Measured, subject: str, effect: str, set: str) -> Figure:
    whole = made.named_arm(subject)
    title = f"Share of the effect of {whole.label} on {effect.removesuffix('_effect').replace('_', ' ')}"
    return shares.figure(
        found,
        _parts(made, subject, set),
        whole,
        [(effect, whole.label)],
        f"{subject}-{effect}".replace("_", "-"),
        title,
    )


def _removal(made: Comparison, found: measures.Measured, share: float) -> Verdict:
    """Judged on the wider adapter, where removal does not delete it by definition."""
    whole, left, effect = made.named_arm("wider"), made.named_arm("wider/stream"), "choice_share_effect"
    said, why = shares.undone(found, left, whole, effect, share)
    return Verdict("removal-undoes", said, why, shares.text(found, left, whole, effect))


def caveats(domain: loader.Domain, chosen: Settings) -> tuple[str, ...]:
    """What a reader of the page must keep in mind."""
    return (
        "For a rank-1 adapter on one module every difference is a multiple of B: that the vector points along B is an identity, and removing it from B deletes the adapter. Only its strength is read off the activations.",
        "The positive arm is judged on the statements that it was trained on: it shows that the method works for self-report, not that anything generalised.",
        f"Recovered means: at least {chosen.share:.0%} of the adapter's effect, with the whole interval.",
        "A vector and its adapter may differ in damage: shares at equal damage stand beside those at its own strength. Multiples of the vector are tried, and between them effects are taken to be linear in √KL.",
    )
