"""Prompts' keys and values: same numbers from the cache, a budget that holds, no graph kept."""

import pytest
import torch
from torch import Tensor

from selfaware.interventions.base import Constant, Intervention
from selfaware.models.batch import Row
from selfaware.models.fake import fake
from selfaware.models.hf import Model
from selfaware.models.prefix import PrefixCache, join, split
from selfaware.types import Site
from tests.trust import trusting

ROWS = [Row((5, 6, 7, 8), (9, 10)), Row((5, 6, 7, 8), (11,)), Row(tuple(range(3, 30)), (9, 10)), Row((5,), (6,))]


def block(tokens: int, value: float = 0.0) -> Tensor:
    return torch.full((1, 2, 1, tokens, 1), value)


class Counted:
    """Counts the passes below the head: one for a prefill, one for a suffix."""

    def __init__(self, model: Model) -> None:
        self.passes = 0
        model.net.base_model.register_forward_hook(self)

    def __call__(self, *_: object) -> None:
        self.passes += 1


def test_least_recently_used_goes_first() -> None:
    kept = PrefixCache(budget=3 * 8 * 4)
    for at in range(3):
        kept.put((at,), block(4))
    assert (len(kept), kept.held) == (3, 96)
    assert kept.get((0,)) is not None
    kept.put((3,), block(4))
    assert kept.get((1,)) is None
    assert all(kept.get((at,)) is not None for at in (0, 2, 3))
    kept.put((4,), block(8))
    assert (len(kept), kept.held) == (2, 96)
    kept.put((4,), block(8, 1.0))
    assert float(kept.get((4,)).sum()) == 0
    kept.put((5,), block(100))
    assert kept.get((5,)) is None
    assert len(kept) == 2


def test_no_budget_keeps_nothing() -> None:
    kept = PrefixCache(0)
    kept.put((1,), block(1))
    assert len(kept) == 0


def test_join_undoes_split() -> None:
    draw = torch.Generator().manual_seed(0)
    layers = [(torch.randn(3, 2, 5, 4, generator=draw), torch.randn(3, 2, 5, 4, generator=draw)) for _ in range(2)]
    lengths = [5, 2, 0]
    alone = split(layers, lengths)
    assert [tuple(s.shape) for s in alone] == [(2, 2, 2, n, 4) for n in lengths]
    for (keys, values), (k, v) in zip(join(alone), layers, strict=True):
        for row, n in enumerate(lengths):
            assert torch.equal(keys[row, :, 5 - n :], k[row, :, 5 - n :])
            assert torch.equal(values[row, :, 5 - n :], v[row, :, 5 - n :])
            assert not keys[row, :, : 5 - n].any()


def test_a_row_without_tokens_is_joined() -> None:
    keys, values = join([None, torch.ones(1, 2, 1, 3, 2), None])[0]
    assert keys.shape == values.shape == (3, 1, 3, 2)
    assert keys.sum((1, 2, 3)).tolist() == [0, 6, 0]


@pytest.mark.parametrize("first", [ROWS[:3], ROWS[3:], []])
def test_prompts_of_one_token_join_prompts_that_are_kept(first: list[Row]) -> None:
    model, truth = fake("gemma2"), fake("gemma2")
    with torch.no_grad():
        if first:
            model.logprobs(first)
        assert torch.allclose(model.logprobs(ROWS), truth.logprobs(ROWS, plain=True), atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_a_hit_gives_identical_numbers_and_saves_the_pass(kind) -> None:
    model = trusting(fake(kind))
    assert model.plain_head  # asking takes a pass of one token
    counted = Counted(model)
    with torch.no_grad():
        first = model.logprobs(ROWS)
        assert counted.passes == 2
        second = model.logprobs(ROWS)
    assert counted.passes == 3
    assert torch.equal(first, second)
    assert len(model.cache) == 2  # of three prompts one has nothing before its last token


def test_an_edit_at_all_positions_neither_uses_nor_fills_it() -> None:
    model = fake("llama")
    edit = Intervention({Site(0): Constant(torch.ones(32))}, "all")
    with torch.no_grad():
        with edit.on(model):
            cold = model.logprobs(ROWS)
        assert len(model.cache) == 0
        untouched = model.logprobs(ROWS)
        with edit.on(model):
            warm = model.logprobs(ROWS)
        assert torch.equal(cold, warm)
        assert torch.equal(model.logprobs(ROWS), untouched)
    assert float((cold - untouched).abs().max()) > 0.01


def test_an_edit_at_the_answer_uses_it() -> None:
    model = fake("llama")
    edit = Intervention({Site(0): Constant(torch.ones(32))}, "answer")
    with torch.no_grad():
        with edit.on(model):
            cold = model.logprobs(ROWS)
        counted = Counted(model)
        model.logprobs(ROWS)
        with edit.on(model):
            warm = model.logprobs(ROWS)
    assert counted.passes == 2
    assert torch.equal(cold, warm)


def test_no_graph_is_kept() -> None:
    model, v = fake("gemma2"), torch.ones(32, requires_grad=True)
    gradients = []
    for _ in range(2):
        v.grad = None
        with Intervention({Site(1): Constant(v)}, "answer").on(model):
            model.logprobs(ROWS).sum().backward()
        gradients.append(v.grad.clone())
    assert torch.equal(*gradients)
    assert not any(s.requires_grad for s in model.cache._kept.values())


def test_a_small_budget_changes_no_number() -> None:
    roomy, tight = fake("mistral"), fake("mistral", cache_gib=3e-6)
    with torch.no_grad():
        for _ in range(2):
            assert torch.allclose(roomy.logprobs(ROWS), tight.logprobs(ROWS), atol=1e-5)
    assert len(tight.cache) < len(roomy.cache)
    assert tight.cache.held <= tight.cache.budget
