"""Damage: nats per token of each passage, unknown kept unknown."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfaware.errors import BadData
from selfaware.metrics import damage
from selfaware.types import Passage, Reading, Score

PASSAGES = [Passage("neutral-bread", "bread", "Bread rises."), Passage("neutral-tide", "tide", "The tide turns.")]
READINGS = [Reading("neutral-tide", -30.0, 10, 0.5), Reading("neutral-bread", -8.0, 4, 0.0)]


def test_both_are_per_token_and_keep_the_passages_order() -> None:
    assert damage.scores(PASSAGES, READINGS) == (
        Score("neutral-bread", "bread", 2.0), Score("neutral-tide", "tide", 3.0),
    )  # fmt: skip
    assert damage.divergence(PASSAGES, READINGS) == (
        Score("neutral-bread", "bread", 0.0), Score("neutral-tide", "tide", 0.05),
    )  # fmt: skip


@given(st.integers(2, 50_000), st.integers(1, 200))
def test_a_uniform_reader_has_the_vocabulary_as_its_perplexity(vocabulary: int, tokens: int) -> None:
    reading = Reading("neutral-bread", -tokens * math.log(vocabulary), tokens, 0.0)
    [score] = damage.scores(PASSAGES[:1], [reading])
    assert math.exp(score.value or 0.0) == pytest.approx(vocabulary)


def test_what_cannot_be_divided_is_unknown() -> None:
    none, lost = Reading("neutral-bread", 0.0, 0, 0.0), Reading("neutral-tide", -math.inf, 3, math.nan)
    for verb in (damage.scores, damage.divergence):
        assert [(s.value, s.why) for s in verb(PASSAGES, [none, lost])] == [
            (None, "no tokens"), (None, "not a finite number"),
        ]  # fmt: skip


def test_what_does_not_fit_together_is_an_error() -> None:
    for verb in (damage.scores, damage.divergence):
        with pytest.raises(BadData, match=r"^'neutral-bread': a passage without a reading; .*\. Read again\.$"):
            verb(PASSAGES, READINGS[:1])
        with pytest.raises(BadData, match=r"'neutral-bread' \(and 1 more\): a passage without a reading"):
            verb(PASSAGES, [])
        with pytest.raises(BadData, match=r"'neutral-tide': a reading without a passage"):
            verb(PASSAGES[:1], READINGS)
        with pytest.raises(BadData, match=r"two readings of this id"):
            verb(PASSAGES, [*READINGS, READINGS[0]])
        with pytest.raises(BadData, match=r"two passages of this id"):
            verb([*PASSAGES, PASSAGES[0]], READINGS)
        assert verb([], []) == ()
