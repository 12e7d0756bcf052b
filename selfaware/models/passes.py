"""Rows as passes: whole texts, or what follows a prompt on its keys and values. Knows a net's forward, no edit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from selfaware.models.attention import Standing, ahead
from selfaware.models.batch import Pass, Row, pad, where
from selfaware.models.render import Ids

Layers = list[tuple[Tensor, Tensor]]
"""For each block keys and values, `[P, H, T, d]`."""


@dataclass(frozen=True)
class States:
    """Keys and values that the rows of a batch go on from.

    Attributes:
        layers: those of each different prompt but its last token, left-padded; none where all prompts have one token.
        standing: which of them each row goes on from.
        mask: where they are real, for each row, `[B, T]`.
    """

    layers: Layers
    standing: Standing
    mask: Bool[Tensor, "B T"]

    def gathered(self) -> Layers:
        """The same for each row, `[B, H, T, d]`."""
        if self.standing.each == 1:
            return self.layers
        return [(keys[self.standing.rows], values[self.standing.rows]) for keys, values in self.layers]


def before(prompts: Sequence[Ids]) -> Bool[Tensor, "B T"]:
    """Where a left-padded batch of prompts without their last tokens is real."""
    lengths = [len(p) - 1 for p in prompts]
    return torch.arange(max(lengths))[None] >= max(lengths) - torch.tensor(lengths)[:, None]


def spread(rows: Sequence[Row], count: int, together: bool) -> list[Row]:
    """A few rows from shortest to longest; together: two of one prompt first, so that sharing occurs."""
    ordered = sorted(rows, key=lambda row: (len(row.prompt), row.prompt, len(row.answer)))
    step = max(1, (len(ordered) - 1) // max(1, count - 1))
    some = ordered[::step][:count]
    if together:
        pair = next(i for i in range(1, len(ordered)) if ordered[i].prompt == ordered[i - 1].prompt)
        some = [*ordered[pair - 1 : pair + 1], *some[: count - 1]]
    return some


def texts(net: Any, rows: Sequence[Row], left: bool = False) -> Pass:
    """The pass over whole texts, prompt and answer but for its last token, padded on the right, or by one at least on the left."""
    ids, real = pad([row.prompt + row.answer[:-1] for row in rows], left)
    if left:
        ids, real = (nn.functional.pad(x, (1, 0)) for x in (ids, real))
    starts = torch.tensor([len(row.prompt) - 1 for row in rows])[:, None]
    column = (real.long().cumsum(1) - 1).clamp(min=0)
    scored = real & (column >= starts)
    targets = torch.full(ids.shape, -100)
    targets[scored] = torch.tensor([t for row in rows for t in row.answer])
    device = next(net.parameters()).device
    last = scored & (column == starts)
    ids, real, scored, last, targets, column = (x.to(device) for x in (ids, real, scored, last, targets, column))

    def forward() -> Any:
        return net(input_ids=ids, attention_mask=real.long(), position_ids=column, use_cache=False)

    return Pass(forward, real, scored, where(rows, real, scored, last), targets)


def suffixes(net: Any, rows: Sequence[Row], states: States, apart: bool) -> Pass:
    """The pass over last prompt tokens and answers, padded on the right, after the prompts' states.

    Args:
        apart: whether the net attends by `attention.GROUPED`, which leaves states where they are.
    """
    ids, real = pad([row.prompt[-1:] + row.answer[:-1] for row in rows], left=False)
    targets, _ = pad([row.answer for row in rows], left=False, fill=-100)
    device = next(net.parameters()).device
    lengths = torch.tensor([len(row.prompt) - 1 for row in rows])[:, None]
    ids, real, known, targets, lengths = (x.to(device) for x in (ids, real, states.mask, targets, lengths))
    column = torch.arange(ids.shape[1], device=device)[None]
    masks, positions = torch.cat((known, real), 1).long(), lengths + column

    def forward() -> Any:
        past = ahead(states.layers, states.standing) if apart else _past(states.gathered())
        return net(
            input_ids=ids,
            attention_mask=masks,
            position_ids=positions,
            past_key_values=past if states.layers else None,
            use_cache=bool(states.layers),
        )

    return Pass(forward, real, real, where(rows, real, real, real & (column == 0)), targets)


def _past(layers: Layers) -> DynamicCache:
    """A cache that stands on these very tensors: made for each pass, since a pass adds its own to it."""
    past: Any = DynamicCache()
    for keys, values in layers:
        layer: Any = DynamicLayer()  # type: ignore[no-untyped-call]
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
        past.layers.append(layer)
    return past
