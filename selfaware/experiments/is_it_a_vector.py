"""is-it-a-vector: does an adapter add one constant direction at every token, where it writes and further up?"""

from dataclasses import dataclass, field

from selfaware import stats
from selfaware.comparisons import measures, shared
from selfaware.comparisons.arms import Arm, Findings, View
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.shared import Shared
from selfaware.domains import loader
from selfaware.errors import BadData, unknown
from selfaware.findings import inside as figures
from selfaware.findings.inside import KINDS, Inside, fall
from selfaware.interventions.controls import Scrambled
from selfaware.readouts.differences import Differences
from selfaware.report.page import Claim
from selfaware.stages import Bench
from selfaware.types import Polarity, Site, Verdict

NAME = "is-it-a-vector"
TITLE = "Is it a vector? What an adapter adds, token by token"
QUESTION = "Does an adapter add the same direction at every token, at its own block and at those above?"
CLAIMS = (
    Claim(
        "constant-direction",
        "At its block's output the adapter of higher rank on one MLP adds one direction at all tokens but the first: the mean cosine of two tokens reaches the bound, beyond an untrained copy.",
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
        downstream: so many blocks above its own its trace is looked at too; the last block always is.
        texts: neutral passages, and as many prompts of the test part, each of another topic.
        tokens: passages end after so many.
        bound: least mean cosine that counts as one direction.
        gap: least fall of the first token's cosine with the others, below the others' own, that counts as a difference.
    """

    shared: Shared = field(default_factory=Shared)
    downstream: tuple[int, ...] = (4, 8)
    texts: int = 8
    tokens: int = 90
    bound: float = 0.9
    gap: float = 0.1


def settings(scale: str) -> Settings:
    """The settings of a scale: `full` has five seeds and all passages."""
    if scale == "smoke":
        return Settings(shared.smoke(), downstream=(1,), texts=3, tokens=24)
    return Settings(shared.full(), texts=24) if scale == "full" else Settings()


def check(domain: loader.Domain) -> None:
    """Whether the domain has what the experiment asks: test records.

    Raises:
        BadData: its test part is empty.
    """
    if "test" not in domain.parts.values():
        raise BadData(f"domain {domain.name}: its test part is empty; this experiment needs one. Add families.")


def places(depth: int, chosen: Settings) -> dict[str, tuple[str, ...]]:
    """The sites of each arm.

    Raises:
        UnknownName: an adapter's block does not exist.
    """
    small, wider = chosen.shared.lora.site, chosen.shared.wider.site
    for name in (small, wider):
        if Site.parse(name).block >= depth:
            raise unknown("site", name, [f"{b}.mlp" for b in range(depth)], f"The model has {depth} blocks.")
    own = {"rank-1": small, "wider": wider, "untrained": wider, "scrambled": wider, "widest": ""}
    return {n: figures.sites(o, Site.parse(o or wider).block, depth, chosen.downstream) for n, o in own.items()}


def comparison(bench: Bench, domain: loader.Domain, chosen: Settings) -> Comparison:
    """Adapters of three sizes and two random copies of the middle one, each looked at inside; the adapters asked choices.

    Raises:
        BadData: no texts, or passages of fewer than three tokens.
    """
    if chosen.texts < 1 or chosen.tokens < 3:
        raise BadData(
            f"is-it-a-vector: texts={chosen.texts}, tokens={chosen.tokens}; a text at least, and three tokens of it, are needed. Set more."
        )
    common, at = chosen.shared, places(bench.depth, chosen)
    examples, small, widest = common.examples(domain), common.templated(common.lora), common.templated(common.wide)
    wider = common.templated(common.wider)
    one = (ONCE,)
    arms = [
        Arm("rank-1", f"{small.label}, {small.site}", "arm", (small,), examples,
            "At its own site every difference is a multiple of B: there the cosines are ±1 by construction.", small.site, small.positions),
        Arm("wider", f"{wider.label}, {wider.site}", "primary", (wider,), examples, f"{wider.label} on {wider.site}; the verdicts are about it.",
            wider.site, wider.positions),
        Arm("widest", f"{widest.label}, {widest.site}", "arm", (widest,), examples, f"{widest.label} on {widest.site}; {ONCE} alone.",
            widest.site, widest.positions, polarities=one),
        Arm("untrained", f"untrained copy of {wider.label}, {wider.site}", "control", (Scrambled(wider, gates=True),), examples,
            "An adapter of the same size with Gaussian A and B: what any such change gives without training. Not asked anything.",
            wider.site, wider.positions, sets=("none",), polarities=one),
        Arm("scrambled", f"scrambled {wider.label}, {wider.site}", "control", (Scrambled(wider),), examples,
            "The same adapter with its A, which says when it fires, and Gaussian columns of B as long as its own: what its gates alone give. Not asked anything.",
            wider.site, wider.positions, sets=("none",), polarities=one),
    ]  # fmt: skip
    passages, prompts = figures.texts(domain, chosen.shared.asked_form(domain), chosen.texts)
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
    passages, prompts = figures.texts(domain, chosen.shared.asked_form(domain), chosen.texts)
    families = {"passages": tuple(p.family for p in passages), "prompts": tuple(q.family for q in prompts)}
    seen = places(made.bench.depth, chosen)
    homes = {name: next(i for i, site in enumerate(some) if site.isdigit()) for name, some in seen.items()}
    inside = Inside(made, families, seen, homes)
    home, last = homes["wider"], len(seen["wider"]) - 1
    shown = [
        ("wider", home),
        ("untrained", home),
        ("scrambled", home),
        *([("wider", last)] if last > home else []),
        ("rank-1", 0),
    ]
    drawn = (
        figures.cosines(inside, chosen.bound),
        figures.others(inside),
        figures.maps(inside, shown, ONCE),
        figures.by_token(inside),
        figures.variances(inside),
        figures.gate(inside, "rank-1"),
    )
    rows = (
        *found.rows,
        *figures.rows(inside, model, domain.name),
        *figures.gate_rows(inside, "rank-1", model, domain.name),
    )
    return Findings(rows, _verdicts(inside, chosen), tuple(f for f in drawn if f.panels))


# verdicts -------------------------------------------------------------------------------------------------------------


def _verdicts(inside: Inside, chosen: Settings) -> tuple[Verdict, ...]:
    home, made = inside.homes["wider"], list[Verdict]()
    above = range(home + 1, len(inside.sites["wider"]))
    for claim, numbers in ((CLAIMS[0], [home]), (CLAIMS[1], list(above))):
        parts = [
            figures.constant(inside, ("wider", "untrained"), site, kind, chosen.bound)
            for site in numbers
            for kind in KINDS
        ]
        answer, why = (
            stats.all_of([(said, reason) for said, reason, _ in parts]) if parts else ("unclear", "no block lies above")
        )
        made.append(Verdict(claim.name, answer, why, " ".join(text for _, _, text in parts)))
    own, beside = (inside.estimate(name, KINDS[0], fall(home)) for name in ("wider", "untrained"))
    answer, why = stats.at_least(own, chosen.gap)
    text = f"The others' cosine minus the first token's, on passages: {stats.spoken(own)}; untrained copy {stats.spoken(beside)}."
    return (*made, Verdict(CLAIMS[2].name, answer, why, text))


def caveats(domain: loader.Domain, chosen: Settings) -> tuple[str, ...]:
    """What a reader of the page must keep in mind."""
    return (
        "For rank 1, at the output of its own module, all cosines are ±1 by construction; only their signs and the spread of a·x say something there.",
        "The adapter acts at all tokens here, also those at which it did not act in training.",
        "Verdicts hold it against an untrained copy, with A and B drawn anew. A scrambled copy keeps A and fires when the adapter does: where that one is as constant, so are the adapter's gates.",
        f"Constant means a mean cosine of {chosen.bound:g} or more with the whole interval, on neutral passages and on prompts of the domain alike; two texts of one seed share its adapter.",
        f"{len(chosen.shared.seeds)} seeds. The adapter on all modules and the copies are looked at after {ONCE} training alone.",
    )
