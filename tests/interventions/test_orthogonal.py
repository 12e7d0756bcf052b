"""Orthogonal vectors: at a right angle at every step, and they still learn."""

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from selfaware import spec
from selfaware.errors import BadData
from selfaware.interventions.base import Constant, Intervention, Recipe
from selfaware.interventions.orthogonal import Orthogonal, away_from
from selfaware.interventions.steer import Vector
from selfaware.interventions.train import Run, Training, train
from selfaware.models.batch import Row
from selfaware.models.fake import fake
from selfaware.types import Polarity, Prompt, Question, Site

LLAMA = fake("llama")
LIKE = Vector("2", training=Training(learning_rate=0.1, epochs=6, batch=4))
WORDS = ("lamp", "tree", "road", "boat", "hill", "sand", "wind", "door")


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def questions() -> list[Question]:
    return [Question(w, w, w, "train", Prompt(f"The {w}: red or blue?", "It is"), ("red", "blue"), 0) for w in WORDS]


def fitted(count: int, polarity: Polarity = "high", seed: int = 0, like: Vector = LIKE) -> list[Intervention]:
    """The first of them, each given what it needs, by recipe."""
    made: dict[Recipe, Intervention] = {}

    def fit(recipe: Recipe) -> Intervention:
        if recipe not in made:
            given = [fit(needed) for needed in recipe.needs]
            made[recipe] = recipe.fit(LLAMA, questions(), polarity, seed, given, lambda *_: None)
        return made[recipe]

    return [fit(Orthogonal(like, i)) for i in range(count)]


def v(made: Intervention) -> Tensor:
    (delta,) = made.deltas.values()
    assert isinstance(delta, Constant)
    return delta.v


def margin(made: Intervention | None = None) -> float:
    rendered = [LLAMA.render(q, "raw") for q in questions()]
    rows = [Row(r.prompt, option[0]) for r in rendered for option in r.options]
    with torch.no_grad():
        if made is None:
            pairs = LLAMA.logprobs(rows)
        else:
            with made.on(LLAMA):
                pairs = LLAMA.logprobs(rows)
    pairs = pairs / torch.tensor([len(r.answer) for r in rows])
    return float((pairs[0::2] - pairs[1::2]).mean())


@pytest.mark.parametrize("polarity", ["high", "low"])
def test_they_are_orthogonal_and_each_still_learns(polarity: Polarity) -> None:
    several = fitted(4, polarity)
    x = torch.stack([v(one).double() for one in several])
    units = x / x.norm(dim=1, keepdim=True)
    assert float((units @ units.T - torch.eye(4)).abs().max()) < 1e-6
    sign = 1 if polarity == "high" else -1
    for at, one in enumerate(several):
        assert sign * (margin(one) - margin()) > 0.1
        if at:
            assert one.provenance["largest_cosine"] < 1e-6
            losses = one.provenance["losses"]
            assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
        assert (list(one.deltas), one.positions) == ([Site(2)], "answer")
        assert not v(one).requires_grad
    alone = LIKE.fit(LLAMA, questions(), polarity, 0, [], lambda *_: None)
    assert torch.equal(v(several[0]), v(alone))


def test_the_constraint_holds_from_the_start_and_at_every_step() -> None:
    before = noise(1, 3, 32)
    seen: list[float] = []
    calls: list[Tensor] = []
    project = away_from(before)

    def within(t: Tensor) -> Tensor:
        calls.append(t.detach().clone())
        return project(t)

    start = Intervention({Site(2): Constant(noise(2, 32))}, "answer")
    along = lambda: float(
        (before / before.norm(dim=1, keepdim=True) @ v(start).detach()).abs().max() / v(start).detach().norm()
    )
    steps = LIKE.training.epochs * 2
    train(LLAMA, [Run(start, "high", 0, within)], questions(), LIKE.training, lambda *_: seen.append(along()))
    assert len(seen) == steps
    assert max(seen) < 1e-6
    assert len(calls) == 1 + 2 * steps, "start, and at each step gradient and value"
    still = Intervention({Site(2): Constant(noise(2, 32))}, "answer")
    train(
        LLAMA, [Run(still, "high", 0, project)], questions(), replace(LIKE.training, learning_rate=0.0), lambda *_: None
    )
    assert torch.allclose(v(still), project(noise(2, 32)), atol=1e-6)


def test_what_is_not_allowed_does_not_use_up_the_gradients_norm() -> None:
    """The first step of AdamW is the sign of the projected gradient, whatever the forbidden part is."""
    one = Training(learning_rate=0.1, epochs=1, batch=8, warmup=0.0)
    free = Intervention({Site(2): Constant(torch.zeros(32))}, "answer")
    v(free).requires_grad_()
    rendered = [LLAMA.render(q, "raw") for q in questions()]
    rows = [Row(r.prompt, option[0]) for r in rendered for option in r.options]
    with free.on(LLAMA):
        means = LLAMA.logprobs(rows) / torch.tensor([len(r.answer) for r in rows])
        pairs = means.view(-1, 2)
        (-torch.nn.functional.logsigmoid(4 * (pairs[:, 0] - pairs[:, 1]))).mean().backward()
    gradient = v(free).grad
    assert gradient is not None
    project = away_from(gradient[None] + 0.05 * noise(4, 1, 32))
    made = Intervention({Site(2): Constant(torch.zeros(32))}, "answer")
    train(LLAMA, [Run(made, "high", 0, project)], questions(), one, lambda *_: None)
    wanted = project(-0.1 * project(gradient).sign())
    assert torch.allclose(v(made), wanted, atol=1e-3)


def test_runs_side_by_side_are_held_each_to_its_own() -> None:
    project = away_from(noise(1, 2, 32))
    make = lambda: Intervention({Site(2): Constant(noise(2, 32))}, "answer")
    held, free, alone = make(), make(), make()
    train(LLAMA, [Run(held, "high", 0, project), Run(free, "low", 1)], questions(), LIKE.training, lambda *_: None)
    train(LLAMA, [Run(alone, "high", 0, project)], questions(), LIKE.training, lambda *_: None)
    assert torch.allclose(v(held), v(alone), atol=2e-4)
    assert float((project(v(free)) - v(free)).norm()) > 0.01


def test_seeds_and_indices_start_apart() -> None:
    still = Vector("2", training=replace(LIKE.training, learning_rate=0.0, epochs=1))
    one, two, three = (v(made) for made in fitted(3, like=still))
    again, other = v(fitted(2, like=still)[1]), v(fitted(2, seed=1, like=still)[1])
    assert torch.equal(two, again)
    for a, b in ((one, two), (two, three), (two, other)):
        assert abs(float(torch.nn.functional.cosine_similarity(a, b, dim=0))) < 0.9
    assert float(two.norm()) == pytest.approx(1, abs=0.2)


def test_the_projection_in_every_type() -> None:
    basis = noise(0, 5, 32)
    basis[4] = basis[0] + 1e-6 * basis[1]  # hardly independent
    for dtype, least in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        x = noise(9, 32).to(dtype)
        made = away_from(basis)(x)
        assert made.dtype == dtype
        assert float((basis.to(dtype) @ made).abs().max()) < 40 * least
        assert torch.allclose(away_from(basis)(made), made, atol=least)


def test_what_is_missing_is_said() -> None:
    given = fitted(2)
    fit = lambda recipe, some: recipe.fit(LLAMA, questions(), "high", 0, some, lambda *_: None)
    for index, some in ((1, []), (2, given[:1]), (0, given), (-1, given[:1])):
        with pytest.raises(BadData, match="Fit them first"):
            fit(Orthogonal(LIKE, index), some)
    with pytest.raises(BadData, match="no room"):
        away_from(noise(0, 32, 32))
    with pytest.raises(BadData, match="zero or not finite"):
        away_from(torch.zeros(1, 32))


def test_they_share_cells_and_are_written_and_built_again() -> None:
    assert Orthogonal(LIKE, 0).needs == (LIKE,)
    assert Orthogonal(LIKE, 3).needs == (LIKE, Orthogonal(LIKE, 1), Orthogonal(LIKE, 2))
    recipe = Orthogonal(LIKE, 2)
    assert isinstance(recipe, Recipe)
    assert recipe.follows
    back = spec.build(Orthogonal, json.loads(spec.canonical(recipe)))
    assert back == recipe
    assert spec.digest(back) == spec.digest(recipe)
    assert len({Orthogonal(LIKE, i).label for i in range(3)}) == 3
