"""Which edits are attached, at which positions of a pass they act, what they touched. Knows modules; must not know what an edit means."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Int
from torch import Tensor, nn

from selfaware.errors import BadModel
from selfaware.models import hooks
from selfaware.models.batch import Acts, Touched, Where
from selfaware.types import Positions


@dataclass(frozen=True)
class _Edit:
    blocks: tuple[int, ...]
    positions: Positions
    held: str


@final
class Edits:
    """The edits attached to one net. They nest, and nothing stays behind, also when attaching fails half-way."""

    def __init__(self) -> None:
        self._attached: list[_Edit] = []
        self._where: Where | None = None
        self._only_held = False
        self._counting = True

    @property
    def none(self) -> bool:
        """Whether nothing is attached."""
        return not self._attached

    @property
    def none_but_held(self) -> bool:
        """Whether all that is attached counts as part of the frozen model."""
        return all(e.held for e in self._attached)

    @property
    def held(self) -> tuple[str, ...]:
        """Keys of the edits that count as part of the frozen model."""
        return tuple(e.held for e in self._attached if e.held)

    @property
    def prompt(self) -> bool:
        """Whether an edit that is not held acts on prompts."""
        return any(e.positions == "all" for e in self._attached if not e.held)

    @property
    def owners(self) -> Int[Tensor, " B"] | None:
        """The owner of each row of the pass under way."""
        return None if self._where is None else self._where.owners

    def floor(self, default: int) -> int:
        """The lowest block that an edit changes, those held left out; `default` where there is none."""
        return min((b for e in self._attached if not e.held for b in e.blocks), default=default)

    @contextmanager
    def attached(
        self,
        changes: Sequence[tuple[nn.Module, int, hooks.Change]],
        positions: Positions,
        held: str = "",
        owner: int | None = None,
    ) -> Iterator[Touched]:
        """Within the context each module's output is changed at `positions`; gives the count of what was touched.

        Args:
            changes: module, its block, and what is done to its output.
            held: a key that stands for the edit's tensors; with one, the edit is part of the frozen model.
            owner: act only on rows of that owner.
        """
        touched = Touched(sites=len(changes))

        def at_positions(change: hooks.Change) -> hooks.Change:
            def masked(x: Tensor, y: Tensor) -> Tensor:
                acts = None if self._only_held and not held else self._acts(positions, owner, y)
                if acts is None:
                    return y
                if self._counting:
                    touched.firings += 1
                    touched.tokens += acts.count
                wide = y
                if y.ndim == 2:  # OPT's MLP and a shared expert see every position as a row
                    x, wide = (t.reshape(*acts.mask.shape, t.shape[-1]) for t in (x, y))
                made = change(x, wide)
                if not (acts.everywhere and acts.mask.shape == wide.shape[:2]):
                    made = hooks.mask_in(made, wide, acts.mask)
                return made if y.ndim != 2 else made.view_as(y)

            return masked

        with hooks.changed([(module, at_positions(change)) for module, _, change in changes]):
            before = self._attached
            self._attached = [*before, _Edit(tuple(block for _, block, _ in changes), positions, held)]
            try:
                yield touched
            finally:
                self._attached = before

    def _acts(self, positions: Positions, owner: int | None, y: Tensor) -> Acts | None:
        if self._where is not None:
            return self._where.acts(positions, owner)
        if positions == "all":
            shape = y.shape[:2] if y.ndim == 3 else (1, len(y))
            ones = torch.ones(shape, dtype=torch.bool, device=y.device)
            return Acts(ones, ones.numel(), True)
        raise BadModel(
            f"positions '{positions}': a bare forward pass does not know them. Use Model.logprobs, or positions 'all'."
        )

    @contextmanager
    def at(self, where: Where) -> Iterator[None]:
        """Within the context a forward pass has these positions for the edits to act at."""
        before = self._where
        self._where = where
        try:
            yield
        finally:
            self._where = before

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Within the context only held edits act, and nothing is counted: for what is kept for reuse."""
        before = self._only_held, self._counting
        self._only_held, self._counting = True, False
        try:
            yield
        finally:
            self._only_held, self._counting = before

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Within the context edits act and nothing is counted."""
        before = self._counting
        self._counting = False
        try:
            yield
        finally:
            self._counting = before
