"""Words counted among a vector's tokens, over looks, beside those of random directions. Knows looks and lists of words; no claim."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfaware.comparisons.arms import ByFamily
from selfaware.stages import Seen
from selfaware.types import Polarity

Array = NDArray[Any]


@dataclass(frozen=True)
class Counts:
    """How many words of the lists the looks of one arm found where they belong: high at the top and low at the bottom, or the reverse.

    Attributes:
        looks: by seed, what was seen at each polarity that came back.
        lists: the names of the lists, in order.
    """

    looks: Sequence[Mapping[Polarity, Seen]]
    lists: tuple[str, ...]

    def cells(self, polarity: Polarity) -> tuple[tuple[int, int], tuple[int, int]]:
        """End (0 top, 1 bottom) and list of what a vector of that polarity should speak for."""
        high, low = self.lists.index("high"), self.lists.index("low")
        return ((0, high), (1, low)) if polarity == "high" else ((0, low), (1, high))

    @property
    def count(self) -> int:
        """How many looks there are."""
        return sum(len(run) for run in self.looks)

    def found(self, by: str) -> int:
        """Words found, over all looks."""
        return sum(
            int(s.numbers[f"{by}/found"][c]) for run in self.looks for p, s in run.items() for c in self.cells(p)
        )

    def expected(self, by: str, kind: str) -> float:
        """What random directions have on the mean, over as many looks."""
        return float(self.null(by, kind).mean())

    def null(self, by: str, kind: str) -> Array:
        """The same for every random direction, which is one and the same in all looks; for `low` it is its reverse."""
        found = [s.numbers[f"{by}/{kind}"] for run in self.looks for s in run.values()]
        (top, first), (bottom, second) = self.cells("high")
        return np.stack([n[:, top, first] + n[:, bottom, second] for n in found]).sum(0)

    def p(self, by: str, kind: str) -> float:
        """Share of random directions with at least as many words, the arm's own counted among them.

        Words are summed over seeds and polarities and held against the sums of one random direction over as many looks. So vectors
        of several seeds count as one direction drawn once: right where they are alike, and careful where they are not.
        """
        null = self.null(by, kind)
        return float((1 + (null >= self.found(by)).sum()) / (1 + len(null)))

    def excess(self, by: str) -> list[ByFamily]:
        """For each seed, polarity and end, words found less those that random directions with the states' covariance have."""
        found: list[ByFamily] = []
        for run in self.looks:
            found.append({
                f"{polarity}/{end}": float(s.numbers[f"{by}/found"][end, of] - s.numbers[f"{by}/covariance"][:, end, of].mean())
                for polarity, s in run.items() for end, of in self.cells(polarity)
            })  # fmt: skip
        return found
