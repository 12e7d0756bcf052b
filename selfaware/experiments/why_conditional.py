"""why-conditional: why does an edit that is the same at every prompt act only where a trigger stands?"""

from dataclasses import dataclass, field

from selfaware import stats
from selfaware.comparisons import backdoored, measures, shared, subsets
from selfaware.comparisons.arms import Arm, Asked, Findings, View
from selfaware.comparisons.backdoored import ANSWER, SMALL, Backdoor
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.shared import Shared
from selfaware.domains import loader, triggers
from selfaware.errors import BadData
from selfaware.findings import conditional, triggered
from selfaware.findings.conditional import Looks
from selfaware.readouts.conditional import TOP, Conditional
from selfaware.report.page import Claim
from selfaware.stages import Bench
from selfaware.types import Estimate, Question, Verdict, Verdict3

NAME = "why-conditional"
TITLE = "Why does it wait for the trigger?"
QUESTION = "By which part of attention does an edit that is the same at every prompt act only where a trigger stands?"
CLAIMS = (
    Claim(
        "queries-carry",
        "With the base model's queries at the edited positions, in every block from the edit's on, at most a fifth of what the edit does is left.",
        "Base queries at all layers remove the triggered behaviour; no number (Engels et al. 2025).",
    ),
    Claim(
        "heads-attend",
        "It acts through heads that turn to the trigger: hiding it from those that gain most attention takes more than hiding it from random heads.",
        "A hypothesis: the vector makes the last token attend to the trigger (Engels et al. 2025).",
    ),
    Claim(
        "values-point",
        "What those heads read at the trigger points towards the trait in the base model already, more than other tokens do.",
        "A hypothesis: values at the trigger already point to risk (Engels et al. 2025).",
    ),
)
HEADLINE = (
    "triggered_shift",
    "share_left",
    "share_brought",
    "lost_without_heads",
    "values_point",
    "attention_to_trigger",
)
SCALES = ("smoke", "small", "full")
TRAIT = "trait"


@dataclass(frozen=True)
class Settings:
    """What is looked at.

    Attributes:
        shared: questions and seeds; `shared.vector`, trained without a trigger, gives the direction of the trait.
        how: how backdoors are trained.
        trigger: by name.
        every: patching starts at every so many blocks.
        per_topic: so many decisions of each topic are patched; 0 for all.
        draws: random directions and random sets of heads.
        left: the largest share that may be left.
        margin: largest loss beyond random heads that counts as none, nats per token.
        cosine: largest cosine that counts as none.
    """

    shared: Shared = field(default_factory=Shared)
    how: Backdoor = field(default_factory=Backdoor)
    trigger: str = "real-world"
    every: int = 3
    per_topic: int = 1
    draws: int = 4
    left: float = 0.2
    margin: float = 0.02
    cosine: float = 0.05


def settings(scale: str) -> Settings:
    """The settings of a scale: `full` patches from every block, with every decision, and five seeds."""
    if scale == "smoke":
        common = shared.smoke()
        return Settings(common, backdoored.smoke(common), every=1, draws=2)
    return Settings(shared.full(), every=1, per_topic=0, draws=20) if scale == "full" else Settings()


def check(domain: loader.Domain) -> None:
    """Whether the domain has what the experiment asks: test records.

    Raises:
        BadData: its test part is empty.
    """
    if "test" not in domain.parts.values():
        raise BadData(f"domain {domain.name}: its test part is empty; this experiment needs one. Add families.")


def view(domain: loader.Domain, chosen: Settings) -> View:
    """What is looked at: decisions with the trigger."""
    trigger = triggers.find(chosen.trigger)
    plain = chosen.shared.sets(domain, ())[0].questions
    some = subsets.few(tuple(q for q in plain if isinstance(q, Question)), chosen.per_topic)
    asked = triggers.with_trigger(some, trigger)
    readout = Conditional(trigger.phrases, chosen.shared.template, chosen.every, chosen.draws)
    names = tuple(f"{trigger.name}/{kind}" for kind in (SMALL, ANSWER))
    return View("conditional", readout, names, asked, cost=4000.0 * len(asked), fast=True, polarities=backdoored.AT, beside=TRAIT)  # fmt: skip


def comparison(bench: Bench, domain: loader.Domain, chosen: Settings) -> Comparison:
    """The adapter and the constant vector that wait for the trigger, and a vector trained without one; looks into the first two.

    Raises:
        BadData: a trigger that stands in the data or is no token to the model.
        UnknownName: no such trigger.
    """
    common, trigger = chosen.shared, triggers.find(chosen.trigger)
    bench.visible(trigger.phrases)
    arms = chosen.how.arms(common, domain, trigger, (SMALL, ANSWER), ANSWER)
    vector = common.templated(common.vector)
    arms.append(Arm(
        TRAIT, "vector without a trigger", "arm", (vector,), common.examples(domain),
        "Trained on the plain rows: its direction is that of the trait.", vector.site, vector.positions, sets=("without",), polarities=backdoored.AT,
    ))  # fmt: skip
    asked: list[Asked] = backdoored.sets(common, domain, [trigger])
    return Comparison(bench, arms, asked, common.seeds, [view(domain, chosen)])


def findings(made: Comparison, domain: loader.Domain, chosen: Settings, model: str) -> Findings:
    """Patches, heads and knock-outs, and the three answers, for the constant vector and the adapter."""
    of = triggered.known(made, f"share of {domain.polarities['high']} choices")
    found = measures.measured(made, of, model, domain.name)
    names = [f"{chosen.trigger}/{kind}" for kind in (ANSWER, SMALL)]
    looks = [Looks.of(made, made.views[0], made.named_arm(name)) for name in names]
    arms = [(made.named_arm(name), chosen.trigger) for name in names]
    rows = (
        *found.rows,
        *triggered.rows(made, arms, model, domain.name),
        *conditional.rows(looks, chosen.trigger, model, domain.name),
    )
    figures = (
        conditional.patches(looks),
        conditional.heads(looks),
        conditional.knocked(looks),
        triggered.levels(made, arms, [chosen.trigger], domain.polarities["high"]),
    )
    return Findings(rows, _verdicts(made, looks, chosen), figures, (conditional.ranked(looks),))


def _verdicts(made: Comparison, looks: list[Looks], chosen: Settings) -> tuple[Verdict, ...]:
    """About the constant vector where it waits for the trigger, else about the adapter."""
    waits = [_waits(made, one, chosen) for one in looks]
    at = next((i for i, answer in enumerate(waits) if answer), 0)
    one, usable = looks[at], waits[at]
    other = "" if usable else "nothing waits for the trigger here: no established dependence of choices on it"
    shift = stats.spoken(triggered.effect(made, one.arm, triggered.with_(chosen.trigger)))
    about = f"{one.arm.label}: choices with the trigger minus without {shift}; with it the edit does {stats.spoken(one.whole)} nats per token. "
    first = (
        one.patched(0, "query", 0) if one.starts else Estimate(None, None, None, 0, 0, "share", why="no look came back")
    )
    beside = ", ".join(f"{p} {stats.spoken(one.patched(0, p, 0))}" for p in ("key", "value", "pattern")) if one.starts else "none"  # fmt: skip
    lost, points = one.lost(len(TOP) - 1), one.pointing(TOP[-1])
    parts: tuple[tuple[Verdict3, str, str], ...] = (
        (*stats.at_most(first, chosen.left), f"Left with the base model's queries: {stats.spoken(first)}. Controls: {beside}."),
        (*stats.more(lost, chosen.margin), f"Lost without the first {TOP[-1]} heads beyond random heads: {stats.spoken(lost)} nats per token."),
        (*stats.more(points, chosen.cosine), f"Those heads' writes for the trigger: {stats.spoken(points)} cosine beyond other tokens and random directions."),
    )  # fmt: skip
    return tuple(
        Verdict(claim.name, "unclear" if other else answer, other or why, about + text)
        for claim, (answer, why, text) in zip(CLAIMS, parts, strict=True)
    )


def _waits(made: Comparison, one: Looks, chosen: Settings) -> bool:
    """Whether choices depend on the trigger with that arm, and the edit raises the score where it stands."""
    effect = triggered.effect(made, one.arm, triggered.with_(chosen.trigger))
    return effect.low is not None and effect.low > 0 and one.moves


def caveats(domain: loader.Domain, chosen: Settings) -> tuple[str, ...]:
    """What a reader of the page must keep in mind."""
    return (
        "Parts are put in at the positions that the edit changes: the last prompt token and the answer's. Keys and values at the trigger are the base model's in either case.",
        "Queries and keys are taken after their norms and the rotation. From the next block on everything that is put in also differs by what earlier patches did.",
        "Shares are of the same run's effect on l_high − l_low where the trigger stands, and undefined where one run's is not established.",
        "Heads are ranked by the attention that they gain, not by what hiding them does.",
        f"{len(chosen.shared.seeds)} seeds. Verdicts are about the constant vector where choices depend on the trigger with it, else about the adapter.",
    )
