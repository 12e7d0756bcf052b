"""Controls: the directions are new, the sizes are not, and the residual's covariance is what it says."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from selfaware import spec
from selfaware.errors import BadData
from selfaware.interventions import controls
from selfaware.interventions.base import Constant, Intervention, LowRank, Recipe
from selfaware.interventions.controls import RandomVector, ResidualVector, Scrambled
from selfaware.interventions.given import given
from selfaware.interventions.lora import Lora
from selfaware.interventions.peft_io import export
from selfaware.interventions.steer import Vector
from selfaware.interventions.train import Training
from selfaware.models import hooks
from selfaware.models.batch import Row
from selfaware.models.fake import fake
from selfaware.models.hf import Model
from selfaware.types import Prompt, Question, Site

LLAMA = fake("llama")
SITE = Site(2)
LIKE = Vector("2", training=Training(learning_rate=0.05, epochs=1, batch=2))


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def questions(count: int) -> list[Question]:
    return [
        Question(f"q{i}", f"q{i}", f"q{i}", "train", Prompt(f"Number {i}?", "It is"), ("red", "blue"), i % 2)
        for i in range(count)
    ]


TRAINED = Intervention({SITE: Constant(3 * noise(5, 32))}, "last_prompt")


def made(
    recipe: Recipe,
    polarity: Any = "high",
    seed: int = 0,
    like: Intervention = TRAINED,
    examples: Sequence[Question] = tuple(questions(3)),
    model: Model = LLAMA,
) -> Intervention:
    return recipe.fit(model, examples, polarity, seed, [like], lambda *_: None)


def v(intervention: Intervention) -> Tensor:
    (delta,) = intervention.deltas.values()
    assert isinstance(delta, Constant)
    return delta.v


def numbers(intervention: Intervention) -> Tensor:
    with torch.no_grad(), intervention.on(LLAMA):
        return LLAMA.logprobs([Row((5, 6, 7, 8), (9, 10)), Row((8, 9), (11,))])


# what stored cells hang on --------------------------------------------------------------------------------------------


def test_random_vectors_stay_what_stored_cells_hold() -> None:
    """The recipe's hash and the draw itself; either one changed would make cells stale, or worse, wrong."""
    draw = torch.randn(32, generator=torch.Generator().manual_seed(1_000_003 * 4 + 2))
    got = v(made(RandomVector(LIKE, 2), seed=3))
    assert torch.equal(got, draw / draw.norm() * TRAINED.norm())
    assert spec.digest(RandomVector()) == "121129439502aa8a"


# every control ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [RandomVector, ResidualVector, Scrambled])
def test_vectors_have_site_positions_and_norm_and_turn_with_polarity(kind: Any) -> None:
    before = torch.random.get_rng_state()
    high, low = made(kind(LIKE)), made(kind(LIKE), "low")
    assert (list(high.deltas), high.positions) == ([SITE], "last_prompt")
    assert high.norm() == pytest.approx(TRAINED.norm(), rel=1e-5)
    assert torch.equal(v(low), -v(high))
    assert torch.equal(v(high), v(made(kind(LIKE))))
    assert v(high).dtype == torch.float32
    assert not torch.equal(numbers(high), numbers(low))
    assert torch.equal(before, torch.random.get_rng_state())
    assert hooks.hook_count(LLAMA.net) == 0
    assert kind(LIKE).needs == (LIKE,)
    assert isinstance(kind(LIKE), Recipe)


@pytest.mark.parametrize("kind", [ResidualVector, Scrambled])
def test_every_seed_and_index_draws_anew_and_no_two_controls_share_a_draw(kind: Any) -> None:
    drawn = [v(made(k(LIKE, i), seed=s)) for k in (RandomVector, kind) for s in (0, 1, 2) for i in (0, 1, 2)]
    drawn.append(v(TRAINED))
    units = torch.stack([d / d.norm() for d in drawn])
    apart = (units @ units.T).abs() - torch.eye(len(units))
    assert float(apart.max()) < 0.97, "two of the directions are one"


@pytest.mark.parametrize("kind", [ResidualVector, Scrambled])
def test_without_what_they_are_modelled_on(kind: Any) -> None:
    for wrong in ([], [TRAINED, TRAINED], [Intervention({}, "all")]):
        with pytest.raises(BadData, match="Fit it first"):
            kind(LIKE).fit(LLAMA, questions(2), "high", 0, wrong, lambda *_: None)


@pytest.mark.parametrize("recipe", [RandomVector(LIKE, 1), ResidualVector(LIKE, 2), Scrambled(LIKE, 3)])
def test_they_are_written_and_built_again(recipe: Any) -> None:
    back = spec.build(type(recipe), json.loads(spec.canonical(recipe)))
    assert back == recipe
    assert spec.digest(back) == spec.digest(recipe)
    assert spec.digest(replace(recipe, index=9)) != spec.digest(recipe)


def test_labels_tell_them_apart() -> None:
    assert RandomVector().label == "random vector"
    assert ResidualVector().label == "random vector, residual covariance"
    assert Scrambled(LIKE).label == "scrambled trained vector"


# the residual's covariance ----------------------------------------------------------------------------------------------


def by_hand(site: Site, rows: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> Tensor:
    """Outputs at the positions that predict an answer's token, one row at a time, by a hook on a plain pass."""
    found = []
    for prompt, answer in rows:
        with torch.no_grad(), hooks.recorded([LLAMA.module(site)]) as seen:
            LLAMA.net(input_ids=torch.tensor([prompt + answer[:-1]]), use_cache=False)
        assert seen[0] is not None
        found.append(seen[0][0, len(prompt) - 1 :])
    return torch.cat(found).double()


def outside(vector: Tensor, rows: Tensor) -> float:
    """Share of a vector's norm that does not lie in the span of the rows."""
    _, sizes, directions = torch.linalg.svd(rows, full_matrices=False)
    kept = directions[: int((sizes / sizes[0] > 1e-4).sum())]
    vector = vector.double()
    return float((vector - kept.T @ (kept @ vector)).norm() / vector.norm())


@pytest.mark.parametrize("site", [SITE, Site(1, "mlp")])
def test_it_lies_in_the_span_of_the_centred_outputs_of_both_options(site: Site) -> None:
    example = questions(1)[0]
    rendered = LLAMA.render(example, "raw")
    rows = [(rendered.prompt, option[0]) for option in rendered.options]
    like = Intervention({site: Constant(torch.ones(32))}, "answer")
    got = v(made(ResidualVector(LIKE), like=like, examples=[example]))
    x = by_hand(site, rows)
    assert len(x) == sum(len(answer) for _, answer in rows) < 32
    assert outside(got, x - x.mean(0)) < 1e-4
    one = by_hand(site, rows[:1])
    other = by_hand(site, rows[1:])
    assert outside(got, one - one.mean(0)) > 0.05
    assert outside(got, other - other.mean(0)) > 0.05
    # a direction drawn evenly would not lie there
    assert outside(noise(0, 32), x - x.mean(0)) > 0.5


def planted(monkeypatch: pytest.MonkeyPatch, x: Tensor) -> list[Any]:
    asked: list[Any] = []

    def outputs(model: Model, site: Site, rows: Sequence[Row], batch: int = 8) -> Tensor:
        asked.append((site, list(rows)))
        return x

    monkeypatch.setattr(controls, "outputs", outputs)
    return asked


def test_directions_follow_planted_covariance_and_not_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    basis = torch.linalg.qr(noise(1, 32, 32)).Q
    spread = torch.tensor([8.0, 4.0, 2.0, 1.0] + [0.1] * 28)
    x = noise(2, 300, 32) * spread @ basis.T + 1000 * basis[:, -1]
    planted(monkeypatch, x)
    drawn = torch.stack([v(made(ResidualVector(LIKE, i), examples=questions(1))) for i in range(1500)]).double()
    units = drawn / drawn.norm(dim=1, keepdim=True)
    # The same law by another road: Gaussian draws with the sample covariance, made unit vectors.
    factor = torch.linalg.cholesky(torch.cov(x.T.double()))
    normal = torch.randn(20000, 32, generator=torch.Generator().manual_seed(3), dtype=torch.float64) @ factor.T
    wanted = normal / normal.norm(dim=1, keepdim=True)
    got_second, wanted_second = units.T @ units / len(units), wanted.T @ wanted / len(wanted)
    assert float((got_second - wanted_second).abs().max()) < 0.04
    along = (units @ basis.double()).pow(2).mean(0)
    assert float(along[0]) > 0.55
    assert 0.3 > float(along[1]) > float(along[2]) > float(along[3]) > 20 * float(along[-1])
    assert float(units.mean(0).norm()) < 0.06, "neither sign is preferred"
    evenly = torch.stack([v(made(RandomVector(LIKE, i))) for i in range(300)]).double()
    evenly = evenly / evenly.norm(dim=1, keepdim=True)
    assert float((evenly @ basis[:, 0].double()).pow(2).mean()) < 0.06


def test_norms_are_the_trained_vectors_however_the_outputs_are_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for scale in (1e-3, 1.0, 1e4):
        planted(monkeypatch, scale * noise(2, 50, 32))
        found.append(v(made(ResidualVector(LIKE))))
    for vector in found:
        torch.testing.assert_close(vector, found[0], rtol=1e-4, atol=1e-4)
        assert float(vector.norm()) == pytest.approx(TRAINED.norm(), rel=1e-5)


def test_the_first_64_examples_are_used_in_the_vectors_own_template(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = planted(monkeypatch, noise(2, 50, 32))
    examples = questions(70)
    made(ResidualVector(LIKE), examples=examples)
    chat = replace(LIKE, training=replace(LIKE.training, template="chat"))
    made(ResidualVector(chat), examples=examples)
    for (site, rows), template in zip(asked, ("raw", "chat"), strict=True):
        assert site == SITE
        rendered = [LLAMA.render(q, template) for q in examples[:64]]  # type: ignore[arg-type]
        assert rows == [Row(r.prompt, option[0]) for r in rendered for option in r.options]
    assert asked[0] != asked[1]


def test_outputs_without_a_covariance_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadData, match="got no examples"):
        made(ResidualVector(LIKE), examples=[])
    for x in (torch.ones(1, 32), torch.ones(9, 32), torch.full((9, 32), float("nan"))):
        planted(monkeypatch, x)
        with pytest.raises(BadData, match=rf"{len(x)} outputs at 2 that do not vary or are not finite"):
            made(ResidualVector(LIKE))
    low = Intervention({Site(1, "mlp.down_proj"): LowRank(noise(0, 2, 64), noise(1, 32, 2), 0.5)}, "all")
    with pytest.raises(BadData, match="one trained vector is needed"):
        made(ResidualVector(LIKE), like=low)


# scrambled -------------------------------------------------------------------------------------------------------------


def both() -> Intervention:
    deltas = {
        Site(2): Constant(noise(2, 32)),
        Site(1, "mlp.down_proj"): LowRank(noise(0, 3, 64), noise(1, 32, 3) * torch.tensor([0.1, 1.0, 30.0]), 0.5),
        Site(0, "mlp.up_proj"): LowRank(noise(0, 1, 32), noise(1, 64, 1), 2.0),
    }
    return Intervention(deltas, "answer", {"seed": 3})


@pytest.mark.parametrize("polarity", ["high", "low"])
def test_scrambled_keeps_sites_inputs_scales_and_every_columns_norm(polarity: str) -> None:
    old, new = both(), made(Scrambled(LIKE), polarity, like=both())
    assert (set(new.deltas), new.positions) == (set(old.deltas), "answer")
    for site, delta in old.deltas.items():
        other = new.deltas[site]
        if isinstance(delta, Constant):
            assert isinstance(other, Constant)
            assert float(other.v.norm()) == pytest.approx(float(delta.v.norm()), rel=1e-5)
            columns = [(delta.v, other.v)]
        else:
            assert isinstance(other, LowRank)
            assert torch.equal(other.a, delta.a)
            assert other.scale == delta.scale
            torch.testing.assert_close(other.b.norm(dim=0), delta.b.norm(dim=0))
            columns = list(zip(delta.b.T, other.b.T, strict=True))
        for one, two in columns:
            assert abs(float(torch.cosine_similarity(one, two, dim=0))) < 0.6


def test_for_rank_one_what_is_added_keeps_its_norm_at_every_token() -> None:
    like = Intervention({Site(0, "mlp.up_proj"): both().deltas[Site(0, "mlp.up_proj")]}, "answer")
    new = made(Scrambled(LIKE), like=like)
    assert new.norm() == pytest.approx(like.norm(), rel=1e-5)
    x, y = noise(7, 1, 6, 32), torch.zeros(1, 6, 64)
    (old_delta,), (new_delta,) = like.deltas.values(), new.deltas.values()
    torch.testing.assert_close(old_delta(x, y).norm(dim=-1), new_delta(x, y).norm(dim=-1))


def test_scrambled_turns_with_polarity_and_repeats_itself_whatever_the_order_of_sites() -> None:
    old = both()
    backwards = Intervention(dict(reversed(old.deltas.items())), old.positions)
    high, again = made(Scrambled(LIKE), like=old), made(Scrambled(LIKE), like=backwards)
    low, other = made(Scrambled(LIKE), "low", like=old), made(Scrambled(LIKE), seed=1, like=old)
    for site in old.deltas:
        one, two, three, four = (
            next(iter(reversed(i.deltas[site].tensors().values()))) for i in (high, again, low, other)
        )
        assert torch.equal(one, two)
        assert torch.equal(one, -three)
        assert not torch.equal(one, four)
    directions = [next(iter(reversed(d.tensors().values()))).flatten()[:32] for d in high.deltas.values()]
    assert abs(float(torch.cosine_similarity(directions[0], directions[2], dim=0))) < 0.9, "each site draws its own"
    assert not torch.equal(numbers(high), numbers(low))


def test_columns_of_zeros_stay_zero() -> None:
    like = Intervention({Site(1, "mlp.down_proj"): LowRank(noise(0, 2, 64), torch.zeros(32, 2), 0.5)}, "all")
    (delta,) = made(Scrambled(LIKE), like=like).deltas.values()
    assert isinstance(delta, LowRank)
    assert torch.equal(delta.b, torch.zeros(32, 2))


def test_a_given_adapters_control_is_named_built_and_made(tmp_path: Path) -> None:
    adapter = Intervention({Site(1, "mlp.down_proj"): LowRank(noise(0, 2, 64), noise(1, 32, 2), 0.5)}, "all")
    export(adapter, tmp_path, LLAMA)
    named = Scrambled(given(tmp_path, positions="answer"), 4)
    for recipe in (named, Scrambled(Lora(rank=3)), Scrambled(Vector("7"))):
        back = spec.build(Scrambled, json.loads(spec.canonical(recipe)))
        assert back == recipe
        assert type(back.like) is type(recipe.like)
    assert named.label == f"scrambled given adapter {tmp_path.name}"
    (needed,) = named.needs
    like = needed.fit(LLAMA, [], "high", 0, [], lambda *_: None)
    new = made(named, like=like)
    assert new.positions == "answer"
    assert set(new.deltas) == set(adapter.deltas)
    assert not torch.equal(numbers(new), numbers(like))


def test_an_untrained_copy_draws_its_gates_anew_and_keeps_their_norms() -> None:
    old, new = both(), made(Scrambled(LIKE, gates=True), like=both())
    for site, delta in old.deltas.items():
        if isinstance(delta, LowRank):
            drawn = new.deltas[site]
            assert isinstance(drawn, LowRank)
            assert drawn.scale == delta.scale
            assert torch.allclose(drawn.a.norm(dim=1), delta.a.norm(dim=1))
            assert torch.allclose(drawn.b.norm(dim=0), delta.b.norm(dim=0))
            assert not torch.allclose(drawn.a, delta.a)
            assert not torch.equal(drawn.b, made(Scrambled(LIKE), like=both()).deltas[site].b)  # type: ignore[union-attr]
    assert Scrambled(LIKE, gates=True).label == "untrained copy of trained vector"
