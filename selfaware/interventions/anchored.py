"""Training that is held near the base model on neutral text, by a second loss. Knows texts as text; must not know their use.

A recipe of its own and no setting of `Training`: a further field there would give every fit that is stored another id.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from selfaware.errors import BadData
from selfaware.interventions.base import Intervention, Recipe, Step
from selfaware.interventions.lora import Lora
from selfaware.interventions.steer import Vector
from selfaware.interventions.texts import long_enough, tokens
from selfaware.interventions.together import fit_together
from selfaware.interventions.train import Beside
from selfaware.models.batch import Row
from selfaware.models.hf import Model
from selfaware.types import Polarity, Positions, Question, require

TEXTS = 2
"""Texts in a step; steps take turns through all of them."""


@dataclass(frozen=True)
class Anchored:
    """What `of` makes of the examples when kl · KL(base ‖ adapted) on neutral texts is added to its loss.

    The divergence is the mean over tokens of two texts at each step, nats.

    Attributes:
        of: what is trained.
        kl: weight of the divergence.
        texts: neutral texts. At `answer` and `all` the edit acts on each from its start; at `last_prompt` in the middle of
            it, and what follows feels it through keys and values, as an answer does.

    Source: Soligo et al. 2026 (arXiv 2602.07852), who need it (weight 0.1) for a direction that stays narrow.
    """

    of: Vector | Lora = field(default_factory=Vector)
    kl: float = 0.1
    texts: tuple[str, ...] = ()

    @property
    def needs(self) -> Sequence[Recipe]:
        """Nothing comes before it."""
        return ()

    @property
    def follows(self) -> bool:
        """Needs nothing."""
        return True

    @property
    def label(self) -> str:
        """As written on a page."""
        return f"{self.of.label}, KL {self.kl:g}"

    def fit(
        self,
        model: Model,
        examples: Sequence[Question],
        polarity: Polarity,
        seed: int,
        given: Sequence[Intervention],
        on_step: Step,
    ) -> Intervention:
        """The trained intervention; its losses are the sums.

        Costs a pass over two texts at each step, and four bytes for each token of the texts and of the vocabulary.

        Raises:
            BadData: a weight that is negative or not finite, no texts, or a text of fewer than two tokens.
            FitFailed: the loss is not finite.
        """
        beside = near_base(model, self.texts, self.of.positions, self.kl)
        made = fit_together(model, self.of, examples, [(polarity, seed)], on_step, beside)[0]
        return replace(made, provenance={**made.provenance, "method": self.label, "kl": self.kl})


def near_base(model: Model, texts: Sequence[str], positions: Positions, weight: float) -> Beside:
    """The second loss: weight · mean KL(base ‖ adapted) per token of two texts, in turn.

    The base model's distributions are worked out here and kept: nothing may be attached yet that is to be trained.

    Args:
        positions: where the edits act that will be attached.

    Raises:
        BadData: a weight that is negative or not finite, no texts, or a text of fewer than two tokens.
        BadModel: a text is longer than the context.
    """
    require(
        math.isfinite(weight) and weight >= 0 and bool(texts),
        BadData(
            f"KL to the base model: got weight {weight} and {len(texts)} texts; a finite weight of 0 or more and one text at least are needed. Set them."
        ),
    )
    rows = [_row(model, text, positions) for text in texts]
    with torch.no_grad():
        base = [model.logits([row]).float().log_softmax(1) for row in rows]

    def beside(step: int, owner: int | None) -> Float[Tensor, ""]:
        at = [(step * TEXTS + i) % len(rows) for i in range(min(TEXTS, len(rows)))]
        after = model.logits([replace(rows[i], owner=owner) for i in at]).float().log_softmax(1)
        before = torch.cat([base[i] for i in at])
        terms = before.exp() * (before - after)  # not a number where a token is ruled out in both
        return weight * terms.masked_fill(before == -torch.inf, 0).sum(1).mean()

    return beside


def _row(model: Model, text: str, positions: Positions) -> Row:
    ids, skip = tokens(model, text)
    long_enough(f"neutral text {text[:20]!r}", ids, skip, 1, model.context)
    cut = max(skip, len(ids) // 2) if positions == "last_prompt" else skip
    return Row(ids[:cut], ids[cut:])
