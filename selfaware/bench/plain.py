"""The plain forward pass, one text at a time and all at once: by how much its own numbers differ. Knows torch, no cache."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from selfaware.bench.data import Scored
from selfaware.models.batch import Row, pad
from selfaware.models.hf import Model

TIMES = 3.0
"""A difference passes up to so many times the plain forward's own."""
UNITS = 32.0
"""And always up to so many units in the last place of a float32."""


Batch = Literal["alone", "right", "left"]
"""One text at a time, or all at once with padding on that side, on the left by one position at least."""
BATCHES: tuple[Batch, ...] = get_args(Batch)


def _logits(model: Model, texts: Sequence[tuple[int, ...]], batch: Batch) -> list[Tensor]:
    """Logits of each text, `[T, V]`."""
    if batch == "alone" and len(texts) > 1:
        return [found for text in texts for found in _logits(model, [text], batch)]
    ids, real = pad(texts, left=batch == "left")
    if batch == "left":
        ids, real = (F.pad(x, (1, 0)) for x in (ids, real))
    ids, real = ids.to(model.device), real.to(model.device)
    positions = (real.long().cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        logits = model.net(input_ids=ids, attention_mask=real.long(), position_ids=positions, use_cache=False).logits
    return [row[mask] for row, mask in zip(logits, real, strict=True)]


def row_terms(model: Model, rows: Sequence[Row], beta: float | None, batch: Batch) -> Float[Tensor, " N"]:
    """What each question adds to the loss: cross-entropy per token, or with `beta` the contrast of its two rows."""
    found = []
    for row, logits in zip(rows, _logits(model, [r.prompt + r.answer for r in rows], batch), strict=True):
        answer = torch.tensor(row.answer, device=logits.device)
        found.append(-F.cross_entropy(logits[len(row.prompt) - 1 : -1].float(), answer))
    means = torch.stack(found)
    if beta is None:
        return -means
    pairs = means.view(-1, 2)
    return -F.logsigmoid(beta * (pairs[:, 0] - pairs[:, 1]))


def score_terms(model: Model, scored: Sequence[Scored], batch: Batch) -> Float[Tensor, " N"]:
    """Log-odds of each question's high option over its low one."""
    found = []
    for question, logits in zip(scored, _logits(model, [q.prompt for q in scored], batch), strict=True):
        last = logits[-1].float()
        found.append(last[list(question.high)].logsumexp(0) - last[list(question.low)].logsumexp(0))
    return torch.stack(found)


def tolerance(model: Model, terms: Callable[[Batch], Float[Tensor, " N"]]) -> float:
    """The largest difference that still counts as the same number: `TIMES` the largest of an item between plain passes.

    The passes are one text at a time, and all in a batch padded on the right or on the left; padding on one side alone may give
    the same bits and then says nothing about rounding. At least `UNITS` of rounding of the largest, for losses and scores
    are float32.

    Args:
        terms: an item's numbers by plain passes.
    """
    alone, *batches = (terms(batch) for batch in BATCHES)
    widest = max(float((found - alone).abs().max()) for found in batches)
    return max(TIMES * widest, UNITS * torch.finfo(torch.float32).eps * float(alone.abs().max()))
