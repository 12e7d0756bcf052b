"""Prompts' keys and values: same numbers from the cache, a budget that holds, no graph kept."""

import gc
import os
import signal
import subprocess
import sys
import warnings
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from torch import Tensor

from selfaware.errors import BadModel
from selfaware.interventions.base import Constant, Intervention, LowRank
from selfaware.models.batch import Row
from selfaware.models.fake import fake
from selfaware.models.hf import Model
from selfaware.models.prefix import Laid, PrefixCache, by_block, join, split
from selfaware.types import Positions, Site
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
    for (keys, values), (k, v) in zip(by_block(join(alone)), layers, strict=True):
        for row, n in enumerate(lengths):
            assert torch.equal(keys[row, :, 5 - n :], k[row, :, 5 - n :])
            assert torch.equal(values[row, :, 5 - n :], v[row, :, 5 - n :])
            assert not keys[row, :, : 5 - n].any()


def test_a_row_without_tokens_is_joined() -> None:
    keys, values = by_block(join([None, torch.ones(1, 2, 1, 3, 2), None]))[0]
    assert keys.shape == values.shape == (3, 1, 3, 2)
    assert keys.sum((1, 2, 3)).tolist() == [0, 6, 0]


def test_blocks_below_the_first_hold_no_memory() -> None:
    states = [torch.arange(24.0).view(3, 2, 1, 2, 2), None]
    whole, cut = by_block(join(states)), by_block(join(states, 2), 2)
    assert len(cut) == 3
    assert all(keys.untyped_storage().nbytes() == 4 and not keys.any() for keys, _ in cut[:2])
    assert torch.equal(cut[2][1], whole[2][1])
    assert len(by_block(join(states, 3), 3)) == 3


def test_the_last_batches_are_laid_out_once() -> None:
    laid, calls = Laid(budget=2 * 40), []

    def lay(number: int, count: int = 10) -> list[torch.Tensor]:
        calls.append(number)
        return [torch.full((count,), float(number))]

    for number in (1, 2, 1, 3, 1, 2):  # 2 is oldest when 3 comes
        assert float(laid.get(number, lambda n=number: lay(n))[0][0]) == number
    assert calls == [1, 2, 3, 2]
    for _ in range(2):
        laid.get("large", lambda: lay(9, 21))
    assert calls == [1, 2, 3, 2, 9, 9]


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


# files ----------------------------------------------------------------------------------------------------------------


def test_beyond_the_budget_it_lies_in_files_and_comes_back_bit_for_bit(tmp_path: Path) -> None:
    kept = PrefixCache(3 * 8 * 4, tmp_path)
    made = {(at,): torch.randn(1, 2, 1, 4, 1, generator=torch.Generator().manual_seed(at)) for at in range(20)}
    for key, states in made.items():
        kept.put(key, states)
    assert kept.held <= kept.budget
    assert len(kept) == 20
    assert list(tmp_path.glob("*/*.safetensors"))
    for key, states in made.items():
        found = kept.get(key)
        assert found is not None
        assert torch.equal(found, states)
    kept.close()
    assert len(kept) == 0
    assert not list(tmp_path.iterdir())


def test_files_go_with_the_cache_and_those_of_the_dead_are_swept(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal, torch; from pathlib import Path; from selfaware.models.prefix import PrefixCache\n"
        f"kept = PrefixCache(0, Path({str(tmp_path)!r})); kept.put((1,), torch.ones(3))\n"
        "os.kill(os.getpid(), signal.SIGKILL) if sys.argv[1] == 'kill' else None"
    )
    subprocess.run([sys.executable, "-c", code, "end"], check=True)
    assert not list(tmp_path.iterdir())
    assert subprocess.run([sys.executable, "-c", code, "kill"], check=False).returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    alive = tmp_path / f"{os.getppid()}-1"
    alive.mkdir()
    made = PrefixCache(0, tmp_path)
    assert list(tmp_path.iterdir()) == [alive]
    made.put((1,), torch.ones(3))
    del made
    gc.collect()
    assert list(tmp_path.iterdir()) == [alive]


def test_a_model_that_keeps_in_files_gives_the_same(tmp_path: Path) -> None:
    roomy = fake("gemma3")
    net, words = roomy.net, roomy.tokenizer
    tight = Model(net, words, name="tight", identity="tight", cache_gib=1e-6, spill=tmp_path)
    edit = Intervention({Site(2): Constant(torch.ones(32))}, "answer")
    with torch.no_grad():
        for _ in range(2):
            with edit.on(roomy):
                wanted = roomy.logprobs(ROWS)
            with edit.on(tight):
                assert torch.equal(tight.logprobs(ROWS), wanted)
    assert list(tmp_path.glob("*/*.safetensors"))


# keys -----------------------------------------------------------------------------------------------------------------


def test_changed_weights_another_attention_and_held_edits_have_keys_of_their_own() -> None:
    model = fake("llama")
    below = Intervention({Site(0): Constant(torch.ones(32))}, "all")
    other = Intervention({Site(0): Constant(2 * torch.ones(32))}, "all")
    above = Intervention({Site(2): Constant(torch.ones(32))}, "answer")

    def truth(*edits: Intervention) -> Tensor:
        with torch.no_grad(), ExitStack() as undo:
            for edit in edits:
                undo.enter_context(edit.on(model))
            return model.logprobs(ROWS, plain=True)

    def held(edit: Intervention) -> Tensor:
        with torch.no_grad(), edit.on(model, held=True), above.on(model):
            assert model.engine.route(ROWS, False, None) == ("suffix", 2)
            return model.logprobs(ROWS)

    for _ in range(2):
        for edit in (below, other):
            assert torch.allclose(held(edit), truth(edit, above), atol=1e-4)
    assert float((held(below) - held(other)).abs().max()) > 0.01
    first = model.engine.setting
    with torch.no_grad():
        model.blocks[0].mlp.down_proj.weight.mul_(1.5)
    assert model.engine.setting != first
    assert torch.allclose(held(below), truth(below, above), atol=1e-4)
    second = model.engine.setting
    model.engine.groups = False
    assert model.engine.setting != second
    assert torch.allclose(held(below), truth(below, above), atol=1e-4)


# safety ---------------------------------------------------------------------------------------------------------------


def test_what_changes_below_is_refused() -> None:
    model = fake("llama")
    with (
        torch.no_grad(),
        Intervention({Site(1): Constant(torch.ones(32))}, "answer").on(model),
        pytest.raises(BadModel, match=r"resuming at block 2: block 1 below it is edited"),
        model.running(ROWS, at=2),
    ):
        pytest.fail("ran")
    weight = model.blocks[3].mlp.down_proj.weight
    weight.requires_grad_(True)
    with pytest.raises(BadModel, match="a weight of the net itself is being trained"):
        model.logprobs(ROWS)
    model.logprobs(ROWS, plain=True).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize("positions", ["answer", "all"])
def test_a_route_that_gives_other_numbers_is_left_with_one_warning(positions: Positions) -> None:
    model = fake("llama")
    inner = model.net.model.forward

    def wrong(*args: object, **kwargs: object) -> object:  # a net whose numbers hang on how it is called
        resumed = "forward" in vars(model.blocks[0])
        found = inner(*args, **kwargs)
        found.last_hidden_state = found.last_hidden_state * (1.01 if resumed else 1.0)
        return found

    model.net.model.forward = wrong
    edit = Intervention({Site(2): Constant(torch.ones(32))}, positions)
    with torch.no_grad(), edit.on(model) as touched:
        with pytest.warns(UserWarning, match="whole passes are made instead") as warned:
            first = model.logprobs(ROWS)
        assert len([w for w in warned if "whole passes" in str(w.message)]) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert torch.equal(model.logprobs(ROWS), first)
        assert torch.equal(model.logprobs(ROWS, plain=True), first)
    tokens = sum(len(r.answer) + (len(r.prompt) - 1 if positions == "all" else 0) for r in ROWS)
    assert touched.tokens == 3 * tokens  # the check itself is not counted


def test_routes() -> None:
    model, apart = fake("llama"), ROWS[1:]
    assert model.engine.route(ROWS, False, None) == ("suffix", 0)
    for positions, shared, alone in (("answer", "suffix", "suffix"), ("all", "shared", "whole")):
        with Intervention({Site(2): Constant(torch.ones(32))}, positions).on(model):
            assert model.engine.route(ROWS, False, None) == (shared, 2)
            assert model.engine.route(apart, False, None) == (alone, 2)
            assert model.engine.route(ROWS, True, None) == ("plain", 0)
    mixed = fake("qwen3_next")
    with Intervention({Site(2): Constant(torch.ones(32))}, "answer").on(mixed):
        assert mixed.engine.route(ROWS, False, None) == ("whole", 2)


def test_dropout_draws_for_training_passes_only() -> None:
    model = fake("llama")
    generator = torch.Generator().manual_seed(0)
    delta = LowRank(torch.ones(1, 64), torch.ones(32, 1), 1.0, 0.5, generator)
    with torch.no_grad(), Intervention({Site(2, "mlp.down_proj"): delta}, "answer").on(model):
        model.logprobs(ROWS)
    assert torch.equal(generator.get_state(), torch.Generator().manual_seed(0).get_state())
