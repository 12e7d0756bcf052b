"""Vectors trained one after the other, each at a right angle to those before it. Knows no experiment."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from selfaware.errors import BadData
from selfaware.interventions.base import Constant, Intervention, Recipe, Step
from selfaware.interventions.steer import Vector
from selfaware.interventions.train import Projection, Run, train
from selfaware.models.hf import Model
from selfaware.types import Polarity, Question, Site, require


@dataclass(frozen=True)
class Orthogonal:
    """y + v with v trained as `like` is, but held orthogonal to the vectors before it, of the same seed and polarity.

    The first is `like` itself. Every later one starts from a Gaussian draw of its own; start, gradients and values are projected
    on what the earlier ones leave free, at each step.

    Attributes:
        like: how it is trained and where it is added.
        index: how many vectors come before it.

    Source: Goldman-Wetzler and Turner 2024, "I found >800 orthogonal 'write code' steering vectors".
    """

    like: Vector = field(default_factory=Vector)
    index: int = 1

    @property
    def needs(self) -> Sequence[Recipe]:
        """The vectors before it; for the first, itself."""
        return (self.like, *(Orthogonal(self.like, i) for i in range(1, self.index)))

    @property
    def follows(self) -> bool:
        """They are those of the same polarity."""
        return True

    @property
    def label(self) -> str:
        """As written on a page."""
        return f"{self.like.label}, orthogonal to {self.index} others" if self.index else self.like.label

    def fit(
        self,
        model: Model,
        examples: Sequence[Question],
        polarity: Polarity,
        seed: int,
        given: Sequence[Intervention],
        on_step: Step,
    ) -> Intervention:
        """The trained vector; for index 0 the one that is given.

        Raises:
            BadData: the vectors before it were not given or fill the space, or the index is negative.
            FitFailed: the loss is not finite.
        """
        before = [delta.v for made in given for delta in made.deltas.values() if isinstance(delta, Constant)]
        if self.index < 0 or not len(given) == len(before) == max(1, self.index):
            raise BadData(
                f"{self.label}: got {len(before)} vectors and index {self.index}; as many as come before it are needed, one at least. Fit them first."
            )
        if not self.index:
            return given[0]
        basis = torch.stack([v.detach().double().cpu() for v in before])
        site = model.resolve(Site.parse(self.like.site))
        run = Run(self._start(model, site, seed), polarity, seed, away_from(basis))
        (losses,) = train(model, [run], examples, self.like.training, on_step)
        (delta,) = run.intervention.deltas.values()
        v = delta.tensors()["v"].detach()
        cosines = torch.nn.functional.cosine_similarity(basis, v.double().cpu()[None])
        told = {
            "method": self.label,
            "losses": [round(x, 6) for x in losses],
            "largest_cosine": float(cosines.abs().max()),
        }
        return Intervention({site: Constant(v)}, self.like.positions, told)

    def _start(self, model: Model, site: Site, seed: int) -> Intervention:
        """The draw, before it is projected; hashed, since seed and index added up would collide."""
        name = hashlib.sha256(f"orthogonal\n{seed}\n{self.index}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(name[:8], "big") >> 1)
        v = torch.randn(model.output_width(site), generator=generator)
        return Intervention(
            {site: Constant((v / v.norm() * self.like.start_norm).to(model.device))}, self.like.positions
        )


def away_from(basis: Float[Tensor, "N D"]) -> Projection:
    """The projection on what is orthogonal to every row; worked out in float64 and given in the tensor's own type.

    Raises:
        BadData: rows that leave nothing, or that are not finite and different from zero.
    """
    count, width = basis.shape
    require(
        count < width,
        BadData(f"{count} vectors of width {width}: an orthogonal one has no room; fewer are needed. Stop before."),
    )
    require(
        bool(basis.isfinite().all()) and bool((basis.norm(dim=1) > 0).all()),
        BadData("vectors to stay orthogonal to: one is zero or not finite; none may be. Fit it again."),
    )
    units = basis.double() / basis.double().norm(dim=1, keepdim=True)
    span = torch.linalg.qr(units.T).Q  # orthonormal columns, also where the rows are not quite orthogonal

    def project(v: Tensor) -> Tensor:
        wide, held = v.double(), span.to(v.device)
        return (wide - held @ (held.T @ wide)).to(v)

    return project
