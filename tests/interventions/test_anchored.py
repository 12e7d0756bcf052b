"""Training held near the base model: the second loss is the divergence, its gradient is right, and zero is nothing."""

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from selfaware import spec
from selfaware.errors import BadData, BadModel
from selfaware.interventions.anchored import Anchored, near_base
from selfaware.interventions.base import Constant, Intervention, Recipe
from selfaware.interventions.lora import Lora
from selfaware.interventions.steer import Vector
from selfaware.interventions.texts import tokens
from selfaware.interventions.together import fit_together
from selfaware.interventions.train import Training
from selfaware.models import hooks
from selfaware.models.batch import Row
from selfaware.models.fake import Fake, fake
from selfaware.models.fluency import fluency
from selfaware.models.hf import Model
from selfaware.types import POSITIONS, Positions, Prompt, Question, Site

LLAMA = fake("llama")
SHORT = Training(learning_rate=0.1, epochs=4, batch=4)
TEXTS = tuple(f"{word} is read aloud, and then nothing else {word}" for word in ("Tide", "Bread", "A long violin"))
WORDS = ("lamp", "tree", "road", "boat", "hill", "sand", "wind", "door")


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def questions() -> list[Question]:
    return [Question(w, w, w, "train", Prompt(f"The {w}: red or blue?", "It is"), ("red", "blue"), 0) for w in WORDS]


def fit(recipe: Recipe, model: Model = LLAMA, seed: int = 0) -> Intervention:
    return recipe.fit(model, questions(), "high", seed, [], lambda *_: None)


def edit(positions: Positions = "answer", scale: float = 1.0) -> Intervention:
    return Intervention({Site(2): Constant(scale * noise(3, 32))}, positions)


def divergence(model: Model, made: Intervention, texts: tuple[str, ...], positions: Positions) -> float:
    """Mean KL per token, as passages are read."""
    rows = []
    for text in texts:
        ids, skip = tokens(model, text)
        cut = len(ids) // 2 if positions == "last_prompt" else skip
        rows.append(Row(ids[:cut], ids[cut:]))
    found = fluency(model, rows, lambda: made.on(model))
    return sum(kl for _, kl in found) / sum(len(row.answer) for row in rows)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2", "qwen2"])
@pytest.mark.parametrize("positions", POSITIONS)
def test_it_is_the_mean_divergence_of_two_texts_in_turn(kind: Fake, positions: Positions) -> None:
    m, made = fake(kind), edit(positions)
    beside = near_base(m, TEXTS, positions, 0.5)
    with made.on(m), torch.no_grad():
        got = [float(beside(step, None)) for step in range(4)]
    for step, value in enumerate(got):
        pair = (TEXTS[2 * step % 3], TEXTS[(2 * step + 1) % 3])
        assert value == pytest.approx(0.5 * divergence(m, made, pair, positions), rel=1e-3)
        assert value > 1e-4
    assert got[3] == got[0]
    with edit(positions, 0.0).on(m), torch.no_grad():
        assert abs(float(beside(0, None))) < 1e-6
    (single,) = {round(float(near_base(m, TEXTS[:1], positions, 1.0)(step, None)), 7) for step in range(3)}
    assert abs(single) < 1e-6


@pytest.mark.parametrize("positions", POSITIONS)
def test_its_gradient_is_its_slope(positions: Positions) -> None:
    beside, made = near_base(LLAMA, TEXTS, positions, 2.0), edit(positions)
    (delta,) = made.deltas.values()
    assert isinstance(delta, Constant)
    delta.v.requires_grad_()
    with made.on(LLAMA):
        beside(0, None).backward()
    assert delta.v.grad is not None
    for seed in (11, 12):
        step = noise(seed, 32)
        values = []
        for sign in (1, -1):
            moved = Intervention({Site(2): Constant(delta.v.detach() + sign * 1e-2 * step)}, positions)
            with moved.on(LLAMA), torch.no_grad():
                values.append(float(beside(0, None)))
        assert float(delta.v.grad @ step) == pytest.approx((values[0] - values[1]) / 2e-2, rel=0.02, abs=1e-3)


def test_a_token_that_is_ruled_out_adds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    m = fake("llama")
    whole = m.logits
    barred = torch.zeros(len(m.tokenizer))
    barred[7] = -torch.inf
    monkeypatch.setattr(m, "logits", lambda rows: whole(rows) + barred)
    beside, made = near_base(m, TEXTS, "answer", 1.0), edit()
    (delta,) = made.deltas.values()
    assert isinstance(delta, Constant)
    delta.v.requires_grad_()
    with made.on(m):
        value = beside(0, None)
        value.backward()
    assert 0 < float(value.detach()) < 100
    assert delta.v.grad is not None
    assert bool(delta.v.grad.isfinite().all())


@pytest.mark.parametrize("recipe", [Vector("2", training=SHORT), Lora("2.mlp", 2, 8.0, dropout=0.2, training=SHORT)])
def test_weight_zero_is_the_recipe_itself(recipe: Vector | Lora) -> None:
    if isinstance(recipe, Lora):
        recipe = replace(recipe, dropout=0.0)  # a second pass draws its own
    plain, held = fit(recipe), fit(Anchored(recipe, 0.0, TEXTS))
    for site, delta in plain.deltas.items():
        for name, tensor in delta.tensors().items():
            assert torch.equal(held.deltas[site].tensors()[name], tensor)
    assert held.provenance["losses"] == plain.provenance["losses"]
    assert held.positions == plain.positions


@pytest.mark.parametrize("positions", ["answer", "all"])
def test_weight_holds_the_model_near_its_base(positions: Positions) -> None:
    recipe = Vector("2", start_norm=0.01, positions=positions, training=replace(SHORT, learning_rate=0.3))
    far, near, nearer = (fit(r) for r in (recipe, Anchored(recipe, 1.0, TEXTS), Anchored(recipe, 30.0, TEXTS)))
    off = [divergence(LLAMA, made, TEXTS, positions) for made in (far, near, nearer)]
    assert off[0] > 1.1 * off[1]
    assert off[1] > 2 * off[2]
    assert near.provenance["losses"] != far.provenance["losses"]
    assert near.provenance["method"] == "trained vector, KL 1"
    assert hooks.hook_count(LLAMA.net) == 0
    assert not any(t.requires_grad for d in near.deltas.values() for t in d.tensors().values())


@pytest.mark.parametrize("positions", POSITIONS)
def test_together_is_one_by_one(positions: Positions) -> None:
    m, recipe = fake("llama"), Vector("2", positions=positions, training=SHORT)
    beside = near_base(m, TEXTS, positions, 1.0)
    runs = [("high", 0), ("low", 1)]
    both = fit_together(m, recipe, questions(), runs, lambda *_: None, beside)  # type: ignore[arg-type]
    for (polarity, seed), got in zip(runs, both, strict=True):
        alone = fit_together(m, recipe, questions(), [(polarity, seed)], lambda *_: None, beside)[0]  # type: ignore[list-item]
        assert got.provenance["losses"] == pytest.approx(alone.provenance["losses"], abs=2e-4)
        a, b = (i.deltas[Site(2)].tensors()["v"] for i in (got, alone))
        assert float((a - b).abs().max()) < 5e-4


def test_what_is_missing_is_said() -> None:
    recipe = Vector("2", training=SHORT)
    for weight, texts in ((-1.0, TEXTS), (float("nan"), TEXTS), (0.1, ())):
        with pytest.raises(BadData, match="finite weight"):
            fit(Anchored(recipe, weight, texts))
    with pytest.raises(BadData, match="neutral text ''"):
        fit(Anchored(recipe, 0.1, ("", *TEXTS)))
    with pytest.raises(BadModel, match="holds 32"):
        fit(Anchored(recipe, 0.1, TEXTS), fake("llama", context=32))


@pytest.mark.parametrize("recipe", [Anchored(Vector("2"), 0.3, TEXTS), Anchored(Lora("1.mlp"))])
def test_they_are_recipes_that_are_written_and_built_again(recipe: Anchored) -> None:
    assert isinstance(recipe, Recipe)
    assert recipe.needs == ()
    back = spec.build(Anchored, json.loads(spec.canonical(recipe)))
    assert back == recipe
    assert spec.digest(back) == spec.digest(recipe)
