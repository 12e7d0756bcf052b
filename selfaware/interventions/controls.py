"""Controls that need no training: random vectors as long as the trained one, and scrambled weights. Knows no experiment."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from selfaware.errors import BadData
from selfaware.interventions.base import Constant, Delta, Intervention, LowRank, Recipe, Step, added
from selfaware.interventions.distil import Natural
from selfaware.interventions.given import Given
from selfaware.interventions.lora import Lora
from selfaware.interventions.steer import Vector
from selfaware.models.activations import outputs
from selfaware.models.batch import Row
from selfaware.models.hf import Model
from selfaware.types import Polarity, Question

EXAMPLES = 64
"""Training examples whose outputs give the residual's covariance; the first ones, both options of each."""


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
    def follows(self) -> bool:
        """What it needs is fitted at `high`, whatever its own polarity."""
        return False

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


@dataclass(frozen=True)
class ResidualVector:
    """A random direction with the residual's covariance at the site and positions of `like`, as long as its vector.

    v = Xᶜᵀ g / √(n − 1), with Xᶜ the site's n outputs, centred, and g Gaussian: before it is scaled to the norm of that
    seed's trained vector, v has mean zero and the outputs' own covariance. Outputs are taken without any edit at the
    positions that an edit at `answer` would touch, in the first 64 training examples with both options. A direction
    drawn evenly hits what the model never does; this one moves it where its own states lie. The `low` polarity is the
    same with its sign turned.

    Attributes:
        like: the recipe whose vector gives site, positions and norm, and whose template writes the examples.
        index: which of the seed's random vectors.
    """

    like: Vector = field(default_factory=Vector)
    index: int = 0

    @property
    def needs(self) -> Sequence[Recipe]:
        """The vector that gives the norm."""
        return (self.like,)

    @property
    def follows(self) -> bool:
        """What it needs is fitted at `high`, whatever its own polarity."""
        return False

    @property
    def label(self) -> str:
        """As written on a page."""
        return "random vector, residual covariance"

    def fit(
        self,
        model: Model,
        examples: Sequence[Question],
        polarity: Polarity,
        seed: int,
        given: Sequence[Intervention],
        on_step: Step,
    ) -> Intervention:
        """The random vector; nothing is trained. Costs a forward pass over at most 128 rows.

        Raises:
            BadData: the vector it is modelled on was not given, no examples, or outputs that do not vary.
        """
        if (
            len(given) != 1
            or len(given[0].deltas) != 1
            or not isinstance(next(iter(given[0].deltas.values())), Constant)
        ):
            raise BadData(
                f"{self.label}: got {len(given)} interventions; one trained vector is needed for its norm. Fit it first."
            )
        site, norm = next(iter(given[0].deltas)), given[0].norm()
        rows = []
        for question in examples[:EXAMPLES]:
            rendered = model.render(question, self.like.training.template)
            rows += [Row(rendered.prompt, spelled[0]) for spelled in rendered.options]
        if not rows:
            raise BadData(f"{self.label}: got no examples; the covariance needs some. Check the domain's train part.")
        x = outputs(model, site, rows).double()
        x = x - x.mean(0)
        g = torch.randn(len(x), generator=_generator(self.label, seed, self.index), dtype=torch.float64)
        v = x.T @ g  # the factor 1/√(n − 1) goes when the norm is set
        if not 0 < float(v.norm()) < math.inf:
            raise BadData(
                f"{self.label}: {len(x)} outputs at {site} that do not vary or are not finite; finite ones that differ are needed. Use another site."
            )
        v = (v / v.norm() * norm * (1 if polarity == "high" else -1)).float()
        told = {"method": self.label, "norm_of": self.like.label, "index": self.index, "outputs": len(x)}
        return Intervention({site: Constant(v)}, given[0].positions, told)


@dataclass(frozen=True)
class Scrambled:
    """What `like` makes of the same seed, with its directions drawn anew: sites, positions and sizes stay.

    A constant becomes a Gaussian direction of its norm. A low-rank delta keeps A and the scale, hence when and how
    strongly it fires, and gets a Gaussian B with the norm of each column kept; for a rank above 1 the norm of B·A need not be,
    since the columns' angles are new. The `low` polarity is the same with its sign turned.

    Attributes:
        like: the recipe whose deltas are scrambled.
        index: which of the seed's scrambles.
        gates: True draws A anew as well, with the norm of each row kept: an adapter of that size that no training has seen.
    """

    like: Given | Lora | Vector | Natural
    index: int = 0
    gates: bool = False

    @property
    def needs(self) -> Sequence[Recipe]:
        """The intervention that is scrambled."""
        return (self.like,)

    @property
    def follows(self) -> bool:
        """What it needs is fitted at `high`, whatever its own polarity."""
        return False

    @property
    def label(self) -> str:
        """As written on a page."""
        return f"{'untrained copy of' if self.gates else 'scrambled'} {self.like.label}"

    def fit(
        self,
        model: Model,
        examples: Sequence[Question],
        polarity: Polarity,
        seed: int,
        given: Sequence[Intervention],
        on_step: Step,
    ) -> Intervention:
        """The scrambled intervention; nothing is trained.

        Raises:
            BadData: the intervention it is modelled on was not given.
        """
        if len(given) != 1 or not given[0].deltas:
            raise BadData(
                f"{self.label}: got {len(given)} interventions; one with deltas is needed to be scrambled. Fit it first."
            )
        generator = _generator("untrained" if self.gates else "scrambled", seed, self.index)
        sign = 1 if polarity == "high" else -1
        deltas = {
            site: _scrambled(delta, sign, generator, self.gates) for site, delta in sorted(given[0].deltas.items())
        }
        told = {"method": self.label, "norm_of": self.like.label, "index": self.index}
        return Intervention(deltas, given[0].positions, told)


def _scrambled(delta: Delta, sign: int, generator: torch.Generator, gates: bool) -> Delta:
    if isinstance(delta, LowRank):
        a = _drawn(delta.a.T, generator).T if gates else delta.a.detach().float().cpu()
        return LowRank(a.contiguous(), sign * _drawn(delta.b, generator), delta.scale)
    return Constant(sign * _drawn(added(delta)[:, None], generator)[:, 0])


def _drawn(columns: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian columns with the norms of those; on the CPU, where a draw is the same on every machine."""
    wanted = columns.detach().float().cpu()
    drawn = torch.randn(wanted.shape, generator=generator)
    return drawn / drawn.norm(dim=0) * wanted.norm(dim=0)


def _generator(kind: str, seed: int, index: int) -> torch.Generator:
    """Draws of their own for each kind of control, seed and index: hashed, since sums of small numbers would collide."""
    name = hashlib.sha256(f"{kind}\n{seed}\n{index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(name[:8], "big") >> 1)
