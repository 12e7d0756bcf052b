"""LoRA of any rank on any set of linear modules."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from selfaware.errors import BadData
from selfaware.interventions.base import Intervention, LowRank, Recipe, Step
from selfaware.interventions.together import fit_together
from selfaware.interventions.train import Training
from selfaware.models.hf import Model
from selfaware.types import Polarity, Positions, Question


@dataclass(frozen=True)
class Lora:
    """y + (alpha / R) · B(A x) on each linear module of `site`.

    Attributes:
        site: `all-linear`, a part such as `15.mlp` (the linear modules inside), one module, `15.mlp.down_proj`, or a part of several
            blocks, `10-19.mlp`.
        rank: R.
        alpha: the numerator of the scale.
        rank_stabilised: True divides alpha by √R (Kalajdzievski 2023), False by R (Hu et al. 2021).
        dropout: share of inputs dropped in training.

    Source: Hu et al. 2021 (arXiv 2106.09685); A uniform in ±1/√D_in and B zero, as PEFT starts them.
    """

    site: str = "15.mlp.down_proj"
    rank: int = 1
    alpha: float = 64.0
    rank_stabilised: bool = False
    dropout: float = 0.0
    positions: Positions = "answer"
    training: Training = field(default_factory=Training)

    @property
    def needs(self) -> Sequence[Recipe]:
        """Nothing comes before it."""
        return ()

    @property
    def follows(self) -> bool:
        """Nothing comes before it."""
        return False

    @property
    def label(self) -> str:
        """As written on a page."""
        return f"LoRA rank {self.rank}"

    def start(self, model: Model, seed: int) -> Intervention:
        """The LoRA before training: A drawn by the seed, B zero.

        Raises:
            BadData: a rank below 1, or above the model's width.
        """
        if self.rank < 1:
            raise BadData(f"rank {self.rank}: a LoRA needs a rank of at least 1. Use --set rank=1.")
        if self.rank > model.width:
            raise BadData(
                f"rank {self.rank}: {model.name} is {model.width} wide; a rank of at most that is needed, beyond it nothing is added. Use --set rank={model.width}."
            )
        generator = torch.Generator().manual_seed(seed)
        drops = torch.Generator(device=model.device).manual_seed(seed + 1) if self.dropout else None
        scale = self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)
        deltas = {}
        for site in model.linears(self.site):
            module = model.module(site)
            fan_in, fan_out = int(module.in_features), int(module.out_features)  # type: ignore[arg-type]
            a = (torch.rand(self.rank, fan_in, generator=generator) * 2 - 1) / math.sqrt(fan_in)
            deltas[site] = LowRank(
                a.to(model.device), torch.zeros(fan_out, self.rank, device=model.device), scale, self.dropout, drops
            )
        return Intervention(deltas, self.positions)

    def fit(
        self,
        model: Model,
        examples: Sequence[Question],
        polarity: Polarity,
        seed: int,
        given: Sequence[Intervention],
        on_step: Step,
    ) -> Intervention:
        """The trained LoRA.

        Raises:
            BadData: a rank below 1.
            FitFailed: the loss is not finite.
        """
        return fit_together(model, self, examples, [(polarity, seed)], on_step)[0]
