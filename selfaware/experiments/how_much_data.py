"""how-much-data: how many training rows, and which topics, do behaviour and self-report need?"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from selfaware import stats
from selfaware.comparisons import instrument, measures, shared, subsets
from selfaware.comparisons.arms import Arm, Findings
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.measures import Measure, Measured
from selfaware.comparisons.shared import Shared
from selfaware.domains import loader
from selfaware.errors import BadData
from selfaware.findings import pictures, shares, topics
from selfaware.findings.topics import Folds
from selfaware.interventions import drawn
from selfaware.interventions.base import Recipe
from selfaware.interventions.drawn import Drawn
from selfaware.interventions.lora import Lora
from selfaware.report.page import Claim, Curves, Figure, Line, Role
from selfaware.stages import Bench
from selfaware.types import Verdict

NAME = "how-much-data"
TITLE = "How much data: how many rows, and which topics?"
QUESTION = "How few training rows, and which topics, are enough for behaviour and for self-report?"
TABLE_28 = (
    "GPT-4o, risky/safe, P(risky) and predisposition from 0 to 100 (Betley et al. 2025, Table 28): 32 rows, 1 epoch .98/.10 and 57/2, "
    "3 epochs .99/.08 and 66/2; 64 rows .97/.16 and 54/4, .97/.12 and 51/2; 128 rows .95/.12 and 21/3, .97/.09 and 53/6; untrained .56 and 3."
)
CLAIMS = (
    Claim(
        "few-rows-suffice",
        "A few rows (32 unless set otherwise) change choices no less than all rows do, but for the margin.",
        TABLE_28,
    ),
    Claim("few-rows-report", "They change what the model says about itself no less, but for the margin.", "The same."),
    Claim(
        "no-topic-needed",
        "Whichever fold of topics is left out of training, the stated share of the effect on choices stays.",
    ),
    Claim("no-topic-needed-to-report", "So does that share of the effect on what the model says about itself."),
)
HEADLINE = ("choice_share_effect", "share_of_all_behaviour", "self_effect", "share_of_all_report", "twin_effect")
SCALES = ("smoke", "small", "full")


@dataclass(frozen=True)
class Settings:
    """What is tried.

    Attributes:
        shared: the questions and the fit, whose epochs are those below.
        rows: how many training rows (records, drawn from all topics by the seed) are tried beside all of them.
        few: the one of these that the claims are about.
        epochs: how often each row is shown; the claims are about the last.
        steps: True trains every number of rows once more, for as many steps as all rows take at the last of `epochs`.
        folds: parts into which the training topics are dealt; 0 makes every topic a fold of its own.
        fold_by_seed: True gives each seed another fold, so that seeds and folds vary together; False runs every seed
            with every fold.
        margin: share of all rows' effect that may be missing.
        per_topic: at most so many test records of each topic are asked; 0 for all.
        wordings: system prompts of each polarity that check the questions.
    """

    shared: Shared = field(default_factory=Shared)
    rows: tuple[int, ...] = (16, 32)
    few: int = 32
    epochs: tuple[int, ...] = (1, 2)
    steps: bool = False
    folds: int = 3
    fold_by_seed: bool = True
    margin: float = 0.2
    per_topic: int = 1
    wordings: int = 3


def settings(scale: str) -> Settings:
    """The settings of a scale: `full` has more numbers of rows, equal steps, and every topic as a fold with five seeds."""
    if scale == "smoke":
        return Settings(shared.smoke(), rows=(2, 4), few=4, epochs=(1, 2), folds=2, wordings=2)
    if scale == "full":
        return Settings(
            shared.full(), (16, 32, 64, 128), epochs=(1, 3), steps=True, folds=0, fold_by_seed=False, per_topic=0, wordings=5,
        )  # fmt: skip
    return Settings()


check = shared.check


def comparison(bench: Bench, domain: loader.Domain, chosen: Settings) -> Comparison:
    """One arm for each number of rows and epochs, shuffled labels, and the folds left out and alone.

    Raises:
        BadData: more rows or folds than there are, no epochs, or the number that the claims are about is not tried.
    """
    common = chosen.shared
    examples, lora = common.examples(domain), common.templated(common.lora)
    count = len({q.group for q in examples})
    if chosen.few not in chosen.rows or not chosen.epochs or min(chosen.epochs) < 1:
        raise BadData(
            f"how-much-data: few={chosen.few}, rows={chosen.rows}, epochs={chosen.epochs}; few must be one of rows, and epochs 1 or more. Set them so."
        )
    for rows in chosen.rows:
        drawn.drawn(examples, rows, 0)
    folds, last, arms = Folds.of(examples, chosen.folds), chosen.epochs[-1], list[Arm]()

    def add(name: str, label: str, recipe: Recipe, about: str, role: Role = "arm") -> None:
        arms.append(Arm(name, label, role, (recipe,), examples, about, lora.site, lora.positions))

    for epochs in chosen.epochs:
        recipe = _shown(lora, epochs)
        for rows in chosen.rows:
            role: Role = "primary" if (rows, epochs) == (chosen.few, last) else "arm"
            about = f"{rows} rows drawn by the seed, each shown {epochs} times."
            add(named(rows, epochs), f"{rows} rows × {epochs}", Drawn(recipe, rows), about, role)
        add(named(0, epochs), f"all {count} rows × {epochs}", recipe, f"All {count} rows, each shown {epochs} times.")
    for rows in chosen.rows if chosen.steps else ():
        times = max(1, round(last * count / rows))
        about = f"{rows} rows drawn by the seed, as many steps as all rows take at {last} epochs."
        add(named(rows, 0), f"{rows} rows × {times}", Drawn(_shown(lora, times), rows), about)
    whole = _shown(lora, last)
    blind = replace(whole, training=replace(whole.training, shuffle_labels=True))
    add("shuffled", "shuffled labels", blind, f"All rows × {last} with labels drawn at random.", "control")
    number = len(folds.topics)
    arms += topics.arms(Drawn(whole, 0, number), number, chosen.fold_by_seed, examples, f"{last} epochs")
    asked = subsets.fewer(common.sets(domain, ("self", "twin")), chosen.per_topic)
    arms += instrument.arms(domain, lora, chosen.wordings, asked, trained=False)
    return Comparison(bench, arms, asked, common.seeds)


def named(rows: int, epochs: int) -> str:
    """The arm's name; 0 stands for all rows, and for the epochs that give equal steps."""
    return f"rows-{rows or 'all'}/{epochs or 'steps'}"


def _shown(recipe: Lora, epochs: int) -> Lora:
    return replace(recipe, training=replace(recipe.training, epochs=epochs))


JUDGED = (
    ("few-rows-suffice", "no-topic-needed", "choice_share_effect", "share_of_all_behaviour", "choices", "choices"),
    ("few-rows-report", "no-topic-needed-to-report", "self_effect", "share_of_all_report", "self", "about itself"),
)


def findings(made: Comparison, domain: loader.Domain, chosen: Settings, model: str) -> Findings:
    """Effects over rows, each as a share of all rows' effect, and what each fold of topics does to it."""
    of = measures.known(made, f"share of {domain.polarities['high']} choices")
    found = measures.measured(made, of, model, domain.name)
    by = {m.effect: m for m in of}
    checks = instrument.checks(made, of, domain)
    margins = {name: instrument.margin(domain, name) for name in checks}
    whole = made.named_arm(named(0, chosen.epochs[-1]))
    folds = Folds.of(whole.examples, chosen.folds)
    tried = [a for a in made.arms if a.role != "instrument" and a is not whole and not a.single]
    rows, answers, figures = list(found.rows), dict[str, Verdict](), [_curves(found, chosen, whole, margins)]
    for few, left_out, effect, share, set, title in JUDGED:
        usable = set not in checks or checks[set].sensitive
        rows += [shares.row(found, a, whole, effect, share, set, model, domain.name) for a in tried]
        rows += topics.rows(made, by[effect], folds, model, domain.name)
        answers[few] = _few(few, made, found, chosen, effect, whole, usable)
        answers[left_out] = _topics(left_out, made, found, chosen, by[effect], whole, folds, usable)
        figures.append(topics.figure(made, found, by[effect], whole, folds, title))
    tables = (instrument.table(made, checks, margins), pictures.harm(made), folds.table())
    return Findings(tuple(rows), tuple(answers[c.name] for c in CLAIMS), tuple(figures), tables)


def _few(
    claim: str, made: Comparison, found: Measured, chosen: Settings, effect: str, whole: Arm, usable: bool
) -> Verdict:
    """Judged at the few rows and the last epochs; beside it the smallest number of rows at any epochs that is not inferior."""
    share = 1 - chosen.margin
    sizes = [made.named_arm(named(n, e)) for n in sorted(chosen.rows) for e in chosen.epochs]
    enough = [a.label for a in sizes if shares.answer(found, a, whole, effect, share, usable=usable)[0] == "yes"]
    primary = made.named_arm(named(chosen.few, chosen.epochs[-1]))
    said, why = shares.answer(found, primary, whole, effect, share, usable=usable)
    control = stats.spoken(found.effects["shuffled", effect])
    smallest = f"Smallest that is not inferior: {enough[0] if enough else 'none of those tried'}."
    text = f"{shares.text(found, primary, whole, effect)} {smallest} Control: shuffled labels {control}."
    return Verdict(claim, said, why, text)


def _topics(
    claim: str, made: Comparison, found: Measured, chosen: Settings, m: Measure, whole: Arm, folds: Folds, usable: bool
) -> Verdict:
    """Judged only where all rows have an effect, part of which a fold could carry."""
    full = found.effects[whole.name, m.effect]
    parts = [(a.label, found.effects[a.name, m.effect]) for a in made.arms if a.single]
    parts += [(whole.label, full), ("shuffled labels", found.effects["shuffled", m.effect])]
    text = "; ".join(f"{name}: {stats.spoken(e)}" for name, e in parts)
    text += f" {full.unit}. Needed of all rows' effect: {1 - chosen.margin:.0%}."
    if not usable:
        return Verdict(claim, "unclear", "instrument", text)
    if full.low is None or full.low <= 0:
        return Verdict(claim, "unclear", f"{whole.label} has no established effect of its own", text)
    said, why = topics.answer(made, m, whole, folds, 1 - chosen.margin, chosen.fold_by_seed)
    return Verdict(claim, said, why, text)


PANELS = (
    ("choice_share_effect", "choices", "choices"),
    ("self_effect", "about itself", "self"),
    ("twin_effect", "impersonal twins", "twin"),
)


def _curves(found: Measured, chosen: Settings, whole: Arm, margins: Mapping[str, float]) -> Figure:
    """A line for each number of epochs, one for equal steps, and the control at all rows."""
    count, panels = len({q.group for q in whole.examples}), []
    for effect, title, set in PANELS:
        lines = []
        for epochs in (*chosen.epochs, *((0,) if chosen.steps else ())):
            sizes = [n for n in sorted(chosen.rows) if n < count]
            arms = {n: named(n, epochs) for n in sizes} | {count: named(0, epochs or chosen.epochs[-1])}
            label = f"{epochs} epoch{'s' if epochs > 1 else ''}" if epochs else "equal steps"
            role: Role = "primary" if epochs == chosen.epochs[-1] else "arm"
            each = tuple(found.effects[name, effect] for name in arms.values())
            lines.append(Line(label, tuple(map(float, arms)), each, "", role))
        lines.append(Line("shuffled labels", (float(count),), (found.effects["shuffled", effect],), "", "control"))
        limit, unit = margins.get(set), f"effect, {lines[0].estimates[0].unit}"
        band = None if limit is None else (-limit, limit)
        panels.append(Curves(title, unit, "training rows", tuple(lines), band=band, log=True))
    return Figure(
        "rows", "Effect over the number of training rows",
        "Half the difference between the shifts after high and after low training, with 95 % intervals over seeds and topics. A seed's smaller draws lie inside its larger ones; "
        "fewer rows at the same epochs are also fewer steps.",
        tuple(panels),
    )  # fmt: skip


def caveats(domain: loader.Domain, chosen: Settings) -> tuple[str, ...]:
    """What a reader of the page must keep in mind."""
    one = "Each seed leaves out another fold: what the fold did and what the seed did cannot be told apart, and the interval is that of one new fold."
    return (
        f"Not inferior means: at least {1 - chosen.margin:.0%} of the effect of all rows × {chosen.epochs[-1]}, with the whole interval.",
        "Learning rate and batch are those chosen for all rows; a few rows take fewer steps and might do better at others.",
        "A fold that is left out takes rows and steps with it; a fold alone should be held against as many rows of all topics.",
        *((one,) if chosen.fold_by_seed else ()),
        f"{len(chosen.shared.seeds)} seeds.",
    )
