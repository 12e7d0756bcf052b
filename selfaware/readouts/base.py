"""What a look inside a model is, and what it gives back. Knows nouns; must not know who asks or why."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor

from selfaware.interventions.base import Intervention
from selfaware.models.hf import Model
from selfaware.types import Open, Passage, Question

OnStep = Callable[[float], None]


@dataclass(frozen=True)
class Looked:
    """What was seen.

    Attributes:
        numbers: tensors by name, of any shape; each readout says which.
        words: lists of text by name (tokens, say).
    """

    numbers: Mapping[str, Tensor]
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@runtime_checkable
class Readout(Protocol):
    """A frozen description of what is read inside a model."""

    @property
    def label(self) -> str:
        """As written beside a progress bar."""
        ...

    def look(
        self,
        model: Model,
        given: Sequence[Intervention],
        asked: Sequence[Question] | Sequence[Open] | Sequence[Passage],
        on_step: OnStep,
    ) -> Looked:
        """What is seen in the model.

        Args:
            given: the interventions that it is about, in the order that the readout wants; none are attached.
            asked: the questions or texts on which it looks.
            on_step: told the share that is done, 0 to 1.
        """
        ...
