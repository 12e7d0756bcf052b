"""An adapter with a direction taken away: from what it writes, or from the residual stream after it. Knows no experiment."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from selfaware.errors import BadData, BadModel
from selfaware.interventions.anchored import Anchored
from selfaware.interventions.base import Delta, Intervention, LowRank, Pinned, Recipe, Step
from selfaware.interventions.controls import RandomVector, ResidualVector
from selfaware.interventions.distil import Natural, vector_of
from selfaware.interventions.given import Given
from selfaware.interventions.lora import Lora
from selfaware.interventions.orthogonal import Orthogonal
from selfaware.interventions.steer import Vector
from selfaware.interventions.texts import long_enough, outputs, rows_over, tokens
from selfaware.models.hf import Model
from selfaware.models.sites import POST_NORMS
from selfaware.types import Polarity, Question, Site, require

Directed = Natural | Vector | Orthogonal | Given | RandomVector | ResidualVector
"""Recipes of one vector, whose direction is taken away; a random one is the control."""

WRITERS = frozenset({"down_proj", "o_proj", "out_proj", "c_proj", "fc2", "dense", "dense_4h_to_h", "wo", "w2"})
"""Last names of modules whose output is added to the residual stream. A width alone says too little: queries have it too."""


@dataclass(frozen=True)
class AblatedB:
    """The adapter with a direction taken out of what it writes: B ← B − v̂ v̂ᵀ B, A as it is.

    On every module that writes in the direction's own space: the direction's own site, and, where both are added to the residual
    stream as they are, every other. At rank 1 with v̂ along B nothing is left of the adapter: this is then a deletion.

    Attributes:
        of: the adapter.
        direction: a vector; its length does not count.

    Source: Soligo et al. 2025, arXiv 2506.11618 (ablation of a direction); for B, the code beside Bozoukov et al. 2025, arXiv
        2511.04875.
    """

    of: Lora | Given | Anchored = field(default_factory=Lora)
    direction: Directed = field(default_factory=Natural)

    @property
    def needs(self) -> Sequence[Recipe]:
        """The adapter and the direction."""
        return (self.of, self.direction)

    @property
    def follows(self) -> bool:
        """Both are those of the same polarity."""
        return True

    @property
    def label(self) -> str:
        """As written on a page."""
        return f"{self.of.label} without {self.direction.label} in B"

    def fit(
        self,
        model: Model,
        examples: Sequence[Question],
        polarity: Polarity,
        seed: int,
        given: Sequence[Intervention],
        on_step: Step,
    ) -> Intervention:
        """The adapter that is left; nothing is trained.

        Its provenance says which share of ‖B‖ is `left`, at each module and, by sums of squares, over all.

        Raises:
            BadData: adapter and vector were not given, the vector is zero, or the adapter writes nowhere in its space.
        """
        adapter, site, v = _pair(self.label, given)
        deltas: dict[Site, Delta] = dict(adapter.deltas)
        left: dict[str, float] = {}
        before = after = 0.0
        for own, delta in adapter.deltas.items():
            if not isinstance(delta, LowRank) or not _same_space(model, own, site):
                continue
            b = delta.b.detach().double().cpu()
            less = b - torch.outer(v, v @ b)
            deltas[own] = LowRank(delta.a.detach(), less.to(delta.b), delta.scale)
            whole, rest = float(b.pow(2).sum()), float(less.pow(2).sum())
            left[str(own)] = (rest / whole) ** 0.5 if whole else 0.0
            before, after = before + whole, after + rest
        if not left:
            raise BadData(
                f"{self.label}: got a direction at {site} and an adapter on {', '.join(str(s) for s in list(adapter.deltas)[:3])}, …; a module that "
                "writes in the direction's space is needed. Take the direction at the adapter's site, or at a block's output where no norm follows the MLP."
            )
        share = (after / before) ** 0.5 if before else 0.0
        return Intervention(deltas, adapter.positions, {"method": self.label, "left": left, "left_of_all": share})


@dataclass(frozen=True)
class AblatedStream:
    """The adapter as it is, and the residual stream's component along v̂ held at the base model's mean from its first block on.

    At each block's output y ← y − (y·v̂ − m) v̂, where the adapter acts, with m the mean of y·v̂ there in the base model, over
    all tokens of neutral texts but the first. A component at zero would be a change of its own; at the mean it says nothing.

    Attributes:
        of: the adapter.
        direction: a vector in the units of the residual stream; its length does not count.
        texts: neutral texts.

    Source: Arditi et al. 2024, arXiv 2406.11717 (directional ablation, there to zero).
    """

    of: Lora | Given | Anchored = field(default_factory=Lora)
    direction: Directed = field(default_factory=Natural)
    texts: tuple[str, ...] = ()

    @property
    def needs(self) -> Sequence[Recipe]:
        """The adapter and the direction."""
        return (self.of, self.direction)

    @property
    def follows(self) -> bool:
        """Both are those of the same polarity."""
        return True

    @property
    def label(self) -> str:
        """As written on a page."""
        return f"{self.of.label}, {self.direction.label} held in the residual stream"

    def fit(
        self,
        model: Model,
        examples: Sequence[Question],
        polarity: Polarity,
        seed: int,
        given: Sequence[Intervention],
        on_step: Step,
    ) -> Intervention:
        """The adapter with its pinned components; nothing is trained. Costs a pass over the texts.

        Raises:
            BadData: adapter and vector were not given, the vector is zero or not in the residual stream's units, no texts or one of a
                single token, or the adapter itself changes a block's output.
            BadModel: an edit is attached, or a text is longer than the context.
        """
        adapter, site, v = _pair(self.label, given)
        require(
            in_residual(model, site),
            BadData(
                f"{self.label}: got a direction at {site}; one in the residual stream's units is needed. Take it at {site.block}, or at {site.block}.mlp.residual."
            ),
        )
        sites = [Site(block) for block in range(min(s.block for s in adapter.deltas), len(model.blocks))]
        taken = [str(s) for s in sites if s in adapter.deltas]
        require(
            not taken,
            BadData(
                f"{self.label}: got an adapter that changes the output of block {', '.join(taken)}; that place is needed for the component. Use one on modules inside the blocks."
            ),
        )
        levels = mean_levels(model, sites, v, self.texts)
        unit = v.float()
        pins = {s: Pinned(unit, level) for s, level in zip(sites, levels, strict=True)}
        told = {"method": self.label, "levels": {str(s): level for s, level in zip(sites, levels, strict=True)}}
        return Intervention({**adapter.deltas, **pins}, adapter.positions, told)


def mean_levels(model: Model, sites: Sequence[Site], v: Float[Tensor, " D"], texts: Sequence[str]) -> tuple[float, ...]:
    """At each site the mean of its output's component along v, over all tokens of the texts but the first; of the base model.

    Raises:
        BadData: no texts, or one of a single token.
        BadModel: an edit is attached, or a text is longer than the context.
    """
    if not model.untouched:
        raise BadModel(
            f"mean component: an edit is attached; those of {model.name} itself are needed. Leave its context first."
        )
    require(bool(texts), BadData("mean component: got no texts; neutral ones are needed. Give some."))
    rows = []
    for at, text in enumerate(texts):
        ids, skip = tokens(model, text)
        long_enough(f"neutral text {at}", ids, skip, 1, model.context)
        rows += rows_over(ids, skip, len(ids) - skip, "answer")
    found = []
    for outs in outputs(model, sites, rows):
        # What a row gives begins at the token before, an outlier.
        found.append(float(torch.cat([made[1:].double() @ v.double().cpu() for made in outs]).mean()))
    return tuple(found)


def in_residual(model: Model, site: Site) -> bool:
    """Whether what a site gives out is the residual stream, or is added to it as it is.

    That is a block's output, its MLP's after any norm, and, where no norm follows the MLP, the outputs of MLP, attention and
    their last projections.
    """
    if site.part in ("", "mlp.residual"):
        return True
    parts = [name.rpartition(".")[2] for name, _ in model.blocks[site.block].named_modules()]
    if any(norm in parts for norm in POST_NORMS):
        return False
    name = site.part.rpartition(".")[2]
    return name in WRITERS or site.part in ("mlp", "self_attn", "attn", "attention", "linear_attn")


def _same_space(model: Model, own: Site, site: Site) -> bool:
    """Whether a module's output and a vector's site are of one space; a module that reads (queries, gates) is not."""
    module = model.module(own)
    if not isinstance(module, nn.Linear) or model.output_width(own) != model.output_width(site):
        return False
    return model.resolve(own) == site or (in_residual(model, own) and in_residual(model, site))


def _pair(what: str, given: Sequence[Intervention]) -> tuple[Intervention, Site, Float[Tensor, " D"]]:
    """The adapter, the vector's site and its direction, a unit vector in float64."""
    require(
        len(given) == 2 and bool(given[0].deltas),
        BadData(f"{what}: got {len(given)} interventions; an adapter and a vector are needed. Fit them first."),
    )
    site, v = vector_of(what, given[1])
    length = float(v.double().norm())
    require(
        0 < length < float("inf"),
        BadData(f"{what}: got a vector of length {length:g}; a direction is needed. Use another one."),
    )
    return given[0], site, v.double() / length
