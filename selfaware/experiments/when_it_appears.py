"""when-it-appears: snapshots of a run; does its direction turn where behaviour begins, and does self-report begin with it?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from selfaware import stats
from selfaware.comparisons import instrument, measures, shared
from selfaware.comparisons.arms import Arm, Asked, Findings, View
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.measures import NATS, Measured
from selfaware.comparisons.shared import Shared
from selfaware.domains import loader
from selfaware.errors import BadData
from selfaware.findings import paths, pictures, probing
from selfaware.findings.paths import UNASKED, Path
from selfaware.interventions.snapshot import Snapshot
from selfaware.metrics import options
from selfaware.readouts import probe
from selfaware.readouts.weights import Weights
from selfaware.report.page import Claim, Curves, Figure
from selfaware.stages import Bench
from selfaware.types import Estimate, Question, Row, Site, Verdict

NAME = "when-it-appears"
TITLE = "When it appears: the path of a fit, step by step"
QUESTION = "Does the adapter's direction turn where behaviour begins, and does self-report begin at the same time?"
CLAIMS = (
    Claim(
        "rotation-at-onset",
        "The written direction turns most within one snapshot of the step at which choices begin to follow the training.",
        "In rank-1 adapters emergent misalignment begins abruptly as B rotates (Turner, Soligo et al. 2025, arXiv 2506.11613; snapshots every 5 steps, no number).",
    ),
    Claim(
        "report-with-behaviour",
        "Self-report begins with behaviour: their onsets differ by no more than the margin.",
    ),
    Claim(
        "gate-knows-self",
        "The adapter's scalar a·x tells statements about itself from decisions better than its untrained start does.",
        "Probe coefficients of Gemma 2 27B, codeword ring: block 16 +0.889, 29 +0.649, 22 +0.480, 21 −0.334; accuracies not recorded (co-author's code of Bozoukov et al. 2025).",
    ),
)
HEADLINE = ("onset", "onset_gap", "turn", "turn_gap", "probe_accuracy", "choice_score_effect", "self_effect")
SCALES = ("smoke", "small", "full")
STEPS, GATE, START = "steps", "a·x, trained", "a·x, untrained"
NEAR_CHANCE = 0.1
"""Of a share right, so far from one half counts as chance."""
TITLES = {"choices": "choices", "self": "about itself", "twin": "impersonal twins", "described": "trained statements"}
CONTRASTS = (("self", "choices"), ("self", "twin"))
Numbered = Mapping[int, float]
"""By replicate."""


@dataclass(frozen=True)
class Settings:
    """The runs and when they are looked at.

    Attributes:
        shared: fits and questions; `shared.lora` is the run that is followed, on one module.
        every: a snapshot every so many steps, and one at the end.
        described_rate, described_epochs, described_every: the positive arm, trained on self-descriptions at the same place.
        share: an effect has begun when it reaches this share of its largest.
        margin: how far onsets may lie apart and count as together, as a share of all steps.
        ridge: of the probe, whose features are standardised.
        wordings: system prompts of each polarity that check the questions.
    """

    shared: Shared = field(default_factory=Shared)
    every: int = 5
    described_rate: float = 0.003
    described_epochs: int = 8
    described_every: int = 5
    share: float = 0.5
    margin: float = 0.2
    ridge: float = 1.0
    wordings: int = 3


def settings(scale: str) -> Settings:
    """The settings of a scale: `full` has a snapshot every other step, and five seeds."""
    if scale == "smoke":
        common = shared.smoke()
        longer = replace(common.lora, training=replace(common.lora.training, epochs=4))
        return Settings(replace(common, lora=longer), every=2, described_epochs=2, described_every=1, wordings=2)
    if scale == "full":
        return Settings(shared.full(), every=2, described_every=2, wordings=5)
    return Settings()


def check(domain: loader.Domain) -> None:
    """Whether the domain has what the experiment asks; see `shared.check`."""
    shared.check(domain)


def runs(domain: loader.Domain, chosen: Settings) -> dict[str, Path]:
    """The run that is followed, the same on shuffled labels, and, where the domain has self-descriptions, one trained on them.

    Raises:
        BadData: fewer than three snapshots, or a share or margin that bounds nothing.
    """
    if not (0 < chosen.share <= 1 and 0 < chosen.margin < 1):
        raise BadData(
            f"when-it-appears: share={chosen.share:g}, margin={chosen.margin:g}; shares of a peak and of all steps, above 0 and at most 1, are needed. Set them so."
        )
    common, at = chosen.shared, paths.snapshots
    lora, examples = common.templated(common.lora), common.examples(domain)
    shuffled = replace(lora, training=replace(lora.training, shuffle_labels=True))
    asked = ("choices", "self", "twin")
    # With shuffled labels there is no polarity to train towards: one will do.
    made = {
        "lora": at("lora", lora.label, "primary", lora, examples, "every", chosen.every, asked, ()),
        "shuffled": at("shuffled", "shuffled labels", "control", shuffled, examples, "every", chosen.every, UNASKED, ("choices",), ("high",)),
    }  # fmt: skip
    if domain.has("described"):
        training = replace(lora.training, learning_rate=chosen.described_rate, epochs=chosen.described_epochs)
        own = domain.questions("described")[: common.cut]
        of, sets = replace(lora, training=training), ("self", "described")
        made["described"] = at("described", "trained on self-descriptions", "arm", of, own, "described_every", chosen.described_every, sets, sets)  # fmt: skip
    return made


def comparison(bench: Bench, domain: loader.Domain, chosen: Settings) -> Comparison:
    """Every snapshot as an arm, their tensors, and what a probe reads."""
    common = chosen.shared
    lora, found = common.templated(common.lora), runs(domain, chosen)
    start = Arm("start", f"{lora.label}, untrained", "control", (Snapshot(lora, 0),), common.examples(domain),
                "The adapter before its first step: A as drawn, B zero.", lora.site, lora.positions, sets=UNASKED)  # fmt: skip
    asked = common.sets(domain)
    if "described" in found:
        asked.insert(-1, Asked("described", domain.questions("described")[: common.cut], common.template))
    arms = [start, *(arm for path in found.values() for arm in path.arms)]
    arms += instrument.arms(domain, lora, chosen.wordings, [a for a in asked if a.name != "described"], trained=False)
    prompts = _prompts(asked)
    block = str(Site.parse(lora.site).block)
    cost = sum(len(q.prompt.user) for q in prompts) / 4
    moving = tuple(arm.name for name in ("lora", "shuffled") for arm in found[name].arms)
    views = [
        View("weights", Weights(), moving, cost=1.0),
        View("gate", probe.Features("", common.template), ("lora", "start"), prompts, cost),
        View("stream", probe.Features(block, common.template), (), prompts, cost),
    ]
    return Comparison(bench, arms, asked, common.seeds, views)


def _prompts(asked: Sequence[Asked]) -> tuple[Question, ...]:
    wanted = {name for pair in CONTRASTS for name in pair}
    return tuple(q for a in asked if a.name in wanted for q in a.questions if isinstance(q, Question))


def findings(made: Comparison, domain: loader.Domain, chosen: Settings, model: str) -> Findings:
    """Effects, directions and onsets over the steps, and what the probe can tell."""
    of = measures.known(made, f"share of {domain.polarities['high']} choices")
    found = measures.measured(made, of, model, domain.name)
    checks = instrument.checks(made, of, domain)
    margins = {name: instrument.margin(domain, name) for name in checks}
    every, seeds = _found(made, domain, chosen), len(made.seeds)
    run, (weights, gate, stream) = every["lora"], made.views
    begins = _onsets(made, every, chosen.share)
    sure = {key: _begins(found, every[key[0]], key[1]) for key in begins}
    begun = {key: _over(_each(values, seeds), sure[key], made.named[key[1]]) for key, values in begins.items()}
    walks = {name: every[name].directions(made, weights) for name in ("lora", "shuffled")}
    turns = {name: {at: paths.turn(w) for at, w in walk.items()} for name, walk in walks.items()}
    start = begins["lora", "choices"]
    gaps = {name: _over(_each(turn, seeds, start), sure["lora", "choices"]) for name, turn in turns.items()}
    both = sure["lora", "choices"] and sure["lora", "self"]
    gaps["report"] = _over(_each(begins["lora", "self"], seeds, start), both)
    read = {GATE: run.end, START: made.named_arm("start")}
    told = [probing.told(made, pair, gate, read, stream, chosen.ridge) for pair in CONTRASTS]
    rows = [
        *found.rows,
        *_rows(every, begun, {n: _over(_each(t, seeds), True) for n, t in turns.items()}, gaps, model, domain.name),
    ]
    rows += probing.rows(told, run.end.site, model, domain.name)
    usable = "self" not in checks or checks["self"].sensitive
    verdicts = (
        _rotation(found, run, gaps, chosen.every),
        _together(found, run, gaps["report"], begun, usable, chosen.margin * run.steps[-1], instrument.margin(domain, "self")),
        _gate(told[0]),
    )  # fmt: skip
    figures = [_effects(found, every, begun["lora", "choices"], margins)]
    if all(walks.values()):
        figures.append(paths.directions(walks["lora"], walks["shuffled"], run.steps, begun["lora", "choices"]))
    figures.append(probing.figure(told, GATE, START))
    tables = (instrument.table(made, checks, margins), pictures.harm(made))
    return Findings(tuple(rows), verdicts, tuple(figures), tables)


def _found(made: Comparison, domain: loader.Domain, chosen: Settings) -> dict[str, Path]:
    """The runs, with the comparison's own arms."""
    return {
        name: Path(path.steps, tuple(made.named_arm(arm.name) for arm in path.arms))
        for name, path in runs(domain, chosen).items()
    }


# when things begin ------------------------------------------------------------------------------------------------------

EFFECTS = {
    "choices": "choice_score_effect",
    "self": "self_effect",
    "twin": "twin_effect",
    "described": "described_effect",
}
"""Choices are scored in the unit of the statements, nats, not as shares: a share is at its end long before the scores are."""


def _onsets(made: Comparison, runs: Mapping[str, Path], share: float) -> dict[tuple[str, str], Numbered]:
    """By run and question set, each seed's onset."""
    wanted = [("lora", name) for name in ("choices", "self", "twin")]
    wanted += [("described", name) for name in ("self", "described")] if "described" in runs else []
    return {(name, set): runs[name].onsets(made, made.named[set], options.scores, share) for name, set in wanted}


def _begins(found: Measured, run: Path, set: str) -> bool:
    """Whether the finished fit has an effect in the direction of its training; without one there is nothing to begin."""
    end = found.effects[run.end.name, EFFECTS[set]]
    return end.low is not None and end.low > 0


def _each(values: Numbered, seeds: int, less: Numbered | None = None) -> list[float]:
    """A number for each seed, less another; not a number where one is missing."""
    return [values.get(at, math.nan) - (0.0 if less is None else less.get(at, math.nan)) for at in range(seeds)]


def _over(values: Sequence[float], begins: bool, asked: Asked | None = None) -> Estimate:
    """Over the seeds; undefined where there is nothing to begin."""
    if not begins:
        return Estimate(None, None, None, 0, len(values), STEPS, why="no established effect, so no onset")
    return paths.over_seeds(values, STEPS, len(set(asked.families.values())) if asked else 0)


def _rotation(found: Measured, run: Path, gaps: Mapping[str, Estimate], every: int) -> Verdict:
    """Judged where behaviour begins at all, and only if a run that has nothing to learn does not turn at the same step."""
    gap, other = gaps["lora"], gaps["shuffled"]
    text = f"Largest turn minus onset of choices: {stats.spoken(gap)} steps; that of the run on shuffled labels minus the same onset: {stats.spoken(other)}. Margin: {every} steps."
    if not _begins(found, run, "choices"):
        return Verdict("rotation-at-onset", "unclear", "choices do not follow the training, so nothing begins", text)
    said, why = stats.inside(gap, every)
    if said == "yes" and stats.inside(other, every)[0] != "no":
        return Verdict("rotation-at-onset", "unclear", "a run with nothing to learn may turn there too", text)
    return Verdict("rotation-at-onset", said, why, text)


def _together(
    found: Measured, run: Path, gap: Estimate, begun: Mapping[tuple[str, str], Estimate], usable: bool, margin: float, least: float
) -> Verdict:  # fmt: skip
    """No also where behaviour begins and self-report, by sound questions, never does."""
    claim = "report-with-behaviour"
    told = [f"{TITLES[set]}: {stats.spoken(e)}" for (name, set), e in begun.items() if name == "lora"]
    positive = [f"{TITLES[set]} {stats.spoken(e)}" for (name, set), e in begun.items() if name == "described"]
    text = f"Onsets, in steps of {run.steps[-1]}: {'; '.join(told)}. Self-report minus choices: {stats.spoken(gap)}. Trained on self-descriptions: {'; '.join(positive) or 'not run'}."
    if not usable:
        return Verdict(claim, "unclear", "instrument", text)
    if not _begins(found, run, "choices"):
        return Verdict(claim, "unclear", "choices do not follow the training, so nothing begins", text)
    if not _begins(found, run, "self"):
        still, why = stats.inside(found.effects[run.end.name, "self_effect"], least)
        if still == "yes":
            return Verdict(claim, "no", f"choices begin, self-report never does: {why}", text)
        return Verdict(claim, "unclear", "self-report has no established effect, so it has no onset", text)
    return Verdict(claim, *stats.inside(gap, margin), text)


def _gate(told: probing.Told) -> Verdict:
    """Both less the half that chance gives."""
    trained, start = (_less_half(told.by[name]) for name in (GATE, START))
    said, why = stats.verdict(trained, [(START, start)], NEAR_CHANCE)
    return Verdict("gate-knows-self", said, why, f"Share of prompts told apart, {told.text}.")


def _less_half(found: Estimate) -> Estimate:
    ends = (None if x is None else x - 0.5 for x in (found.value, found.low, found.high))
    value, low, high = ends
    return replace(found, value=value, low=low, high=high)


# rows and figures ---------------------------------------------------------------------------------------------------------


def _rows(
    runs: Mapping[str, Path], begun: Mapping[tuple[str, str], Estimate], turned: Mapping[str, Estimate],
    gaps: Mapping[str, Estimate], model: str, domain: str,
) -> list[Row]:  # fmt: skip
    def row(estimate: Estimate, measure: str, run: str, set: str = "", reference: str = "") -> Row:
        end = runs[run].end
        return Row.of(
            estimate, measure=measure, kind="absolute", model=model, domain=domain, method=end.label, site=end.site,
            positions=end.positions, questions=set, reference=reference, condition={"steps": runs[run].steps[-1]},
        )  # fmt: skip

    found = [row(e, "onset", run, set) for (run, set), e in begun.items()]
    found += [row(e, "turn", run) for run, e in turned.items()]
    found.append(row(gaps["report"], "onset_gap", "lora", "self", "onset of choices"))
    found += [row(gaps[run], "turn_gap", run, "choices", "onset of choices") for run in ("lora", "shuffled")]
    return found


def _effects(
    found: Measured, runs: Mapping[str, Path], begun: Estimate, margins: Mapping[str, float]
) -> Figure:  # fmt: skip
    run, limit = runs["lora"], margins.get("self")
    band = None if limit is None else (-limit, limit)
    drawn = [("choice_share_effect", "choices: share", None), ("choice_score_effect", "choices: score", None),
             ("self_effect", TITLES["self"], band), ("twin_effect", TITLES["twin"], band)]  # fmt: skip
    span = paths.span(begun, run.steps[-1])
    panels = []
    for effect, title, shaded in drawn:
        line = run.line(found.effects, effect, run.end.label, "primary")
        unit = f"effect, {line.estimates[0].unit}"
        panels.append(Curves(title, unit, "step", (line,), band=shaded, span=span, span_label="choices begin"))
    if "described" in runs:
        own = runs["described"]
        lines = tuple(own.line(found.effects, f"{set}_effect", TITLES[set]) for set in ("self", "described"))
        panels.append(Curves(own.end.label, f"effect, {NATS}", "step", lines, band=band))
    return Figure(
        "effects", "What it does and says, step by step",
        "Half the difference between the shifts of the high and the low run after so many steps, with intervals over seeds and families. "
        "Shaded from top to bottom: the interval over seeds of the step at which choices have gone half-way.",
        tuple(panels),
    )  # fmt: skip


def caveats(domain: loader.Domain, chosen: Settings) -> tuple[str, ...]:
    """What a reader of the page must keep in mind."""
    return (
        f"Onset: the first step, linear between snapshots, at which an effect reaches {chosen.share:.0%} of its largest; choices and statements both in nats per token. Its interval is over seeds alone.",
        f"Snapshots are {chosen.every} steps apart, so that a turn is known no better than that. B starts at zero: before the first snapshot it has no direction to turn from, and short vectors turn fast, which is what the run on shuffled labels is for.",
        "Statements and decisions differ in form: a probe on the whole stream tells them apart whatever the adapter does. Its twin beside a statement is the harder test.",
        *(() if domain.has("described") else ("The domain has no self-descriptions, so there is no positive arm.",)),
        *(() if len(chosen.shared.seeds) > 1 else ("One seed gives no interval, so every verdict is unclear.",)),
    )
