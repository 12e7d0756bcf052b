"""What the wording alone gives away: how well shallow cues tell the high option from the low one. Must not know any model.

Three baselines, each learnt on the train part and told for validation and test: a bag of words, hedges, length. A
baseline near one half says that a fitted model can't have learnt just that cue. Above it, the cue is there to be learnt.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selfaware.domains.loader import Domain, Record

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Baseline:
    """Share of a part's options that one cue assigns to the right polarity; ties count one half.

    Attributes:
        validation: that share on the validation part; None where the part (or the train part) is empty.
        test: the same on the test part.
        records: how many records validation and test have.
    """

    name: str
    validation: float | None
    test: float | None
    records: tuple[int, int]


def words(text: str) -> tuple[str, ...]:
    """The words of a text in lower case; hyphens part words, apostrophes inside a word don't."""
    return tuple(re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.lower()))


def baselines(domain: Domain) -> tuple[Baseline, ...]:
    """Bag of words, hedge counting and length, on the domain's own split."""
    parts = [[r for r in domain.records if domain.parts[r.family] == p] for p in ("train", "validation", "test")]
    hedges = frozenset(domain.words.get("hedges", ()))
    return (
        _baseline("bag of words", bag_of_words(parts[0]), parts),
        _baseline("hedge counting", counting(parts[0], lambda text: count(text, hedges)), parts),
        _baseline("length", counting(parts[0], lambda text: len(words(text))), parts),
    )


def _baseline(name: str, score: Callable[[str, str], float], parts: list[list[Record]]) -> Baseline:
    found = [accuracy(part, score) if parts[0] and part else None for part in parts[1:]]
    return Baseline(name, found[0], found[1], (len(parts[1]), len(parts[2])))


def count(text: str, listed: Collection[str]) -> int:
    """How many words of a text stand in a list."""
    return sum(word in listed for word in words(text))


def accuracy(records: Sequence[Record], score: Callable[[str, str], float]) -> float:
    """Share of options put on the right side, over both orders; a score of zero counts one half.

    Args:
        records: at least one.
        score: of a candidate and the other option; positive says that the candidate is the high one.
    """
    right = [np.sign(score(r.high, r.low)) / 2 + 0.5 for r in records]
    right += [0.5 - np.sign(score(r.low, r.high)) / 2 for r in records]
    return float(np.mean(right))


def counting(train: Sequence[Record], measure: Callable[[str], int]) -> Callable[[str, str], float]:
    """A score that compares one number of the options, with the sign that is right more often in `train`."""
    sign = 1.0 if sum(np.sign(measure(r.high) - measure(r.low)) for r in train) >= 0 else -1.0
    return lambda candidate, other: sign * (measure(candidate) - measure(other))


def bag_of_words(train: Sequence[Record], ridge: float = 1.0, steps: int = 600) -> Callable[[str, str], float]:
    """A score from logistic regression on word counts, candidate minus other, fitted on both orders of `train`.

    The two orders of a record are mirror images with opposite labels, so there is no constant. Accelerated gradient
    descent from zero; the step is the inverse of a bound on the curvature, so it can't diverge.

    Args:
        train: the records to fit on.
        ridge: weight of half the squared norm of the coefficients, beside the summed loss.
        steps: gradient steps; 600 bring the gradient below 1e-3 of its start on a few hundred records.
    """
    place = {w: i for i, w in enumerate(sorted({w for r in train for w in words(f"{r.high} {r.low}")}))}

    def counts(candidate: str, other: str) -> Vector:
        row = np.zeros(len(place))
        for text, sign in ((candidate, 1.0), (other, -1.0)):
            for word in words(text):
                if word in place:
                    row[place[word]] += sign
        return row

    weights = np.zeros(len(place))
    if place:
        rows = np.stack([counts(r.high, r.low) for r in train] + [counts(r.low, r.high) for r in train])
        labels = np.repeat([1.0, 0.0], len(train))
        weights = _logistic(rows, labels, ridge, steps)
    return lambda candidate, other: float(np.round(counts(candidate, other) @ weights, 9))


def _logistic(rows: NDArray[np.float64], labels: Vector, ridge: float, steps: int) -> Vector:
    curvature = ridge + 0.25 * float(np.linalg.norm(rows, 2)) ** 2
    root = np.sqrt(ridge / curvature)
    momentum = (1 - root) / (1 + root)
    weights = ahead = np.zeros(rows.shape[1])
    for _ in range(steps):
        chance = 1 / (1 + np.exp(-np.clip(rows @ ahead, -30, 30)))
        moved = ahead - (rows.T @ (chance - labels) + ridge * ahead) / curvature
        ahead = moved + momentum * (moved - weights)
        weights = moved
    return weights
