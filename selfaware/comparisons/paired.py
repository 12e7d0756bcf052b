"""Values of single replicates, kept in their places, so that arms and question sets pair where a cell failed. Knows no claim."""

from collections.abc import Sequence

from selfaware import stats
from selfaware.comparisons.arms import ByFamily, Kept


def both(first: Kept, second: Kept) -> tuple[list[ByFamily], list[ByFamily]]:
    """The tables of the replicates that both have."""
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    return [a for a, _ in pairs], [b for _, b in pairs]


def apart(first: Kept, second: Kept, share: float = 1.0) -> list[ByFamily]:
    """first − share · second for each replicate that has both."""
    mine, theirs = both(first, second)
    less: list[ByFamily] = [{k: None if v is None else share * v for k, v in b.items()} for b in theirs]
    return stats.difference(mine, less) if mine else []


def known(found: Sequence[ByFamily | None]) -> list[ByFamily]:
    """Those that came back."""
    return [f for f in found if f is not None]


def mean(some: Sequence[ByFamily | None]) -> ByFamily | None:
    """The mean of several tables of one replicate, over what each family has in all of them; None where one did not come back."""
    if not some or any(one is None for one in some):
        return None
    tables = known(some)
    families = [f for f in tables[0] if all(f in t for t in tables)]
    found: ByFamily = {}
    for family in families:
        values = [t[family] for t in tables]
        numbers = [v for v in values if v is not None]
        found[family] = sum(numbers) / len(numbers) if len(numbers) == len(values) else None
    return found
