"""Hooks: what they change, what they see, and that they go."""

from typing import NoReturn

import pytest
import torch
from torch import Tensor, nn

from selfaware.models.hooks import changed, gathered, hook_count, mask_in, recorded


class Pair(nn.Module):
    """A module that gives a tuple and takes its input by keyword, as attention does."""

    def forward(self, *, hidden: Tensor) -> tuple[Tensor, str]:
        return hidden * 2, "weights"


def test_a_change_sees_input_and_output() -> None:
    layer, x = nn.Linear(3, 3), torch.ones(1, 2, 3)
    before = layer(x)
    with changed([(layer, lambda i, o: i + o)]):
        assert torch.equal(layer(x), before + x)
    assert torch.equal(layer(x), before)


def test_changes_of_one_module_apply_in_order() -> None:
    layer, x = nn.Identity(), torch.ones(1, 1, 1)
    with changed([(layer, lambda i, o: o + 1), (layer, lambda i, o: o * 10)]), changed([(layer, lambda i, o: o + 5)]):
        assert float(layer(x)) == 25


def test_tuples_and_keywords() -> None:
    pair, x = Pair(), torch.ones(1, 2, 3)
    with changed([(pair, lambda i, o: i + o)]), recorded([pair]) as seen:
        first, rest = pair(hidden=x)
    assert torch.equal(first, 3 * x)
    assert rest == "weights"
    assert torch.equal(seen[0], 3 * x)


def test_recorded_is_detached_and_none_before_it_ran() -> None:
    one, two = nn.Linear(2, 2), nn.Linear(2, 2)
    with recorded([one, two]) as seen:
        assert seen == [None, None]
        one(torch.ones(1, 1, 2))
    assert not seen[0].requires_grad
    assert seen[1] is None


def test_a_wrong_shape_is_refused() -> None:
    layer = nn.Identity()
    with pytest.raises(ValueError, match="shape"), changed([(layer, lambda i, o: o[:, :1])]):
        layer(torch.ones(1, 2, 3))
    with pytest.raises(ValueError, match="shape"):
        mask_in(torch.ones(1, 1, 3), torch.zeros(1, 2, 3), torch.tensor([[True, False]]))
    assert hook_count(layer) == 0


class Refusing(nn.Module):
    def register_forward_hook(self, *_: object, **__: object) -> NoReturn:
        raise RuntimeError("no hooks")


class Words(nn.Module):
    def forward(self) -> str:
        return "no tensor"


def test_an_output_without_a_tensor_is_named() -> None:
    words = Words()
    with pytest.raises(TypeError, match="type str"), recorded([words]):
        words()
    assert hook_count(words) == 0


def test_registering_that_fails_half_way_leaves_nothing() -> None:
    good, bad = nn.Identity(), Refusing()
    with pytest.raises(RuntimeError, match="no hooks"), changed([(good, lambda i, o: o), (bad, lambda i, o: o)]):
        pytest.fail("attached")
    with pytest.raises(RuntimeError, match="no hooks"), recorded([good, bad]):
        pytest.fail("attached")
    with pytest.raises(RuntimeError, match="body"), changed([(good, lambda i, o: o)]):
        raise RuntimeError("body")
    assert hook_count(good) == 0


def test_mask_in() -> None:
    old, new = torch.zeros(1, 3, 2), torch.ones(1, 3, 2)
    got = mask_in(new, old, torch.tensor([[True, False, True]]))
    assert got[0, :, 0].tolist() == [1, 0, 1]
    assert mask_in(new, old, torch.ones(1, 3, dtype=torch.bool)) is new


def test_a_head_is_given_the_masked_positions_row_after_row() -> None:
    x = torch.arange(12.0).reshape(2, 3, 2)
    mask = torch.tensor([[True, False, True], [False, True, False]])
    head, pair = nn.Identity(), Pair()
    with gathered(head, mask), gathered(pair, mask):
        assert head(x).tolist() == [[[0, 1], [4, 5], [8, 9]]]
        assert head(x[:, :, :]).is_contiguous()
        assert pair(hidden=x)[0].tolist() == [[[0, 2], [8, 10], [16, 18]]]
    assert torch.equal(head(x), x)
    with pytest.raises(RuntimeError, match="body"), gathered(head, mask):
        raise RuntimeError("body")
    assert hook_count(head) == 0
