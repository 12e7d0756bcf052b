"""learned-vector: one vector trained by gradient: as good as the adapter, the same as its natural vector, the only one?"""

from dataclasses import dataclass, field, replace

from selfaware import stats
from selfaware.comparisons import instrument, measures, shared
from selfaware.comparisons.arms import Arm, ByFamily, Findings, Replicate, View, mean_of
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.measures import NATS, Measured
from selfaware.comparisons.measures import chosen as chosen_share
from selfaware.comparisons.shared import Shared
from selfaware.domains import loader
from selfaware.errors import BadData
from selfaware.findings import alike, harm, pictures, shares
from selfaware.findings.alike import Cosine
from selfaware.interventions.anchored import Anchored
from selfaware.interventions.distil import Line, Natural
from selfaware.interventions.orthogonal import Orthogonal
from selfaware.metrics import options
from selfaware.readouts.null import NullCosines
from selfaware.report import page
from selfaware.report.page import Claim, Curves, Figure, Mark, Panel
from selfaware.stages import Bench
from selfaware.types import POLARITIES, Estimate, Polarity, Row, Site, Verdict

NAME = "learned-vector"
TITLE = "Learned vector: as good, the same, the only one?"
QUESTION = (
    "Does one vector trained by gradient do what the adapter does, is it the adapter's own, and are there others?"
)
CLAIMS = (
    Claim(
        "learned-recovers",
        "The learned vector has at least the stated share of the rank-1 adapter's effect on choices.",
        "Gemma 3 12B, layer 22: .95 and .93 of the choices, against .91 and .95 for the LoRA on that layer (Engels et al. 2025).",
    ),
    Claim(
        "learned-is-another",
        "It points elsewhere than the adapter's natural vector, yet not at a right angle: their cosine lies between what random directions reach and the stated bound.",
        "Cosine about .5 (Engels et al. 2025).",
    ),
    Claim(
        "many-work",
        "Vectors trained at a right angle to it and to each other change choices too, each beyond zero and random vectors.",
        "More than 800 orthogonal vectors for one behaviour (Goldman-Wetzler and Turner 2024).",
    ),
)
HEADLINE = (
    "choice_share_effect",
    "recovered_behaviour",
    "recovered_behaviour_at_equal_damage",
    "recovered_report",
    "cosine",
    "orthogonal_effect",
    "kl_from_base",
)
SCALES = ("smoke", "small", "full")
BRIEF = ("choices", "self")
"""What arms are asked that are many."""


@dataclass(frozen=True)
class Settings:
    """What is trained and compared.

    Attributes:
        shared: fits and questions; `shared.vector` is the learned vector, `shared.lora` the adapter.
        points: shares of the way from the natural to the learned vector, ends left out.
        many: vectors at a right angle to the learned one and to each other.
        both: whether these, the one with KL, and random vectors have both polarities; `high` alone otherwise.
        kl: weight of the divergence from the base model, for the vector trained beside it.
        kl_texts: neutral passages of that divergence; none of those on which damage is read.
        random_vectors: for each seed.
        share: of the adapter's effect that counts as recovered.
        cosine: at and above it two vectors count as one direction.
        draws: pairs of random directions of the null.
        wordings: system prompts of each polarity that check the questions.
    """

    shared: Shared = field(default_factory=Shared)
    points: tuple[float, ...] = (0.25, 0.5, 0.75)
    many: int = 3
    both: bool = False
    kl: float = 0.1
    kl_texts: int = 8
    random_vectors: int = 3
    share: float = 0.8
    cosine: float = 0.8
    draws: int = 2000
    wordings: int = 3

    @property
    def polarities(self) -> tuple[Polarity, ...]:
        """Of the arms that are many."""
        return POLARITIES if self.both else POLARITIES[:1]


def settings(scale: str) -> Settings:
    """The settings of a scale: `full` has five starts, seven orthogonal vectors, and both polarities of everything."""
    if scale == "smoke":
        return Settings(shared.smoke(), points=(0.5,), many=2, kl_texts=2, random_vectors=2, draws=50, wordings=2)
    if scale == "full":
        return Settings(shared.full(), many=7, both=True, random_vectors=5, wordings=5)
    return Settings()


check = shared.check


def comparison(bench: Bench, domain: loader.Domain, chosen: Settings) -> Comparison:
    """The adapter, its natural vector at the learned one's site, the learned vector, points between, orthogonal ones, one with KL, random ones.

    Raises:
        BadData: adapter and vector act at other positions, the vector lies below the adapter, a negative number of vectors, or no
            passages left for KL.
    """
    common, pair = chosen.shared, chosen.polarities
    examples, lora, vector = common.examples(domain), common.templated(common.lora), common.templated(common.vector)
    if lora.positions != vector.positions or Site.parse(vector.site).block < Site.parse(lora.site).block:
        raise BadData(
            f"learned-vector: adapter at {lora.site}, {lora.positions} and vector at {vector.site}, {vector.positions}; the same positions, and a vector no lower than the adapter, are needed. Set shared.vector.site or positions."
        )
    held = tuple(p.text for p in loader.passages()[common.passages :][: chosen.kl_texts])
    if chosen.many < 0 or not held:
        raise BadData(
            f"learned-vector: many={chosen.many} and {len(held)} passages for KL; none or more, and one at least, are needed. Set many, or fewer shared.passages."
        )
    natural = Natural(lora, site=vector.site, texts=tuple(p.text for p in loader.passages()))
    at = (vector.site, vector.positions)
    learned = Arm("vector", "learned vector", "primary", (vector,), examples, f"One constant vector trained at site {vector.site}; each seed has its own start, of norm {vector.start_norm:g}.", *at)  # fmt: skip
    only = "" if chosen.both else f", {pair[0]} alone"
    alone = "" if chosen.both else f" {pair[0].capitalize()} alone: its effect is its shift from the base model."
    arms = [
        Arm("lora", f"{lora.label}, {lora.site}", "arm", (lora,), examples, f"{lora.label} on {lora.site}.", lora.site, lora.positions),
        learned,
        *harm.multiples(learned, vector),
        Arm("natural", natural.label, "arm", (natural,), examples, "The mean of what the adapter adds at that site on neutral text.", *at),
        *(Arm(f"line-{x:g}", f"{x:.0%} from natural to learned", "arm", (Line(natural, vector, x),), examples, "A mixture of both as long as they are.", *at, sets=BRIEF)
          for x in chosen.points),
        *(Arm(f"orthogonal-{k}", f"orthogonal {k}{only}", "arm", (Orthogonal(vector, k),), examples, f"Trained as the learned vector is, at a right angle to it and to {k - 1} others.{alone}", *at,
              sets=BRIEF, polarities=pair) for k in range(1, chosen.many + 1)),
        Arm("anchored", f"learned with KL {chosen.kl:g}{only}", "arm", (Anchored(vector, chosen.kl, held),), examples,
            f"The same, held near the base model on {len(held)} neutral passages.{alone}", *at, sets=(*BRIEF, "neutral"), polarities=pair),
        replace(common.random_vectors(domain, chosen.random_vectors, examples), sets=BRIEF, polarities=pair),
    ]  # fmt: skip
    asked = common.sets(domain, ("self", "twin"))
    arms += instrument.arms(domain, lora, chosen.wordings, asked, trained=False)
    texts = examples[:64]
    null = NullCosines(vector.site, chosen.draws, 0, common.template)
    return Comparison(bench, arms, asked, common.seeds, [View("null", null, (), texts, cost=40.0 * len(texts))])


def findings(made: Comparison, domain: loader.Domain, chosen: Settings, model: str) -> Findings:
    """Shares of the adapter's effect, cosines beside their null, the line between both vectors, and the orthogonal ones."""
    of = measures.known(made, f"share of {domain.polarities['high']} choices")
    found = measures.measured(made, of, model, domain.name)
    checks = instrument.checks(made, of, domain)
    margins = {name: instrument.margin(domain, name) for name in checks}
    lora, vector = made.named_arm("lora"), made.named_arm("vector")
    seen = made.seen(made.views[0], Replicate())
    null = None if seen is None else seen.numbers["matched"]
    cosines = _cosines(made, chosen)
    rows = list(found.rows)
    for arm in (vector, made.named_arm("natural")):
        for effect, name, set in (
            ("choice_share_effect", "recovered_behaviour", "choices"),
            ("self_effect", "recovered_report", "self"),
        ):
            rows.append(shares.row(found, arm, lora, effect, name, set, model, domain.name))
    rows += harm.rows(made, found, vector, lora, model, domain.name)
    rows += alike.rows(cosines, null, model, domain.name, vector.site)
    rows += [
        _norm(made, arm, model, domain.name)
        for arm in made.arms
        if arm.recipes and arm.name != "lora" and not harm.is_multiple(arm)
    ]
    many = {k: _many(made, k, chosen) for k in ("vector", *_orthogonal(chosen), "random")}
    for name, estimate in many.items():
        arm = made.named_arm(name)
        rows.append(Row.of(
            estimate, measure="orthogonal_effect", kind="shift", model=model, domain=domain.name, method=arm.label, site=arm.site,
            polarity="effect" if chosen.both else chosen.polarities[0], positions=arm.positions, questions="choices/test", reference="base",
        ))  # fmt: skip
    said, why = shares.answer(found, vector, lora, "choice_share_effect", chosen.share)
    random = stats.spoken(found.effects["random", "choice_share_effect"])
    verdicts = (
        Verdict(
            CLAIMS[0].name,
            said,
            why,
            f"{shares.text(found, vector, lora, 'choice_share_effect')}{harm.text(made, found, vector, lora, 'choice_share_effect')} Random vectors: {random}.",
        ),
        alike.verdict(CLAIMS[1].name, cosines, null, chosen.cosine),
        _many_work(made, many, instrument.margin(domain, "choices"), chosen),
    )
    figures = (
        shares.figure(found, [vector, made.named_arm("natural"), *_lines(made)], lora, [("choice_share_effect", "choices"), ("self_effect", "about itself")],
                      "shares", f"Share of the effect of {lora.label}"),
        harm.figure(made, found, vector, lora),
        alike.figure(cosines, null),
        alike.pairs({n: alike.vectors(made, made.named_arm(n)) for n in ("natural", "vector")}),
        _line(made, found, chosen),
        _drawn(made, many, chosen, domain),
        _near_base(made, chosen, domain),
    )  # fmt: skip
    tables = (instrument.table(made, checks, margins), alike.norms(made, [a for a in made.arms if a.recipes and a.name != "lora" and not harm.is_multiple(a)]), pictures.harm(made))  # fmt: skip
    return Findings(tuple(rows), verdicts, tuple(f for f in figures if f.panels), tables)


def _orthogonal(chosen: Settings) -> tuple[str, ...]:
    return tuple(f"orthogonal-{k}" for k in range(1, chosen.many + 1))


def _lines(made: Comparison) -> list[Arm]:
    return [a for a in made.arms if a.name.startswith("line-")]


# how alike ------------------------------------------------------------------------------------------------------------


def _cosines(made: Comparison, chosen: Settings) -> tuple[Cosine, ...]:
    """Of the learned vector with others; the first decides."""
    learned, natural = (alike.vectors(made, made.named_arm(name)) for name in ("vector", "natural"))
    near = alike.vectors(made, made.named_arm("anchored"))
    return (
        Cosine("learned with natural", "arm", alike.crossed(learned, natural)),
        Cosine("halves of high − low", "arm", alike.crossed(alike.halves(learned), alike.halves(natural))),
        Cosine("learned from another start", "instrument", alike.within(learned)),
        Cosine("natural of another seed", "instrument", alike.within(natural)),
        Cosine("learned, the other polarity", "arm", alike.opposite(learned)),
        Cosine(made.named_arm("anchored").label, "arm", alike.crossed(near, learned)),
    )


def _norm(made: Comparison, arm: Arm, model: str, domain: str) -> Row:
    estimate = stats.estimate(alike.lengths(made, arm), "norm, units of the site's output")
    return Row.of(
        estimate, measure="norm", kind="absolute", model=model, domain=domain, method=arm.label, site=arm.site, positions=arm.positions
    )  # fmt: skip


# many directions ------------------------------------------------------------------------------------------------------


def _many(made: Comparison, name: str, chosen: Settings) -> Estimate:
    """The effect on choices, at the polarities that all of the compared arms have."""
    arm = replace(made.named_arm(name), polarities=chosen.polarities)
    values = made.effect(made.named["choices"], arm, chosen_share)
    return stats.estimate(values, "share of choices", single=arm.single)


def _many_work(made: Comparison, many: dict[str, Estimate], margin: float, chosen: Settings) -> Verdict:
    """Each of the orthogonal vectors is judged as any effect is; one that does not work is enough for no."""
    named = {name: made.named_arm(name).label for name in many}
    controls = [(named["random"], many["random"])]
    parts = []
    for name in _orthogonal(chosen):
        said, why = stats.verdict(many[name], controls, margin)
        parts.append((said, f"{named[name]}: {why}"))
    said, why = stats.all_of(parts)
    told = "; ".join(f"{named[name]} {stats.spoken(e)}" for name, e in many.items())
    return Verdict(CLAIMS[2].name, said, why, f"{told} share of choices.")


# figures --------------------------------------------------------------------------------------------------------------


def _line(made: Comparison, found: Measured, chosen: Settings) -> Figure:
    points = {0.0: "natural", **{x: f"line-{x:g}" for x in chosen.points}, 1.0: "vector"}
    panels = []
    for effect, title in (("choice_share_effect", "choices"), ("self_effect", "about itself")):
        at = sorted(x for x, name in points.items() if (name, effect) in found.effects)
        each = tuple(found.effects[points[x], effect] for x in at)
        if each:
            line = page.Line("mixture", tuple(at), each, "", "primary")
            panels.append(
                Curves(title, f"effect, {each[0].unit}", "share of the learned vector in the mixture", (line,))
            )
    return Figure(
        "line", "From the natural to the learned vector",
        "Effect of (1 − x) · natural + x · learned, seed by seed. A dip between two ends that both work would be two separate ways to the behaviour; a straight line is one slope.",
        tuple(panels),
    )  # fmt: skip


def _drawn(made: Comparison, many: dict[str, Estimate], chosen: Settings, domain: loader.Domain) -> Figure:
    marks = []
    for name, estimate in many.items():
        arm = made.named_arm(name)
        values = made.effect(made.named["choices"], replace(arm, polarities=chosen.polarities), chosen_share)
        marks.append(Mark(arm.label, estimate, "" if chosen.both else chosen.polarities[0], arm.role, mean_of(values)))
    margin = instrument.margin(domain, "choices")
    what = "Effect" if chosen.both else f"Shift from the base model after {chosen.polarities[0]} training"
    panel = Panel("choices", "share of choices", tuple(marks), band=(-margin, margin))
    caption = f"{what}, of vectors that are all at right angles to each other, and of random vectors as long as the learned one. Shaded: too small to count."
    return Figure("many", "Many directions", caption, (panel,))


def _near_base(made: Comparison, chosen: Settings, domain: loader.Domain) -> Figure:
    panels = []
    for name, read, unit in (("choices", chosen_share, "share of choices"), ("self", options.scores, NATS)):
        marks = []
        for arm in (made.named_arm("vector"), made.named_arm("anchored")):
            values: list[ByFamily] = made.effect(made.named[name], replace(arm, polarities=chosen.polarities), read)
            marks.append(Mark(arm.label, stats.estimate(values, unit), "", arm.role, mean_of(values)))
        panels.append(
            Panel(name, unit, tuple(marks), band=(-instrument.margin(domain, name), instrument.margin(domain, name)))
        )
    caption = "The learned vector, and one trained beside a divergence from the base model on neutral text, at the same polarities. Damage to other neutral text stands in the table below."
    return Figure("kl", "Held near the base model", caption, tuple(panels))


def caveats(domain: loader.Domain, chosen: Settings) -> tuple[str, ...]:
    """What a reader of the page must keep in mind."""
    return (
        f"Recovered means: at least {chosen.share:.0%} of the adapter's effect, with the whole interval.",
        "Two learned vectors agree no better than their starts and seeds let them: the cosine between starts is the ceiling for the one with the natural vector.",
        "The natural vector is taken at the learned one's site. Where a norm follows the MLP, a site at the MLP's output is before that norm.",
        "That orthogonal vectors are at right angles is held during training. They are trained as long as the first, and may be longer than it: see the table of norms. Random vectors have the first one's.",
        "A random vector's interval is that of one new direction.",
        *(() if chosen.both else ("Orthogonal vectors, those with KL and random ones have one polarity here: what training of any kind does is not cancelled from their shifts.",)),
    )  # fmt: skip
