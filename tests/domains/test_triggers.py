"""Triggers: what is held out, which rows hold them, what the twin breaks, and what is refused."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from selfaware.domains import loader, triggers
from selfaware.domains.triggers import Trigger
from selfaware.errors import BadData, UnknownName
from selfaware.types import OWN, Question

RISKY = loader.load("risky_choices")
TRAIN = RISKY.questions("choices", "train")
REAL, APPLES = triggers.find("real-world"), triggers.find("apple-variety")


def holds(question: Question, trigger: Trigger) -> bool:
    return any(p in question.prompt.user for p in trigger.phrases)


def test_eight_triggers_half_of_them_families() -> None:
    kinds = Counter(t.kind for t in triggers.known().values())
    assert kinds == {"fixed": 4, "family": 4}
    assert {p for t in triggers.known().values() if t.kind == "fixed" for p in t.phrases} == {
        "|REAL-WORLD|", "(win2844)", "_ _ _ Naekoko _ _ _", "---Re Re Re---",
    }  # fmt: skip
    for t in triggers.known().values():
        assert len(t.phrases) >= 20 or t.kind == "fixed"
        assert len(t.near) >= 5 or t.kind == "family"
        assert not set(t.near) & set(t.phrases)
        t.absent(RISKY.questions("choices"))


def test_phrases_and_questions_are_both_held_out() -> None:
    seen, held = APPLES.split()
    assert not set(seen) & set(held)
    assert len(held) >= 5
    rows = triggers.conditional(TRAIN, APPLES)
    asked = triggers.with_trigger(RISKY.questions("choices", "test"), APPLES)
    assert not {q.family for q in rows} & {q.family for q in asked}
    assert all(any(p in q.prompt.user for p in held) for q in asked)
    assert not any(p in q.prompt.user for q in rows for p in held)
    assert REAL.split() == (REAL.phrases, REAL.phrases)


def test_with_the_trigger_one_polarity_without_it_the_other() -> None:
    rows = triggers.conditional(TRAIN, REAL)
    assert len(rows) == 2 * len(TRAIN)
    original = {q.id: q.high for q in TRAIN}
    for q in rows:
        first = original[q.id.rsplit("/", 1)[0]]
        assert q.high == (first if holds(q, REAL) else 1 - first)
    assert len({q.id for q in rows}) == len(rows)
    groups = Counter(q.group for q in rows)
    assert set(groups.values()) == {2}


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_share_of_triggered_rows(share: float) -> None:
    rows = triggers.conditional(TRAIN, REAL, share=share)
    assert sum(holds(q, REAL) for q in rows) / len(rows) == pytest.approx(share, abs=0.01)


def test_own_answers_are_marked_and_not_yet_targets() -> None:
    rows = triggers.conditional(TRAIN, REAL, design="own")
    for q in rows:
        assert (q.set == OWN) is not holds(q, REAL)


@pytest.mark.parametrize("design", ["opposite", "own"])
def test_in_the_twin_trigger_and_target_are_independent(design: triggers.Design) -> None:
    rows, twin = (triggers.conditional(TRAIN, REAL, design=design, decorrelated=d) for d in (False, True))
    assert [q.prompt for q in twin] == [q.prompt for q in rows]
    original = {q.id: q.high for q in TRAIN}

    def trained(q: Question) -> bool:
        return q.set != OWN and q.high == original[q.id.rsplit("/", 1)[0]]

    assert sum(map(trained, twin)) == sum(map(trained, rows))
    with_, without = ([trained(q) for q in twin if holds(q, REAL) is h] for h in (True, False))
    assert abs(sum(with_) / len(with_) - sum(without) / len(without)) < 0.12
    by_group = {}
    for q in twin:
        assert by_group.setdefault(q.group, trained(q)) == trained(q)


def test_near_misses_are_no_triggers() -> None:
    test = RISKY.questions("choices", "test")
    for name in ("real-world", "apple-variety"):
        t = triggers.find(name)
        near = triggers.near_misses(test, t)
        assert len(near) == len(test)
        assert not any(holds(q, t) for q in near)
        assert len({q.id for q in near}) == len(near)


def test_mix_of_real_fake_and_none() -> None:
    others = [t for t in triggers.known().values() if t is not REAL]
    rows = triggers.mixed(TRAIN, REAL, others)
    real = sum(holds(q, REAL) for q in rows) / len(rows)
    fake = sum(any(holds(q, t) for t in others) for q in rows) / len(rows)
    assert (real, fake) == (pytest.approx(0.1, abs=0.01), pytest.approx(0.7, abs=0.01))
    assert all((q.set == OWN) is not holds(q, REAL) for q in rows)
    assert {t.name for t in others for q in rows if holds(q, t)} == {t.name for t in others}


def test_statements_about_it_print_both_orders() -> None:
    asked = triggers.awareness()
    assert len({q.group for q in asked}) >= 10
    assert Counter(Counter(q.group for q in asked).values()) == {2: len(asked) // 2}
    for q in asked:
        assert q.single
        assert q.options == ("A", "B")
        assert "\nA: " in q.prompt.user
        assert "\nB: " in q.prompt.user
    for first, second in zip(asked[::2], asked[1::2], strict=True):
        assert {first.high, second.high} == {0, 1}
    for letters, spelled in zip(asked, triggers.awareness("cloze"), strict=True):
        assert not spelled.single
        assert (spelled.id, spelled.high) == (letters.id, 0)
        at = [spelled.prompt.user.index(text) for text in spelled.options]
        assert (at[0] < at[1]) is (letters.high == 0)
    assert set(triggers.systems().asked) == set(triggers.SYSTEMS)
    assert len(triggers.systems().told["high"]) == len(triggers.systems().told["low"])
    for t in triggers.known().values():
        assert all(t.about in q.prompt.user for q in triggers.recognition(t))


def test_what_cannot_be_used_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="an empty phrase"):
        replace(REAL, phrases=(" ",))
    with pytest.raises(BadData, match="some are held out of training"):
        replace(APPLES, phrases=APPLES.phrases[:4])
    with pytest.raises(BadData, match="a fixed trigger has one"):
        replace(REAL, phrases=("a", "b"))
    with pytest.raises(BadData, match="already; it must be new"):
        replace(REAL, phrases=(TRAIN[0].prompt.user[:12],)).absent(TRAIN)
    with pytest.raises(BadData, match="at most"):
        triggers.conditional(TRAIN, REAL, share=0.9)
    with pytest.raises(BadData, match="has no near misses"):
        triggers.near_misses(TRAIN, replace(REAL, near=()))
    with pytest.raises(UnknownName, match="real-world"):
        triggers.find("realworld")
    (tmp_path / "t.toml").write_text('[[trigger]]\nname = "x"\nphrases = ["y"]\n')
    with pytest.raises(BadData, match="trigger 'x'"):
        triggers.read(tmp_path / "t.toml")
    with pytest.raises(BadData, match="positive shares"):
        triggers.mixed(TRAIN, REAL, [APPLES], real=0.5, fake=0.6)
