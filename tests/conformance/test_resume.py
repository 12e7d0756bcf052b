"""Every architecture through the frozen-prefix engine gives the plain forward's numbers, edited and not, forward and back.

The plain forward is written here by hand: one unpadded text at a time, an ordinary torch hook for each edit.
"""

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from selfaware.interventions.base import Constant, Delta, Intervention, LowRank
from selfaware.models import hooks
from selfaware.models.batch import Row, pad
from selfaware.models.fake import ARCHITECTURES, VARIANTS, Fake, fake
from selfaware.models.hf import Model
from selfaware.types import POSITIONS, Positions, Site

# A route that is not trusted warns and gives way to the plain one, whose numbers are right: here that is a failure.
pytestmark = pytest.mark.filterwarnings("error::UserWarning")

KINDS = (*ARCHITECTURES, *VARIANTS)
RECURRENT = ("qwen3_5", "qwen3_next")
WINDOWED = ("mistral", "qwen2", "gemma2", "gemma3", "qwen3_moe", "phi3", "smollm3", "mixtral")
WINDOW = 8
NEAR = 2e-5
NEAR_GRADIENT = 5e-5  # of the largest: normalised keys of linear attention amplify rounding

Changes = list[tuple[Site, Delta]]

# Where the MLP is not called `mlp`; OPT's is two modules in the block itself, see `ROWS_OF_POSITIONS`.
MLP_PARTS = {"opt": "2.self_attn.out_proj", "opt_post_norm": "2.final_layer_norm"}
LOW_RANK = {
    "gpt2": (),  # its projections are no linear modules
    "qwen3_moe": ("1.mlp.down_proj", "2.self_attn.k_proj"),
    "qwen3_5": ("1.mlp.down_proj", "2.linear_attn.in_proj_qkv"),
    "qwen3_next": ("2.mlp.up_proj", "2.linear_attn.in_proj_ba"),
    "phi3": ("1.self_attn.qkv_proj", "2.mlp.gate_up_proj"),
    "gpt_neox": ("1.attention.query_key_value", "2.mlp.dense_4h_to_h"),
    "gpt_neox_sequential": ("1.attention.query_key_value", "2.mlp.dense_4h_to_h"),
    "opt": ("1.self_attn.v_proj", "2.self_attn.q_proj"),
    "opt_post_norm": ("1.self_attn.v_proj", "2.self_attn.q_proj"),
    "mixtral": ("1.self_attn.k_proj", "2.self_attn.o_proj"),
}
USUAL_LOW_RANK = ("1.mlp.down_proj", "2.self_attn.v_proj")

# The first of these in a block sees every token once.
NORMS = ("input_layernorm", "ln_1", "self_attn_layer_norm", "post_attention_layernorm")

# Modules whose block hands them `[B·T, D]`.
ROWS_OF_POSITIONS = (
    ("opt", "1.fc1"),
    ("opt", "1.fc2"),
    ("opt_post_norm", "1.fc2"),
    ("qwen3_next", "1.mlp.shared_expert.down_proj"),
    ("qwen3_next", "1.mlp.shared_expert"),
)


@cache
def model(kind: Fake) -> Model:
    return fake(kind, window=WINDOW)


def rows(seed: int = 0) -> list[Row]:
    """Prompts of one token, shorter and longer than the window, longer than a chunk of linear attention, shared by answers."""
    draw = random.Random(seed)
    text = lambda n: tuple(draw.randrange(3, 250) for _ in range(n))
    shared, single = text(20), text(1)
    sizes = [(5, 1), (33, 12), (66, 2)]
    return [
        Row(shared, text(3)),
        Row(single, text(4)),
        *(Row(text(n), text(a)) for n, a in sizes),
        Row(single, text(1)),
        Row(shared, text(1)),
    ]


def noise(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def low_rank(m: Model, site: str, seed: int = 0) -> tuple[Site, LowRank]:
    where = Site.parse(site)
    module = m.module(where)
    a, b = noise(seed, 2, module.in_features, scale=0.3), noise(seed + 1, module.out_features, 2, scale=0.3)
    return where, LowRank(a, b, 1.5)


def constant(m: Model, site: str, seed: int = 0) -> tuple[Site, Constant]:
    return Site.parse(site), Constant(noise(seed, m.output_width(Site.parse(site))))


def edits(m: Model, kind: Fake) -> dict[str, Changes]:
    made: dict[str, Changes] = {f"constant at block {b}": [constant(m, str(b), b)] for b in (0, 2, 3)}
    made["constant at the MLP"] = [constant(m, MLP_PARTS.get(kind, "1.mlp.residual"), 4)]
    linear = [low_rank(m, site, 5 + 2 * n) for n, site in enumerate(LOW_RANK.get(kind, USUAL_LOW_RANK))]
    return made | ({"low rank": linear} if linear else {})


# by hand --------------------------------------------------------------------------------------------------------------


def bare(m: Model, row: Row, changes: Changes, positions: Positions) -> Tensor:
    """The logits that predict the answer, `[len(answer), V]`."""
    start = len(row.prompt) - 1
    columns = {"all": slice(0, None), "answer": slice(start, None), "last_prompt": slice(start, start + 1)}[positions]

    def hook(delta: Delta) -> Callable[..., Tensor]:
        def change(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            y = output.clone()
            y[..., columns, :] = delta(inputs[0][..., columns, :], y[..., columns, :])
            return y

        return change

    handles = [m.module(site).register_forward_hook(hook(delta)) for site, delta in changes]
    try:
        return m.net(input_ids=torch.tensor([row.prompt + row.answer[:-1]]), use_cache=False).logits[0, start:]
    finally:
        for handle in handles:
            handle.remove()


def truth(
    m: Model, wanted: Sequence[Row], changes: Changes | None = None, positions: Positions = "all"
) -> tuple[Tensor, Tensor]:
    """Logits `[N, V]` and log-probabilities of the answers."""
    logits = [bare(m, row, changes or [], positions) for row in wanted]
    picked = [
        x.log_softmax(-1).gather(1, torch.tensor(row.answer)[:, None]).sum()
        for x, row in zip(logits, wanted, strict=True)
    ]
    return torch.cat(logits), torch.stack(picked)


@cache
def untouched(kind: Fake) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return truth(model(kind), rows())


def near(a: Tensor, b: Tensor, within: float = NEAR, what: object = "") -> None:
    assert a.shape == b.shape, what
    assert float((a - b).detach().abs().max()) < within, what


def agrees(m: Model, wanted: Sequence[Row], logits: Tensor, logprobs: Tensor, what: object = "") -> None:
    """Twice, the second time out of what is kept. A sum over an answer may be off by that much for each token."""
    longest = max(len(row.answer) for row in wanted)
    near(m.logprobs(wanted), logprobs, longest * NEAR, what)
    near(m.logits(wanted), logits, what=what)


# the model's verbs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_edited(kind: Fake) -> None:
    m, wanted = fake(kind, window=WINDOW), rows()
    with torch.no_grad():
        logits, logprobs = untouched(kind)
        agrees(m, wanted, logits, logprobs)
        near(m.logprobs(wanted, batch=4), logprobs, 12 * NEAR)
        fresh = fake(kind, window=WINDOW)  # the other way round, and nothing kept but what single rows left
        near(torch.cat([fresh.logprobs([row]) for row in wanted[:3]]), logprobs[:3], 12 * NEAR)
        near(fresh.logits(wanted), logits)
        near(fresh.logprobs(wanted[::-1]), logprobs.flip(0), 12 * NEAR)
    assert hooks.hook_count(m.net) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_edited(kind: Fake) -> None:
    """One model for all, so that nothing kept for one edit or position is taken for another's."""
    m, wanted = fake(kind, window=WINDOW), rows()
    with torch.no_grad():
        for positions in POSITIONS:
            for name, changes in edits(m, kind).items():
                logits, logprobs = truth(m, wanted, changes, positions)
                assert float((logits - untouched(kind)[0]).abs().max()) > 0.01, name
                with Intervention(dict(changes), positions).on(m):
                    agrees(m, wanted, logits, logprobs, (positions, name))
        near(m.logits(wanted), untouched(kind)[0])
    assert hooks.hook_count(m.net) == 0


@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2", "mixtral"])
def test_with_the_attention_that_the_model_came_with(kind: Fake) -> None:
    m, wanted = fake(kind, window=WINDOW), rows()
    m.engine.groups = False
    with torch.no_grad():
        for positions in POSITIONS:
            for name, changes in edits(m, kind).items():
                logits, logprobs = truth(m, wanted, changes, positions)
                with Intervention(dict(changes), positions).on(m):
                    agrees(m, wanted, logits, logprobs, (positions, name))
    assert hooks.hook_count(m.net) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind: Fake) -> None:
    m, wanted = fake(kind, window=WINDOW), rows()

    def gradients(run: Callable[[Changes], Tensor]) -> list[Tensor]:
        every = edits(m, kind)
        changes = [*every.get("low rank", []), *every["constant at the MLP"], *every["constant at block 3"]]
        leaves = [t.requires_grad_() for _, delta in changes for t in delta.tensors().values()]
        (run(changes) / 10).sum().backward()
        return [t.grad for t in leaves if t.grad is not None]

    for positions in POSITIONS:

        def by_hand(changes: Changes, positions: Positions = positions) -> Tensor:
            return truth(m, wanted, changes, positions)[1]

        def through_engine(changes: Changes, positions: Positions = positions) -> Tensor:
            with Intervention(dict(changes), positions).on(m):
                return m.logprobs(wanted)

        found = gradients(by_hand)
        assert len(found) == (2 if kind == "gpt2" else 6)
        assert all(float(g.abs().max()) > 0 for g in found)
        for _ in range(2):
            for got, true in zip(gradients(through_engine), found, strict=True):
                near(got, true, NEAR_GRADIENT * max(1.0, float(true.abs().max())), positions)
    assert all(weight.grad is None for weight in m.net.parameters())
    assert hooks.hook_count(m.net) == 0


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize(("kind", "site"), ROWS_OF_POSITIONS)
def test_parts_that_see_positions_as_rows(kind: Fake, site: str, positions: Positions) -> None:
    m, wanted = fake(kind, window=WINDOW), rows()
    linear = isinstance(m.module(Site.parse(site)), nn.Linear)
    for changes in ([constant(m, site)], *([[low_rank(m, site)]] if linear else [])):
        with torch.no_grad():
            logits, logprobs = truth(m, wanted, changes, positions)
            with Intervention(dict(changes), positions).on(m):
                agrees(m, wanted, logits, logprobs)
            assert float((logits - untouched(kind)[0]).abs().max()) > 0.01
    assert hooks.hook_count(m.net) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_pass_runs_less(kind: Fake) -> None:
    m, wanted = fake(kind, window=WINDOW), rows()
    tokens = [0] * len(m.blocks)

    def count(block: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            tokens[block] += output.numel() // m.width

        return hook

    norms = [next(x for n, x in b.named_modules() if n in NORMS) for b in m.blocks]
    handles = [norm.register_forward_hook(count(b)) for b, norm in enumerate(norms)]
    seen = []
    with torch.no_grad(), Intervention(dict([constant(m, "3")]), "answer").on(m):
        for _ in range(2):
            tokens[:] = [0] * len(m.blocks)
            m.logprobs(wanted)
            seen.append(list(tokens))
    for handle in handles:
        handle.remove()
    assert all(n > 0 for n in seen[0])
    assert seen[1] <= seen[0]
    if kind not in RECURRENT:
        assert seen[1][:3] == [0, 0, 0]
        assert 0 < seen[1][3] < seen[0][3]
    assert hooks.hook_count(m.net) == 0


# a block's input is enough --------------------------------------------------------------------------------------------


@contextmanager
def inputs_of(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Within the context the list fills with what enters each module, in turn."""
    seen: list[Tensor] = []

    def keep(_module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        seen.append((args[0] if args else kwargs["hidden_states"]).clone())

    handles = [module.register_forward_pre_hook(keep, with_kwargs=True) for module in modules]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def left_padded(texts: Sequence[tuple[int, ...]]) -> tuple[dict[str, Any], Tensor]:
    """What a net is called with, and where it is real."""
    ids, real = pad(texts, left=True)
    positions = (real.long().cumsum(1) - 1).clamp(min=0)
    return {"input_ids": ids, "attention_mask": real.long(), "position_ids": positions}, real


@torch.no_grad()
def resumes_everywhere(m: Model, run: Callable[[], Tensor], real: Tensor) -> Tensor:
    """The logits that `run` makes, after checking that any block's input leads to the same bits."""
    stages = [*m.blocks, m.head]
    with inputs_of(stages) as seen:
        logits = run()
    assert len(seen) == len(stages)
    for at, residual in enumerate(seen):
        with hooks.resumed(stages, at, residual):
            assert torch.equal(run()[real], logits[real]), at
        # What stands at padding is nobody's business ...
        junk = torch.where(real[..., None], residual, noise(at, *residual.shape))
        with hooks.resumed(stages, at, junk):
            near(run()[real], logits[real])
        # ... and what stands elsewhere is all there is.
        with hooks.resumed(stages, at, residual.roll(1, -1)):
            assert float((run()[real] - logits[real]).abs().max()) > 0.01
    assert torch.equal(run(), logits)
    assert hooks.hook_count(m.net) == 0
    return logits


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_pass_resumes_at_any_block(kind: Fake) -> None:
    m, wanted = model(kind), rows()
    arguments, real = left_padded([row.prompt + row.answer[:-1] for row in wanted])
    logits = resumes_everywhere(m, lambda: m.net(**arguments, use_cache=False).logits, real)
    with torch.no_grad():
        last = torch.cat([logits[at, -len(row.answer) :] for at, row in enumerate(wanted)])
        near(last, untouched(kind)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_pass_on_a_kept_prefix_resumes_at_any_block(kind: Fake) -> None:
    """Left padding before, right padding after; rows without a prefix; recurrent states as well as keys and values."""
    m, wanted = model(kind), rows()
    arguments, before = left_padded([row.prompt[:-1] for row in wanted])
    kept = DynamicCache(config=m.config) if kind in RECURRENT else DynamicCache()
    with torch.no_grad():
        m.net(**arguments, past_key_values=kept, use_cache=True)
    ids, real = pad([row.prompt[-1:] + row.answer[:-1] for row in wanted], left=False)
    mask = torch.cat((before, real), 1).long()
    positions = before.sum(1, keepdim=True) + torch.arange(ids.shape[1])

    def run() -> Tensor:
        return m.net(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=copy.deepcopy(kept),
            use_cache=True,
        ).logits

    logits = resumes_everywhere(m, run, real)
    with torch.no_grad():
        near(logits[real], untouched(kind)[0])


# the fakes ------------------------------------------------------------------------------------------------------------


def test_there_are_sixteen() -> None:
    assert len(ARCHITECTURES) == len({type(model(kind).net) for kind in ARCHITECTURES}) == 16
    assert {type(model(kind).net) for kind in VARIANTS} < {type(model(kind).net) for kind in ARCHITECTURES}
    assert len({model(kind).identity for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_settles_every_weight(kind: Fake) -> None:
    one = fake(kind, 1, window=WINDOW)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)  # weights that a net draws for itself must not show
        two = fake(kind, 1, window=WINDOW)
    for (name, a), b in zip(one.net.named_parameters(), two.net.parameters(), strict=True):
        assert torch.equal(a, b), name
    assert any(not torch.equal(a, b) for a, b in zip(one.net.parameters(), model(kind).net.parameters(), strict=True))


@pytest.mark.parametrize("kind", WINDOWED)
def test_windows_are_felt(kind: Fake) -> None:
    wide = fake(kind, window=512)
    with torch.no_grad():
        narrow_logits, wide_logits = ([bare(m, row, [], "all") for row in rows()] for m in (model(kind), wide))
    for row, a, b in zip(rows(), narrow_logits, wide_logits, strict=True):
        if len(row.prompt) + len(row.answer) <= WINDOW:
            near(a, b)
        elif len(row.prompt) > 2 * WINDOW:
            assert float((a - b).abs().max()) > 0.01


@pytest.mark.parametrize("kind", RECURRENT)
def test_both_kinds_of_layers_remember(kind: Fake) -> None:
    m = model(kind)
    assert set(m.config.layer_types) == {"linear_attention", "full_attention"}
    text = rows()[3].prompt
    with torch.no_grad(), hooks.recorded([m.blocks[0], m.blocks[1]]) as seen:
        outputs = []
        for first in (text[0], text[0] + 1):
            m.net(input_ids=torch.tensor([(first, *text[1:12])]), use_cache=False)
            outputs.append([x.clone() for x in seen if x is not None])
    assert m.config.layer_types[0] == "linear_attention"
    # Beyond the reach of the convolution, so through the state.
    assert all(float((a - b)[0, 6:].abs().amax(1).min()) > 1e-3 for a, b in zip(*outputs, strict=True))


def test_the_wiring_is_felt() -> None:
    for usual, other in (("gpt_neox", "gpt_neox_sequential"), ("qwen3", "qwen3_moe"), ("opt", "opt_post_norm")):
        with torch.no_grad():
            near_ones = [bare(model(kind), rows()[0], [], "all") for kind in (usual, other)]
        assert float((near_ones[0] - near_ones[1]).abs().max()) > 0.1
    assert model("opt_post_norm").head.in_features < model("opt_post_norm").width
    assert {type(b.mlp).__name__ for b in model("qwen3_moe").blocks} == {"Qwen3MoeSparseMoeBlock", "Qwen3MoeMLP"}
    assert {type(b.mlp).__name__ for b in model("qwen3_next").blocks} == {"Qwen3NextSparseMoeBlock", "Qwen3NextMLP"}
    assert set(model("smollm3").config.no_rope_layers) == {0, 1}
