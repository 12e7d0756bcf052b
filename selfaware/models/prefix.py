"""What no edit changes, kept for reuse: keys and values of prompts, residuals below a block. Knows tensors, no model.

Everything is kept without padding, in memory up to a budget. Beyond it the oldest go into memory-mapped files when there is
a folder for them, and are dropped when there is none.
"""

import os
import shutil
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import final

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

CHUNK = 64 * 2**20
"""Bytes that go into one file."""


@final
class PrefixCache:
    """Keys to tensors, least recently used out first beyond the budget.

    Args:
        budget: bytes to hold at most in memory; 0 and no folder keep nothing.
        folder: where files may lie; one of this process is made in it, and removed by `close`, with the cache, or when the process ends.
    """

    def __init__(self, budget: int, folder: Path | None = None) -> None:
        self.budget = budget
        self.held = 0
        self._kept: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._files = None if folder is None else _Files(folder)

    def get(self, key: Hashable) -> Tensor | None:
        """What is held under that key, or None."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        return None if self._files is None else self._files.get(key)

    def put(self, key: Hashable, states: Tensor) -> None:
        """Holds `states`; the oldest make room for them."""
        if key in self._kept or (self._files is not None and key in self._files):
            return
        size = _size(states)
        if size > self.budget:
            if self._files is not None:
                self._files.put([(key, states)])
            return
        while self.held + size > self.budget:
            self._make_room()
        self._kept[key] = states
        self.held += size

    def _make_room(self) -> None:
        # A file takes many at once, or a sweep beyond the budget would write one for each row.
        leaving: list[tuple[Hashable, Tensor]] = []
        least = 1 if self._files is None else min(CHUNK, self.budget // 2)
        while self._kept and sum(_size(t) for _, t in leaving) < least:
            leaving.append(self._kept.popitem(last=False))
        self.held -= sum(_size(t) for _, t in leaving)
        if self._files is not None:
            self._files.put(leaving)

    def close(self) -> None:
        """Nothing is held any more, and no file is left."""
        self._kept.clear()
        self.held = 0
        if self._files is not None:
            self._files.close()

    def __len__(self) -> int:
        return len(self._kept) + (0 if self._files is None else len(self._files))


@final
class Laid:
    """The last batches that were laid out from what is kept, for sweeps that ask the same rows again and again.

    Args:
        budget: bytes to hold at most; a batch larger than that is laid out anew each time.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._laid: OrderedDict[Hashable, list[Tensor]] = OrderedDict()

    def get(self, key: Hashable, lay: Callable[[], Sequence[Tensor]]) -> Sequence[Tensor]:
        """What `lay` gave for that key, now or the last time."""
        if key in self._laid:
            self._laid.move_to_end(key)
            return self._laid[key]
        made = list(lay())
        size = sum(map(_size, made))
        if size <= self.budget:
            while sum(_size(t) for each in self._laid.values() for t in each) + size > self.budget:
                self._laid.popitem(last=False)
            self._laid[key] = made
        return made


@final
class _Files:
    """Tensors in memory-mapped safetensors, in a folder named for this process; folders of dead ones are swept away."""

    def __init__(self, folder: Path) -> None:
        _sweep(folder)
        self.folder = folder / f"{os.getpid()}-{id(self):x}"
        self._gone = weakref.finalize(self, shutil.rmtree, self.folder, True)
        self._where: dict[Hashable, tuple[int, str]] = {}
        self._count = 0

    def put(self, entries: Sequence[tuple[Hashable, Tensor]]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        names = {key: str(at) for at, (key, _) in enumerate(entries)}
        save_file({names[key]: states.contiguous() for key, states in entries}, self._path(self._count))
        self._where |= {key: (self._count, name) for key, name in names.items()}
        self._count += 1

    def get(self, key: Hashable) -> Tensor | None:
        if key not in self._where:
            return None
        number, name = self._where[key]
        with safe_open(self._path(number), framework="pt") as file:
            return file.get_tensor(name)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number}.safetensors"

    def close(self) -> None:
        self._where.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._where

    def __len__(self) -> int:
        return len(self._where)


def _sweep(folder: Path) -> None:
    """Removes what killed processes left."""
    for left in folder.glob("*-*") if folder.is_dir() else ():
        number = left.name.partition("-")[0]
        if number.isdigit() and int(number) != os.getpid() and not _alive(int(number)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _size(states: Tensor) -> int:
    return states.numel() * states.element_size()


def split(layers: Sequence[tuple[Tensor, Tensor]], lengths: Sequence[int]) -> list[Tensor]:
    """One unpadded `[L, 2, H, T, d]` for each row of a left-padded batch.

    Args:
        layers: for each block its keys and values, `[B, H, T, d]`.
        lengths: real tokens of each row.
    """
    both = torch.stack([torch.stack((keys, values)) for keys, values in layers])
    return [both[:, :, row, :, both.shape[-2] - n :].clone() for row, n in enumerate(lengths)]


def join(states: Sequence[Tensor | None], first: int = 0) -> Tensor:
    """The left-padded batch of unpadded states, from block `first` on: `[L - first, 2, B, H, T, d]`.

    Args:
        states: `[L, 2, H, T, d]` each, None for a row without tokens; one at least is a tensor.
    """
    some = [s for s in states if s is not None]
    longest, one = max(s.shape[3] for s in some), some[0]
    blocks, _, heads, _, size = one.shape
    batch = one.new_empty((blocks - first, 2, len(states), heads, longest, size))
    for row, s in enumerate(states):
        start = longest - (0 if s is None else s.shape[3])
        batch[:, :, row, :, :start] = 0  # what is masked must still be a number
        if s is not None:
            batch[:, :, row, :, start:] = s[first:]
    return batch


def by_block(batch: Tensor, first: int = 0) -> list[tuple[Tensor, Tensor]]:
    """For each block its keys and values, `[B, H, T, d]`; those below `first` hold zeros and no memory."""
    empty = batch.new_zeros(()).expand(batch.shape[2:])
    return [(empty, empty)] * first + [(layer[0], layer[1]) for layer in batch]
