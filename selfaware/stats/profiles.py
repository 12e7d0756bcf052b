"""Whether two sets of questions have the same profile over layers, when each layer takes its best dose. Knows arrays only.

A profile is, for each layer, the largest mean shift over doses, divided by the profile's own largest layer: what is compared
is where something acts, not how much. Taking the largest over doses makes noise look like effect; whatever is concluded is
therefore drawn through the same maximum.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from selfaware.errors import BadData
from selfaware.types import Verdict3

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Alike:
    """Two profiles compared.

    Attributes:
        distance: largest absolute difference over layers, as a share of a profile's peak.
        high: upper end of the distance's one-sided 95 % interval.
        p: the chance of a distance this large when questions of both sets are exchangeable.
    """

    distance: float
    high: float
    p: float

    def answer(self, margin: float) -> tuple[Verdict3, str]:
        """Whether the profiles are the same: yes where even `high` is below the margin, no where they differ beyond chance and the margin."""
        if not np.isfinite(self.distance):
            return "unclear", "a profile without a peak"
        if self.high <= margin:
            return "yes", f"profiles differ by at most {self.high:.2f} of their peak"
        if self.p < 0.05 and self.distance > margin:
            return "no", f"profiles differ by {self.distance:.2f} of their peak, p = {self.p:.3f}"
        return (
            "unclear",
            f"profiles may differ by up to {self.high:.2f} of their peak (p of no difference {self.p:.2f})",
        )


def peaks(shifts: Array) -> Array:
    """`[L]`: for each layer the largest mean over questions among doses.

    Args:
        shifts: `[Q, L, A]` for questions, layers, doses, counted so that the expected direction is positive.
    """
    return np.asarray(shifts.mean(0).max(1), dtype=np.float64)


def scaled(profile: Array) -> Array:
    """The profile over its own largest layer; not finite where no layer is above zero."""
    top = profile.max()
    return profile / top if top > 0 else np.full_like(profile, np.nan)


def distance(first: Array, second: Array) -> float:
    """Largest absolute difference between two scaled profiles, of shifts `[Q, L, A]` each."""
    return float(np.abs(scaled(peaks(first)) - scaled(peaks(second))).max())


def alike(first: Array, second: Array, draws: int = 1000, seed: int = 0) -> Alike:
    """How far apart the profiles of two question sets are, with an upper bound and a permutation test.

    The bound is a bootstrap over questions: with d the distance and d* that of redrawn questions, the upper end is the 95th
    percentile of d*. Redrawing adds noise to both profiles, and the distance of noisy profiles is larger than that of
    their means, so the bound errs upwards. For the test, questions are first divided by their set's peak (sets differ in
    how much they move), then dealt anew to two sets of the same sizes, and the same maximum over doses is taken in each.

    Args:
        first, second: `[Q1, L, A]` and `[Q2, L, A]`, finite.
        draws: of the bootstrap and of the permutation, each.

    Raises:
        BadData: fewer than two questions in a set, other layers or doses, or a value that is not finite.
    """
    if first.ndim != 3 or second.ndim != 3 or first.shape[1:] != second.shape[1:] or min(len(first), len(second)) < 2:
        raise BadData(
            f"profiles of shapes {first.shape} and {second.shape}: two questions at least, and the same layers and doses, are needed. Ask both sets in one plan."
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise BadData("profiles: a shift that is not finite; leave the question out of both profiles.")
    found = distance(first, second)
    if not np.isfinite(found):
        return Alike(float("nan"), float("nan"), 1.0)
    rng = np.random.default_rng(seed)
    again = [
        distance(*(side[rng.integers(len(side), size=len(side))] for side in (first, second))) for _ in range(draws)
    ]
    finite = [d if np.isfinite(d) else np.inf for d in again]
    both = np.concatenate([side / peaks(side).max() for side in (first, second)])
    dealt = []
    for _ in range(draws):
        order = rng.permutation(len(both))
        dealt.append(distance(both[order[: len(first)]], both[order[len(first) :]]))
    p = (1 + sum(not np.isfinite(d) or d >= found for d in dealt)) / (1 + draws)
    return Alike(found, sorted(finite)[math.ceil(0.95 * len(finite)) - 1], float(p))


def all_alike(sets: Mapping[str, Array], reference: str, draws: int = 1000, seed: int = 0) -> dict[str, Alike]:
    """Every other set's profile against the reference's."""
    return {name: alike(sets[reference], shifts, draws, seed) for name, shifts in sets.items() if name != reference}


def onset(profile: Array, share: float = 0.5) -> float:
    """Where a profile first reaches a share of its peak, in layers, linearly between them; not a number where it never rises."""
    if not profile.max() > 0:
        return float("nan")
    level = share * float(profile.max())
    if profile[0] >= level:
        return 0.0
    for at, (before, after) in enumerate(pairwise(profile.tolist())):
        if after >= level:
            return at + (level - before) / (after - before)
    return float("nan")
