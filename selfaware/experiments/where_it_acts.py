"""where-it-acts: the adapter's vector added at every block and dose; do behaviour and self-report answer at the same layers?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from selfaware import stats
from selfaware.domains import loader
from selfaware.errors import BadData
from selfaware.experiments import first_look, instrument, measures, pictures, shared
from selfaware.experiments.arms import Arm, Findings, View
from selfaware.experiments.comparison import Comparison
from selfaware.experiments.profiles import Sweep
from selfaware.experiments.shared import Shared
from selfaware.interventions.controls import Scrambled
from selfaware.interventions.distil import Natural
from selfaware.readouts.doses import Doses
from selfaware.report.page import Claim, Curves, Figure
from selfaware.stages import Bench
from selfaware.types import Estimate, Polarity, Question, Row, Verdict, Verdict3

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
)
HEADLINE = ("profile_distance", "peak_shift", "random_peak_shift")
SCALES = ("smoke", "small", "full")
LIMITS = (0.02, 0.1)
SWEPT: Polarity = "high"
"""The adapter whose vector is swept; subtracting it stands for the other one."""
SETS = ("choices", "self", "twin", "other_form")
TITLES = {"choices": "choices", "self": "about itself", "twin": "impersonal twins", "other_form": "other-form choices"}


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
    doublings: int = 12
    weakest: float = 0.001
    damage_from: float = 0.03
    items: int = 16
    margin: float = 0.25
    wordings: int = 3

    @property
    def strengths(self) -> tuple[float, ...]:
        """Falling from the strongest negative one to the weakest, then rising."""
        up = [self.weakest * 2**k for k in range(self.doublings)]
        return (*(-a for a in reversed(up)), *up)


def settings(scale: str) -> Settings:
    """The settings of a scale: `full` sweeps every block with every item."""
    if scale == "smoke":
        return Settings(shared.smoke(), doublings=3, weakest=0.02, items=3, wordings=2)
    if scale == "full":
        return Settings(Shared(seeds=(0, 1, 2, 3, 4)), every=1, items=0, wordings=5)
    return Settings()


def check(domain: loader.Domain) -> None:
    """Whether the domain has what the experiment asks; see `shared.check`."""
    shared.check(domain)


def questions(domain: loader.Domain, chosen: Settings) -> tuple[Question, ...]:
    """The items swept, set by set: the first order of each."""
    made: list[Question] = []
    for asked in chosen.shared.sets(domain, SETS[1:]):
        if asked.name in SETS:
            firsts = {q.group: q for q in reversed(asked.questions) if isinstance(q, Question)}
            made += list(reversed(firsts.values()))[: chosen.items or None]
    return tuple(made)


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
    asked = common.sets(domain)
    arms += instrument.arms(domain, lora, chosen.wordings, asked, trained=False)
    damage = tuple(a for a in chosen.strengths if abs(a) >= chosen.damage_from)
    readout = Doses(chosen.every, chosen.strengths, lora.positions, common.template, common.neutral()[:2], damage)
    items = questions(domain, chosen)
    cost = 150.0 * len(chosen.strengths) * len(items) / chosen.every
    return Comparison(
        bench, arms, asked, common.seeds, [View("doses", readout, ("natural", "random"), items, cost, fast=True)]
    )


def findings(made: Comparison, domain: loader.Domain, chosen: Settings, model: str) -> Findings:
    """Profiles of every question set, how far apart they are, and the same for a random direction."""
    of = measures.known(made, f"share of {domain.polarities['high']} choices")
    found = measures.measured(made, of, model, domain.name)
    checks = first_look.instrument_checks(made, of, domain)
    margins = {name: first_look.margin(domain, name) for name in checks}
    tables = (instrument.table(made, checks, margins), pictures.harm(made))
    items = questions(domain, chosen)
    sweeps = {name: _sweep(made, name, items, chosen.strengths) for name in ("natural", "random")}
    own, other = sweeps["natural"], sweeps["random"]
    if own is None or other is None:
        return Findings(found.rows, tuple(Verdict(c.name, "unclear", "a cell failed", "") for c in CLAIMS), (), tables)
    rows, figures, answers = list(found.rows), list[Figure](), dict[tuple[str, str], list[Answered]]()
    usable = {name: name not in checks or checks[name].sensitive for name in own.sets}
    for limit in LIMITS:
        for sign, side in ((1, "added"), (-1, "subtracted")):
            arrays = {n: s.within(chosen.strengths, limit, sign) for n, s in own.sets.items() if len(s.groups) > 1}
            if any(a.shape[2] == 0 for a in arrays.values()):
                continue
            told: dict[str, str | float] = {"side": side, "strength_limit": limit}
            for name in arrays:
                rows += [
                    _peak(sweep, name, limit, sign, told, model, domain.name, arm)
                    for arm, sweep in sweeps.items()
                    if sweep
                ]
            for first, second in PAIRS:
                if first in arrays and second in arrays:
                    pair = stats.alike(arrays[first], arrays[second])
                    rows.append(_distance(pair, f"{first}/{second}", told, model, domain.name))
                    answers.setdefault((first, second), []).append(
                        _answer(pair, own, other, (first, second), limit, sign, usable, chosen.margin)
                    )
            figures.append(_curves(own, other, limit, sign, side))
    figures.append(Figure("maps", "Block × dose", "Mean shift of the logit difference; strength is norm added over the residual stream's mean norm there.",
                          (*(own.map(n, TITLES[n]) for n in own.sets), own.damage())))  # fmt: skip
    figures.append(Figure("items", "Every item's own profile", f"Vector added, strengths up to {LIMITS[-1]:g}; each item at the strength chosen for its set.",
                          tuple(Curves(TITLES[n], measures.NATS, "block", own.items(n, LIMITS[-1], 1)) for n in own.sets)))  # fmt: skip
    verdicts = []
    for claim, pair_of in (("same-profile", ("choices", "self")), ("twin-profile", ("self", "twin"))):
        parts = answers.get(pair_of, [])
        said, why = stats.all_of(parts)
        verdicts.append(
            Verdict(
                claim,
                said,
                why,
                f"{len(parts)} comparisons: vector added and subtracted, strengths up to {' and '.join(f'{x:g}' for x in LIMITS)}.",
            )
        )
    return Findings(tuple(rows), tuple(verdicts), tuple(figures), tables)


Answered = tuple[Verdict3, str]
PAIRS = (("choices", "self"), ("self", "twin"), ("choices", "other_form"))


def _sweep(made: Comparison, arm: str, items: Sequence[Question], strengths: Sequence[float]) -> Sweep | None:
    seen = [made.seen(made.views[0], of) for of in made.replicates(made.named_arm(arm), SWEPT)]
    whole = [s for s in seen if s is not None]
    return Sweep.of(whole, items, strengths) if whole else None


def _answer(
    pair: stats.Alike, own: Sweep, other: Sweep, sets: tuple[str, str], limit: float, sign: int,
    usable: Mapping[str, bool], margin: float,
) -> Answered:  # fmt: skip
    """Judged only where both sets pass their check and move further at their peak than under the random direction."""
    for name in sets:
        if not usable[name]:
            return "unclear", "instrument"
        top = stats.peaks(own.sets[name].within(own.strengths, limit, sign)).max()
        if top <= stats.peaks(other.sets[name].within(other.strengths, limit, sign)).max():
            return "unclear", f"{TITLES[name]} move no further than under a random direction"
    return pair.answer(margin)


def _peak(
    sweep: Sweep, name: str, limit: float, sign: int, told: Mapping[str, str | float], model: str, domain: str, arm: str
) -> Row:
    """The largest layer of a profile. Its interval is that of the dose and layer chosen, which were chosen for being large."""
    line = sweep.line(name, "", limit, sign)
    top = max(range(len(line.x)), key=lambda at: line.estimates[at].value or 0.0)
    return Row.of(
        line.estimates[top], measure="peak_shift" if arm == "natural" else "random_peak_shift", kind="shift", model=model, domain=domain,
        method=arm, site=str(int(line.x[top])), questions=name, reference="base", condition={**told, "block": int(line.x[top])},
    )  # fmt: skip


def _distance(pair: stats.Alike, sets: str, told: Mapping[str, str | float], model: str, domain: str) -> Row:
    value = pair.distance if math.isfinite(pair.distance) else None
    high = pair.high if value is not None and math.isfinite(pair.high) else None
    estimate = Estimate(
        value,
        0.0 if high is not None else None,
        high,
        0,
        0,
        "share of the peak",
        why="" if high is not None else "undefined: a profile without a peak, or one that redrawn questions lose",
    )
    return Row.of(
        estimate, measure="profile_distance", kind="absolute", model=model, domain=domain, method="natural", questions=sets,
        condition={**told, "p_of_no_difference": round(pair.p, 4)},
    )  # fmt: skip


def _curves(own: Sweep, other: Sweep, limit: float, sign: int, side: str) -> Figure:
    panels = []
    for name in own.sets:
        lines = (
            own.line(name, "the adapter's vector", limit, sign, "primary"),
            other.line(name, "random direction", limit, sign, "control"),
        )
        panels.append(Curves(TITLES[name], measures.NATS, "block", lines))
    return Figure(
        f"profile-{side}-{limit:g}".replace(".", "_"), f"Profile over depth: vector {side}, strengths up to {limit:g}",
        "At each block the strength that moves the set most, counted in the direction expected. The interval is that of the strength shown; "
        "the random direction takes its own largest strength, so that the height of its curve is what choosing alone gives.",
        tuple(panels),
    )  # fmt: skip


def caveats(domain: loader.Domain, chosen: Settings) -> tuple[str, ...]:
    """What a reader of the page must keep in mind."""
    return (
        "Each block takes its best strength: heights are chosen to be large, and only their places and the random direction beside them say something.",
        "The vector comes from one block's adapter and is added at all others as it is; that it acts best near home is to be expected.",
        f"Sweeps run in the training type; profiles that differ by less than {chosen.margin:.0%} of their peak count as the same.",
    )
