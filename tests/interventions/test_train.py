"""The training loop: it learns what is planted, repeats itself, and says when it fails."""

import math
import random
from dataclasses import replace
from typing import Any

import pytest
import torch

from selfaware.errors import BadData, FitFailed, UnknownName
from selfaware.interventions import train
from selfaware.interventions.base import Intervention, LowRank
from selfaware.interventions.lora import Lora
from selfaware.interventions.steer import Vector
from selfaware.interventions.train import Training, schedule
from selfaware.models import hooks
from selfaware.models.batch import Row
from selfaware.models.fake import fake
from selfaware.types import Prompt, Question, Site

LLAMA, GEMMA = fake("llama"), fake("gemma3")
WORDS = ("lamp", "tree", "road", "boat", "hill", "sand", "wind", "door")
FAST = Training(learning_rate=0.05, epochs=8, batch=4)


def planted() -> list[Question]:
    """Topics with both option orders; one option is always `red`, the other `blue`."""
    made = []
    for word in WORDS:
        for order in (0, 1):
            options = ("red", "blue")[:: 1 - 2 * order]
            made.append(
                Question(
                    f"{word}{order}",
                    word,
                    word,
                    "train",
                    Prompt(f"The {word}: {options[0]} or {options[1]}?", "It is"),
                    options,
                    order,
                )
            )
    return made


def fit(
    recipe: Lora | Vector, model=LLAMA, polarity: Any = "high", seed: int = 0, examples: list[Question] | None = None
) -> Intervention:
    return recipe.fit(model, planted() if examples is None else examples, polarity, seed, [], lambda *_: None)


def margin(model, intervention: Intervention | None = None) -> float:
    """Mean log-probability of `red` less that of `blue`."""
    rows = []
    for question in planted():
        rendered = model.render(question, "raw")
        rows += [
            Row(rendered.prompt, rendered.options[question.high][0]),
            Row(rendered.prompt, rendered.options[1 - question.high][0]),
        ]
    with torch.no_grad():
        if intervention is None:
            pairs = model.logprobs(rows)
        else:
            with intervention.on(model):
                pairs = model.logprobs(rows)
    pairs = pairs / torch.tensor([len(r.answer) for r in rows])
    return float((pairs[0::2] - pairs[1::2]).mean())


@pytest.mark.parametrize("objective", ["sft", "contrast"])
@pytest.mark.parametrize("positions", ["answer", "last_prompt", "all"])
def test_a_planted_preference_is_learned(objective, positions) -> None:
    recipe = Lora("2.mlp.down_proj", 2, 8.0, positions=positions, training=replace(FAST, objective=objective))
    high, low = (fit(recipe, polarity=p) for p in ("high", "low"))
    losses = high.provenance["losses"]
    assert len(losses) == 16
    assert sum(losses[-4:]) < 0.95 * sum(losses[:4]), losses
    assert margin(LLAMA, high) > margin(LLAMA) + 0.1
    if objective == "contrast":
        assert margin(LLAMA, low) < margin(LLAMA) - 0.1
    assert hooks.hook_count(LLAMA.net) == 0
    assert not any(t.requires_grad for d in high.deltas.values() for t in d.tensors().values())


@pytest.mark.parametrize("site", ["2", "2.mlp.residual"])
def test_a_vector_learns_it_too(site: str) -> None:
    made = fit(Vector(site, training=FAST), GEMMA)
    assert margin(GEMMA, made) > margin(GEMMA) + 0.1
    assert list(made.deltas) == [Site.parse(site)]


def test_a_vectors_site_is_resolved_and_its_start_has_the_norm() -> None:
    still = replace(FAST, learning_rate=0.0)
    assert list(fit(Vector("2.mlp.residual", training=still)).deltas) == [Site(2, "mlp")]
    assert fit(Vector("2", start_norm=2.5, training=still)).norm() == pytest.approx(2.5, rel=1e-5)


def test_a_lora_at_a_part_goes_on_its_linear_modules() -> None:
    still = replace(FAST, epochs=1)
    assert [s.part for s in fit(Lora("2.mlp", training=still)).deltas] == [
        "mlp.gate_proj",
        "mlp.up_proj",
        "mlp.down_proj",
    ]
    assert len(fit(Lora("all-linear", training=still)).deltas) == 28
    with pytest.raises(UnknownName, match=r"2\.mlp\.down_proj"):
        fit(Lora("2.mlp.dow_proj"))


@pytest.mark.parametrize(("stabilised", "scale"), [(False, 2.0), (True, 4.0)])
def test_scale_and_start(stabilised: bool, scale: float) -> None:
    made = fit(Lora("1.mlp.down_proj", 4, 8.0, stabilised, training=replace(FAST, learning_rate=0.0))).deltas[
        Site(1, "mlp.down_proj")
    ]
    assert isinstance(made, LowRank)
    assert made.scale == scale
    assert not made.b.any()
    assert 0.9 / math.sqrt(64) < float(made.a.abs().max()) <= 1 / math.sqrt(64)


def test_a_learning_rate_of_zero_changes_nothing() -> None:
    made = fit(Lora("1.mlp.down_proj", training=replace(FAST, learning_rate=0.0)))
    assert made.norm() == 0
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        before = LLAMA.net(input_ids=ids).logits
        with Intervention(made.deltas, "all").on(LLAMA):
            assert torch.equal(LLAMA.net(input_ids=ids).logits, before)


def test_a_loss_that_is_not_finite_fails() -> None:
    with pytest.raises(FitFailed, match=r"step 1 of .*Lower learning_rate"):
        fit(Vector("2", start_norm=float("inf"), training=FAST))
    with pytest.raises(FitFailed, match="Lower learning_rate"):
        fit(Lora("2.mlp.down_proj", alpha=float("inf"), training=FAST))
    assert hooks.hook_count(LLAMA.net) == 0
    assert math.isfinite(margin(LLAMA))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_same_seed_gives_the_same_and_the_global_generator_is_left_alone(dropout: float) -> None:
    recipe = Lora("1.mlp.down_proj", 2, 8.0, dropout=dropout, training=replace(FAST, epochs=2))
    before = torch.random.get_rng_state()
    one = fit(recipe)
    torch.rand(1)
    moved = torch.random.get_rng_state()
    two, other = fit(recipe), fit(recipe, seed=1)
    assert torch.equal(moved, torch.random.get_rng_state())
    torch.random.set_rng_state(before)
    a, b, c = (i.deltas[Site(1, "mlp.down_proj")] for i in (one, two, other))
    assert torch.equal(a.a, b.a)
    assert torch.equal(a.b, b.b)
    assert one.provenance == two.provenance
    assert not torch.equal(a.b, c.b)
    assert a.generator is None


def test_dropout_acts_in_training_alone() -> None:
    site = "1.mlp.down_proj"
    short = replace(FAST, epochs=2)
    dropped, plain = (fit(Lora(site, 2, 8.0, dropout=p, training=short)) for p in (0.5, 0.0))
    assert dropped.provenance["losses"] != plain.provenance["losses"]
    assert margin(LLAMA, dropped) == margin(LLAMA, dropped)


def test_shuffled_labels_are_drawn_for_each_group_and_leave_nothing_to_learn() -> None:
    recipe = Lora("2.mlp.down_proj", 2, 8.0, training=replace(FAST, shuffle_labels=True, epochs=4))
    plain = replace(recipe, training=replace(recipe.training, shuffle_labels=False))
    assert fit(recipe).provenance != fit(plain).provenance
    assert fit(recipe).provenance == fit(recipe).provenance
    moved = [abs(margin(LLAMA, fit(r)) - margin(LLAMA)) for r in (recipe, plain)]
    assert moved[0] < moved[1]


def test_every_step_is_told() -> None:
    told = []
    Lora("1.mlp.down_proj", training=replace(FAST, epochs=3)).fit(
        LLAMA, planted(), "high", 0, [], lambda *step: told.append(step)
    )
    assert [(at, of) for at, of, _ in told] == [(at + 1, 6) for at in range(6)]
    assert [round(loss, 6) for *_, loss in told] == list(
        fit(Lora("1.mlp.down_proj", training=replace(FAST, epochs=3))).provenance["losses"]
    )


def test_bad_examples_and_ranks() -> None:
    with pytest.raises(BadData, match="rank 0"):
        fit(Lora(rank=0))
    with pytest.raises(BadData, match="no examples"):
        fit(Vector("1"), examples=[])
    for wrong in ({"learning_rate": float("nan")}, {"learning_rate": -1.0}, {"batch": 0}, {"epochs": 0}):
        with pytest.raises(BadData, match="finite rate"):
            fit(Vector("1", training=replace(FAST, **wrong)))
    with pytest.raises(BadData, match="1 options; training needs two"):
        fit(Vector("1"), examples=[replace(planted()[0], options=("red",))])


def test_the_schedule_rises_and_falls() -> None:
    shares = [schedule(at, 20, 0.1) for at in range(20)]
    assert shares[:3] == [0.5, 1.0, 1.0]
    assert shares == [*shares[:2], *sorted(shares[2:], reverse=True)]
    assert 0 < shares[-1] < 0.1
    assert schedule(0, 1, 0.1) == 1.0


# what stands in a step ------------------------------------------------------------------------------------------------


def plan(examples: list[Question], seed: int = 3, **changes: Any) -> list[train.Batch]:
    """The batches of a run."""
    training = replace(FAST, epochs=2, **changes)
    run = train.Run(Intervention({}, "answer"), "high", seed)
    return train._plan(train._groups(examples, training), training, run)


def test_versions_of_a_record_follow_each_other_in_one_option_order() -> None:
    rows = [replace(q, id=f"{q.id}/{v}", group=f"{q.group}/{v}") for v in ("with", "without") for q in planted()]
    batches = plan(rows)
    assert [len(b) for b in batches] == [4] * 8
    for batch in batches:
        for (one, _), (two, _) in zip(batch[::2], batch[1::2], strict=True):
            assert (one.group, two.group) == (f"{one.family}/with", f"{one.family}/without")
            assert one.high == two.high
    for half in (batches[:4], batches[4:]):
        assert sorted(q.group for b in half for q, _ in b) == sorted({q.group for q in rows})
    assert {q.high for b in batches for q, _ in b} == {0, 1}


def test_records_of_one_version_are_drawn_one_by_one() -> None:
    """The order that a seed gives plain rows: shuffled names, and for each one of its option orders."""
    rng, groups = random.Random(3), train._groups(planted(), FAST)
    drawn = []
    for _ in range(2):
        names = sorted(groups)
        rng.shuffle(names)
        drawn += [name for name in names if rng.choice(groups[name]) is not None]
    assert [q.group for batch in plan(planted()) for q, _ in batch] == drawn
