"""Keys and values of prompts that nothing edits, kept for reuse. Knows tensors and a memory budget, no model.

Where an intervention acts from the last prompt token on, everything before that token is the same in every step,
epoch, seed, rank and polarity: it is computed once and kept here, for each prompt without padding.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

Ids = tuple[int, ...]


class PrefixCache:
    """Prompt ids to their keys and values `[L, 2, H, T, d]`, least recently used out first beyond the budget.

    Args:
        budget: bytes to hold at most; 0 keeps nothing.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.held = 0
        self._kept: OrderedDict[Ids, Tensor] = OrderedDict()

    def get(self, prompt: Ids) -> Tensor | None:
        """The prompt's keys and values, or None when they are not held."""
        found = self._kept.get(prompt)
        if found is not None:
            self._kept.move_to_end(prompt)
        return found

    def put(self, prompt: Ids, states: Tensor) -> None:
        """Holds `states` `[L, 2, H, T, d]`, dropping the oldest until the budget is kept."""
        size = states.numel() * states.element_size()
        if size > self.budget or prompt in self._kept:
            return
        while self.held + size > self.budget:
            _, old = self._kept.popitem(last=False)
            self.held -= old.numel() * old.element_size()
        self._kept[prompt] = states
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


def join(states: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """The left-padded batch of unpadded states: for each block its keys and values, `[B, H, T, d]`."""
    longest = max(s.shape[3] for s in states)
    first = states[0]
    batch = first.new_zeros((first.shape[0], 2, len(states), first.shape[2], longest, first.shape[4]))
    for row, s in enumerate(states):
        batch[:, :, row, :, longest - s.shape[3] :] = s
    return [(layer[0], layer[1]) for layer in batch]
