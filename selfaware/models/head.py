"""Log-probabilities of chosen tokens from the states that enter the unembedding. Knows weights; must not know what is asked.

The unembedding and its softmax are the widest part of a small model (Gemma's vocabulary has 262 144 tokens), and almost all
of it goes into a sum. Here the vocabulary is walked in pieces that stay in the processor's cache: the sum is carried along,
and with it the expected unembedding row, which is all that the gradient needs. No `[N, V]` is ever held.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

PIECE = 4096
"""Tokens of the vocabulary at once: 2048 to 8192 were equally fast (SmolLM2's 49 152 tokens, 24 to 420 positions, both types)."""


def chosen_logprobs(head: nn.Linear, states: Float[Tensor, "N D"], targets: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Log-probability of one token at each position, nats, float32; gradients reach the states, not the head.

    Args:
        states: what enters the head at those positions.
        targets: a token for each.
    """
    found: Float[Tensor, " N"] = _Chosen.apply(states, head.weight, head.bias, targets)  # type: ignore[no-untyped-call]
    return found


def token_logprobs(head: nn.Linear, states: Float[Tensor, "N D"], tokens: list[list[int]]) -> list[list[float]]:
    """Log-probabilities of several tokens at each position, nats; no gradient.

    Args:
        tokens: for each position those asked for.
    """
    with torch.no_grad():
        whole, _ = _walk(states, head.weight, head.bias, want_mean=False)
        found = []
        for state, total, some in zip(states, whole, tokens, strict=True):
            at = torch.tensor(some, dtype=torch.long, device=states.device)
            logits = F.linear(state, head.weight[at], None if head.bias is None else head.bias[at])
            found.append((logits.float() - total).double().tolist())
    return found


def _walk(
    states: Tensor, weight: Tensor, bias: Tensor | None, want_mean: bool
) -> tuple[Float[Tensor, " N"], Float[Tensor, "N D"] | None]:
    """log Σ exp of each position's logits, and the mean of the unembedding's rows under their softmax."""
    count, plain = len(states), states.dtype == torch.float32
    largest = torch.full((count, 1), -torch.inf, device=states.device)
    total = torch.zeros_like(largest)
    mean = torch.zeros(states.shape, device=states.device) if want_mean else None
    logits = torch.empty(count, min(PIECE, len(weight)), dtype=states.dtype, device=states.device)
    wide = logits if plain else torch.empty(logits.shape, device=states.device)
    for at in range(0, len(weight), PIECE):
        rows = weight[at : at + PIECE]
        whole = len(rows) == logits.shape[1]  # the last piece may be shorter, and `out` wants its own shape
        out = torch.mm(states, rows.T, out=logits) if whole else torch.mm(states, rows.T)
        if bias is not None:
            out += bias[at : at + PIECE]
        value = out if plain else (wide.copy_(out) if whole else out.float())
        new = torch.maximum(largest, value.amax(1, keepdim=True))
        value.sub_(new).exp_()
        shrink = (largest - new).exp_()
        total.mul_(shrink).add_(value.sum(1, keepdim=True))
        if mean is not None:
            mean.mul_(shrink).add_(value @ rows if plain else out.copy_(value) @ rows)
        largest = new
    return (largest + total.log())[:, 0], None if mean is None else mean / total


class _Chosen(torch.autograd.Function):
    """d log p(t) / d state = W[t] − Σ p(v) W[v]: both sums are there when the value is, so backward only scales them."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        total, mean = _walk(states, weight, bias, want_mean=ctx.needs_input_grad[0])
        rows = weight[targets]
        logits = (states.float() * rows.float()).sum(1)
        if bias is not None:
            logits = logits + bias[targets].float()
        if mean is not None:
            ctx.save_for_backward(rows.float() - mean)
        ctx.kind = states.dtype
        return logits - total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None, None]:
        (slope,) = ctx.saved_tensors
        return (slope * grads[0][:, None]).to(ctx.kind), None, None, None
