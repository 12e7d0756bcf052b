"""one-factor: objective, data, positions, site, rank, template and form changed one at a time, every setting reported."""

from dataclasses import dataclass, field, replace

from selfaware import stats
from selfaware.comparisons import measures
from selfaware.comparisons.arms import Arm, Asked, Findings
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.measures import Measure
from selfaware.domains import loader
from selfaware.experiments import first_look
from selfaware.findings import pictures
from selfaware.interventions.lora import Lora
from selfaware.metrics import options
from selfaware.report.page import Claim, Table
from selfaware.stages import Bench
from selfaware.types import Form, Part, Positions, Question, Template

NAME = "one-factor"
TITLE = "One factor at a time: where does self-report move with behaviour?"
QUESTION = (
    "Which of objective, data variety, positions, site, rank, template and form makes self-report follow behaviour?"
)
CLAIMS: tuple[Claim, ...] = ()
HEADLINE = ("choice_share_effect", "self_effect", "twin_effect", "self_minus_twin", "self_shown_effect")
SCALES = ("smoke", "small", "full")


@dataclass(frozen=True)
class Settings:
    """The standard setting and what is tried instead of each of its parts.

    Attributes:
        seeds: one fit of every arm and polarity for each.
        lora: the standard; every other arm differs from it in one thing.
        families: the train part is cut to that many families, the epochs raised so that the steps stay the same.
        part: the part whose choices are asked. Nothing is chosen here, but the test part is left to `first-look`.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    limit: int = 0
    part: Part = "validation"
    lora: Lora = field(default_factory=lambda: first_look.Settings().lora)
    wide: Lora = field(default_factory=lambda: first_look.Settings().wide)
    sites: tuple[str, ...] = ("5.mlp.down_proj", "10.mlp.down_proj", "20.mlp.down_proj", "25.mlp.down_proj")
    positions: tuple[Positions, ...] = ("last_prompt", "all")
    ranks: tuple[int, ...] = (32,)
    families: int = 19
    forms: tuple[Form, ...] = ("cloze", "letters")
    templates: tuple[Template, ...] = ("raw", "chat")
    unrelated: str = "unrelated_style"


def settings(scale: str) -> Settings:
    """The settings of a scale: `smoke` is for tests, `full` has five seeds and every fifth block."""
    if scale == "smoke":
        lora = Lora(site="15.mlp.down_proj")
        lora = replace(lora, training=replace(lora.training, epochs=1, batch=4))
        return Settings(seeds=(0, 1), limit=6, sites=("10.mlp.down_proj",), ranks=(2,), families=2, lora=lora, wide=replace(lora, site="all-linear"))  # fmt: skip
    if scale == "full":
        return Settings(seeds=(0, 1, 2, 3, 4), ranks=(2, 4, 8, 32))
    return Settings()


def check(domain: loader.Domain) -> None:
    """Whether the domain has what the experiment asks.

    Raises:
        BadData: no statements about itself, or no twins for them.
    """
    first_look.check(domain)


def comparison(bench: Bench, domain: loader.Domain, chosen: Settings) -> Comparison:
    """The standard arm, one arm for each change, and the controls."""
    cut = chosen.limit * 2 if chosen.limit else None
    lora = chosen.lora
    training = lora.training
    rows = {form: domain.questions("choices", "train", form)[:cut] for form in chosen.forms}
    form = chosen.forms[0]
    few = _fewer(rows[form], chosen.families)
    repeats = round(training.epochs * len(rows[form]) / len(few))
    plain = loader.load(chosen.unrelated).questions("choices", "train", form)[:cut]
    arms: list[Arm] = []

    def add(label: str, recipe: Lora, examples: tuple[Question, ...], asked: str = form, template: Template | None = None, role: str = "arm", about: str = "") -> None:  # fmt: skip
        template = template or chosen.templates[0]
        recipe = replace(recipe, training=replace(recipe.training, template=template))
        names = _names(asked, template)
        text = (
            about
            or f"{recipe.label} on {recipe.site}, at {recipe.positions} positions; differs from the standard in this."
        )
        arms.append(Arm(label, label, role, (recipe,), examples, text, recipe.site, recipe.positions, sets=names))  # type: ignore[arg-type]

    standard = rows[form]
    add(
        "standard",
        lora,
        standard,
        role="primary",
        about=f"{lora.label} on {lora.site}, at {lora.positions} positions, objective {training.objective}, {form}, {chosen.templates[0]}.",
    )
    add("objective sft", replace(lora, training=replace(training, objective="sft")), standard)
    add("rank 32, all linear modules", chosen.wide, standard)
    for other in chosen.forms[1:]:
        add(f"form {other}", lora, rows[other], asked=other)
    for template in chosen.templates[1:]:
        add(f"template {template}", lora, standard, template=template)
    for site in chosen.sites:
        add(f"site {site}", replace(lora, site=site), standard)
    for positions in chosen.positions:
        add(f"positions {positions}", replace(lora, positions=positions), standard)
    for rank in chosen.ranks:
        add(f"rank {rank}", replace(lora, rank=rank), standard)
    add(
        f"{len({q.family for q in few})} families",
        replace(lora, training=replace(training, epochs=repeats)),
        few,
        about=f"{len(few) // 2} records, {repeats} epochs: the same number of steps.",
    )
    add(
        "unrelated fine-tune",
        lora,
        plain,
        role="control",
        about="Replies with comparisons from the kitchen (high) or the garden (low).",
    )
    add(
        "shuffled labels",
        replace(lora, training=replace(training, shuffle_labels=True)),
        standard,
        role="control",
        about="The same rows with labels drawn at random.",
    )
    sets = []
    for asked, template in dict.fromkeys((a, t) for a in chosen.forms for t in chosen.templates):
        if any(_choices(asked, template) in arm.sets for arm in arms):
            decisions = domain.questions("choices", chosen.part, asked)[:cut]
            sets.append(Asked(_choices(asked, template), decisions, template, part=chosen.part))
    for template in chosen.templates:
        for name in ("self", "twin"):
            sets.append(Asked(_named(name, template), domain.questions(name)[:cut], template))
        if "shown" in domain.statements:
            shown = domain.questions("self", shown=True)[: cut and 2 * cut]
            sets.append(Asked(_named("self-shown", template), shown, template))
    return Comparison(bench, arms, sets, chosen.seeds)


def _fewer(examples: tuple[Question, ...], families: int) -> tuple[Question, ...]:
    kept = set(
        sorted({q.family for q in examples})[:: max(1, len({q.family for q in examples}) // families)][:families]
    )
    return tuple(q for q in examples if q.family in kept)


def _choices(form: Form | str, template: Template) -> str:
    return _named("choices" if form == "cloze" else f"choices-{form}", template)


def _named(name: str, template: Template) -> str:
    return name if template == "raw" else f"{name}-{template}"


def _names(form: str, template: Template) -> tuple[str, ...]:
    return (_choices(form, template), *(_named(n, template) for n in ("self", "twin", "self-shown")))


def findings(made: Comparison, domain: loader.Domain, chosen: Settings, model: str) -> Findings:
    """Every arm's effect on choices, self-report and twins; no verdict, for nothing is claimed."""
    found = measures.measured(made, [_measure(s.name) for s in made.sets], model, domain.name)
    panels = [("choice_share_effect", "choices", None), ("self_effect", "about itself", None), ("twin_effect", "about others", None), ("self_minus_twin", "itself minus others", None)]  # fmt: skip
    caption = "Half the difference between the high and the low arm's shifts, 95 % intervals over seeds and topics; every arm differs from the standard in one thing."
    drawn = pictures.effects(made, found, panels, "one-factor", "Effects, one factor changed at a time", caption)
    return Findings(found.rows, (), (drawn,), (_looks(made, found),))


def _measure(set: str) -> Measure:
    if set.startswith("choices"):
        return Measure("choice_share", "choice_share_effect", set, measures.chosen, measures.SHARE)
    name = "self_shown" if set.startswith("self-shown") else "self" if set.startswith("self") else "twin"
    return Measure("report_score", f"{name}_effect", set, options.scores, measures.NATS)


def _looks(made: Comparison, found: measures.Measured) -> Table:
    """Whether the largest of all these effects is more than the largest of as many looks at nothing."""
    rows = []
    tried = [a for a in made.arms if a.role != "control"]
    for effect in ("choice_share_effect", "self_effect", "self_minus_twin"):
        looks = stats.largest({a.label: found.values[a.name, effect] for a in tried})
        rows.append(
            (
                effect,
                looks.largest or "none has an interval",
                "–" if looks.p is None else f"{looks.p:.3f}",
                str(len(tried)),
            )
        )
    return Table(
        "looks", "Many looks: is the largest more than chance?",
        "The arm that stands out most, and how often as many looks at nothing have one that stands out as much.",
        ("effect", "arm that stands out most", "p, corrected for all looks", "looks"), tuple(rows),
    )  # fmt: skip


def caveats(domain: loader.Domain, chosen: Settings) -> tuple[str, ...]:
    """What a reader of the page must keep in mind."""
    return (
        f"{len(chosen.seeds)} seeds; many arms are compared, so one interval in twenty misses its value.",
        "Learning rate and epochs are the standard arm's for all: another setting may suit an arm better.",
    )
