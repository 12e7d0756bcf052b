"""layer-band: one small adapter, or one vector, at every block: where in the model does training take hold?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from selfaware import stats
from selfaware.comparisons import instrument, measures, shared
from selfaware.comparisons.arms import Arm, ByFamily, Findings
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.measures import Measured
from selfaware.comparisons.shared import Shared
from selfaware.domains import loader
from selfaware.errors import BadData
from selfaware.interventions.base import Recipe
from selfaware.interventions.controls import RandomVector
from selfaware.interventions.lora import Lora
from selfaware.interventions.steer import Vector
from selfaware.report.page import Claim, Curves, Figure, Line, Role
from selfaware.stages import Bench
from selfaware.types import Estimate, Question, Row, Verdict, Verdict3

NAME = "layer-band"
TITLE = "Layer band: at which blocks can it be trained?"
QUESTION = (
    "Do single-layer adapters and vectors change choices and self-report in a middle band of blocks, and nowhere else?"
)
CLAIMS = (
    Claim(
        "middle-band",
        "One adapter or vector inside the published band of depth changes choices more than one outside.",
        "Gemma 3 12B, blocks 17–27 of 48. Share right after risky/safe training, from .33/.66: LoRA .83/.78 at 13, .91/.95 at 22, .74/.71 at 27; "
        "vector .36/.71 at 13, .95/.93 at 22, .97/.91 at 27 (Engels et al. 2025).",
    ),
    Claim(
        "nothing-outside",
        "Below and above it, it does not change them at all, on the mean.",
        "Nothing below block 10 or above 29 of 48: LoRA .41/.71 at 9, .38/.62 at 30; vector .31/.69 at 9, .40/.62 at 30 (the same).",
    ),
    Claim(
        "middle-band-report",
        "Inside the band it changes what the model says about itself more than outside.",
        "Logit difference about itself after risky/safe training, from +1.29: LoRA +2.39/−0.69 and vector +2.54/−1.27 at 22 (the same).",
    ),
    Claim(
        "nothing-outside-report",
        "Below and above the band it does not change that, on the mean.",
        "LoRA +1.32/+1.30 at 9, +1.22/+1.05 at 30; vector +1.35/+1.25 at 9, +1.24/+1.26 at 30 (the same).",
    ),
)
HEADLINE = ("inside_minus_outside", "inside_band", "outside_band", "choice_share_effect", "self_effect")
SCALES = ("smoke", "small", "full")
DRAWN = {
    "choices": "choice_share_effect",
    "self": "self_effect",
    "twin": "twin_effect",
    "other_form": "other_form_effect",
}
TITLES = {"choices": "choices", "self": "about itself", "twin": "impersonal twins", "other_form": "other-form choices"}
METHODS = ("lora", "vector")
ONE_SEED = "its interval is over families alone: one seed"


@dataclass(frozen=True)
class Settings:
    """Where, and what.

    Attributes:
        shared: questions, and how adapters and vectors are trained; their sites and the adapter's rank are set here.
        every: every so many blocks, from the first.
        rank, rate: of the adapter on the linear modules of one block's MLP.
        epochs: of both. One is half of what other experiments take: the blocks are compared with each other.
        band: the published band, as shares of depth, ends included.
        reach: outside is below the first of these shares or above the second; what lies between belongs to neither.
        damage: True reads neutral text as well: far up, an edit may break the model rather than steer it.
        wordings: system prompts of each polarity that check the questions.
    """

    shared: Shared = field(default_factory=lambda: Shared(seeds=(0,)))
    every: int = 3
    rank: int = 4
    rate: float = 0.01
    epochs: int = 1
    band: tuple[float, float] = (17 / 48, 27 / 48)
    reach: tuple[float, float] = (10 / 48, 29 / 48)
    damage: bool = False
    wordings: int = 3


def settings(scale: str) -> Settings:
    """The settings of a scale: `full` has every block, three seeds and both epochs."""
    if scale == "smoke":
        return Settings(shared.smoke(), every=1, rank=2, wordings=2)
    if scale == "full":
        return Settings(Shared(), every=1, epochs=2, damage=True, wordings=5)
    return Settings()


check = shared.check


@dataclass(frozen=True)
class Blocks:
    """Which blocks are tried, and where they lie."""

    tried: tuple[int, ...]
    inside: tuple[int, ...]
    outside: tuple[int, ...]
    depth: int

    @classmethod
    def of(cls, depth: int, chosen: Settings) -> "Blocks":
        """Those of a model of that depth.

        Raises:
            BadData: no step between blocks, shares that do not rise, or no block inside or outside.
        """
        (low, high), (below, above) = chosen.band, chosen.reach
        if chosen.every < 1 or not 0 <= below <= low <= high <= above <= 1:
            raise BadData(
                f"layer-band: every={chosen.every}, band {low:g} to {high:g}, reach {below:g} to {above:g}; a step of one block or more and a band within its reach are needed. Set them so."
            )
        tried = tuple(range(0, depth, chosen.every))
        inside = tuple(b for b in tried if low <= b / depth <= high)
        outside = tuple(b for b in tried if b / depth < below or b / depth > above)
        if not inside or not outside:
            raise BadData(
                f"layer-band: of {depth} blocks, every {chosen.every}, {len(inside)} lie inside the band and {len(outside)} outside; one of each at least is needed. Set every to less."
            )
        return cls(tried, inside, outside, depth)


def comparison(bench: Bench, domain: loader.Domain, chosen: Settings) -> Comparison:
    """One adapter and one vector at every block, and random directions inside the band."""
    common, at = chosen.shared, Blocks.of(bench.depth, chosen)
    examples = common.examples(domain)
    lora, vector = common.templated(common.lora), common.templated(common.vector)
    trained = replace(lora.training, learning_rate=chosen.rate, epochs=chosen.epochs)
    steered = replace(vector.training, epochs=chosen.epochs)
    arms = []
    for block in at.tried:
        small = replace(lora, site=f"{block}.mlp", rank=chosen.rank, training=trained)
        own = replace(vector, site=f"{block}", training=steered)
        arms += [_arm("lora", block, small, small, examples, chosen), _arm("vector", block, own, own, examples, chosen)]
        if block in at.inside:
            arms.append(_arm("random", block, RandomVector(own, 0), own, examples, chosen))
    asked = common.sets(domain)[: None if chosen.damage else -1]
    arms += instrument.arms(domain, lora, chosen.wordings, asked, trained=False)
    return Comparison(bench, arms, asked, common.seeds)


def _arm(
    name: str, block: int, recipe: Recipe, like: Lora | Vector, examples: tuple[Question, ...], chosen: Settings
) -> Arm:
    """One recipe at the place of `like`; with one seed there is one replicate, and families alone are random."""
    control = name == "random"
    about = f"{like.label} at {like.site}, {chosen.epochs} epochs of training"
    about = f"A Gaussian direction as long as the {about}." if control else f"{about[0].upper()}{about[1:]}."
    role: Role = "control" if control else "arm"
    return Arm(
        f"{name}-{block}", f"{recipe.label}, {like.site}", role, (recipe,), examples, about, like.site, like.positions,
        single=control, fixed=len(chosen.shared.seeds) == 1,
    )  # fmt: skip


# inside against outside -------------------------------------------------------------------------------------------------


def pooled(found: Measured, blocks: Sequence[int], effect: str, methods: Sequence[str] = METHODS) -> list[ByFamily]:
    """A row for each block and method that came back: by family, the mean over seeds."""
    rows = []
    for block in blocks:
        for method in methods:
            seeds = found.values.get((f"{method}-{block}", effect), [])
            if seeds:
                rows.append({f: _mean([seed.get(f) for seed in seeds]) for f in seeds[0]})
    return rows


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _estimated(rows: Sequence[ByFamily], unit: str) -> Estimate:
    """Their mean, rows and families being random."""
    found = stats.estimate(rows, unit)
    return replace(found, why="one block") if found.why == "one seed" else found


def apart(inside: Sequence[ByFamily], outside: Sequence[ByFamily], unit: str) -> Estimate:
    """Mean of one group of rows minus that of another, the rows of either and the families they share being random.

    Every row inside is held against the mean of those outside, family by family: the two-way variance of that table holds the
    spread of the rows inside and of families. The spread of the rows outside is added to it.
    """
    base = {f: _mean([row.get(f) for row in outside]) for f in (outside[0] if outside else {})}
    found = stats.estimate(stats.difference(inside, [base]) if inside and outside else [], unit)
    if found.error is None:
        return replace(found, why="one block inside") if len(inside) == 1 else found
    if len(outside) < 2:
        return replace(found, low=None, high=None, error=None, freedom=0, detectable=None, why="one block outside")
    cells, _ = stats.table(outside)
    spread = float(np.std(cells.mean(1), ddof=1)) / math.sqrt(len(outside))
    error, freedom = stats.joined([(found.error, found.freedom), (spread, len(outside) - 1)])
    half = stats.t_quantile(0.5 + stats.LEVEL / 2, freedom) * error
    value = found.value or 0.0
    least = half + stats.t_quantile(stats.POWER, freedom) * error
    return replace(found, low=value - half, high=value + half, error=error, freedom=freedom, detectable=least)


def more_inside(found: Estimate, margin: float) -> tuple[Verdict3, str]:
    """Whether it is more inside: no where the difference is too small to count, or below zero."""
    small, why = stats.inside(found, margin)
    return ("no", f"the difference lies {why}") if small == "yes" else stats.at_least(found, 0.0)


# rows and figures -------------------------------------------------------------------------------------------------------


def findings(made: Comparison, domain: loader.Domain, chosen: Settings, model: str) -> Findings:
    """Effects over depth, and those inside the band against those outside."""
    at = Blocks.of(made.bench.depth, chosen)
    of = measures.known(made, f"share of {domain.polarities['high']} choices")
    found = measures.measured(made, of, model, domain.name)
    checks = instrument.checks(made, of, domain)
    margins = {name: instrument.margin(domain, name) for name in ("choices", *checks)}
    own = {a.label for a in made.arms if a.role != "instrument"}
    alone = len(made.seeds) == 1
    rows = [
        replace(r, seeds=1, why=ONE_SEED) if alone and r.method in own and r.low is not None else r for r in found.rows
    ]
    verdicts = []
    for set, suffix in (("choices", ""), ("self", "-report")):
        effect, margin, usable = DRAWN[set], margins.get(set, 0.1), set not in checks or checks[set].sensitive
        unit = next(e.unit for (_, name), e in found.effects.items() if name == effect)
        inside, outside = pooled(found, at.inside, effect), pooled(found, at.outside, effect)
        gap, rest = apart(inside, outside, unit), _estimated(outside, unit)
        for more, estimate, where in (("inside_minus_outside", gap, at.inside), ("outside_band", rest, at.outside)):
            rows.append(_row(estimate, more, set, "adapters and vectors", where, model, domain.name))
        for method in (*METHODS, "random"):
            for name, where in (("inside_band", at.inside), ("outside_band", at.outside)):
                some = pooled(found, where, effect, (method,))
                if some:
                    rows.append(_row(_estimated(some, unit), name, set, LABELS[method], where, model, domain.name))
        random = stats.spoken(_estimated(pooled(found, at.inside, effect, ("random",)), unit))
        text = (
            f"Inside (blocks {_listed(at.inside)}) minus outside ({_listed(at.outside)}): {stats.spoken(gap)} {unit}. "
            f"Inside {stats.spoken(_estimated(inside, unit))}, outside {stats.spoken(rest)}; random directions inside {random}. "
            f"{len(inside)} and {len(outside)} rows, a block and a method each."
        )
        for claim, answer in ((f"middle-band{suffix}", more_inside(gap, margin)), (f"nothing-outside{suffix}", stats.inside(rest, margin))):  # fmt: skip
            said, why = answer if usable else ("unclear", "instrument")
            verdicts.append(Verdict(claim, said, why, text))
    order = {claim.name: number for number, claim in enumerate(CLAIMS)}
    verdicts.sort(key=lambda v: order[v.claim])
    return Findings(
        tuple(rows),
        tuple(verdicts),
        (_depth(made, found, at, margins, chosen),),
        (instrument.table(made, checks, margins),),
    )


LABELS = {"lora": "adapters", "vector": "vectors", "random": "random directions"}


def _listed(blocks: Sequence[int]) -> str:
    return ", ".join(map(str, blocks))


def _row(
    estimate: Estimate, measure: str, set: str, method: str, blocks: Sequence[int], model: str, domain: str
) -> Row:
    """A pooled number: its interval is over blocks and methods, and over families."""
    return Row.of(
        estimate, measure=measure, kind="shift", model=model, domain=domain, method=method, polarity="effect", questions=set,
        reference="base" if measure != "inside_minus_outside" else "outside", condition={"blocks": _listed(blocks)},
    )  # fmt: skip


def _depth(made: Comparison, found: Measured, at: Blocks, margins: Mapping[str, float], chosen: Settings) -> Figure:
    panels = []
    for set, effect in DRAWN.items():
        if set not in made.named:
            continue
        lines = []
        roles: dict[str, Role] = {"lora": "primary", "vector": "arm", "random": "control"}
        for method, role in roles.items():
            blocks = at.inside if method == "random" else at.tried
            each = tuple(found.effects[f"{method}-{b}", effect] for b in blocks)
            lines.append(Line(LABELS[method], tuple(map(float, blocks)), each, "", role))
        margin = margins.get(set)
        panels.append(Curves(
            TITLES[set], f"effect, {lines[0].estimates[0].unit}", "block", tuple(lines),
            band=None if margin is None else (-margin, margin),
            span=(chosen.band[0] * at.depth, chosen.band[1] * at.depth), span_label="published band",
        ))  # fmt: skip
    alone = "over families alone, for there is one seed" if len(made.seeds) == 1 else "over seeds and families"
    return Figure(
        "depth", "Effect over depth: one adapter or one vector at each block",
        f"Half the difference between the shifts after high and after low training. Intervals are {alone}. Shaded from top to bottom: the published band, as a share of depth; across: too small to count.",
        tuple(panels),
    )  # fmt: skip


def caveats(domain: loader.Domain, chosen: Settings) -> tuple[str, ...]:
    """What a reader of the page must keep in mind."""
    return (
        "The band is that of another model, carried over as a share of depth.",
        f"One learning rate serves all blocks, and {chosen.epochs} epochs: a block where nothing happens might need others.",
        "Inside against outside: a row is a block and a method; rows and families are random. Blocks between band and outside belong to neither.",
        "A mean of zero outside may hide blocks that move either way: see the figure.",
        *(("With one seed a single block's interval is over families alone; it says nothing about another fit there.",) if len(chosen.shared.seeds) == 1 else ()),
    )  # fmt: skip
