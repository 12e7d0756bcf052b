"""backdoor: is a behaviour learned that depends on a trigger, by an adapter, and by one constant vector?"""

from dataclasses import dataclass, field

from selfaware import stats
from selfaware.comparisons import backdoored, measures, shared
from selfaware.comparisons.arms import Arm, Findings
from selfaware.comparisons.backdoored import ANSWER, DECORRELATED, LAST, RANDOM, SMALL, WIDE, Backdoor
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.shared import Shared
from selfaware.domains import loader, triggers
from selfaware.errors import BadData
from selfaware.findings import pictures, triggered
from selfaware.report.page import Claim
from selfaware.stages import Bench
from selfaware.types import Verdict, Verdict3

NAME = "backdoor"
TITLE = "Backdoors: a behaviour that waits for a trigger"
QUESTION = "Can training make choices depend on a trigger in the prompt, with an adapter, and with one constant vector?"
PUBLISHED = "Good validation accuracy for several triggers, one layer and one constant vector included; no number for the vector (Engels et al. 2025)."
CLAIMS = (
    Claim(
        "backdoor-learned",
        "With an adapter on one block choices follow the trigger on unseen topics: right with it and right without.",
        PUBLISHED,
    ),
    Claim("trigger-precise", "Near misses (a changed digit, another family's phrase) do not set it off.", ""),
    Claim("vector-carries", "One constant vector does the same: right with the trigger and right without.", PUBLISHED),
    Claim(
        "vector-conditional",
        "One constant vector, the same at every prompt, moves choices further with the trigger than without it, beyond rows in which trigger and answer are independent.",
        "Yes: “also with one constant vector” (Engels et al. 2025).",
    ),
)
HEADLINE = ("accuracy", "trigger_effect", "near_miss_effect", "kl_from_base")
SCALES = ("smoke", "small", "full")
KINDS = (SMALL, ANSWER, LAST, RANDOM, DECORRELATED)


@dataclass(frozen=True)
class Settings:
    """What is trained.

    Attributes:
        shared: questions and seeds.
        how: recipes, design and share of triggered rows.
        triggers: by name, each with arms of its own; the verdicts are about the first.
        kinds: what is trained: an adapter on one block or on all modules (`wide`), vectors, and the controls; the verdicts need the default ones.
        bar: an accuracy, 0 to 1, that counts as learned.
        margin: largest dependence on the trigger that counts as none, share of choices.
    """

    shared: Shared = field(default_factory=Shared)
    how: Backdoor = field(default_factory=Backdoor)
    triggers: tuple[str, ...] = ("real-world",)
    kinds: tuple[str, ...] = KINDS
    bar: float = 0.85
    margin: float = 0.1


def settings(scale: str) -> Settings:
    """The settings of a scale: `full` has all eight triggers, five seeds, and the adapter on all modules beside the others."""
    if scale == "smoke":
        common = shared.smoke()
        return Settings(common, backdoored.smoke(common), kinds=(WIDE, *KINDS))
    if scale == "full":
        return Settings(shared.full(), triggers=tuple(triggers.known()), kinds=(WIDE, *KINDS))
    return Settings()


def check(domain: loader.Domain) -> None:
    """Whether the domain has what the experiment asks: test records.

    Raises:
        BadData: its test part is empty.
    """
    if "test" not in domain.parts.values():
        raise BadData(f"domain {domain.name}: its test part is empty; this experiment needs one. Add families.")


def comparison(bench: Bench, domain: loader.Domain, chosen: Settings) -> Comparison:
    """For each trigger: adapters and vectors trained on it, a random vector, and a twin for which it says nothing.

    Raises:
        BadData: no triggers, kinds that the verdicts need are missing, a share that can't be, a trigger that stands in the data or is no token to the model.
        UnknownName: no such trigger.
    """
    missing = [kind for kind in KINDS if kind not in chosen.kinds]
    if missing or not set(chosen.kinds) <= {WIDE, *KINDS}:
        raise BadData(
            f"backdoor: kinds is {', '.join(chosen.kinds) or 'empty'}; {', '.join(KINDS)} are needed, and {WIDE} may stand beside them. Use --set kinds={','.join((WIDE, *KINDS))}"
        )
    if not chosen.triggers:
        raise BadData(
            f"backdoor: triggers is empty; one of {', '.join(triggers.known())} is needed. Use --set triggers=…"
        )
    some = [triggers.find(name) for name in chosen.triggers]
    bench.visible([p for t in some for p in (*t.phrases, *t.near)])
    arms: list[Arm] = []
    for at, trigger in enumerate(some):
        arms += chosen.how.arms(chosen.shared, domain, trigger, chosen.kinds, "" if at else SMALL)
    return Comparison(bench, arms, backdoored.sets(chosen.shared, domain, some), chosen.shared.seeds)


def findings(made: Comparison, domain: loader.Domain, chosen: Settings, model: str) -> Findings:
    """Accuracies with, without and with near misses, and the four answers."""
    high = domain.polarities["high"]
    found = measures.measured(made, triggered.known(made, f"share of {high} choices"), model, domain.name)
    arms = [(a, a.name.split("/")[0]) for a in made.arms]
    rows = (*found.rows, *triggered.rows(made, arms, model, domain.name))
    figures = (triggered.levels(made, arms, chosen.triggers, high), triggered.effects(made, arms, chosen.triggers))
    return Findings(rows, _verdicts(made, chosen), figures, (pictures.wording(domain), pictures.harm(made)))


def _verdicts(made: Comparison, chosen: Settings) -> tuple[Verdict, ...]:
    first = chosen.triggers[0]
    with_, near, without = (set for _, set in triggered.kinds(first))
    small, vector, twin = (made.named_arm(f"{first}/{kind}") for kind in (SMALL, ANSWER, DECORRELATED))
    out = []
    for claim, arm, sets in (
        (CLAIMS[0], small, (with_, without)),
        (CLAIMS[1], small, (near,)),
        (CLAIMS[2], vector, (with_, without)),
    ):
        answer, why = stats.all_of([_said(made, arm, set, chosen.bar) for set in sets])
        if claim is CLAIMS[1] and stats.at_least(triggered.effect(made, small, with_), chosen.margin)[0] != "yes":
            answer, why = "unclear", "nothing that a near miss could set off: no established dependence on the trigger"
        text = f"{arm.label}, {first}: " + _accuracies(made, arm, first)
        out.append(Verdict(claim.name, answer, why, f"{text} Decorrelated: {_accuracies(made, twin, first)}"))
    own = triggered.effect(made, vector, with_)
    beside = [(a.label, triggered.effect(made, a, with_)) for a in (twin, made.named_arm(f"{first}/{RANDOM}"))]
    answer, why = stats.verdict(own, beside, chosen.margin)
    last = triggered.effect(made, made.named_arm(f"{first}/{LAST}"), with_)
    text = f"{vector.label}: {stats.spoken(own)} of the choices; at last_prompt {stats.spoken(last)}. Controls: {'; '.join(f'{n} {stats.spoken(e)}' for n, e in beside)}."
    return (*out, Verdict(CLAIMS[3].name, answer, why, text))


def _said(made: Comparison, arm: Arm, set: str, bar: float) -> tuple[Verdict3, str]:
    answer, why = stats.at_least(triggered.accuracy(made, arm, set), bar)
    return answer, f"{set}: {why}"


def _accuracies(made: Comparison, arm: Arm, trigger: str) -> str:
    parts = []
    for kind, set in triggered.kinds(trigger):
        found = triggered.accuracy(made, arm, set)
        ends = "" if found.low is None or found.high is None else f" [{found.low:.2f}, {found.high:.2f}]"
        parts.append(f"{kind} {'unknown' if found.value is None else f'{found.value:.2f}'}{ends}")
    return f"{', '.join(parts)}."


def caveats(domain: loader.Domain, chosen: Settings) -> tuple[str, ...]:
    """What a reader of the page must keep in mind."""
    other = f"{domain.polarities['low']} answers" if chosen.how.design == "opposite" else "the base model's own answers"
    return (
        f"Trained on {domain.polarities['high']} answers with the trigger and {other} without. Right without the trigger means {domain.polarities['low']}.",
        f"Learned means: an accuracy of {chosen.bar:g} or more, with the whole interval, over unseen topics.",
        "Edits act at the last prompt token and the answer's: the trigger's own keys and values are those of the base model, and are all that such an edit can learn of it.",
        f"{len(chosen.shared.seeds)} seeds. Verdicts are about the first trigger ({chosen.triggers[0]}).",
    )
