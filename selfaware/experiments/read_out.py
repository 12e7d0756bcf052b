"""read-out: which tokens does an adapter's direction speak for, and are words for the behaviour more of them than by chance?"""

from dataclasses import dataclass, field

from selfaware.comparisons import measures, shared
from selfaware.comparisons.arms import Arm, Findings, View
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.shared import Shared
from selfaware.domains import loader
from selfaware.errors import BadData
from selfaware.findings import words
from selfaware.interventions.controls import Scrambled
from selfaware.interventions.distil import Natural
from selfaware.interventions.lora import Lora
from selfaware.readouts.tokens import Tokens
from selfaware.report.page import Claim, Role
from selfaware.stages import Bench
from selfaware.types import POLARITIES, Site, Verdict

NAME = "read-out"
TITLE = "Read-out: which words does the direction speak for?"
QUESTION = "Held against the unembedding, does the direction of an adapter speak of what it was trained to do?"
CLAIMS = (
    Claim(
        "speaks-of-it",
        "Words for the behaviour at the high end of the rank-1 adapter's natural vector, and for its opposite at the low end, are more than 95 % of random directions have.",
        "Natural vector of the safe adapter, Gemma 3 12B, layer 22: '降低' .0997, ' cautious' .0818, ' limiting' .0816, ' cautions' .0800, ' reduction' .0762; "
        "lowest ' thrilling' −.0784, ' glam' −.0783, ' thrill' −.0710, ' exhilarating' −.0698. Learned vector: mostly noise (Engels et al. 2025).",
    ),
)
HEADLINE = ("words_excess", "words_excess_logits", "choice_share_effect")
SCALES = ("smoke", "small", "full")
PRIMARY = "rank-1/natural"


@dataclass(frozen=True)
class Settings:
    """What is read.

    Attributes:
        shared: fits and questions; `shared.lora` is the rank-1 adapter, `shared.vector` the learned vector.
        last: tokens at the end of each neutral passage from which an adapter's vector is made.
        count: tokens at each end.
        draws: random directions of each kind.
        margin: words at one end, above what chance gives, that still count as none.
    """

    shared: Shared = field(default_factory=Shared)
    last: int = 20
    count: int = 20
    draws: int = 999
    margin: float = 0.5


def settings(scale: str) -> Settings:
    """The settings of a scale: `full` has five seeds and more draws."""
    if scale == "smoke":
        return Settings(shared.smoke(), count=5, draws=99)
    return Settings(shared.full(), draws=4999) if scale == "full" else Settings()


def check(domain: loader.Domain) -> None:
    """Whether the domain has what the experiment asks.

    Raises:
        BadData: no test records, or no words to count.
    """
    if "test" not in domain.parts.values():
        raise BadData(f"domain {domain.name}: its test part is empty; this experiment needs one. Add families.")
    if not words.stems(domain):
        raise BadData(
            f"domain {domain.name}: it has no words for its two polarities; this experiment counts them. Add high_stems and low_stems to [words] in domain.toml."
        )


def comparison(bench: Bench, domain: loader.Domain, chosen: Settings) -> Comparison:
    """Two adapters with their natural vectors, the learned vector, a random direction; every vector read out.

    Raises:
        BadData: no tokens to count, or no draws.
    """
    if chosen.count < 1 or chosen.draws < 1:
        raise BadData(
            f"read-out: count={chosen.count}, draws={chosen.draws}; a token at each end and a draw at least are needed. Set more."
        )
    common, examples = chosen.shared, chosen.shared.examples(domain)
    small, vector = common.templated(common.lora), common.templated(common.vector)
    wider = common.templated(common.wider)
    arms: list[Arm] = []
    for name, lora in (("rank-1", small), ("wider", wider)):
        natural, label = _natural(lora, chosen.last), f"{lora.label}, {lora.site}"
        role: Role = "primary" if name == "rank-1" else "arm"
        arms += [
            Arm(name, label, "arm", (lora,), examples, f"{lora.label} on {lora.site}.", lora.site, lora.positions),
            Arm(f"{name}/natural", f"natural vector of {label}", role, (natural,), examples,
                f"The mean of what it adds to its block's output on the last {chosen.last} tokens of neutral passages.", natural.site, lora.positions),
        ]  # fmt: skip
    random = Scrambled(_natural(small, chosen.last))
    arms += [
        Arm("learned", "learned vector", "arm", (vector,), examples, f"One constant vector trained at site {vector.site}.", vector.site, vector.positions),
        Arm("random", "random direction", "control", (random,), examples, "A Gaussian direction as long as the rank-1 adapter's vector.",
            str(Site.parse(small.site).block), small.positions, polarities=POLARITIES[:1]),
    ]  # fmt: skip
    readout = Tokens(chosen.count, chosen.draws, words.stems(domain), common.template)
    read = tuple(a.name for a in arms if a.name not in ("rank-1", "wider"))
    view = View("tokens", readout, read, common.neutral(), cost=8000.0)
    return Comparison(bench, arms, common.sets(domain, ())[:1], common.seeds, [view])


def _natural(lora: Lora, last: int) -> Natural:
    """The adapter's vector at its block's output: in the residual stream's units, whether or not a norm follows the MLP."""
    return Natural(
        lora, site=str(Site.parse(lora.site).block), texts=tuple(p.text for p in loader.passages()), last=last
    )


def findings(made: Comparison, domain: loader.Domain, chosen: Settings, model: str) -> Findings:
    """Tokens at both ends of every vector, words counted among them, and whether they are more than by chance."""
    of = measures.known(made, f"share of {domain.polarities['high']} choices")
    found = measures.measured(made, of, model, domain.name)
    lists = words.stems(domain)
    read = [a for a in made.arms if a.name in made.views[0].arms]
    counts = {a.name: words.counts(made, made.views[0], a, tuple(lists)) for a in read}
    rows = (*found.rows, *words.rows(made, counts, chosen.count, model, domain.name))
    drawn = (words.figure(made, counts, chosen.count, chosen.margin), *words.ranked(made, counts, PRIMARY, domain))
    said, why, text = words.answer(
        made.named_arm(PRIMARY), counts[PRIMARY], counts["random"], lists, chosen.count, chosen.margin
    )
    return Findings(rows, (Verdict(CLAIMS[0].name, said, why, text),), drawn, words.tables(made, counts, lists, domain))


def caveats(domain: loader.Domain, chosen: Settings) -> tuple[str, ...]:
    """What a reader of the page must keep in mind."""
    return (
        "The direction is held against the unembedding as it is: what later blocks make of it takes no part.",
        "For the rank-1 adapter on one module the natural vector is B: the reading is of B.",
        f"Counts are summed over seeds and polarities, and held against the sums of one random direction over as many read-outs. `no` needs at most {chosen.margin:g} words an end beyond chance, with the whole interval.",
        "Words were listed before any direction was read; synonyms that are not listed do not count.",
    )
