"""The plain forward pass, one text at a time and all at once: by how much its own numbers differ. Knows torch, no cache."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from selfaware.bench.data import Scored
from selfaware.models.batch import Row, pad
from selfaware.models.hf import Model

TIMES = 3.0
"""A difference passes up to so many times the plain forward's own."""
KERNELS = ("eager", "sdpa")
UNITS = 32.0
"""And always up to so many units in the last place of a float32."""


def _logits(model: Model, texts: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """Logits of each text, `[T, V]`, from one right-padded batch."""
    ids, real = (x.to(model.device) for x in pad(texts, left=False))
    with torch.no_grad():
        logits = model.net(input_ids=ids, attention_mask=real.long(), use_cache=False).logits
    return [row[: len(text)] for row, text in zip(logits, texts, strict=True)]


def _logs(model: Model, rows: Sequence[Row]) -> list[Tensor]:
    """Log-probabilities of each row's answer tokens, from one batch."""
    found = []
    for row, logits in zip(rows, _logits(model, [r.prompt + r.answer for r in rows]), strict=True):
        answer = torch.tensor(row.answer, device=logits.device)
        found.append(-F.cross_entropy(logits[len(row.prompt) - 1 : -1].float(), answer, reduction="none"))
    return found


def row_terms(model: Model, rows: Sequence[Row], beta: float | None, one_by_one: bool) -> Float[Tensor, " N"]:
    """What each question adds to the loss: cross-entropy per token, or with `beta` the contrast of its two rows."""
    logs = [x for r in rows for x in _logs(model, [r])] if one_by_one else _logs(model, rows)
    means = torch.stack([x.mean() for x in logs])
    if beta is None:
        return -means
    pairs = means.view(-1, 2)
    return -F.logsigmoid(beta * (pairs[:, 0] - pairs[:, 1]))


def score_terms(model: Model, scored: Sequence[Scored], one_by_one: bool) -> Float[Tensor, " N"]:
    """Log-odds of each question's high option over its low one."""
    found = []
    for part in [[q] for q in scored] if one_by_one else [list(scored)]:
        for question, logits in zip(part, _logits(model, [q.prompt for q in part]), strict=True):
            last = logits[-1].float()
            found.append(last[list(question.high)].logsumexp(0) - last[list(question.low)].logsumexp(0))
    return torch.stack(found)


def tolerance(model: Model, terms: Callable[[bool], Float[Tensor, " N"]]) -> float:
    """The largest difference that still counts as the same number: `TIMES` the largest between plain passes of one item.

    The passes are one text at a time and all in a batch, with either of the library's two attention kernels: which of them
    runs is nobody's choice of what to compute. One kernel alone may give the same bits for any batch, and then says nothing
    about rounding. At least `UNITS` of rounding of the largest, for losses and scores are float32.

    Args:
        terms: an item's numbers by plain passes; True for one text at a time.
    """
    found = []
    for kernel in KERNELS:
        with attention(model, kernel):
            found += [terms(True), terms(False)]
    spread = torch.stack(found)
    widest = float((spread.amax(0) - spread.amin(0)).max())
    return max(TIMES * widest, UNITS * torch.finfo(torch.float32).eps * float(spread.abs().max()))


@contextmanager
def attention(model: Model, kernel: str) -> Iterator[None]:
    """Within the context the net's attention is computed by that kernel."""
    before = model.net.config._attn_implementation
    model.net.set_attn_implementation(kernel)
    try:
        yield
    finally:
        model.net.set_attn_implementation(before)
