"""Grouped attention against the eager function that models come with: values, gradients, masks, caps."""

import pytest
import torch
from torch import Tensor
from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward as capped
from transformers.models.llama.modeling_llama import eager_attention_forward as eager

from selfaware.models.attention import GROUPED, Standing, _grouped, ahead, attending, groups, own_attention
from selfaware.models.fake import fake


class Module(torch.nn.Module):
    def __init__(self, groups: int) -> None:
        super().__init__()
        self.num_key_value_groups = groups
        self.head_dim = 8


def drawn(groups: int, tokens: int, before: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = ((3, 2 * groups, tokens, 8), (3, 2, before + tokens, 8), (3, 2, before + tokens, 8))
    return [torch.randn(shape, generator=draw, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(("tokens", "before"), [(5, 0), (1, 7), (4, 9)])
@pytest.mark.parametrize("cap", [None, 2.0])
def test_values_and_gradients(groups: int, tokens: int, before: int, cap: float | None) -> None:
    parts = drawn(groups, tokens, before)
    allowed = torch.ones(tokens, before + tokens, dtype=torch.bool).tril(before).expand(3, 1, -1, -1).clone()
    allowed[1, :, :, :2] = False
    mask = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    own = eager if cap is None else capped
    settings = {} if cap is None else {"softcap": cap}
    results = []
    for function in (own, _grouped):
        given = function(Module(groups), *parts, mask, scaling=0.3, **settings)[0]
        assert given.shape == (3, tokens, 2 * groups, 8)
        results.append((given, torch.autograd.grad(given.pow(2).sum(), parts)))
    (wanted, slopes), (found, own_slopes) = results
    real = allowed.any(3)[:, 0]
    assert torch.allclose(found[real], wanted[real], atol=1e-5)
    for got, true in zip(own_slopes, slopes, strict=True):
        assert torch.allclose(got, true, atol=1e-4)


@pytest.mark.parametrize("prompts", ["aabb", "abcd", "abba", "aaaa", "aab", "a"])
@pytest.mark.parametrize("tokens", [1, 3])
def test_rows_of_one_prompt_stand_on_its_keys_as_if_each_had_its_own(prompts: str, tokens: int) -> None:
    draw = torch.Generator().manual_seed(0)
    standing = Standing.of(prompts, torch.device("cpu"))
    assert standing.each == {"aabb": 2, "abcd": 1, "abba": 0, "aaaa": 4, "aab": 0, "a": 1}[prompts]
    made = lambda *shape: torch.randn(*shape, generator=draw, requires_grad=True)
    rows = len(prompts)
    query, key, value = made(rows, 6, tokens, 8), made(rows, 2, tokens, 8), made(rows, 2, tokens, 8)
    kept = [made(len(set(prompts)), 2, 5, 8) for _ in range(2)]
    parts = (query, key, value, *kept)
    allowed = torch.ones(tokens, 5 + tokens, dtype=torch.bool).tril(5).expand(rows, 1, -1, -1).clone()
    allowed[0, :, :, :2] = False
    mask = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    joined = [torch.cat((states[standing.rows], new), 2) for states, new in zip(kept, (key, value), strict=True)]
    wanted = eager(Module(3), query, *joined, mask, scaling=0.3)[0]
    past = ahead([(kept[0], kept[1])], standing)
    assert past.get_seq_length() == 5
    assert past.get_mask_sizes(tokens, 0) == (5 + tokens, 0)
    for _ in range(2):  # nothing is added to what is kept
        found = _grouped(Module(3), query, *past.update(1 * key, 1 * value, 0), mask, scaling=0.3)[0]
        assert torch.allclose(found, wanted, atol=1e-5)
    slopes = [torch.autograd.grad(given.pow(2).sum(), parts, retain_graph=True) for given in (found, wanted)]
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(*slopes, strict=True))


def test_it_is_attached_for_a_pass_only() -> None:
    net = fake("llama").net
    before = own_attention(net)
    with pytest.raises(ValueError, match="body"), attending(net, GROUPED):
        assert own_attention(net) == GROUPED
        raise ValueError("body")
    assert own_attention(net) == before
    assert groups(net)
    net.model.layers[0].self_attn.sinks = torch.nn.Parameter(torch.zeros(4))
    assert not groups(net)
