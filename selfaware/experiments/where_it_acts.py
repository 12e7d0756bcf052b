"""where-it-acts: the adapter's vector added at every block and dose; do behaviour and self-report answer at the same layers?"""

from dataclasses import dataclass, field

from selfaware.comparisons import instrument, measures, shared
from selfaware.comparisons.arms import Arm, Asked, Findings, View
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.shared import Shared
from selfaware.domains import loader
from selfaware.errors import BadData
from selfaware.findings import depths, pictures
from selfaware.interventions.controls import Scrambled
from selfaware.interventions.distil import Natural
from selfaware.readouts.doses import Doses
from selfaware.report.page import Claim
from selfaware.stages import Bench
from selfaware.types import Polarity, Question, Verdict

NAME = "where-it-acts"
TITLE = "Where it acts: layer × dose profiles of behaviour and self-report"
QUESTION = "Does the adapter's vector move what the model does and what it says of itself at the same layers?"
CLAIMS = (
    Claim(
        "same-profile",
        "Over the layers, self-report moves where choices move: the two profiles differ by no more than the margin.",
        "Gemma 3 12B: the four profiles are roughly the same, no separate mechanism for awareness (Engels et al. 2025).",
    ),
    Claim(
        "twin-profile",
        "Impersonal twins move at the same layers as statements about itself.",
        "The same (Engels et al. 2025).",
    ),
    Claim(
        "sees-self-report",
        "Positive arm: the vector of an adapter trained on self-descriptions moves those same statements at some block and strength.",
    ),
)
HEADLINE = ("profile_distance", "peak_shift", "random_peak_shift")
SCALES = ("smoke", "small", "full")
JUDGED = (("choices", "self"), ("self", "twin"))
"""The two profiles that each claim is about."""
SWEEPS, POSITIVE = ("natural", "random"), ("described/natural", "described/random")
"""The arms whose vectors are swept: over all question sets, and over the statements that the positive arm was trained on."""
SWEPT: Polarity = "high"
"""The adapter whose vector is swept; subtracting it stands for the other one."""


@dataclass(frozen=True)
class Settings:
    """The sweep.

    Attributes:
        shared: the fits whose vector is swept; `shared.lora` is the adapter.
        every: every so many blocks, from the first.
        doublings: strengths are ±`weakest`·2^k for k below this.
        weakest: norm added over the residual stream's mean norm.
        damage_from: neutral text is read at strengths from here up; what is weaker does no damage to speak of.
        items: at most so many items of each question set, one order each.
        margin: how far, as a share of the peak, profiles may differ and count as the same.
        wordings: system prompts of each polarity that check the questions.
    """

    shared: Shared = field(default_factory=Shared)
    every: int = 3
    doublings: int = 5
    weakest: float = 0.004
    damage_from: float = depths.DAMAGE_FROM
    items: int = 10
    margin: float = 0.25
    wordings: int = 3

    @property
    def strengths(self) -> tuple[float, ...]:
        """See `depths.strengths`."""
        return depths.strengths(self.weakest, self.doublings)


def settings(scale: str) -> Settings:
    """The settings of a scale: `full` sweeps every block with every item, from ±0.001 to ±2."""
    if scale == "smoke":
        return Settings(shared.smoke(), doublings=3, weakest=0.02, items=3, wordings=2)
    if scale == "full":
        return Settings(shared.full(), every=1, doublings=12, weakest=0.001, items=0, wordings=5)
    return Settings()


def check(domain: loader.Domain) -> None:
    """Whether the domain has what the experiment asks; see `shared.check`.

    Raises:
        BadData: no self-descriptions to train the positive arm on.
    """
    shared.check(domain, described=True)


def common_sets(domain: loader.Domain, chosen: Settings) -> list[Asked]:
    """The question sets of which items are swept."""
    return [s for s in chosen.shared.sets(domain) if s.name in depths.SETS]


def comparison(bench: Bench, domain: loader.Domain, chosen: Settings) -> Comparison:
    """The adapter, its natural vector and a random direction; doses of the vector and of the random one.

    Raises:
        BadData: strengths that hold zero, or no block left to sweep.
    """
    if not (chosen.weakest > 0 and chosen.doublings >= 1 and chosen.every >= 1):
        raise BadData(
            f"where-it-acts: weakest={chosen.weakest:g}, doublings={chosen.doublings}, every={chosen.every}; positive ones are needed, for a strength of zero is the base model. Set them so."
        )
    common = chosen.shared
    examples, lora = common.examples(domain), common.templated(common.lora)
    natural = Natural(lora, texts=tuple(p.text for p in loader.passages()))
    at = (lora.site, lora.positions)
    arms = [
        Arm("lora", lora.label, "arm", (lora,), examples, f"{lora.label} on {lora.site}.", *at, polarities=(SWEPT,)),
        Arm("natural", natural.label, "primary", (natural,), examples, "The constant vector that the adapter adds to neutral text, on the mean.", *at, polarities=(SWEPT,)),
        Arm("random", "random direction", "control", (Scrambled(natural),), examples, "A Gaussian direction as long as the vector.", *at,
            sets=("neutral",), polarities=(SWEPT,)),
    ]  # fmt: skip
    told, own = common.templated(common.told), domain.questions("described")[: common.cut]
    mean = Natural(told, texts=natural.texts)
    arms += [
        Arm("described", "trained on self-descriptions", "arm", (told,), own, "The positive arm: trained on the statements that it is asked.", *at,
            sets=("described", "neutral"), polarities=(SWEPT,)),
        Arm("described/natural", "its natural vector", "arm", (mean,), own, "Swept as the other one, over those statements.", *at, sets=("described", "neutral"), polarities=(SWEPT,)),
        Arm("described/random", "random, as long as that", "control", (Scrambled(mean),), own, "A Gaussian direction.", *at, sets=("neutral",), polarities=(SWEPT,)),
    ]  # fmt: skip
    asked = common.sets(domain)
    asked.insert(-1, Asked("described", own, common.template))
    arms += instrument.arms(domain, lora, chosen.wordings, asked[:-2], trained=False)
    damage = tuple(a for a in chosen.strengths if abs(a) >= chosen.damage_from)
    readout = Doses(chosen.every, chosen.strengths, lora.positions, common.template, common.neutral()[:2], damage)
    views = []
    for name, swept, some in (("doses", SWEEPS, common_sets(domain, chosen)), ("described", POSITIVE, asked[-2:-1])):
        items = depths.items(some, chosen.items)
        cost = 150.0 * len(chosen.strengths) * len(items) / chosen.every
        views.append(View(name, readout, swept, items, cost, fast=True))
    return Comparison(bench, arms, asked, common.seeds, views)


def findings(made: Comparison, domain: loader.Domain, chosen: Settings, model: str) -> Findings:
    """Profiles of every question set, how far apart they are, and the same for a random direction."""
    of = measures.known(made, f"share of {domain.polarities['high']} choices")
    found = measures.measured(made, of, model, domain.name)
    checks = instrument.checks(made, of, domain)
    margins = {name: instrument.margin(domain, name) for name in checks}
    tables = (instrument.table(made, checks, margins), pictures.harm(made))
    own, other, told, beside = (
        depths.sweep(made, view, made.named_arm(name), [q for q in view.questions if isinstance(q, Question)], chosen.strengths)
        for view in made.views for name in view.arms
    )  # fmt: skip
    if own is None or other is None or told is None or beside is None:
        return Findings(found.rows, tuple(Verdict(c.name, "unclear", "a cell failed", "") for c in CLAIMS), (), tables)
    usable = {name: name not in checks or checks[name].sensitive for name in own.sets}
    seen = depths.compared(own, other, usable, chosen.margin, model, domain.name)
    verdicts = [
        Verdict(c.name, *seen.answer(pair), seen.text(pair)) for c, pair in zip(CLAIMS[:2], JUDGED, strict=True)
    ]
    verdicts.append(
        Verdict(CLAIMS[2].name, *depths.moved(told, beside, "described", instrument.margin(domain, "self")))
    )
    figures = (*seen.figures, depths.described(told, beside))
    return Findings((*found.rows, *seen.rows), tuple(verdicts), figures, tables)


def caveats(domain: loader.Domain, chosen: Settings) -> tuple[str, ...]:
    """What a reader of the page must keep in mind."""
    return (
        "Each block takes its best strength: heights are chosen to be large, and only their places and the random direction beside them say something.",
        "The vector comes from one block's adapter and is added at all others as it is; that it acts best near home is to be expected.",
        f"Sweeps run in the training type; profiles that differ by less than {chosen.margin:.0%} of their peak count as the same.",
    )
