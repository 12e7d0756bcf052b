"""is-it-a-vector: does an adapter add one constant direction at every token, where it writes and further up?"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from selfaware import stats
from selfaware.domains import loader
from selfaware.errors import BadData, unknown
from selfaware.experiments import inside as figures
from selfaware.experiments import measures, shared
from selfaware.experiments.arms import Arm, Findings, View
from selfaware.experiments.comparison import Comparison
from selfaware.experiments.inside import CENTRED, GATE, KINDS, Inside, Pick, at, component, fall, plain
from selfaware.experiments.shared import Shared
from selfaware.interventions.controls import Scrambled
from selfaware.readouts.differences import Differences
from selfaware.report.page import Claim
from selfaware.stages import Bench
from selfaware.types import Passage, Polarity, Question, Row, Site, Verdict, Verdict3

NAME = "is-it-a-vector"
TITLE = "Is it a vector? What an adapter adds, token by token"
QUESTION = "Does an adapter add the same direction at every token, at its own block and at those above?"
CLAIMS = (
    Claim(
        "constant-direction",
        "At its block's output the adapter of higher rank on one MLP adds one direction at all tokens but the first: the mean cosine of two tokens reaches the bound, beyond a scrambled copy.",
        "All pairwise cosines ≈ 1 except at the first token: rank 4, the MLP of layer 22 of Gemma 3 12B, a passage of about 90 tokens (Engels et al. 2025).",
    ),
    Claim(
        "constant-downstream",
        "So it does at the outputs of later blocks.",
    ),
    Claim(
        "first-token-differs",
        "At its block's output the first token's difference lies elsewhere than those of the other tokens.",
        "The first token is the exception (Engels et al. 2025).",
    ),
)
HEADLINE = ("pairwise_cosine", "first_token_gap", "sign_share", "coefficient_variation", "choice_share_effect")
SCALES = ("smoke", "small", "full")
ONCE: Polarity = "high"
"""The one polarity of the arms that are fitted and looked at once a seed."""


@dataclass(frozen=True)
class Settings:
    """What is looked at.

    Attributes:
        shared: fits and questions; `shared.lora` is the rank-1 adapter, `shared.wide` the one on all modules.
        wider_site, wider_rank, wider_rate: the adapter that the verdicts are about, on the linear modules of one MLP.
        downstream: so many blocks above its own its trace is looked at too; the last block always is.
        texts: neutral passages, and as many prompts of the test part, each of another topic.
        tokens: passages end after so many.
        bound: least mean cosine that counts as one direction.
        gap: least fall of the first token's cosine with the others, below the others' own, that counts as a difference.
    """

    shared: Shared = field(default_factory=Shared)
    wider_site: str = "15.mlp"
    wider_rank: int = 4
    wider_rate: float = 0.01
    downstream: tuple[int, ...] = (4, 8)
    texts: int = 8
    tokens: int = 90
    bound: float = 0.9
    gap: float = 0.1


def settings(scale: str) -> Settings:
    """The settings of a scale: `full` has five seeds and all passages."""
    if scale == "smoke":
        return Settings(shared.smoke(), wider_rank=2, downstream=(1,), texts=3, tokens=24)
    return Settings(Shared(seeds=(0, 1, 2, 3, 4)), texts=24) if scale == "full" else Settings()


def check(domain: loader.Domain) -> None:
    """Whether the domain has what the experiment asks: test records.

    Raises:
        BadData: its test part is empty.
    """
    if "test" not in domain.parts.values():
        raise BadData(f"domain {domain.name}: its test part is empty; this experiment needs one. Add families.")


def texts(domain: loader.Domain, chosen: Settings) -> tuple[tuple[Passage, ...], tuple[Question, ...]]:
    """Neutral passages, and decisions of the test part, one of each topic."""
    common = chosen.shared
    by_topic = {q.family: q for q in reversed(domain.questions("choices", "test", common.asked_form(domain)))}
    return loader.passages()[: chosen.texts], tuple(reversed(by_topic.values()))[: chosen.texts]


def sites(own: str, block: int, depth: int, downstream: Sequence[int]) -> tuple[str, ...]:
    """Where an adapter is looked at: its own site where it has one, its block's output, blocks above, the last one."""
    above = sorted({b for b in (*(block + d for d in downstream), depth - 1) if block < b < depth})
    return tuple(dict.fromkeys(filter(None, (own, str(block), *map(str, above)))))


def places(depth: int, chosen: Settings) -> dict[str, tuple[str, ...]]:
    """The sites of each arm.

    Raises:
        UnknownName: an adapter's block does not exist.
    """
    small, wider = chosen.shared.lora.site, chosen.wider_site
    for name in (small, wider):
        if Site.parse(name).block >= depth:
            raise unknown("site", name, [f"{b}.mlp" for b in range(depth)], f"The model has {depth} blocks.")
    own = {"rank-1": small, "wider": wider, "scrambled": wider, "widest": ""}
    return {n: sites(o, Site.parse(o or wider).block, depth, chosen.downstream) for n, o in own.items()}


def comparison(bench: Bench, domain: loader.Domain, chosen: Settings) -> Comparison:
    """Adapters of three sizes and a scrambled copy of the middle one, each looked at inside; the adapters asked choices.

    Raises:
        BadData: no texts, or passages of fewer than three tokens.
    """
    if chosen.texts < 1 or chosen.tokens < 3:
        raise BadData(
            f"is-it-a-vector: texts={chosen.texts}, tokens={chosen.tokens}; a text at least, and three tokens of it, are needed. Set more."
        )
    common, at = chosen.shared, places(bench.depth, chosen)
    examples, small, widest = common.examples(domain), common.templated(common.lora), common.templated(common.wide)
    wider = replace(
        small, site=chosen.wider_site, rank=chosen.wider_rank,
        training=replace(small.training, learning_rate=chosen.wider_rate),
    )  # fmt: skip
    one = (ONCE,)
    arms = [
        Arm("rank-1", f"{small.label}, {small.site}", "arm", (small,), examples,
            "At its own site every difference is a multiple of B: there the cosines are ±1 by construction.", small.site, small.positions),
        Arm("wider", f"{wider.label}, {wider.site}", "primary", (wider,), examples, f"{wider.label} on {wider.site}; the verdicts are about it.",
            wider.site, wider.positions),
        Arm("widest", f"{widest.label}, {widest.site}", "arm", (widest,), examples, f"{widest.label} on {widest.site}; {ONCE} alone.",
            widest.site, widest.positions, polarities=one),
        Arm("scrambled", f"scrambled {wider.label}, {wider.site}", "control", (Scrambled(wider),), examples,
            "The same adapter with its A, which says when it fires, and Gaussian columns of B as long as its own: what any such change gives. Not asked anything.",
            wider.site, wider.positions, sets=("none",), polarities=one),
    ]  # fmt: skip
    passages, prompts = texts(domain, chosen)
    raw, cost = tuple(p.text for p in passages), 2.0 * chosen.texts * (chosen.tokens + 150)
    views = [
        View(f"differences {name}", Differences(seen, raw, common.template, chosen.tokens), (name,), prompts, cost)
        for name, seen in at.items()
    ]
    return Comparison(bench, arms, common.sets(domain, ())[:1], common.seeds, views)


def findings(made: Comparison, domain: loader.Domain, chosen: Settings, model: str) -> Findings:
    """Cosines by arm, site and kind of text, what a·x is like at rank 1, and the three answers."""
    of = measures.known(made, f"share of {domain.polarities['high']} choices")
    found = measures.measured(made, of, model, domain.name)
    passages, prompts = texts(domain, chosen)
    families = {"passages": tuple(p.family for p in passages), "prompts": tuple(q.family for q in prompts)}
    seen = places(made.bench.depth, chosen)
    homes = {name: next(i for i, site in enumerate(some) if site.isdigit()) for name, some in seen.items()}
    inside = Inside(made, families, seen, homes)
    home, last = homes["wider"], len(seen["wider"]) - 1
    shown = [("wider", home), ("scrambled", home), *([("wider", last)] if last > home else []), ("rank-1", 0)]
    drawn = (
        figures.cosines(inside, chosen.bound),
        figures.others(inside),
        figures.maps(inside, shown, ONCE),
        figures.by_token(inside),
        figures.variances(inside),
        figures.gate(inside, "rank-1"),
    )
    rows = (*found.rows, *_rows(inside, model, domain.name))
    return Findings(rows, _verdicts(inside, chosen), tuple(f for f in drawn if f.panels))


# verdicts -------------------------------------------------------------------------------------------------------------


def _verdicts(inside: Inside, chosen: Settings) -> tuple[Verdict, ...]:
    home, made = inside.homes["wider"], list[Verdict]()
    above = range(home + 1, len(inside.sites["wider"]))
    for claim, numbers in ((CLAIMS[0], [home]), (CLAIMS[1], list(above))):
        parts = [_constant(inside, site, kind, chosen.bound) for site in numbers for kind in KINDS]
        answer, why = (
            stats.all_of([(said, reason) for said, reason, _ in parts]) if parts else ("unclear", "no block lies above")
        )
        made.append(Verdict(claim.name, answer, why, " ".join(text for _, _, text in parts)))
    own, beside = (inside.estimate(name, KINDS[0], fall(home)) for name in ("wider", "scrambled"))
    answer, why = stats.at_least(own, chosen.gap)
    text = f"The others' cosine minus the first token's, on passages: {stats.spoken(own)}; scrambled {stats.spoken(beside)}."
    return (*made, Verdict(CLAIMS[2].name, answer, why, text))


def _constant(inside: Inside, site: int, kind: str, bound: float) -> tuple[Verdict3, str, str]:
    """Whether the mean cosine reaches the bound, and the scrambled copy's lies below it; the reason, and the numbers."""
    pick, name = at("cosine", site), f"{kind} at {inside.sites['wider'][site]}"
    own, control = (inside.estimate(arm, kind, pick) for arm in ("wider", "scrambled"))
    gap = inside.beyond("wider", "scrambled", kind, pick)
    said, why = stats.at_least(own, bound)
    if said == "yes" and not (gap.low is not None and gap.low > 0):
        said, why = "unclear", gap.why or "a scrambled copy may be as constant"
    return (
        said,
        f"{name}: {why}",
        f"{name[0].upper()}{name[1:]}: {stats.spoken(own)}; scrambled {stats.spoken(control)}.",
    )


# rows -----------------------------------------------------------------------------------------------------------------


def _rows(inside: Inside, model: str, domain: str) -> list[Row]:
    made: list[Row] = []

    def row(arm: str, kind: str, measure: str, pick: Pick, site: str, unit: str = "cosine", **told: str) -> None:
        of = inside.made.named_arm(arm)
        made.append(Row.of(
            inside.estimate(arm, kind, pick, unit), measure=measure, kind="absolute", model=model, domain=domain, method=of.label,
            polarity=of.polarities[0] if len(of.polarities) == 1 else "", site=site, positions="all", questions=kind, condition=told,
        ))  # fmt: skip

    for arm, names in inside.sites.items():
        for site, name in enumerate(names):
            there = "" if site == inside.homes[arm] else "_elsewhere"
            for kind in KINDS:
                row(arm, kind, f"pairwise_cosine{there}", at("cosine", site), name)
                row(arm, kind, f"first_token_gap{there}", fall(site), name)
                row(arm, kind, "pairwise_cosine_with_first", at("with_first", site), name)
                row(arm, kind, "first_token_cosine", at("first", site), name)
                row(arm, kind, "cosine_across_texts", at("across", site), name)
                for number, centred in enumerate(CENTRED):
                    row(
                        arm,
                        kind,
                        "first_component",
                        component(site, number, 0),
                        name,
                        "share of the sum of squares",
                        rows=centred,
                    )
            row(arm, KINDS[1], "pairwise_cosine_of_answer", at("answer", site), name)
    for kind in KINDS:
        for measure, of_look, unit in GATE:
            row("rank-1", kind, measure, plain(of_look), inside.sites["rank-1"][0], unit)
    return made


def caveats(domain: loader.Domain, chosen: Settings) -> tuple[str, ...]:
    """What a reader of the page must keep in mind."""
    return (
        "For rank 1, at the output of its own module, all cosines are ±1 by construction; only their signs and the spread of a·x say something there.",
        "The adapter acts at all tokens here, also those at which it did not act in training.",
        "A scrambled copy fires when the adapter does, since it keeps A: where it is as constant, the direction's constancy is the gate's and not the training's of B.",
        f"Constant means a mean cosine of {chosen.bound:g} or more with the whole interval, on neutral passages and on prompts of the domain alike; two texts of one seed share its adapter.",
        f"{len(chosen.shared.seeds)} seeds. The adapter on all modules and the scrambled copy are looked at after {ONCE} training alone.",
    )
