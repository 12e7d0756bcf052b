"""Words for a behaviour among the tokens that vectors speak for: counts, whether they are beyond chance, figures. Knows no claim."""

from collections.abc import Mapping, Sequence

from selfaware import stats
from selfaware.comparisons.arms import Arm, View, estimated, mean_of
from selfaware.comparisons.comparison import Comparison
from selfaware.domains.loader import Domain
from selfaware.findings.counts import Counts
from selfaware.readouts.tokens import BYS, NULLS
from selfaware.report.page import Figure, Mark, Panel, Ranked, Table
from selfaware.stages import Seen
from selfaware.types import POLARITIES, Estimate, Polarity, Row, Verdict3

LEAST = 5
"""Tokens of the vocabulary that begin with a word of a list, below which counting them shows nothing."""
LEVEL = 0.05


def stems(domain: Domain) -> dict[str, tuple[str, ...]]:
    """Words that speak for either polarity, by its name: `high` and `low`; tokens count that begin with one.

    Those of `[words] high_stems` and `low_stems` in `domain.toml`; without these the words that the domain's first item answered in one word
    counts as high and as low.
    """
    found = {polarity: domain.words.get(f"{polarity}_stems", ()) for polarity in POLARITIES}
    if not all(found.values()):
        item = next((i for i in domain.spoken if i.set == "spoken" and i.reads == "word"), None)
        found = {"high": item.high, "low": item.low} if item else {}
    return {name: tuple(dict.fromkeys(w.casefold() for w in some)) for name, some in found.items()}


def counts(made: Comparison, view: View, arm: Arm, lists: tuple[str, ...]) -> Counts:
    """Seeds of which every polarity came back."""
    looks: list[Mapping[Polarity, Seen]] = []
    for run in zip(*(made.replicates(arm, p) for p in arm.polarities), strict=True):
        seen = {p: s for p, of in zip(arm.polarities, run, strict=True) if (s := made.seen(view, of)) is not None}
        if len(seen) == len(run):
            looks.append(seen)
    return Counts(looks, lists)


def rows(made: Comparison, counts: Mapping[str, Counts], count: int, model: str, domain: str) -> list[Row]:
    """Words beyond chance, for every vector and both ways of reading it.

    Args:
        count: tokens at each end.
    """
    found = []
    for name, own in counts.items():
        arm = made.named_arm(name)
        for by in BYS:
            found.append(Row.of(
                _excess(arm, own, by, count), measure="words_excess" if by == "cosine" else "words_excess_logits", kind="absolute", model=model, domain=domain,
                method=arm.label, site=arm.site, questions="neutral", reference="random directions", condition=_told(own, by) if own.looks else {},
            ))  # fmt: skip
    return found


def _excess(arm: Arm, own: Counts, by: str, count: int) -> Estimate:
    return estimated(arm, own.excess(by), f"words of {count}")


def figure(made: Comparison, counts: Mapping[str, Counts], count: int, margin: float) -> Figure:
    """Words beyond chance, one panel for each way of reading."""
    panels = []
    for by in BYS:
        arms = [(made.named_arm(name), own) for name, own in counts.items()]
        marks = tuple(Mark(a.label, _excess(a, own, by, count), "", a.role, mean_of(own.excess(by))) for a, own in arms)
        panels.append(Panel(f"by {by}", f"words of {count}", marks, band=(-margin, margin)))
    return Figure(
        "words", "Words where they belong, beyond chance",
        "Mean over ends and polarities of the words found at the end where they belong, less those that random directions with the covariance of the last block's outputs have. "
        f"Shaded: too few to count. {count} tokens at each end.", tuple(panels),
    )  # fmt: skip


def _told(own: Counts, by: str) -> dict[str, str | int | float | bool]:
    return {"found": own.found(by), "looks": own.count, "p": round(max(own.p(by, kind) for kind in NULLS), 4)}


def answer(
    arm: Arm, own: Counts, random: Counts, lists: Mapping[str, Sequence[str]], count: int, margin: float
) -> tuple[Verdict3, str, str]:
    """Yes where both nulls are beaten; no where the interval of what is beyond chance lies below the margin; with the numbers.

    Args:
        count: tokens at each end.
        margin: words at one end, above what chance gives, that still count as none.
    """
    if not own.looks:
        return "unclear", "a cell failed", ""
    p = max(own.p("cosine", kind) for kind in NULLS)
    beyond = _excess(arm, own, "cosine", count)
    text = f"{_sentence(own)} {stats.spoken(beyond)} words an end beyond chance."
    text += f" Random direction: {_sentence(random)}" if random.looks else ""
    first = next(iter(own.looks[0].values())).numbers["vocabulary"]
    few = [name for name, n in zip(lists, first.tolist(), strict=True) if n < LEAST]
    if few:
        return "unclear", f"instrument: the vocabulary has hardly any {' or '.join(few)} words", text
    if beyond.low is None:
        return "unclear", beyond.why, text
    if p <= LEVEL:
        return "yes", f"more words than {1 - LEVEL:.0%} of random directions of either kind", text
    said, _ = stats.at_most(beyond, margin)
    if said == "yes":
        return "no", f"at most {margin:g} words an end beyond chance", text
    return "unclear", "neither more than random directions nor surely as few", text


def _sentence(own: Counts) -> str:
    first, second = (own.p("cosine", kind) for kind in NULLS)
    return (
        f"{own.found('cosine')} words in {own.count} read-outs, by chance {own.expected('cosine', NULLS[1]):.2f}; p = {first:.3f} against evenly drawn directions, "
        f"{second:.3f} against those with the states' covariance."
    )


def ranked(made: Comparison, counts: Mapping[str, Counts], primary: str, domain: Domain) -> list[Figure]:
    """The tokens of the first seed that came back, for every vector; by the logits too for the primary one."""
    return [f for name, own in counts.items() for f in _ranked(own, made.named_arm(name), name == primary, domain)]


def _ranked(own: Counts, arm: Arm, both: bool, domain: Domain) -> list[Figure]:
    made = []
    for by in BYS if own.looks and both else BYS[:1] if own.looks else ():
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


def tables(
    made: Comparison, counts: Mapping[str, Counts], lists: Mapping[str, Sequence[str]], domain: Domain
) -> tuple[Table, ...]:
    """Every count with both nulls, and the words that count."""
    each = []
    for name, own in counts.items():
        for by in BYS if own.looks else ():
            numbers = [f"{own.expected(by, kind):.2f}, p = {own.p(by, kind):.3f}" for kind in NULLS]
            each.append((made.named_arm(name).label, by, str(own.found(by)), str(own.count), *numbers))
    seen = next((s for own in counts.values() for run in own.looks for s in run.values()), None)
    sizes = ["unknown"] * len(lists) if seen is None else [str(int(n)) for n in seen.numbers["vocabulary"]]
    listed = [
        (domain.polarities[n], size, ", ".join(some)) for (n, some), size in zip(lists.items(), sizes, strict=True)
    ]
    return (
        Table("counts", "Words where they belong",
              "Words of the right list at either end, summed over seeds and polarities; what one random direction gives over as many read-outs, and the share of directions with at least as many.",
              ("vector", "by", "words", "read-outs", "evenly drawn directions", "with the states' covariance"), tuple(each)),
        Table("stems", "Which words count", "A token counts when it begins with one of these, whatever stands before it and however it is written.",
              ("list", "tokens of the vocabulary", "words"), tuple(listed)),
    )  # fmt: skip
