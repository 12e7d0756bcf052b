"""Snapshots are the fit on its way: the whole schedule, to the bit, with one training for all of them."""

import gc
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch

from selfaware.errors import BadData, FitFailed
from selfaware.interventions import snapshot
from selfaware.interventions import train as training
from selfaware.interventions.base import Intervention
from selfaware.interventions.lora import Lora
from selfaware.interventions.snapshot import Snapshot
from selfaware.interventions.steer import Vector
from selfaware.interventions.train import Run, Training, run_length, train
from selfaware.models import hooks
from selfaware.models.fake import fake
from selfaware.models.hf import Model
from selfaware.types import Polarity, Prompt, Question, Site

SHORT = Training(learning_rate=0.03, epochs=3, batch=4)
LORA = Lora("1.mlp.down_proj", 2, 8.0, dropout=0.2, training=SHORT)
VECTOR = Vector("2", training=SHORT)


def questions(count: int = 7) -> list[Question]:
    made = []
    for at in range(count):
        for order in (0, 1):
            options = (f"go on {at}", f"stop it now {at}")[:: 1 - 2 * order]
            prompt = Prompt(f"Case {at}: what to do?", "I would")
            made.append(Question(f"{at}-{order}", f"f{at}", f"g{at}", "choices", prompt, options, order))
    return made


def taken(model: Model, of: Lora | Vector, step: int, polarity: Polarity = "high", seed: int = 0) -> Intervention:
    return Snapshot(of, step).fit(model, questions(), polarity, seed, (), lambda *_: None)


def same(one: Intervention, two: Intervention) -> bool:
    return one.deltas.keys() == two.deltas.keys() and all(
        torch.equal(t, two.deltas[site].tensors()[name])
        for site, delta in one.deltas.items()
        for name, t in delta.tensors().items()
    )


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """Every training that is run from here on: how far it was to go."""
    calls: list[int | None] = []

    def counted(*args, until=None, **more):
        calls.append(until)
        return train(*args, until=until, **more)

    monkeypatch.setattr(snapshot, "train", counted)
    return calls


@pytest.mark.parametrize("of", [LORA, VECTOR], ids=["lora", "vector"])
def test_the_last_is_the_fit_and_the_first_its_start(of: Lora | Vector) -> None:
    model = fake("llama")
    total = run_length(questions(), SHORT)
    assert total == 6, "21 groups in batches of 4"
    whole = of.fit(model, questions(), "low", 1, (), lambda *_: None)
    assert same(taken(model, of, total, "low", 1), whole)
    assert same(taken(model, of, 0, "low", 1), of.start(model, 1))
    middle = taken(model, of, 3, "low", 1)
    assert not same(middle, whole)
    assert middle.positions == of.positions
    assert middle.provenance["losses"] == whole.provenance["losses"][:3]
    assert not any(t.requires_grad for d in middle.deltas.values() for t in d.tensors().values())
    assert hooks.hook_count(model.net) == 0


def test_it_has_the_whole_runs_schedule_and_not_a_shorter_runs() -> None:
    model = fake("llama")
    long, short = (replace(VECTOR, training=replace(SHORT, epochs=n, batch=7)) for n in (4, 3))
    ended = short.fit(model, questions(), "high", 0, (), lambda *_: None)
    on_the_way = taken(model, long, 3)
    assert not same(on_the_way, ended)
    assert on_the_way.provenance["losses"][:2] == ended.provenance["losses"][:2], "the same batches all the same"


def test_all_snapshots_of_a_run_cost_one_training(trained: list[int | None]) -> None:
    model = fake("llama")
    for step in (5, 0, 3, 6, 1):
        for polarity in ("high", "low"):
            for seed in (0, 1):
                taken(model, LORA, step, polarity, seed)
    assert trained == [None] * 4, "two polarities, two seeds"
    taken(model, replace(LORA, alpha=4.0), 2)
    taken(fake("llama"), LORA, 2)
    assert len(trained) == 6, "another recipe and another model are other runs"
    Snapshot(LORA, 2).fit(model, questions(6), "high", 0, (), lambda *_: None)
    assert len(trained) == 7, "and so are other examples"


def test_what_is_handed_out_can_be_changed_without_harm() -> None:
    model = fake("llama")
    first = taken(model, VECTOR, 2)
    kept = first.deltas[Site(2)].v.clone()
    later = taken(model, VECTOR, 4)
    assert torch.equal(taken(model, VECTOR, 2).deltas[Site(2)].v, kept)
    assert not same(later, first)


def test_weights_changed_in_place_are_another_model(trained: list[int | None]) -> None:
    model = fake("llama")
    before = taken(model, VECTOR, 2)
    with torch.no_grad():
        next(iter(model.net.parameters())).mul_(1.5)
    after = taken(model, VECTOR, 2)
    assert len(trained) == 2
    assert not same(before, after)


def test_an_edited_model_is_neither_asked_from_nor_put_into_what_is_held(trained: list[int | None]) -> None:
    model = fake("llama")
    plain = taken(model, VECTOR, 2)
    other = Lora("3.mlp.down_proj", 1, training=SHORT).fit(model, questions(), "high", 5, (), lambda *_: None)
    with other.on(model):
        edited = taken(model, VECTOR, 2)
    assert not same(plain, edited)
    assert same(taken(model, VECTOR, 2), plain)
    assert len(trained) == 2


def test_a_run_too_large_to_hold_is_trained_up_to_the_step(
    trained: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = [taken(fake("llama"), LORA, step) for step in (0, 2, 6)]
    monkeypatch.setattr(snapshot, "HELD", 100)
    model = fake("llama")
    for step, wanted in zip((0, 2, 6), held, strict=True):
        assert same(taken(model, LORA, step), wanted)
    assert trained[3:] == [0, 2, 6]


def test_older_runs_make_room(trained: list[int | None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "HELD", 2 * 7 * 32 * 4)  # two runs of a vector, seven steps of 32 floats
    model = fake("llama")
    for seed in (0, 1, 2, 2, 1, 0):
        taken(model, VECTOR, 3, seed=seed)
    assert len(trained) == 4, "the first was dropped for the third"


def test_what_is_held_goes_with_its_model() -> None:
    model = fake("llama")
    taken(model, VECTOR, 2)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_a_run_that_breaks_has_the_snapshots_before_it(
    trained: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, whole = fake("llama"), taken(fake("llama"), VECTOR, 3)
    losses, calls = training._losses, []

    def breaking(*args: Any) -> torch.Tensor:
        calls.append(1)
        return losses(*args) * (float("nan") if len(calls) == 4 else 1.0)

    monkeypatch.setattr(training, "_losses", breaking)
    for _ in range(2):
        with pytest.raises(FitFailed, match="step 4 of 6"):
            taken(model, VECTOR, 4)
    assert same(taken(model, VECTOR, 3), whole)
    with pytest.raises(FitFailed, match="step 4 of 6"):
        taken(model, VECTOR, 6)
    assert len(trained) == 2, "it is not tried again"


@pytest.mark.parametrize("step", [-1, 7])
def test_a_step_that_the_run_does_not_have(step: int) -> None:
    with pytest.raises(BadData, match="the run has 6 steps"):
        taken(fake("llama"), LORA, step)


def test_training_can_stop_early() -> None:
    model = fake("llama")
    run = Run(VECTOR.start(model, 0), "high", 0)
    told = []
    (losses,) = train(model, [run], questions(), SHORT, lambda *step: told.append(step), until=2)
    assert [(at, of) for at, of, _ in told] == [(1, 6), (2, 6)]
    assert len(losses) == 2
    assert same(Intervention(run.intervention.deltas, "answer"), taken(model, VECTOR, 2))
    assert not any(t.requires_grad for d in run.intervention.deltas.values() for t in d.tensors().values())
