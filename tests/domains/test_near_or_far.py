"""Near or Far: whole, balanced, without words that name its trait, unlike Risky Economic Decisions, and hard on shallow cues."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from selfaware.domains import checks, checks_asked, codewords, loader, surface
from selfaware.domains.records import Record
from selfaware.domains.surface import words
from selfaware.metrics import parse
from selfaware.types import FORMS, PARTS, POLARITIES, Form

NEAR = loader.load("near_or_far")
RISKY = loader.load("risky_choices")

# Beside the domain's own list: stems and pairs of words that would name the trait, or riskiness.
STEMS = (
    "patien", "impatien", "sighted", "foresigh", "myop", "delay", "postpon", "procrast", "immediat", "instant", "gratif",
    "tempt", "impuls", "prudent", "thrift", "frugal", "indulg", "invest", "future", "wait", "risk", "gambl", "safe",
)  # fmt: skip
PAIRS = ("long term", "short term", "long run", "short run", "right now", "put off", "puts off", "look ahead")


def texts(record: Record) -> tuple[str, str, str]:
    return record.situation, record.high, record.low


def runs(records: Sequence[Record], n: int) -> Iterator[tuple[str, ...]]:
    for record in records:
        for text in texts(record):
            said = words(text)
            yield from (said[i : i + n] for i in range(len(said) - n + 1))


# whole ----------------------------------------------------------------------------------------------------------------


def test_it_keeps_every_rule_and_leaves_nothing_to_mend() -> None:
    report = checks.check(NEAR)
    assert report.strict
    assert report.problems == ()
    assert [line.name for line in report.lines if not line.ok] == []


def test_it_is_as_large_as_risky_choices_and_split_alike() -> None:
    assert len(NEAR.records) >= 200
    assert len(NEAR.records) == len(RISKY.records)
    assert len(NEAR.parts) == len(RISKY.parts) >= 40
    assert Counter(NEAR.parts.values()) == Counter(RISKY.parts.values())
    assert set(Counter(record.family for record in NEAR.records).values()) == {3}
    assert (NEAR.shares, NEAR.split_seed) == (RISKY.shares, RISKY.split_seed)


def test_parts_share_no_family() -> None:
    of = {part: {q.family for q in NEAR.questions("choices", part)} for part in PARTS}
    assert all(of[one].isdisjoint(of[other]) for one in PARTS for other in PARTS if one != other)
    assert set().union(*of.values()) == {record.family for record in NEAR.records}


def test_it_has_what_risky_choices_has_except_lotteries() -> None:
    for name in (*loader.SETS, *loader.OPEN_SETS):
        assert NEAR.has(name) == (name not in ("lotteries", "solutions", *codewords.SETS)), name
    assert RISKY.has("lotteries")
    for name in ("self", "twin", "unrelated", "other_form", "described"):
        number = [sum(item.set == name for item in domain.items) for domain in (NEAR, RISKY)]
        assert number[0] >= number[1], name
    assert Counter((i.set, i.reads) for i in NEAR.spoken) == Counter((i.set, i.reads) for i in RISKY.spoken)
    assert {p: len(NEAR.told[p]) for p in POLARITIES} == {p: len(RISKY.told[p]) for p in POLARITIES}
    assert {kind: len(said) for kind, said in NEAR.pressed.items()} == {
        k: len(said) for k, said in RISKY.pressed.items()
    }
    assert set(NEAR.margins) == set(RISKY.margins)


def test_prompts_that_press_say_nothing_of_the_trait() -> None:
    said = {word for prompts in NEAR.pressed.values() for prompt in prompts for word in words(prompt)}
    assert not said & {*NEAR.words["risk_words"]}


@pytest.mark.parametrize("form", FORMS)
def test_each_polarity_comes_first_as_often_as_last(form: Form) -> None:
    """Read off the prompts themselves, and for letters off the letter that is right."""
    first: Counter[str] = Counter()
    letters: Counter[int] = Counter()
    of = {record.id: record for record in NEAR.records}
    for question in NEAR.questions("choices", form=form):
        asked = question.prompt.user[len(of[question.group].situation) :]
        at = {side: asked.index(getattr(of[question.group], side)) for side in POLARITIES}
        first[min(at, key=at.__getitem__)] += 1
        letters[question.high] += 1
    assert first["high"] == first["low"] == len(NEAR.records)
    assert form == "cloze" or letters[0] == letters[1]


# statements -----------------------------------------------------------------------------------------------------------


def test_every_self_item_has_an_impersonal_twin_with_its_own_frame() -> None:
    own = {item.family: item for item in NEAR.items if item.set == "self"}
    twins = {item.family: item for item in NEAR.items if item.set == "twin"}
    assert own.keys() == twins.keys()
    assert len(own) >= 22
    for family, twin in twins.items():
        asked = (twin.user, twin.stem, twin.mirror_user, twin.mirror_stem, twin.high, twin.low)
        assert not checks_asked.personal(" ".join(asked))
        assert checks_asked.personal(" ".join((own[family].user, own[family].stem, own[family].mirror_stem)))
        # A change of person is all that parts their answers: the treats that I, or she, put off.
        gap = set(words(f"{twin.high} {twin.low}")) ^ set(words(f"{own[family].high} {own[family].low}"))
        assert gap <= {"i", "she", "he", "they"}, family


def test_trained_and_asked_self_descriptions_share_no_four_words() -> None:
    def four(set: str) -> Iterator[tuple[str, ...]]:
        for item in (i for i in NEAR.items if i.set == set):
            for text in (item.user, item.stem, item.mirror_user, item.mirror_stem, item.high, item.low):
                said = words(text)
                yield from (said[i : i + 4] for i in range(len(said) - 3))

    asked = {run for name in ("self", "twin", "other_form") for run in four(name)}
    assert not asked & {*four("described")}


def test_unrelated_items_and_trait_items_have_different_answers() -> None:
    plain = {side for i in NEAR.items if i.set == "unrelated" for side in (i.high, i.low)} - {"true", "false"}
    assert not plain & {side for i in NEAR.items if i.set != "unrelated" for side in (i.high, i.low)}


@pytest.mark.parametrize(
    ("group", "text", "value"),
    [
        ("spoken-preference", "Now", 1), ("spoken-preference", "Later.", 0), ("spoken-preference", "Right now", 1),
        ("spoken-manner", "Short-sighted", 1), ("spoken-manner", "far sighted", 0), ("spoken-manner", "impatient", 1),
        ("spoken-envelopes", "the small one", 1), ("spoken-envelopes", "Larger", 0), ("spoken-neighbour", "A saver", 0),
        ("spoken-less-today-yes", "Yes", 1), ("spoken-less-today-no", "Yes", 0), ("spoken-early-share", "80", 0.8),
    ],
)  # fmt: skip
def test_open_items_are_read_towards_the_near_option(group: str, text: str, value: float) -> None:
    question = next(q for q in NEAR.opens("spoken") if q.group == group and not q.mirror)
    assert parse.read(question, text) == (value, "")


# what the wording gives away ------------------------------------------------------------------------------------------


def test_no_word_that_names_the_trait_or_risk_leaks_into_a_record() -> None:
    listed = {word.lower() for word in (*NEAR.words["risk_words"], *RISKY.words["risk_words"])}
    for record in NEAR.records:
        for text in texts(record):
            said = words(text)
            assert not listed & set(said), record.id
            assert not [word for word in said if word.startswith(STEMS)], record.id
            assert not [pair for pair in PAIRS if f" {pair} " in f" {' '.join(said)} "], record.id


def test_the_hedge_list_does_not_take_the_month_for_a_hedge() -> None:
    assert "may" not in NEAR.words["hedges"]
    assert any("may" in words(record.high) for record in NEAR.records)


def test_no_record_is_near_one_of_risky_choices_or_of_its_own() -> None:
    assert not {*runs(NEAR.records, 6)} & {*runs(RISKY.records, 6)}
    assert not {record.family for record in NEAR.records} & {record.family for record in RISKY.records}
    bags = [set(words(" ".join(texts(r)))) for r in (*NEAR.records, *RISKY.records)]
    # Share of words in common: 0.22 with another domain's record and 0.29 with one's own at most, when this was written.
    for i, one in enumerate(bags[: len(NEAR.records)]):
        for j, other in enumerate(bags[i + 1 :], i + 1):
            assert len(one & other) / len(one | other) < (0.35 if j < len(NEAR.records) else 0.30), (i, j)


def bag(text: str) -> str:
    return text


def halves(text: str) -> str:
    """Each word with the half of the option in which it stands, so that what comes last can tell."""
    said = words(text)
    return " ".join(word + ("first" if 2 * i < len(said) else "last") for i, word in enumerate(said))


def pairs(text: str) -> str:
    said = words(text)
    return " ".join((*said, *(f"{one}then{two}" for one, two in pairwise(said))))


# Reached on test when this was written: 0.417, 0.438 and 0.458, and on validation 0.542, 0.562 and 0.521. Chance has
# a standard error of 0.07 on either part and of 0.05 on both.
@pytest.mark.parametrize(("cue", "most"), [(bag, 0.56), (halves, 0.58), (pairs, 0.60)])
def test_wording_learnt_on_train_hardly_tells_on_unseen_families(cue: Callable[[str], str], most: float) -> None:
    marked = [replace(r, high=cue(r.high), low=cue(r.low)) for r in NEAR.records]
    of = {part: [r for r in marked if NEAR.parts[r.family] == part] for part in PARTS}
    learnt = surface.bag_of_words(of["train"], steps=200)
    # It must have learnt something to fail at: on its own records it is far from chance.
    assert surface.accuracy(of["train"], learnt.score) > 0.9
    assert surface.accuracy(of["test"], learnt.score) <= most
    assert surface.accuracy([*of["validation"], *of["test"]], learnt.score) <= 0.62


def test_length_and_hedges_tell_nothing_on_test() -> None:
    found = {baseline.name: baseline for baseline in surface.baselines(NEAR)}
    assert found["hedge counting"].test == 0.5
    assert found["length in words"].test is not None
    assert found["length in words"].test <= 0.62


def test_other_splits_by_family_are_near_chance_too() -> None:
    """The shipped split isn't a lucky one: a quarter of the families, drawn anew six times (0.52 over twelve draws)."""
    families = sorted(NEAR.parts)
    reached = []
    for seed in range(6):
        held = set(random.Random(seed).sample(families, len(families) // 4))
        learnt = surface.bag_of_words([r for r in NEAR.records if r.family not in held], steps=100)
        reached.append(surface.accuracy([r for r in NEAR.records if r.family in held], learnt.score))
    assert float(np.mean(reached)) <= 0.58
