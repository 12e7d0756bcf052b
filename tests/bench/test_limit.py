"""Operations counted by hand, and time sorted by operator."""

import torch

from selfaware.bench import limit
from selfaware.bench.data import Scored
from selfaware.bench.limit import Tokens
from selfaware.bench.spent import ATTENTION, COPIES, ELEMENTS, HEAD, KINDS, PRODUCTS, PYTHON, Profile, kind, profiled
from selfaware.bench.works import Fits, Grid
from selfaware.models.batch import Row
from selfaware.models.fake import fake

# fake("llama"): width 32, 4 heads and 2 key-value heads of 8, MLP 64, 4 blocks.
MLP = 3 * 32 * 64
BLOCK = 32 * 32 * 2 + 32 * 16 * 2 + MLP


def test_tokens_and_keys_of_texts() -> None:
    assert Tokens.of([(0, 4)]) == Tokens(4, 1 + 2 + 3 + 4)
    assert Tokens.of([(2, 4), (0, 1)]) == Tokens(3, 3 + 4 + 1)


def test_a_block_by_hand() -> None:
    model = fake("llama")
    tokens = Tokens.of([(0, 5)])
    attention = 2 * 2 * 4 * 8 * 15
    assert limit.linear(model.blocks[0]) == BLOCK
    assert limit.blocks(model, [1, 2], tokens) == 2 * (2 * BLOCK * 5 + attention)
    assert limit.blocks(model, [1], tokens, backward=True) == 4 * BLOCK * 5 + 3 * attention
    assert limit.head(model, 3) == 2 * 32 * len(model.tokenizer) * 3


def test_a_shared_prompt_counts_once_and_frozen_positions_not_at_all() -> None:
    rows = [Row((1, 2, 3, 4), (5, 6)), Row((1, 2, 3, 4), (7, 8, 9)), Row((1, 2), (3,))]
    everywhere, scored = limit.step_tokens(Fits("lora", "all"), rows)
    assert scored == 6
    assert everywhere.count == (4 + 1 + 2) + 2
    answers, _ = limit.step_tokens(Fits("lora", "answer"), rows)
    assert answers.count == (1 + 1 + 2) + 1
    assert answers.keys == (4 + 5 + (5 + 6)) + 2


def test_a_step_by_hand() -> None:
    model, rows = fake("llama"), [Row((1, 2, 3, 4), (5, 6))]
    tokens = Tokens.of([(0, 5)])
    above = limit.blocks(model, [3], tokens, backward=True) + limit.head(model, 2, backward=True)
    assert limit.step_operations(model, Fits("vector", "all"), rows) == above
    assert limit.step_operations(model, Fits("lora", "all"), rows) == above + 2 * 5 * (MLP + MLP // 3)


def test_a_grid_runs_its_prompts_once() -> None:
    model, scored = fake("llama"), [Scored((1, 2, 3), (4,), (5,))]
    columns = 2 * 32 * 2
    one = Tokens.of([(2, 3)])
    plan = Grid("last_prompt", layers=2, strengths=5, questions=1)
    assert limit.grid_operations(model, plan, scored) == limit.blocks(model, range(4), Tokens.of([(0, 3)])) + 5 * (
        limit.blocks(model, [2, 3], one) + columns + columns
    )


def test_operators_have_a_kind() -> None:
    words = {49152, 4096}
    assert kind("aten::mm", [[40, 576], [576, 1536]], words) == PRODUCTS
    assert kind("aten::mm", [[40, 576], [576, 4096]], words) == HEAD
    assert kind("aten::mm", [[40, 576], [576, 49152]], words) == HEAD
    assert kind("aten::embedding", [[49152, 576], [40, 576]], words) == COPIES
    assert kind("aten::bmm", [[9, 4, 4], [9, 4, 4]], words) == ATTENTION
    assert kind("aten::_scaled_dot_product_flash_attention_for_cpu", [], words) == ATTENTION
    assert kind("aten::mul", [[4, 4], []], words) == ELEMENTS
    assert kind("aten::copy_", [[4, 4]], words) == COPIES
    assert kind("autograd::engine::evaluate_function: MmBackward0", [], words) == PYTHON


def test_the_head_is_known_by_its_vocabulary_and_not_by_a_width() -> None:
    model = fake("llama")
    assert limit.head_axes(model) == {len(model.tokenizer), 4096}
    model.blocks[0].mlp.extra = torch.nn.Linear(4096, len(model.tokenizer))
    assert limit.head_axes(model) == set()


def test_the_profiler_sees_where_time_goes() -> None:
    a = torch.ones(600, 600)
    profile = Profile()
    with profiled(profile):
        for _ in range(20):
            a @ a
    shares = profile.shares({7})
    assert set(shares) == set(KINDS)
    assert abs(sum(shares.values()) - 1) < 1e-9
    assert shares[PRODUCTS] > 0.5


def test_rates_are_rates() -> None:
    assert limit.product_rate(torch.float32, side=256) > 1e8
    assert limit.layer_rate(fake("llama"), 64) > 1e6
