"""Log-probabilities without logits: the values and gradients of the softmax over the whole vocabulary."""

import pytest
import torch
from torch import Tensor, nn

from selfaware.models import head
from selfaware.models.batch import Row
from selfaware.models.fake import fake
from selfaware.models.head import chosen_logprobs, token_logprobs


def made(vocabulary: int, bias: bool, dtype: torch.dtype = torch.float32) -> tuple[nn.Linear, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    linear = nn.Linear(16, vocabulary, bias=bias, dtype=dtype)
    for weight in linear.parameters():
        weight.requires_grad_(False).copy_(torch.randn(weight.shape, generator=draw))
    states = (3 * torch.randn(7, 16, generator=draw)).to(dtype).requires_grad_()
    return linear, states, torch.randint(vocabulary, (7,), generator=draw)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("vocabulary", [5, 64, 100, 128, 129])
def test_values_and_gradients_are_those_of_the_softmax(
    vocabulary: int, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "PIECE", 64)
    linear, states, targets = made(vocabulary, bias)
    truth = linear(states).log_softmax(1)
    wanted = truth.gather(1, targets[:, None])[:, 0]
    found = chosen_logprobs(linear, states, targets)
    assert torch.allclose(found, wanted, atol=1e-5)
    weights = torch.arange(1.0, 8.0)
    (slope,) = torch.autograd.grad((found * weights).sum(), states)
    (true_slope,) = torch.autograd.grad((wanted * weights).sum(), states)
    assert torch.allclose(slope, true_slope, atol=1e-4)
    some = [[0], [1, 4], [], [2], [3, 3], [0, 1, 2], [4]]
    for values, tokens, line in zip(token_logprobs(linear, states, some), some, truth, strict=True):
        assert values == pytest.approx(line[tokens].tolist(), abs=1e-5)


def test_large_logits_do_not_overflow() -> None:
    linear, states, targets = made(300, True)
    found = chosen_logprobs(linear, 1000 * states.detach(), targets)
    wanted = linear(1000 * states.detach()).log_softmax(1).gather(1, targets[:, None])[:, 0]
    assert bool(found.isfinite().all())
    assert torch.allclose(found, wanted, rtol=1e-4)


def test_half_precision_is_as_near_as_its_logits() -> None:
    linear, states, targets = made(5000, False, torch.bfloat16)
    wanted = linear(states).float().log_softmax(1).gather(1, targets[:, None])[:, 0]
    assert float((chosen_logprobs(linear, states, targets) - wanted).abs().max()) < 0.2


def test_no_gradient_no_second_product() -> None:
    linear, states, targets = made(64, False)
    with torch.no_grad():
        assert not chosen_logprobs(linear, states, targets).requires_grad
    assert not chosen_logprobs(linear, states.detach(), targets).requires_grad


def test_a_head_with_something_after_it_is_run_as_it_is() -> None:
    rows = [Row((5, 6, 7), (8, 9)), Row((5, 6), (4,))]
    for kind, plain in (("llama", True), ("gemma3", True), ("gemma2", False), ("gpt2", True)):
        net = fake(kind)
        assert net.plain_head is plain
        with torch.no_grad():
            logs = net.logits(rows).float().log_softmax(1)
            found = net.logprobs(rows)
            assert float(found[0]) == pytest.approx(float(logs[0, 8] + logs[1, 9]), abs=1e-4)
            wanted = [[float(logs[0, t]) for t in (8, 4)], [float(logs[2, 4])]]
            got = net.first([Row((5, 6, 7), (1,)), rows[1]], [[8, 4], [4]])
            assert all(a == pytest.approx(b, abs=1e-4) for a, b in zip(got, wanted, strict=True))
