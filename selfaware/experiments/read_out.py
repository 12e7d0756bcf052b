"""read-out: which tokens does an adapter's direction speak for, and are words for the behaviour more of them than by chance?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from selfaware import stats
from selfaware.domains import loader
from selfaware.errors import BadData
from selfaware.experiments import measures, shared
from selfaware.experiments.arms import Arm, Findings, View, mean_of
from selfaware.experiments.comparison import Comparison
from selfaware.experiments.counts import Counts
from selfaware.experiments.shared import Shared
from selfaware.interventions.controls import Scrambled
from selfaware.interventions.distil import Natural
from selfaware.interventions.lora import Lora
from selfaware.readouts.tokens import BYS, NULLS, Tokens
from selfaware.report.page import Claim, Figure, Mark, Panel, Ranked, Role, Table
from selfaware.stages import Bench, Seen
from selfaware.types import POLARITIES, Polarity, Row, Site, Verdict

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
LEAST = 5
"""Tokens of the vocabulary that begin with a word of a list, below which counting them shows nothing."""
LEVEL = 0.05


@dataclass(frozen=True)
class Settings:
    """What is read.

    Attributes:
        shared: fits and questions; `shared.lora` is the rank-1 adapter, `shared.vector` the learned vector.
        wider_site, wider_rank, wider_rate: the adapter of higher rank on the linear modules of one MLP.
        last: tokens at the end of each neutral passage from which an adapter's vector is made.
        count: tokens at each end.
        draws: random directions of each kind.
        margin: words at one end, above what chance gives, that still count as none.
    """

    shared: Shared = field(default_factory=Shared)
    wider_site: str = "15.mlp"
    wider_rank: int = 4
    wider_rate: float = 0.01
    last: int = 20
    count: int = 20
    draws: int = 999
    margin: float = 0.5


def settings(scale: str) -> Settings:
    """The settings of a scale: `full` has five seeds and more draws."""
    if scale == "smoke":
        return Settings(shared.smoke(), wider_rank=2, count=5, draws=99)
    return Settings(Shared(seeds=(0, 1, 2, 3, 4)), draws=4999) if scale == "full" else Settings()


def stems(domain: loader.Domain) -> dict[str, tuple[str, ...]]:
    """Words that speak for either polarity, by its name: `high` and `low`; tokens count that begin with one.

    Those of `[words] high_stems` and `low_stems` in `domain.toml`; without these the words that the domain's first item answered in one word
    counts as high and as low.
    """
    found = {polarity: domain.words.get(f"{polarity}_stems", ()) for polarity in POLARITIES}
    if not all(found.values()):
        item = next((i for i in domain.spoken if i.set == "spoken" and i.reads == "word"), None)
        found = {"high": item.high, "low": item.low} if item else {}
    return {name: tuple(dict.fromkeys(w.casefold() for w in some)) for name, some in found.items()}


def check(domain: loader.Domain) -> None:
    """Whether the domain has what the experiment asks.

    Raises:
        BadData: no test records, or no words to count.
    """
    if "test" not in domain.parts.values():
        raise BadData(f"domain {domain.name}: its test part is empty; this experiment needs one. Add families.")
    if not stems(domain):
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
    wider = replace(
        small, site=chosen.wider_site, rank=chosen.wider_rank,
        training=replace(small.training, learning_rate=chosen.wider_rate),
    )  # fmt: skip
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
    readout = Tokens(chosen.count, chosen.draws, stems(domain), common.template)
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
    words, unit = stems(domain), f"words of {chosen.count}"
    read = [a for a in made.arms if a.name in made.views[0].arms]
    counts = {a.name: _counts(made, a, tuple(words)) for a in read}
    rows, marks = list(found.rows), {by: list[Mark]() for by in BYS}
    for arm in read:
        for by in BYS:
            own = counts[arm.name]
            estimate = stats.estimate(own.excess(by), unit)
            told = _told(own, by) if own.looks else {}
            rows.append(Row.of(
                estimate, measure="words_excess" if by == "cosine" else "words_excess_logits", kind="absolute", model=model, domain=domain.name,
                method=arm.label, site=arm.site, questions="neutral", reference="random directions", condition=told,
            ))  # fmt: skip
            marks[by].append(Mark(arm.label, estimate, "", arm.role, mean_of(own.excess(by))))
    panels = tuple(
        Panel(f"by {by}", unit, tuple(some), band=(-chosen.margin, chosen.margin)) for by, some in marks.items()
    )
    counted = Figure(
        "words", "Words where they belong, beyond chance",
        "Mean over ends and polarities of the words found at the end where they belong, less those that random directions with the covariance of the last block's outputs have. "
        f"Shaded: too few to count. {chosen.count} tokens at each end.", panels,
    )  # fmt: skip
    drawn = [figure for arm in read for figure in _ranked(counts[arm.name], arm, domain)]
    verdict = _verdict(counts[PRIMARY], counts["random"], words, chosen)
    return Findings(tuple(rows), (verdict,), (counted, *drawn), _tables(made, counts, words, domain))


def _counts(made: Comparison, arm: Arm, lists: tuple[str, ...]) -> Counts:
    """Seeds of which every polarity came back."""
    looks: list[Mapping[Polarity, Seen]] = []
    for run in zip(*(made.replicates(arm, p) for p in arm.polarities), strict=True):
        seen = {
            p: s for p, of in zip(arm.polarities, run, strict=True) if (s := made.seen(made.views[0], of)) is not None
        }
        if len(seen) == len(run):
            looks.append(seen)
    return Counts(looks, lists)


def _told(own: Counts, by: str) -> dict[str, str | int | float | bool]:
    return {"found": own.found(by), "looks": own.count, "p": round(max(own.p(by, kind) for kind in NULLS), 4)}


def _verdict(own: Counts, random: Counts, words: Mapping[str, Sequence[str]], chosen: Settings) -> Verdict:
    """Yes where both nulls are beaten; no where the interval of what is beyond chance lies below the margin."""
    claim = CLAIMS[0].name
    if not own.looks:
        return Verdict(claim, "unclear", "a cell failed", "")
    p = max(own.p("cosine", kind) for kind in NULLS)
    beyond = stats.estimate(own.excess("cosine"), f"words of {chosen.count}")
    text = f"{_sentence(own)} {stats.spoken(beyond)} words an end beyond chance."
    text += f" Random direction: {_sentence(random)}" if random.looks else ""
    first = next(iter(own.looks[0].values())).numbers["vocabulary"]
    few = [name for name, n in zip(words, first.tolist(), strict=True) if n < LEAST]
    if few:
        return Verdict(claim, "unclear", f"instrument: the vocabulary has hardly any {' or '.join(few)} words", text)
    if beyond.low is None:
        return Verdict(claim, "unclear", beyond.why, text)
    if p <= LEVEL:
        return Verdict(claim, "yes", f"more words than {1 - LEVEL:.0%} of random directions of either kind", text)
    said, _ = stats.at_most(beyond, chosen.margin)
    if said == "yes":
        return Verdict(claim, "no", f"at most {chosen.margin:g} words an end beyond chance", text)
    return Verdict(claim, "unclear", "neither more than random directions nor surely as few", text)


def _sentence(own: Counts) -> str:
    first, second = (own.p("cosine", kind) for kind in NULLS)
    return (
        f"{own.found('cosine')} words in {own.count} read-outs, by chance {own.expected('cosine', NULLS[1]):.2f}; p = {first:.3f} against evenly drawn directions, "
        f"{second:.3f} against those with the states' covariance."
    )


def _ranked(own: Counts, arm: Arm, domain: loader.Domain) -> list[Figure]:
    """The tokens of the first seed that came back."""
    made = []
    for by in BYS if own.looks and arm.name == PRIMARY else BYS[:1] if own.looks else ():
        panels = []
        for polarity, seen in own.looks[0].items():
            for number, end in enumerate(("top", "bottom")):
                marked = tuple(bool(m >= 0) for m in seen.numbers[f"{by}/marked"][number])
                values = tuple(map(float, seen.numbers[f"{by}/{end}"]))
                unit = "cosine" if by == "cosine" else "change of logit, nats"
                panels.append(
                    Ranked(f"{domain.polarities[polarity]}: {end}", unit, seen.words[f"{by}/{end}"], values, marked)
                )
        caption = (
            f"Tokens at both ends of the vector of the first seed, by {by}"
            + (" with the unembedding" if by == "cosine" else " after the last block's mean output")
            + "; bold ones begin with a word of either list."
        )
        made.append(Figure(f"tokens-{arm.name}-{by}".replace("/", "-"), f"Tokens: {arm.label}", caption, tuple(panels)))
    return made


def _tables(
    made: Comparison, counts: Mapping[str, Counts], words: Mapping[str, Sequence[str]], domain: loader.Domain
) -> tuple[Table, ...]:
    """Every count with both nulls, and the words that count."""
    each = []
    for name, own in counts.items():
        for by in BYS if own.looks else ():
            numbers = [f"{own.expected(by, kind):.2f}, p = {own.p(by, kind):.3f}" for kind in NULLS]
            each.append((made.named_arm(name).label, by, str(own.found(by)), str(own.count), *numbers))
    seen = next((s for own in counts.values() for run in own.looks for s in run.values()), None)
    sizes = ["unknown"] * len(words) if seen is None else [str(int(n)) for n in seen.numbers["vocabulary"]]
    lists = [
        (domain.polarities[n], size, ", ".join(some)) for (n, some), size in zip(words.items(), sizes, strict=True)
    ]
    return (
        Table("counts", "Words where they belong",
              "Words of the right list at either end, summed over seeds and polarities; what one random direction gives over as many read-outs, and the share of directions with at least as many.",
              ("vector", "by", "words", "read-outs", "evenly drawn directions", "with the states' covariance"), tuple(each)),
        Table("stems", "Which words count", "A token counts when it begins with one of these, whatever stands before it and however it is written.",
              ("list", "tokens of the vocabulary", "words"), tuple(lists)),
    )  # fmt: skip


def caveats(domain: loader.Domain, chosen: Settings) -> tuple[str, ...]:
    """What a reader of the page must keep in mind."""
    return (
        "The direction is held against the unembedding as it is: what later blocks make of it takes no part.",
        "For the rank-1 adapter on one module the natural vector is B: the reading is of B.",
        f"Counts are summed over seeds and polarities, and held against the sums of one random direction over as many read-outs. `no` needs at most {chosen.margin:g} words an end beyond chance, with the whole interval.",
        "Words were listed before any direction was read; synonyms that are not listed do not count.",
    )
