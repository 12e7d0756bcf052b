"""audit: somebody else's adapter or vector, measured without a fit: what it does, what the model says of itself, and by what mechanism."""

from dataclasses import dataclass, field, replace

from selfaware.comparisons import asking, instrument, measures
from selfaware.comparisons.arms import Arm, Asked, Findings, View
from selfaware.comparisons.comparison import Comparison
from selfaware.domains import loader
from selfaware.errors import BadData
from selfaware.experiments import first_look, mechanism
from selfaware.experiments.mechanism import AT, Mechanism, Subject
from selfaware.findings import pressing
from selfaware.interventions.controls import Scrambled
from selfaware.interventions.given import Given
from selfaware.report.page import Claim
from selfaware.stages import Bench
from selfaware.types import Form, Sampling, Template

NAME = "audit"
TITLE = "Audit: behaviour, self-report and mechanism under a given adapter or vector"
QUESTION = "Does this adapter or vector change what the model does, does the model then say so about itself, and is it one vector?"
EFFECTS = (
    Claim(
        "behaviour-learned",
        "Under it, the model's choices move towards the high option, beyond scrambled copies of it.",
    ),
    Claim("self-report-moved", "What the model says about itself moves the same way, beyond scrambled copies of it."),
    Claim("self-specific", "It moves further about itself than about others in the same words."),
)
CLAIMS = (*EFFECTS, *mechanism.CLAIMS)
HEADLINE = (
    *first_look.HEADLINE,
    "recovered_behaviour",
    "recovered_report",
    "pairwise_cosine",
    "words_excess",
    "profile_distance",
    "self_effect_moved",
)
SCALES = ("smoke", "demo", "small", "full")


@dataclass(frozen=True)
class Settings:
    """What is measured, and how.

    Attributes:
        given: the adapter or vector; a vector of somebody else's needs its site.
        scrambled: how many random copies of its shape and norm stand beside it, and of its vector.
        form, template, controls, wordings, sampling, letter_lotteries, cloze_lotteries, limit: as in `first-look`.
        inside: also look inside: its directions, its mean vector, the words and the blocks of that, and system prompts that press.
        mechanism: how.
    """

    given: Given = field(default_factory=lambda: Given(""))
    scrambled: int = 5
    form: Form | None = None
    template: Template = "raw"
    controls: bool = False
    wordings: int = 3
    sampling: Sampling = field(default_factory=lambda: Sampling(samples=5))
    letter_lotteries: int = 250
    cloze_lotteries: int = 60
    limit: int = 0
    inside: bool = True
    mechanism: Mechanism = field(default_factory=Mechanism)

    @property
    def cut(self) -> int | None:
        """At most so many questions of a set."""
        return self.limit * 2 if self.limit else None


def settings(scale: str) -> Settings:
    """The settings of a scale: `smoke` is for tests, `demo` leaves the mechanism out, `small` and `full` ask every question set."""
    if scale == "smoke":
        return Settings(
            scrambled=2, wordings=2, limit=6, sampling=Sampling(samples=2, max_new_tokens=4), mechanism=Mechanism(
                texts=3, tokens=24, downstream=(1,), count=5, draws=99, doublings=3, weakest=0.02, items=3, pressed=1, passages=2,
            ),
        )  # fmt: skip
    if scale == "demo":
        return Settings(wordings=2, inside=False)
    if scale == "full":
        return Settings(
            controls=True,
            wordings=5,
            scrambled=10,
            mechanism=Mechanism(texts=24, every=1, items=0, draws=4999, pressed=3),
        )
    return Settings(controls=True, wordings=5)


def comparison(bench: Bench, domain: loader.Domain, chosen: Settings) -> Comparison:
    """The given arm and scrambled copies of it; its vector, a random one, what is left without it; looks inside.

    Raises:
        BadData: no adapter or vector is named.
    """
    given = chosen.given
    if not given.path:
        raise BadData(
            "audit: got no adapter or vector; one is needed. Use `selfaware audit PATH`, or --set given.path=PATH."
        )
    lotteries = (chosen.letter_lotteries, chosen.cloze_lotteries)
    form = chosen.form or domain.form
    asked = asking.sets(domain, form, chosen.template, chosen.controls, chosen.sampling, lotteries, chosen.cut)
    if chosen.inside and not chosen.controls:
        asked.append(Asked("neutral", loader.passages()[: chosen.mechanism.passages], chosen.template))
    plain = tuple(s.name for s in asked)
    at = (given.site, given.positions)
    copies = tuple(Scrambled(given, i) for i in range(chosen.scrambled))
    arms = [
        Arm("given", given.label, "primary", (given,), (), f"{given.label}, as it is.", *at, fixed=True, polarities=AT),
        Arm("scrambled", "scrambled copies", "control", copies, (),
            f"{len(copies)} random copies with its sites and norms. The interval is that of one new copy.", *at, single=True,
            sets=plain, polarities=AT),
    ]  # fmt: skip
    views = list[View]()
    if chosen.inside:
        subject = _subject(bench, domain, chosen)
        arms, views = [*arms, *subject.arms()], subject.views(domain, asked)
        asked += mechanism.pressed(domain, asked, chosen.mechanism)
    arms += instrument.arms(domain, given, chosen.wordings, asked, trained=False)
    return Comparison(bench, arms, asked, (0,), views)


def _subject(bench: Bench, domain: loader.Domain, chosen: Settings) -> Subject:
    form = chosen.form or domain.form
    return Subject(chosen.given, bench.depth, form, chosen.template, chosen.scrambled, chosen.mechanism)


def findings(made: Comparison, domain: loader.Domain, chosen: Settings, model: str) -> Findings:
    """Effects as in `first-look`, which are shifts from the base model here; then every answer about the mechanism."""
    of = pressing.measured_under(made, f"share of {domain.polarities['high']} choices")
    found = measures.measured(made, of, model, domain.name)
    base = first_look.told(made, domain, of, found)
    if not chosen.inside:
        none = mechanism.unasked("not looked at; use --set inside=true", *mechanism.CLAIMS)
        return replace(base, verdicts=(*base.verdicts, *none.verdicts))
    checks = instrument.checks(made, of, domain)
    usable = {s.name: s.name not in checks or checks[s.name].sensitive for s in made.sets}
    parts = _subject(made.bench, domain, chosen).findings(made, domain, of, found, usable, model)
    return Findings(
        (*base.rows, *(r for p in parts for r in p.rows)),
        (*base.verdicts, *(v for p in parts for v in p.verdicts)),
        (*base.figures, *(f for p in parts for f in p.figures if f.panels)),
        (*base.tables, *(t for p in parts for t in p.tables)),
        base.flags,
    )


def caveats(domain: loader.Domain, chosen: Settings) -> tuple[str, ...]:
    """What a reader of the page must keep in mind."""
    return (
        "One given adapter has no seeds: intervals are over questions, and say nothing about other adapters trained like it.",
        f"It is judged as if trained towards {domain.polarities['high']}; if it was trained the other way, read the signs so.",
        "An effect on what the model says about itself is no evidence of introspection: compare it with the impersonal twins.",
        "For a rank-1 adapter on one module every difference is a multiple of B: that it is one direction is an identity, and only its strength is read off the activations.",
    )


def check(domain: loader.Domain) -> None:
    """Whether the domain has what the experiment asks.

    Raises:
        BadData: no statements about itself, or no twins for them.
    """
    first_look.check(domain)
