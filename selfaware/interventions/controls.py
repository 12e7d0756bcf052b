"""Controls that need no training: a random vector as long as the trained one."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from selfaware.errors import BadData
from selfaware.interventions.base import Constant, Intervention, Recipe, Step
from selfaware.interventions.steer import Vector
from selfaware.models.hf import Model
from selfaware.types import Polarity, Question


@dataclass(frozen=True)
class RandomVector:
    """A Gaussian direction at the site and positions of `like`, with the norm of that recipe's vector of the same seed.

    The `low` polarity is the same direction with its sign turned, so that an effect is defined as for a fitted arm.

    Attributes:
        like: the recipe whose vector gives site, positions and norm.
        index: which of the seed's random vectors.
    """

    like: Vector = field(default_factory=Vector)
    index: int = 0

    @property
    def needs(self) -> Sequence[Recipe]:
        """The vector that gives the norm."""
        return (self.like,)

    @property
    def label(self) -> str:
        """As written on a page."""
        return "random vector"

    def fit(
        self,
        model: Model,
        examples: Sequence[Question],
        polarity: Polarity,
        seed: int,
        given: Sequence[Intervention],
        on_step: Step,
    ) -> Intervention:
        """The random vector; nothing is trained.

        Raises:
            BadData: the vector it is modelled on was not given.
        """
        if len(given) != 1 or len(given[0].deltas) != 1:
            raise BadData(
                f"random vector: got {len(given)} interventions; one trained vector is needed for its norm. Fit it first."
            )
        (site, delta), norm = next(iter(given[0].deltas.items())), given[0].norm()
        generator = torch.Generator().manual_seed(1_000_003 * (seed + 1) + self.index)
        start = torch.randn(delta.tensors()["v"].shape[0], generator=generator)
        v = start / start.norm() * norm * (1 if polarity == "high" else -1)
        return Intervention(
            {site: Constant(v)},
            given[0].positions,
            {"method": self.label, "norm_of": self.like.label, "index": self.index},
        )
