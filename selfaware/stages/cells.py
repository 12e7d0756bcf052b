"""What a cell is: frozen descriptions, hashed into ids. Knows nouns and recipes; runs nothing.

A *fit cell* is model × training questions × recipe × polarity × seed; an *ask cell* is a fit cell, or the base model,
× questions × how they are asked; a *look cell* is a readout inside the model with some fit cells at hand. A new question set
never refits; two experiments that need a cell share it.
"""

from dataclasses import dataclass

from selfaware import spec
from selfaware.interventions.base import Recipe
from selfaware.readouts.base import Readout
from selfaware.types import Polarity, Sampling, Template


@dataclass(frozen=True)
class Fit:
    """A fit cell: what is trained on what. `examples` is the digest of the training questions."""

    model: str
    dtype: str
    examples: str
    recipe: Recipe
    polarity: Polarity
    seed: int

    @property
    def id(self) -> str:
        """The cell's id."""
        return spec.digest(self)


@dataclass(frozen=True)
class Ask:
    """An ask cell: who is asked what, and how. `fit` is a fit cell's id, empty for the base model."""

    model: str
    dtype: str
    fit: str
    questions: str
    template: Template

    @property
    def id(self) -> str:
        """The cell's id."""
        return spec.digest(self)


@dataclass(frozen=True)
class Say:
    """An ask cell whose answers are sampled in the model's own words."""

    model: str
    dtype: str
    fit: str
    questions: str
    template: Template
    sampling: Sampling

    @property
    def id(self) -> str:
        """The cell's id."""
        return spec.digest(self)


@dataclass(frozen=True)
class Read:
    """An ask cell in which passages are read, not answered."""

    model: str
    dtype: str
    fit: str
    passages: str

    @property
    def id(self) -> str:
        """The cell's id."""
        return spec.digest(self)


@dataclass(frozen=True)
class Look:
    """A look cell: what is read inside a model on which questions, with the interventions of those fit cells at hand."""

    model: str
    dtype: str
    fits: tuple[str, ...]
    questions: str
    readout: Readout

    @property
    def id(self) -> str:
        """The cell's id."""
        return spec.digest(self)
