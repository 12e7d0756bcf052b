"""What no edit changes, kept for reuse: keys and values of prompts, residuals below a block. Knows tensors, no model.

Where an intervention acts from the last prompt token on, everything before that token is the same in every step,
epoch, seed, rank and polarity; so is everything below the first edited block. Both are computed once and kept here,
without padding.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

Ids = tuple[int, ...]
Key = Ids | tuple[int, Ids, Ids]


class PrefixCache:
    """Keys to tensors, least recently used out first beyond the budget.

    Prompt ids lead to their keys and values `[L, 2, H, T, d]`; block, prompt and answer to the residual that enters the
    block, `[T, D]`, where the block after the last is the head.

    Args:
        budget: bytes to hold at most; 0 keeps nothing.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.held = 0
        self._kept: OrderedDict[Key, Tensor] = OrderedDict()

    def get(self, key: Key) -> Tensor | None:
        """What is held under that key, or None."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def put(self, key: Key, states: Tensor) -> None:
        """Holds `states`, dropping the oldest until the budget is kept."""
        size = states.numel() * states.element_size()
        if size > self.budget or key in self._kept:
            return
        while self.held + size > self.budget:
            _, old = self._kept.popitem(last=False)
            self.held -= old.numel() * old.element_size()
        self._kept[key] = states
        self.held += size

    def __len__(self) -> int:
        return len(self._kept)


def split(layers: Sequence[tuple[Tensor, Tensor]], lengths: Sequence[int]) -> list[Tensor]:
    """One unpadded `[L, 2, H, T, d]` for each row of a left-padded batch.

    Args:
        layers: for each block its keys and values, `[B, H, T, d]`.
        lengths: real tokens of each row.
    """
    both = torch.stack([torch.stack((keys, values)) for keys, values in layers])
    return [both[:, :, row, :, both.shape[-2] - n :].clone() for row, n in enumerate(lengths)]


def join(states: Sequence[Tensor | None]) -> list[tuple[Tensor, Tensor]]:
    """The left-padded batch of unpadded states: for each block its keys and values, `[B, H, T, d]`.

    Args:
        states: `[L, 2, H, T, d]` each, None for a row without tokens; one at least is a tensor.
    """
    some = [s for s in states if s is not None]
    longest, first = max(s.shape[3] for s in some), some[0]
    batch = first.new_zeros((first.shape[0], 2, len(states), first.shape[2], longest, first.shape[4]))
    for row, s in enumerate(states):
        if s is not None:
            batch[:, :, row, :, longest - s.shape[3] :] = s
    return [(layer[0], layer[1]) for layer in batch]
