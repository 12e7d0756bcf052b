"""Rows of prompt and answer as one batch, the log-probability of tokens in it, what an edit touched. Knows no model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from selfaware.models.render import Ids


@dataclass
class Touched:
    """What an edit did while it was attached: sites edited, times a hook fired, tokens changed at all sites together."""

    sites: int = 0
    firings: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class Row:
    """A prompt and one answer to it, both as ids; the answer may be empty for no row."""

    prompt: Ids
    answer: Ids


@dataclass(frozen=True)
class Pass:
    """One batch of rows, ready to run.

    Attributes:
        forward: makes the pass; gives the net's own output, with logits `[B, T, V]`.
        real, answer, last: positions that are no padding, that predict a token of the answer, that hold the prompt's
            last token; each `[B, T]`.
        targets: the token that each position predicts, −100 where that is not scored, `[B, T]`.
        split: whether the prompt but its last token is left out, its keys and values standing for it.
    """

    forward: Callable[[], Any]
    real: Bool[Tensor, "B T"]
    answer: Bool[Tensor, "B T"]
    last: Bool[Tensor, "B T"]
    targets: Int[Tensor, "B T"]
    split: bool


def bucketed(rows: Sequence[Row], batch: int) -> list[list[int]]:
    """The rows' numbers by length, `batch` to a bucket."""
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i].prompt), len(rows[i].answer)))
    return [order[at : at + batch] for at in range(0, len(order), batch)]


def pad(texts: Sequence[Ids], left: bool, fill: int = 0) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
    """The texts' ids, padded with `fill` on the left or the right, and where they are real."""
    longest = max(len(t) for t in texts)
    ids = torch.full((len(texts), longest), fill)
    real = torch.zeros((len(texts), longest), dtype=torch.bool)
    for row, text in enumerate(texts):
        at = slice(longest - len(text), longest) if left else slice(0, len(text))
        ids[row, at] = torch.tensor(text, dtype=torch.long)
        real[row, at] = True
    return ids, real


def summed(logits: Float[Tensor, "B T V"], targets: Int[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """Summed log-probability of the targets; positions whose target is −100 are left out, before the softmax."""
    scored = targets >= 0
    losses = F.cross_entropy(logits[scored].float(), targets[scored], reduction="none")
    return -torch.zeros(targets.shape, device=losses.device).masked_scatter(scored, losses).sum(1)
