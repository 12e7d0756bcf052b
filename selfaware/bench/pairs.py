"""Two sides do the same work in turn; the ratio of their times, and whether their numbers agree. Knows no model."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from selfaware.bench.runs import Run, in_words, taken
from selfaware.bench.works import Contender, Fits, Work

Pair = tuple[Run, Run]


@dataclass(frozen=True)
class Line:
    """A row of the result.

    Attributes:
        ratio: median over pairs of their seconds / our seconds; None where there is no figure, and then `why` says the reason.
        low, high: the smallest and the largest of a pair.
        ratios: of each pair, in their order.
        seconds_ours, seconds_theirs: medians of the part that the work counts.
        strict_difference: largest difference of the numbers held against `tolerance`; a fit's are the losses of its first
            step, later ones grow apart along the trajectory; a grid's are all its scores.
        max_difference: largest difference of all numbers.
        tolerance: three times the largest difference of an item between plain forward passes; see `plain.tolerance`.
        same: whether `strict_difference` is within it.
        compared: what the numbers are.
        versions: what the contender is made of.
    """

    work: str
    against: str
    model: str
    dtype: str
    size: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    pairs: int = 0
    ratios: tuple[float, ...] = ()
    seconds_ours: float | None = None
    seconds_theirs: float | None = None
    strict_difference: float | None = None
    max_difference: float | None = None
    tolerance: float | None = None
    same: bool | None = None
    compared: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    why: str = ""


def alternating(
    ours: Callable[[], Run], theirs: Callable[[], Run], pairs: int, tell: Callable[[int], None]
) -> list[Pair]:
    """Ours and theirs, that many times; who begins changes with each pair, so that a drift of the machine cancels.

    Args:
        tell: told the number of pairs done.
    """
    made: list[Pair] = []
    for at in range(pairs):
        if at % 2:
            other = theirs()
            made.append((ours(), other))
        else:
            own = ours()
            made.append((own, theirs()))
        tell(at + 1)
    return made


def line(
    work: Work,
    contender: Contender,
    model: str,
    dtype: str,
    pairs: Sequence[Pair],
    tolerance: float,
    first_in_tokens: float,
    versions: Mapping[str, str],
) -> Line:
    """The row that these runs make.

    Args:
        tolerance: of the numbers that are held to it.
        first_in_tokens: our first step's loss as a mean over tokens, for contenders whose loss is that.
    """
    own, other = [taken(work, o) for o, _ in pairs], [taken(work, t) for _, t in pairs]
    ratios = [t / o for o, t in zip(own, other, strict=True)]
    strict, largest, compared = _differences(work, contender, pairs, first_in_tokens)
    return Line(
        work.name, contender.name, model, dtype, in_words(work.plan),
        statistics.median(ratios), min(ratios), max(ratios), len(pairs), tuple(ratios),
        statistics.median(own), statistics.median(other), strict, largest, tolerance, strict <= tolerance, compared, versions,
    )  # fmt: skip


def _differences(
    work: Work, contender: Contender, pairs: Sequence[Pair], first_in_tokens: float
) -> tuple[float, float, str]:
    if contender.terms == "tokens":
        strict = max(abs(t.numbers[0] - first_in_tokens) for _, t in pairs)
        return strict, strict, "loss of the first step, a mean over tokens; later ones follow its own schedule"
    gaps = []
    for own, other in pairs:
        if len(own.numbers) != len(other.numbers):
            return float("inf"), float("inf"), f"{len(own.numbers)} numbers against {len(other.numbers)}"
        gaps.append([_gap(a, b) for a, b in zip(own.numbers, other.numbers, strict=True)])
    largest = max(map(max, gaps))
    if not isinstance(work.plan, Fits):
        return largest, largest, "all scores"
    each = len(gaps[0]) // len(work.plan.arms)
    strict = max(max(found[::each]) for found in gaps)
    return strict, largest, "losses: each fit's first step against the tolerance, the largest over all steps beside it"


def _gap(a: float, b: float) -> float:
    """The distance; infinite where either is not a number, which would otherwise pass for none."""
    gap = abs(a - b)
    return gap if gap == gap else float("inf")  # noqa: PLR0124


def absent(work: Work, contender: Contender, model: str, dtype: str, why: str) -> Line:
    """The row of a contender that gave no figure."""
    return Line(work.name, contender.name, model, dtype, in_words(work.plan), why=why)
