"""How likely an edited model finds texts, and how far its predictions have moved. Knows ids; must not know why.

The unedited model's part is kept with the prompts' keys and values: for the next edit of the same rows only the
unembedding runs again.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfaware.errors import BadModel
from selfaware.models.batch import Row, bucketed
from selfaware.models.hf import Model

CHUNK = 32
"""Positions compared at once: in float64 a vocabulary of 262 144 takes 67 MB for each distribution of them."""


def fluency(
    model: Model, rows: Sequence[Row], edit: Callable[[], AbstractContextManager[object]], batch: int = 8
) -> list[tuple[float, float]]:
    """For each row the summed log-probability of its answer under the edit, and the summed KL(unedited ‖ edited), nats.

    Both sums run over the positions that predict the answer; an edit at `answer` acts at exactly these. Without an edit
    the divergence is exactly zero.

    Args:
        edit: makes the context in which the model is edited; called once for each batch.
        batch: rows in a forward pass; two `[N, V]` of logits are held at a time, N the tokens of the batch's answers.

    Raises:
        BadModel: a row is longer than the context.
    """
    for row in rows:
        if len(row.prompt) + len(row.answer) > model.context:
            raise BadModel(
                f"text of {len(row.prompt) + len(row.answer)} tokens: {model.name} holds {model.context}. Shorten it or leave it out."
            )
    found: dict[int, tuple[float, float]] = {}
    with torch.no_grad():
        for bucket in bucketed(rows, batch):
            some = [rows[i] for i in bucket]
            before = model.logits(some)
            with edit():
                after = model.logits(some)
            targets = torch.tensor([t for row in some for t in row.answer], device=after.device)
            sizes = [len(row.answer) for row in some]
            parts = [torch.split(part, sizes) for part in compared(before, after, targets)]
            found |= {i: (float(a.sum()), float(b.sum())) for i, a, b in zip(bucket, *parts, strict=True)}
    return [found[i] for i in range(len(rows))]


def compared(
    before: Float[Tensor, "N V"], after: Float[Tensor, "N V"], targets: Int[Tensor, " N"]
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """At each position log-probability of the target after, and KL(before ‖ after), nats, float64.

    Float64 because the terms of a small divergence nearly cancel: in float32 some 1e-6 a position would be noise.
    """
    logprobs, divergences = [], []
    for at in range(0, len(targets), CHUNK):
        p, q = (logits[at : at + CHUNK].double().log_softmax(1) for logits in (before, after))
        logprobs.append(q.gather(1, targets[at : at + CHUNK, None])[:, 0])
        terms = p.exp() * (p - q)  # not a number where a token is ruled out in both; such a token adds nothing
        divergences.append(terms.masked_fill(p == -torch.inf, 0).sum(1))
    return torch.cat(logprobs), torch.cat(divergences)
