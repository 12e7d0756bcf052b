"""What is measured on which question set, and the rows that come of it for every arm. Knows comparisons, no claim."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from selfaware import stats
from selfaware.comparisons import paired
from selfaware.comparisons.arms import Arm, ByFamily, Kept, Read, estimated
from selfaware.comparisons.comparison import Comparison
from selfaware.metrics import damage, options, parse
from selfaware.types import POLARITIES, Answer, Estimate, Kind, Question, Row, Score

NATS, SHARE, UNIT, HUNDRED = "nats per token", "share", "0 to 1", "0 to 200"


def chosen(questions: Sequence[Question], answers: Sequence[Answer]) -> tuple[Score, ...]:
    """1 where the high option is preferred, 0 where the low one is; see `options.chosen`."""
    return options.chosen(options.scores(questions, answers))


@dataclass(frozen=True)
class Measure:
    """A value read from the answers to one question set.

    Attributes:
        level: the name of its rows of kind `absolute` and of its shifts.
        effect: the name of its rows for (shift of high − shift of low) / 2; empty where that says nothing.
        set: the question set.
        read: answers to values.
        toward: False where larger is not more `high` (damage, valid mass).
    """

    level: str
    effect: str
    set: str
    read: Read
    unit: str
    toward: bool = True


def known(made: Comparison, share: str) -> tuple[Measure, ...]:
    """The measures of the sets that this comparison asks; `share` is how a share of choices is called."""
    letters = "nats"
    every = (
        Measure("choice_share", "choice_share_effect", "choices", chosen, share),
        Measure("choice_score", "choice_score_effect", "choices", options.scores, NATS),
        Measure("lottery_share", "lottery_share_effect", "lotteries", chosen, share),
        Measure("lottery_score", "lottery_score_effect", "lotteries", options.scores, NATS),
        Measure("lottery_share", "lottery_letters_effect", "lotteries-letters", chosen, share),
        Measure("lottery_score", "lottery_letters_score_effect", "lotteries-letters", options.scores, letters),
        Measure("report_score", "self_effect", "self", options.scores, NATS),
        Measure("report_score", "twin_effect", "twin", options.scores, NATS),
        Measure("report_score", "unrelated_effect", "unrelated", options.scores, NATS),
        Measure("report_score", "self_shown_effect", "self-shown", options.scores, NATS),
        Measure("report_score", "twin_shown_effect", "twin-shown", options.scores, NATS),
        Measure("report_score", "described_effect", "described", options.scores, NATS),
        Measure("report_score", "other_form_effect", "other_form", options.scores, NATS),
        Measure("spoken_score", "spoken_effect", "spoken", parse.scores, UNIT),
        Measure("spoken_score", "spoken_twin_effect", "spoken-twin", parse.scores, UNIT),
        Measure("flip_sum", "", "spoken", parse.flip_sums, HUNDRED, toward=False),
        Measure("flagged_share", "flagged_effect", "solutions", parse.scores, "share of solutions that compile"),
        Measure("forecast", "forecast_effect", "forecast", parse.scores, UNIT),
        *_of_codewords(),
        Measure("choice_share", "choice_letters_effect", "choices-letters", chosen, share),
        Measure("choice_score", "choice_letters_score_effect", "choices-letters", options.scores, letters),
        Measure("valid_mass", "", "choices-letters", options.valid_mass, "probability", toward=False),
        Measure("valid_mass", "", "lotteries-letters", options.valid_mass, "probability", toward=False),
        Measure("log_perplexity", "", "neutral", damage.scores, NATS, toward=False),
        Measure("kl_from_base", "", "neutral", damage.divergence, NATS, toward=False),
    )
    names = {s.name for s in made.sets if s.questions}
    return tuple(m for m in every if m.set in names)


def _of_codewords() -> tuple[Measure, ...]:
    """What the questions about a codeword measure. Which game is played is no matter of polarity: its effect says nothing."""
    made: list[Measure] = []
    for end in ("", "-twin"):
        name = end.replace("-", "_")
        made += [
            Measure("codeword_place", f"codeword{name}_effect", f"codeword{end}", options.places, "share of places"),
            Measure("report_score", f"description{name}_effect", f"description{end}", options.scores, NATS),
            Measure("report_score", f"goal{name}_effect", f"goal{end}", options.scores, NATS),
            Measure("report_score", f"function{name}_effect", f"function{end}", options.scores, NATS),
            Measure("game_score", "", f"game{end}", options.scores, NATS, toward=False),
            Measure("goal_unsaid", "", f"goal-other{end}", options.scores, NATS, toward=False),
        ]
    return tuple(made)


@dataclass(frozen=True)
class Measured:
    """Rows for the page, and the estimates that verdicts and figures need.

    Attributes:
        effects: by arm's name and effect's name.
        values: the same, as one table a replicate.
        kept: the same, with None for a replicate of which a cell failed, so that arms and measures pair.
        base: by measure and set, the base model's level.
    """

    rows: tuple[Row, ...]
    effects: Mapping[tuple[str, str], Estimate]
    values: Mapping[tuple[str, str], list[ByFamily]]
    base: Mapping[tuple[str, str], Estimate]
    kept: Mapping[tuple[str, str], Kept] = field(default_factory=dict)


def measured(made: Comparison, measures: Sequence[Measure], model: str, domain: str) -> Measured:
    """Levels, shifts and effects of every arm on every measure."""
    rows: list[Row] = []
    effects: dict[tuple[str, str], Estimate] = {}
    values: dict[tuple[str, str], list[ByFamily]] = {}
    kept: dict[tuple[str, str], Kept] = {}
    base: dict[tuple[str, str], Estimate] = {}
    named = made.named

    def row(
        estimate: Estimate, measure: str, kind: Kind, arm: Arm | None, polarity: str, set: str, reference: str = ""
    ) -> None:
        rows.append(Row.of(
            estimate, measure=measure, kind=kind, model=model, domain=domain, method=arm.label if arm else "base",
            polarity=polarity, site=arm.site if arm else "", positions=arm.positions if arm else "", reference=reference,
            questions="/".join(filter(None, (set, named[set].part))), condition={"template": named[set].template},
        ))  # fmt: skip

    for m in measures:
        asked = named[m.set]
        level = estimated(None, made.levels(asked, None, "high", m.read), m.unit)
        base[m.level, m.set] = _with(level, made.unread(asked, None, "high", m.read))
        row(base[m.level, m.set], m.level, "absolute", None, "", m.set)
        for arm in made.arms:
            if not arm.asked(m.set):
                continue
            for polarity in arm.polarities:
                unread = made.unread(asked, arm, polarity, m.read)
                found = estimated(arm, made.levels(asked, arm, polarity, m.read), m.unit)
                row(_with(found, unread), m.level, "absolute", arm, polarity, m.set)
                found = estimated(arm, made.shift(asked, arm, polarity, m.read), m.unit)
                row(_with(found, unread), m.level, "shift", arm, polarity, m.set, "base")
            if m.effect:
                kept[arm.name, m.effect] = made.effects(asked, arm, m.read)
                values[arm.name, m.effect] = paired.known(kept[arm.name, m.effect])
                unread = sum(made.unread(asked, arm, polarity, m.read) for polarity in arm.polarities)
                effects[arm.name, m.effect] = _with(estimated(arm, values[arm.name, m.effect], m.unit), unread)
                row(effects[arm.name, m.effect], m.effect, "shift", arm, "effect", m.set, "base")
    for name, first, second, unit in (
        ("self_minus_twin", "self_effect", "twin_effect", NATS),
        ("spoken_minus_twin", "spoken_effect", "spoken_twin_effect", UNIT),
    ):
        for arm in made.arms:
            if (arm.name, first) in values and (arm.name, second) in values:
                values[arm.name, name] = gap(*paired.both(kept[arm.name, first], kept[arm.name, second]))
                effects[arm.name, name] = estimated(arm, values[arm.name, name], unit)
                set = next(m.set for m in measures if m.effect == first and arm.asked(m.set))
                row(effects[arm.name, name], name, "shift", arm, "effect", set, "twin")
    if "forecast" in named:
        read = parse.scores
        for one in (None, *(a for a in made.arms if a.asked("forecast"))):
            for polarity in one.polarities if one else POLARITIES[:1]:
                said = made.levels(named["forecast"], one, polarity, read)
                did = made.levels(named["choices"], one, polarity, chosen)
                found = estimated(one, gap(said, did), UNIT) if len(said) == len(did) else _unpaired(UNIT)
                row(found, "forecast_minus_rate", "absolute", one, polarity if one else "", "forecast")
    return Measured(tuple(rows), effects, values, base, kept)


def _unpaired(unit: str) -> Estimate:
    return Estimate(None, None, None, 0, 0, unit, why="a cell failed, so forecasts and choices do not pair")


def gap(first: list[ByFamily], second: list[ByFamily]) -> list[ByFamily]:
    """First minus second on the families that both have: an item without a twin has no part in it."""
    shared = [set(a) & set(b) for a, b in zip(first, second, strict=True)]
    kept = [
        [{f: v for f, v in t.items() if f in s} for t, s in zip(side, shared, strict=True)] for side in (first, second)
    ]
    return stats.difference(*kept)


def _with(estimate: Estimate, unread: int) -> Estimate:
    return replace(estimate, unknown=estimate.unknown + unread) if unread else estimate
