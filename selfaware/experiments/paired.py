"""Effects of single replicates, kept in their places, so that arms and question sets pair where a cell failed. Knows no claim."""

from collections.abc import Sequence

from selfaware import stats
from selfaware.experiments.arms import Arm, Asked, ByFamily, Read
from selfaware.experiments.comparison import Comparison
from selfaware.metrics import options

Kept = list[ByFamily | None]
"""One table for each replicate of an arm, in their order; None where a cell of either polarity failed."""


def effects(made: Comparison, asked: Asked, arm: Arm, read: Read) -> Kept:
    """(high − low) / 2 by family for each replicate of an arm with both polarities; what both share, the base model, drops out."""
    runs = zip(made.replicates(arm, "high"), made.replicates(arm, "low"), strict=True)
    found = [[made.scores(asked, of, read) for of in pair] for pair in runs]
    return [
        None
        if high is None or low is None
        else stats.half_difference([options.by_family(high)], [options.by_family(low)])[0]
        for high, low in found
    ]


def apart(first: Kept, second: Kept, share: float = 1.0) -> list[ByFamily]:
    """first − share · second for each replicate that has both."""
    both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    less: list[ByFamily] = [{k: None if v is None else share * v for k, v in b.items()} for _, b in both]
    return stats.difference([a for a, _ in both], less) if both else []


def known(found: Sequence[ByFamily | None]) -> list[ByFamily]:
    """Those that came back."""
    return [f for f in found if f is not None]
