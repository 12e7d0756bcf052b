"""The instrument: which items the positive controls move, and what becomes of a set that they do not."""

from collections.abc import Callable

import numpy as np
import pytest

from selfaware.comparisons import instrument, measures
from selfaware.comparisons.arms import Asked, Read, Replicate
from selfaware.comparisons.comparison import Comparison
from selfaware.domains import loader
from selfaware.experiments import first_look
from selfaware.stages import Bench
from selfaware.types import Score

Move = Callable[[str, str, Replicate], float]


def checked(
    monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, move: Move, trained: bool = False
) -> instrument.Check:
    """The check of the set `self` when `move(arm's kind, item, replicate)` is what an item moves by at high."""
    asked = Asked("self", toy.questions("self"), "raw")
    recipe = first_look.Settings().lora
    arms = instrument.arms(toy, recipe, 2, [asked], trained)
    made = Comparison(bench, arms, [asked], (0, 1))
    low = {of.system for of in made.replicates(arms[0], "low")} if toy.told else set()
    low |= {of.fit.id for a in arms[1:] for of in made.replicates(a, "low") if of.fit}

    def scores(self: Comparison, asked: Asked, of: Replicate, read: Read) -> tuple[Score, ...]:
        key = of.fit.id if of.fit else of.system
        kind = "described" if of.fit else "told" if of.system else ""
        sign = 0 if not key else -1 if key in low else 1
        return tuple(Score(g, f, 0.3 + sign * move(kind, f, of)) for g, f in asked.families.items())

    monkeypatch.setattr(Comparison, "scores", scores)
    measure = measures.Measure("report_score", "self_effect", "self", measures.chosen, "nats per token")
    return instrument.check(made, measure, 0.1)


def test_items_that_move_are_told_from_those_that_do_not(
    monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain
) -> None:
    found = checked(monkeypatch, bench, toy, lambda kind, family, of: 0.5 if family in ("cup", "hat") else 0.05)
    assert found.items == 12
    assert {i.removeprefix("self-") for i in found.insensitive} == {
        f for f in toy.parts if f"self-{f}" in found.insensitive
    }
    assert len(found.insensitive) == 10
    assert not found.sensitive


def test_most_items_must_move(monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain) -> None:
    families = sorted({i.family for i in toy.items if i.set == "self"})
    half = checked(monkeypatch, bench, toy, lambda kind, family, of: 0.5 if family in families[:6] else 0.0)
    assert half.sensitive, "six of twelve are not most"
    fewer = checked(monkeypatch, bench, toy, lambda kind, family, of: 0.5 if family in families[:5] else 0.0)
    assert not fewer.sensitive


def test_the_wrong_direction_is_no_sensitivity(
    monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain
) -> None:
    assert len(checked(monkeypatch, bench, toy, lambda *_: -0.5).insensitive) == 12


def test_one_wording_out_of_two_is_not_enough(
    monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain
) -> None:
    found = checked(monkeypatch, bench, toy, lambda kind, family, of: 1.0 if of.seed == 0 else 0.0)
    assert len(found.insensitive) == 12, "its interval over wordings holds zero"


def test_either_positive_control_will_do(monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain) -> None:
    found = checked(monkeypatch, bench, toy, lambda kind, *_: 0.5 if kind == "described" else 0.0, trained=True)
    assert set(found.effects) == {"told", "described"}
    assert found.sensitive
    assert not found.insensitive


def test_without_a_positive_control_nothing_is_known(bench: Bench, toy: loader.Domain) -> None:
    asked = Asked("self", toy.questions("self"), "raw")
    made = Comparison(bench, [], [asked], (0,))
    measure = measures.Measure("report_score", "self_effect", "self", measures.chosen, "nats per token")
    assert not instrument.check(made, measure, 0.1).sensitive


def test_the_adapter_is_trained_on_what_is_not_asked(toy: loader.Domain) -> None:
    asked = Asked("self", toy.questions("self"), "raw")
    (_, described) = instrument.arms(toy, first_look.Settings().lora, 2, [asked], True)
    assert {q.set for q in described.examples} == {"described"}
    assert not {q.id for q in described.examples} & {q.id for q in asked.questions}


@pytest.mark.parametrize("seed", range(3))
def test_gap_is_taken_on_shared_families_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    own = [{f: float(rng.normal()) for f in "abcd"} for _ in range(3)]
    twin = [{f: float(rng.normal()) for f in "bcd"} for _ in range(3)]
    found = measures.gap(own, twin)  # type: ignore[arg-type]
    assert [set(v) for v in found] == [{"b", "c", "d"}] * 3
    assert found[1]["c"] == pytest.approx(own[1]["c"] - twin[1]["c"])
