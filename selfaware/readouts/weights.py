"""An adapter's own tensors as numbers, for their directions and lengths. Knows interventions; must not know what they are for."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from selfaware.errors import BadData
from selfaware.interventions.base import Intervention, LowRank
from selfaware.models.hf import Model
from selfaware.readouts.base import Looked, OnStep
from selfaware.types import Open, Passage, Question


@dataclass(frozen=True)
class Weights:
    """The tensors of one intervention.

    What is seen: `a`, every A of its low-rank deltas laid end to end in the order of their sites, `b` likewise every B, or what
    constants add, and `norm` `[1]`, that of all that is added or of the weights that make it (`Intervention.norm`).
    """

    @property
    def label(self) -> str:
        """As written beside a progress bar."""
        return "weights"

    def look(
        self,
        model: Model,
        given: Sequence[Intervention],
        asked: Sequence[Question] | Sequence[Open] | Sequence[Passage],
        on_step: OnStep,
    ) -> Looked:
        """See the class; nothing runs.

        Raises:
            BadData: not exactly one intervention with deltas.
        """
        if len(given) != 1 or not given[0].deltas:
            raise BadData(f"weights: got {len(given)} interventions; one with deltas is needed. Fit it first.")
        reads, writes = [torch.zeros(0)], list[Tensor]()
        for _, delta in sorted(given[0].deltas.items()):
            tensors = delta.tensors()
            if isinstance(delta, LowRank):
                reads.append(_flat(tensors["a"]))
            writes.append(_flat(tensors["b" if isinstance(delta, LowRank) else "v"]))
        norm = torch.tensor([given[0].norm()])
        return Looked({"a": torch.cat(reads), "b": torch.cat(writes), "norm": norm})


def _flat(tensor: Tensor) -> Tensor:
    return tensor.detach().float().cpu().flatten()
