"""How often the 95 % interval holds the truth, by spread, size and effect: `python benchmarks/coverage.py [runs]`.

Simulated tables go through the package's own subtraction and `estimate`; nothing here knows its formula.
"""

import sys
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from selfaware import stats
from selfaware.types import Estimate

Cells = NDArray[np.float64]
Table = list[dict[str, float | None]]
Draw = Callable[[np.random.Generator, int, int], Cells]

SIZES = [(s, f) for s in (3, 5) for f in (10, 16, 22)]
EFFECTS = (0.0, 0.7)
# What any training of this shape does to both polarities; it must cancel out of the effect and stay in the shifts.
DRIFT = 0.2


def gaussian(seeds: float, families: float, rest: float) -> Draw:
    """Gaussian parts of those standard deviations."""

    def draw(rng: np.random.Generator, s: int, f: int) -> Cells:
        return rng.normal(0, seeds, (s, 1)) + rng.normal(0, families, (1, f)) + rng.normal(0, rest, (s, f))

    return draw


def uneven(rng: np.random.Generator, s: int, f: int) -> Cells:
    """Families differ in how strongly they follow a seed, and in their noise, by a factor of up to sixteen."""
    follow, noise = 4.0 ** rng.uniform(-1, 1, (2, 1, f))
    return follow * rng.normal(0, 0.2, (s, 1)) + rng.normal(0, 0.3, (1, f)) + noise * rng.normal(0, 0.2, (s, f))


def skewed(seeds: float, families: float, rest: float) -> Draw:
    """Exponential parts, long tail upwards, of those standard deviations."""

    def draw(rng: np.random.Generator, s: int, f: int) -> Cells:
        one, two, three = (rng.exponential(1.0, shape) - 1 for shape in ((s, 1), (1, f), (s, f)))
        return seeds * one + families * two + rest * three

    return draw


SPREADS: dict[str, Draw] = {
    "seeds": gaussian(0.4, 0.05, 0.1),
    "families": gaussian(0.1, 0.5, 0.2),
    "rest": gaussian(0.05, 0.05, 0.5),
    "mixed": gaussian(0.3, 0.6, 0.3),
    "uneven": uneven,
    "skewed families": skewed(0.1, 0.5, 0.2),
    "skewed, mixed": skewed(0.3, 0.6, 0.3),
    "skewed seeds": skewed(0.4, 0.05, 0.1),
}
MEASURES = ("mean", "shift of high", "shift of low", "effect")


def as_dicts(cells: Cells) -> Table:
    """The table as `estimate` takes it."""
    return [{f"f{j:02}": float(v) for j, v in enumerate(row)} for row in cells]


def response(rng: np.random.Generator, effect: float, s: int, f: int) -> Cells:
    """An effect that seeds and families show unequally strongly, `effect` on average."""
    return effect * (1 + rng.normal(0, 0.2, (s, 1))) * (1 + rng.normal(0, 0.1, (1, f)))


def tables(rng: np.random.Generator, draw: Draw, effect: float, s: int, f: int) -> dict[str, tuple[Table, float]]:
    """One simulated study: for each measure its seeds × families table and the truth."""
    base = 5 + rng.normal(0, 1, (1, f))
    drift = DRIFT + draw(rng, s, f) / 2
    high = base + drift + response(rng, effect, s, f) + draw(rng, s, f)
    low = base + drift - response(rng, effect, s, f) - draw(rng, s, f)
    shifts = [stats.difference(as_dicts(arm), as_dicts(base)) for arm in (high, low)]
    return {
        "mean": (as_dicts(response(rng, effect, s, f) + draw(rng, s, f)), effect),
        "shift of high": (shifts[0], DRIFT + effect),
        "shift of low": (shifts[1], DRIFT - effect),
        "effect": (stats.half_difference(*shifts), effect),
    }


def holds(made: Estimate, truth: float) -> bool:
    """Whether the interval holds the truth."""
    return made.low is not None and made.high is not None and made.low <= truth <= made.high


def coverage(spread: str, effect: float, s: int, f: int, runs: int, seed: int = 20240607) -> dict[str, float]:
    """For each measure the share of runs whose interval holds the truth."""
    rng = np.random.default_rng(seed)
    held = dict.fromkeys(MEASURES, 0)
    for _ in range(runs):
        for measure, (values, truth) in tables(rng, SPREADS[spread], effect, s, f).items():
            held[measure] += holds(stats.estimate(values, "nats"), truth)
    return {measure: n / runs for measure, n in held.items()}


def lines(runs: int) -> Iterator[str]:
    """The table in markdown, line by line as it is made."""
    yield "| spread | effect | seeds × families | " + " | ".join(MEASURES) + " |"
    yield "|---|---|---|" + "---|" * len(MEASURES)
    for spread in SPREADS:
        for effect in EFFECTS:
            for s, f in SIZES:
                found = coverage(spread, effect, s, f, runs)
                yield f"| {spread} | {effect:g} | {s} × {f} | " + " | ".join(f"{v:.3f}" for v in found.values()) + " |"


if __name__ == "__main__":
    for line in lines(int(sys.argv[1]) if len(sys.argv) > 1 else 3000):
        print(line, flush=True)
