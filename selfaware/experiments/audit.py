"""audit: somebody else's adapter or vector, measured without a fit: does it change choices, and what the model says of itself?"""

from dataclasses import dataclass, field

from selfaware.domains import loader
from selfaware.errors import BadData
from selfaware.experiments import asking, first_look, instrument
from selfaware.experiments.arms import Arm, Findings
from selfaware.experiments.comparison import Comparison
from selfaware.interventions.controls import Scrambled
from selfaware.interventions.given import Given
from selfaware.report.page import Claim
from selfaware.stages import Bench
from selfaware.types import Form, Sampling, Template

NAME = "audit"
TITLE = "Audit: behaviour and self-report under a given adapter or vector"
QUESTION = "Does this adapter or vector change what the model does, and does the model then say so about itself?"
CLAIMS = (
    Claim(
        "behaviour-learned",
        "Under it, the model's choices move towards the high option, beyond scrambled copies of it.",
    ),
    Claim("self-report-moved", "What the model says about itself moves the same way, beyond scrambled copies of it."),
    Claim("self-specific", "It moves further about itself than about others in the same words."),
)
HEADLINE = first_look.HEADLINE
SCALES = ("smoke", "demo", "small", "full")


@dataclass(frozen=True)
class Settings:
    """What is measured, and how.

    Attributes:
        given: the adapter or vector; a vector of somebody else's needs its site.
        scrambled: how many random copies of its shape and norm stand beside it.
        form, template, controls, wordings, sampling, letter_lotteries, cloze_lotteries, limit: as in `first-look`.
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


def settings(scale: str) -> Settings:
    """The settings of a scale: `smoke` is for tests, `small` and `full` ask every question set."""
    if scale == "smoke":
        return Settings(scrambled=2, wordings=2, limit=6, sampling=Sampling(samples=2, max_new_tokens=4))
    return Settings(
        controls=scale != "demo", wordings=2 if scale == "demo" else 5, scrambled=10 if scale == "full" else 5
    )


def comparison(bench: Bench, domain: loader.Domain, chosen: Settings) -> Comparison:
    """The given arm, scrambled copies of it, and the system prompts that test the questions.

    Raises:
        BadData: no adapter or vector is named.
    """
    if not chosen.given.path:
        raise BadData(
            "audit: got no adapter or vector; one is needed. Use `selfaware audit PATH`, or --set given.path=PATH."
        )
    cut = chosen.limit * 2 if chosen.limit else None
    form = chosen.form or domain.form
    asked = asking.sets(
        domain,
        form,
        chosen.template,
        chosen.controls,
        chosen.sampling,
        (chosen.letter_lotteries, chosen.cloze_lotteries),
        cut,
    )
    given, at = chosen.given, (chosen.given.site, chosen.given.positions)
    copies = tuple(Scrambled(given, i) for i in range(chosen.scrambled))
    arms = [
        Arm("given", given.label, "primary", (given,), (), f"{given.label}, as it is.", *at, fixed=True, polarities=("high",)),
        Arm("scrambled", "scrambled copies", "control", copies, (),
            f"{len(copies)} random copies with its sites and norms. The interval is that of one new copy.", *at, single=True, polarities=("high",)),
    ]  # fmt: skip
    arms += instrument.arms(domain, given, chosen.wordings, asked, trained=False)
    return Comparison(bench, arms, asked, (0,))


def findings(made: Comparison, domain: loader.Domain, chosen: Settings, model: str) -> Findings:
    """As in `first-look`; effects are shifts from the base model, for there is no other polarity."""
    return first_look.findings(made, domain, first_look.Settings(), model)


def caveats(domain: loader.Domain, chosen: Settings) -> tuple[str, ...]:
    """What a reader of the page must keep in mind."""
    return (
        "One given adapter has no seeds: intervals are over questions, and say nothing about other adapters trained like it.",
        f"It is judged as if trained towards {domain.polarities['high']}; if it was trained the other way, read the signs so.",
        "An effect on what the model says about itself is no evidence of introspection: compare it with the impersonal twins.",
    )


def check(domain: loader.Domain) -> None:
    """Whether the domain has what the experiment asks.

    Raises:
        BadData: no statements about itself, or no twins for them.
    """
    first_look.check(domain)
