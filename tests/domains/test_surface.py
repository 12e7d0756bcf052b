"""A planted tell is found by the cue that it was planted for; without one, every cue is near chance."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfaware.domains import loader, surface
from selfaware.domains.records import Record

WORDS = [f"word{a}{b}" for a in "abcdefgh" for b in "abcdefgh"]


def drawn(n, seed, high="", low=""):
    """Records whose options are eight words of one list, with something added to a side."""
    rng = random.Random(seed)

    def option(more):
        return " ".join([*rng.choices(WORDS, k=8), more]).strip()

    return tuple(Record(f"r{i}", f"f{i}", "", option(high), option(low)) for i in range(n))


@pytest.fixture
def domain(plant):
    def made(**tell):
        records = drawn(600, 5, **tell)
        parts = loader.split(tuple(r.family for r in records), 0, (0.6, 0.2))
        return replace(plant(), records=records, parts=parts)

    return made


def by_name(domain):
    return {baseline.name: baseline for baseline in surface.baselines(domain)}


def test_no_tell_is_near_chance(domain):
    found = by_name(domain())
    assert set(found) == {"bag of words", "hedge counting", "length in words"}
    for baseline in found.values():
        assert baseline.records == (120, 120)
        # Four standard errors of a fair coin thrown 120 times.
        assert baseline.validation == pytest.approx(0.5, abs=0.18)
        assert baseline.test == pytest.approx(0.5, abs=0.18)


def test_a_word_on_one_side_is_found_by_the_bag_alone(domain):
    found = by_name(domain(high="unless", low="whether"))
    assert found["bag of words"].test > 0.99
    assert found["bag of words"].validation > 0.99
    assert (found["hedge counting"].test, found["length in words"].test) == (0.5, 0.5)


@pytest.mark.parametrize("side", ["high", "low"])
def test_hedges_are_found_whichever_side_they_favour(domain, side):
    other = "low" if side == "high" else "high"
    found = by_name(domain(**{side: "perhaps", other: "then"}))
    assert found["hedge counting"].test == 1.0
    assert found["length in words"].test == 0.5


def test_length_is_found(domain):
    found = by_name(domain(low="and so on"))
    assert found["length in words"].test == 1.0
    assert found["hedge counting"].test == 0.5


def test_what_is_learnt_is_learnt_on_the_train_part_alone(domain):
    made = domain()
    told = {r.id: r.high + " unless" * (made.parts[r.family] == "test") for r in made.records}
    planted = replace(made, records=tuple(replace(r, high=told[r.id]) for r in made.records))
    assert by_name(planted)["bag of words"].validation == by_name(made)["bag of words"].validation
    assert "unless" not in surface.bag_of_words(surface.part_of(planted, "train")).weights


def test_an_empty_part_is_unknown_not_zero(plant):
    domain = plant()
    found = surface.baselines(replace(domain, parts=dict.fromkeys(domain.parts, "train")))
    assert all((b.validation, b.test, b.records) == (None, None, (0, 0)) for b in found)
    found = surface.baselines(replace(domain, parts=dict.fromkeys(domain.parts, "test")))
    assert all((b.test, b.records) == (None, (0, 40)) for b in found)


def test_the_bag_is_at_the_minimum_of_its_loss():
    records = drawn(60, 1, high="or not", low="at all")
    bag = surface.bag_of_words(records, ridge=1.0)
    place = {word: i for i, word in enumerate(bag.weights)}
    weights = np.array(list(bag.weights.values()))
    slope = weights.copy()
    for record in records:
        row = np.zeros(len(place))
        for sign, text in ((1, record.high), (-1, record.low)):
            for word in surface.words(text):
                row[place[word]] += sign
        slope -= 2 * row / (1 + np.exp(row @ weights))
    assert np.abs(slope).max() < 1e-4


def test_leaning_words():
    bag = surface.bag_of_words(drawn(60, 1, high="unless", low="whether"))
    assert bag.leaning(1) == (("unless",), ("whether",))
    assert surface.bag_of_words(()).leaning(3) == ((), ())


@given(st.integers(0, 50), st.text(max_size=30), st.text(max_size=30))
def test_scores_know_no_order(seed, one, two):
    bag = surface.bag_of_words(drawn(10, seed), steps=20)
    assert bag.score(one, two) == pytest.approx(-bag.score(two, one), abs=1e-8)
    assert bag.score(one, one) == 0


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30))
def test_accuracy_counts_a_tie_one_half(gaps):
    records = [Record(str(i), "f", "", "so " * (3 + gap), "so so so") for i, gap in enumerate(gaps)]
    score = surface.counting((), lambda text: len(surface.words(text)))
    expected = sum((gap > 0) + 0.5 * (gap == 0) for gap in gaps) / len(gaps)
    assert surface.accuracy(records, score) == pytest.approx(expected)


def test_words():
    assert surface.words("It's half-past 7, Zoë’s CAT!") == ("it's", "half", "past", "7", "zoë’s", "cat")
    assert surface.words("…") == ()
    assert surface.count("Perhaps, perhaps not.", {"perhaps"}) == 2
