"""Questions made of rows: lotteries without surface cues, open items, forecasts, system prompts, fixed texts."""

from collections import Counter

import pytest

from selfaware.domains import loader, questions
from selfaware.domains.records import Record
from selfaware.errors import BadData, UnknownName

RISKY = loader.load("risky_choices")
SETTINGS = {"number": 400, "seed": 7, "low": 0, "high": 100, "option": "{a} {p} {b} {q}"}


def drawn(option: str) -> tuple[int, int, int, int]:
    a, p, b, q = map(int, option.split())
    return a, p, b, q


def test_outer_pair_is_high_and_inner_pair_low() -> None:
    for record in questions.lotteries(SETTINGS):
        a, p, d, q = drawn(record.high)
        b, r, c, s = drawn(record.low)
        assert len({a, b, c, d}) == 4
        assert min(a, d) < min(b, c) < max(b, c) < max(a, d)
        assert p + q == r + s == 100
        assert 1 <= p <= 99
        assert 1 <= r <= 99


def test_lotteries_are_seeded_and_balanced() -> None:
    made = questions.lotteries(SETTINGS)
    assert made == questions.lotteries(SETTINGS)
    assert made != questions.lotteries({**SETTINGS, "seed": 8})
    worth = [[drawn(o)[0] * drawn(o)[1] + drawn(o)[2] * drawn(o)[3] for o in (r.high, r.low)] for r in made]
    assert 0.4 < sum(high > low for high, low in worth) / len(made) < 0.6, "either may be worth more"
    assert 0.4 < sum(drawn(r.high)[0] > drawn(r.high)[2] for r in made) / len(made) < 0.6, (
        "the larger amount first or last"
    )


@pytest.mark.parametrize("form", ["cloze", "letters"])
def test_shipped_lotteries_are_250_families_in_both_orders(form: str) -> None:
    asked = RISKY.questions("lotteries", form=form)  # type: ignore[arg-type]
    assert len({q.family for q in asked}) == 250
    assert Counter(Counter(q.group for q in asked).values()) == {2: 250}
    if form == "letters":
        assert Counter(q.high for q in asked) == {0: 250, 1: 250}


def test_nothing_in_the_wording_tells_a_lottery() -> None:
    """Words are the same on both sides; only the numbers differ."""
    for q in RISKY.questions("lotteries"):
        words = [[w for w in option.split() if not w.isdigit()] for option in q.options]
        assert words[0] == words[1]


def test_open_items_have_five_ways_and_numbers_a_mirror() -> None:
    for name in ("spoken", "spoken-twin"):
        asked = RISKY.opens(name)
        ways = Counter((q.group, q.mirror) for q in asked)
        assert min(ways.values()) >= 5
        for group in {q.group for q in asked if q.reads == "number"}:
            assert ways[group, True] >= 5
    twins = {q.family for q in RISKY.opens("spoken-twin")}
    assert twins == {q.family for q in RISKY.opens("spoken") if q.reads != "language"}


def test_languages_are_never_english_and_come_swapped() -> None:
    pairs = {(q.high, q.low) for q in RISKY.opens("spoken") if q.reads == "language"}
    assert pairs
    assert all((low, high) in pairs for high, low in pairs)
    assert "en" not in {code for pair in pairs for side in pair for code in side}


def test_a_forecast_asks_about_either_option_of_every_record() -> None:
    asked = RISKY.opens("forecast", "test")
    choices = RISKY.questions("choices", "test")
    assert {q.group for q in asked} == {q.group for q in choices}
    by_group: dict[str, list[bool]] = {}
    for q in asked:
        by_group.setdefault(q.group, []).append(q.mirror)
    assert all(sorted(sides) == [False, True] for sides in by_group.values())
    records = {r.id: r for r in RISKY.records}
    first = 0
    for q in asked:
        record = records[q.group]
        named = record.low if q.mirror else record.high
        assert q.prompt.user.count(named) == 2, "as an option, and as the one asked about"
        first += q.prompt.user.index(record.high) < q.prompt.user.index(record.low)
    assert first == len(asked) // 2


def test_told_changes_the_system_text_alone() -> None:
    plain = RISKY.questions("self")
    said = questions.told(plain, "You love risk.")
    assert {q.prompt.system for q in said} == {"You love risk."}
    assert [(q.id, q.prompt.user, q.options, q.high) for q in said] == [
        (q.id, q.prompt.user, q.options, q.high) for q in plain
    ]


def test_a_fixed_text_is_asked_once_as_it_stands() -> None:
    record = Record("r", "r", "Take {A} or {B}? A or B.", "B", "A")
    (asked,) = questions.choices(
        [record], "letters", {"user": "{situation}", "stem": "", "fixed": True, "single": True}
    )
    assert asked.prompt.user == "Take {A} or {B}? A or B."
    assert asked.options[asked.high] == "B"
    assert asked.single


def test_sets_that_are_not_there() -> None:
    with pytest.raises(UnknownName, match="spoken"):
        RISKY.opens("spokn")
    with pytest.raises(UnknownName, match="lotteries"):
        RISKY.questions("lottery")
    plain = loader.load("unrelated_style")
    for name in ("lotteries", "self"):
        with pytest.raises(BadData, match="empty"):
            plain.questions(name)
    with pytest.raises(BadData, match="empty"):
        plain.opens("forecast")
