"""Rows of prompt and answer as one batch, the log-probability of tokens in it, what an edit touched. Knows no model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from selfaware.models.render import Ids
from selfaware.types import Positions


@dataclass
class Touched:
    """What an edit did while it was attached: sites edited, times a hook fired, tokens changed at all sites together."""

    sites: int = 0
    firings: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class Row:
    """A prompt and one answer to it, both as ids; the answer may be empty for no row.

    Attributes:
        owner: the number of the edit that is meant for this row, where several are attached for different rows.
    """

    prompt: Ids
    answer: Ids
    owner: int | None = None


@dataclass(frozen=True)
class Acts:
    """Where one edit acts in one pass.

    Attributes:
        mask: its positions, `[B, T]`.
        count: how many.
        everywhere: True where all other positions are padding. An edit there reaches no real token, so the whole output
            may be changed, which spares a copy.
    """

    mask: Bool[Tensor, "B T"]
    count: int
    everywhere: bool


@dataclass(frozen=True)
class Where:
    """The named positions of one pass.

    Attributes:
        real: positions that are no padding, `[B, T]`; None for a pass in which no edit acts and nothing is counted.
        answer: those that predict a token of the answer.
        last: those that hold the prompt's last token.
        owners: for each row the number of the edit that is meant for it, `[B]`; None where rows have no owner.
    """

    real: Bool[Tensor, "B T"] | None
    answer: Bool[Tensor, "B T"] | None
    last: Bool[Tensor, "B T"] | None
    owners: Int[Tensor, " B"] | None = None
    _found: dict[tuple[Positions, int | None], Acts | None] = field(default_factory=dict)

    def acts(self, positions: Positions, owner: int | None) -> Acts | None:
        """Where an edit of that owner acts, None where it does not; worked out once for each pass."""
        if (positions, owner) not in self._found:
            mask = {"all": self.real, "answer": self.answer, "last_prompt": self.last}[positions]
            if mask is not None and owner is not None and self.owners is not None:
                mask = mask & (self.owners == owner)[:, None]
            count = 0 if mask is None else int(mask.sum())
            everywhere = mask is not None and self.real is not None and bool((mask | ~self.real).all())
            self._found[positions, owner] = None if mask is None else Acts(mask, count, everywhere)
        return self._found[positions, owner]


NOWHERE = Where(None, None, None)


@dataclass(frozen=True)
class Pass:
    """One batch of rows, ready to run.

    Attributes:
        forward: makes the pass; gives the net's own output, with logits `[B, T, V]`.
        real, answer: positions that are no padding, that predict a token of the answer, `[B, T]`.
        where: all named positions.
        targets: the token that each position predicts, −100 where that is not scored, `[B, T]`.
    """

    forward: Callable[[], Any]
    real: Bool[Tensor, "B T"]
    answer: Bool[Tensor, "B T"]
    where: Where
    targets: Int[Tensor, "B T"]


def bucketed(rows: Sequence[Row], batch: int) -> list[list[int]]:
    """The rows' numbers by length, those of one prompt together, `batch` to a bucket."""
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i].prompt), rows[i].prompt, len(rows[i].answer)))
    return [order[at : at + batch] for at in range(0, len(order), batch)]


def pad(texts: Sequence[Ids], left: bool, fill: int = 0) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
    """The texts' ids, padded with `fill` on the left or the right, and where they are real."""
    longest = max(len(t) for t in texts)
    blank = (fill,) * longest
    lines = [(*blank[len(t) :], *t) if left else (*t, *blank[len(t) :]) for t in texts]
    lengths, column = torch.tensor([len(t) for t in texts])[:, None], torch.arange(longest)[None]
    return torch.tensor(lines, dtype=torch.long), column >= longest - lengths if left else column < lengths


def where(
    rows: Sequence[Row],
    real: Bool[Tensor, "B T"],
    answer: Bool[Tensor, "B T"] | None,
    last: Bool[Tensor, "B T"] | None,
) -> Where:
    """The positions of a pass over these rows."""
    owned = [row.owner for row in rows]
    some = any(owner is not None for owner in owned)
    numbers = [-1 if owner is None else owner for owner in owned]
    return Where(real, answer, last, torch.tensor(numbers, device=real.device) if some else None)


def by_row(values: Float[Tensor, " N"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """For each row the sum of the values that stand at its positions of the mask, which they follow row after row."""
    return torch.zeros(len(mask), dtype=values.dtype, device=values.device).index_add(0, mask.nonzero()[:, 0], values)
