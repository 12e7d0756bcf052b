"""What the wording alone gives away: how well shallow cues tell the high option from the low one. Knows no model.

Three baselines, each learnt on the train part and told for validation and test: a bag of words, hedges, length. Near
one half, a cue can't be what a fitted model has picked up. Well above it, the cue is there to be learnt.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selfaware.domains.loader import Domain
from selfaware.domains.records import Record
from selfaware.types import PARTS

Floats = NDArray[np.float64]
Score = Callable[[str, str], float]
"""Of a candidate and the other option; positive says that the candidate is the high one."""


@dataclass(frozen=True)
class Baseline:
    """Share of options that one cue puts on the right side; ties count one half.

    Attributes:
        name: the cue.
        validation: the share on the validation part; None where it or the train part is empty.
        test: the same on the test part.
        records: how many records validation and test have.
    """

    name: str
    validation: float | None
    test: float | None
    records: tuple[int, int]


@dataclass(frozen=True)
class Bag:
    """Logistic regression on word counts, candidate minus other. A word outside `weights` counts nothing."""

    weights: Mapping[str, float]

    def score(self, candidate: str, other: str) -> float:
        """Log-odds that the candidate is the high option, to nine decimals, so that equal bags tie."""
        texts = ((1, candidate), (-1, other))
        return round(sum(sign * self.weights.get(word, 0.0) for sign, text in texts for word in words(text)), 9)

    def leaning(self, n: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The `n` words that speak most for high, and the `n` that speak most for low."""
        ranked = sorted(self.weights, key=lambda word: (-self.weights[word], word))
        return tuple(ranked[:n]), tuple(ranked[::-1][:n])


NUMBERS = re.compile(
    r"\d.*|zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(thir|four|fif|six|seven|eigh|nine)teen|"
    r"(twen|thir|for|fif|six|seven|eigh|nine)ty|hundred|thousand|million"
)


def words(text: str) -> tuple[str, ...]:
    """The words of a text in lower case; a hyphen parts words, an apostrophe inside a word doesn't."""
    return tuple(re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.lower()))


def count(text: str, listed: Collection[str]) -> int:
    """How many words of a text stand in a list."""
    return sum(word in listed for word in words(text))


def baselines(domain: Domain) -> tuple[Baseline, ...]:
    """Bag of words, hedge counting and length, learnt and told on the domain's own split."""
    train, validation, test = (part_of(domain, part) for part in PARTS)
    hedges = frozenset(domain.words.get("hedges", ()))
    scores: dict[str, Score] = {
        "bag of words": bag_of_words(train).score,
        "hedge counting": counting(train, lambda text: count(text, hedges)),
        "length in words": counting(train, lambda text: len(words(text))),
    }
    sizes = (len(validation), len(test))
    found = []
    for name, score in scores.items():
        reached = [accuracy(part, score) if train and part else None for part in (validation, test)]
        found.append(Baseline(name, reached[0], reached[1], sizes))
    return tuple(found)


def part_of(domain: Domain, part: str) -> tuple[Record, ...]:
    """The records of one part."""
    return tuple(record for record in domain.records if domain.parts[record.family] == part)


def accuracy(records: Sequence[Record], score: Score) -> float:
    """Share of options put on the right side, over both orders of each record; a score of zero counts one half."""
    right = [0.5 + np.sign(score(r.high, r.low)) / 2 for r in records]
    right += [0.5 - np.sign(score(r.low, r.high)) / 2 for r in records]
    return float(np.mean(right))


def counting(train: Sequence[Record], measure: Callable[[str], int]) -> Score:
    """A score that compares one number of the two options, with the sign that is right more often in `train`."""
    sign = 1 if sum(np.sign(measure(r.high) - measure(r.low)) for r in train) >= 0 else -1
    return lambda candidate, other: sign * (measure(candidate) - measure(other))


def bag_of_words(train: Sequence[Record], ridge: float = 1.0, steps: int = 600) -> Bag:
    """The bag that fits `train`, each record in both orders.

    The two orders are mirror images with opposite labels, so there is no constant. Accelerated gradient descent from
    zero; the step is the inverse of a bound on the curvature, so it can't diverge.

    Args:
        train: the records to fit on; none give an empty bag.
        ridge: weight of half the squared norm of the weights, beside the summed loss.
        steps: gradient steps.
    """
    known = sorted({word for r in train for word in words(f"{r.high} {r.low}")})
    if not known:
        return Bag({})
    place = {word: i for i, word in enumerate(known)}
    rows = np.zeros((2 * len(train), len(known)))
    for i, record in enumerate(train):
        for sign, text in ((1, record.high), (-1, record.low)):
            for word in words(text):
                rows[i, place[word]] += sign
    rows[len(train) :] = -rows[: len(train)]
    labels = np.repeat([1.0, 0.0], len(train))
    return Bag(dict(zip(known, _logistic(rows, labels, ridge, steps).tolist(), strict=True)))


def _logistic(rows: Floats, labels: Floats, ridge: float, steps: int) -> Floats:
    curvature = ridge + 0.25 * float(np.linalg.norm(rows, 2)) ** 2
    root = np.sqrt(ridge / curvature)
    momentum = (1 - root) / (1 + root)
    weights = ahead = np.zeros(rows.shape[1])
    for _ in range(steps):
        high = 1 / (1 + np.exp(-np.clip(rows @ ahead, -30, 30)))
        moved = ahead - (rows.T @ (high - labels) + ridge * ahead) / curvature
        ahead = moved + momentum * (moved - weights)
        weights = moved
    return weights


def opening(text: str, n: int) -> tuple[str, ...]:
    """The first `n` words of a text with its numbers, in digits or in words, masked."""
    said = words(re.sub(r"\d+(?:[.,]\d+)*", "0", text))
    return tuple("0" if NUMBERS.fullmatch(word) else word for word in said[:n])
