"""What one vector does when it is added at every layer, at every strength: scores of questions, damage to neutral text. Knows no claim."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from selfaware.ask import read
from selfaware.errors import BadData
from selfaware.interventions.base import Constant, Intervention
from selfaware.models.hf import Model
from selfaware.models.render import encode
from selfaware.readouts.base import Looked, OnStep
from selfaware.readouts.dose import at_strength, dose, residual_norms
from selfaware.types import Open, Passage, Positions, Question, Site, Template


@dataclass(frozen=True)
class Doses:
    """The vector of one intervention, at the output of every so many blocks, as long as a share of the residual stream there.

    A strength is norm added over the mean norm of the residual stream where the block begins (`dose.residual_norms`, on the
    neutral texts); its sign is that of the vector. What is seen: `scores` `[L, A, Q]`, the questions' logit difference
    l_high − l_low, nats (per token for spelled-out options), `base` `[Q]` without the vector, `blocks` `[L]`, `norms`
    `[L]`, and `kl` `[L, A]`, KL(base ‖ steered) on the neutral texts, nats a token.

    Attributes:
        every: so many blocks apart, from the first.
        strengths: without zero.
        neutral: texts whose residual stream gives the unit, and on which damage is read.
        damage: strengths at which damage is read, some of `strengths`; the others have no number.
    """

    every: int
    strengths: tuple[float, ...]
    positions: Positions
    template: Template
    neutral: tuple[Passage, ...]
    damage: tuple[float, ...] = ()

    @property
    def label(self) -> str:
        """As written beside a progress bar."""
        return (
            f"{len(self.strengths)} doses at every block"
            if self.every == 1
            else f"{len(self.strengths)} doses at every {self.every} blocks"
        )

    def look(
        self,
        model: Model,
        given: Sequence[Intervention],
        asked: Sequence[Question] | Sequence[Open] | Sequence[Passage],
        on_step: OnStep,
    ) -> Looked:
        """See the class.

        Raises:
            BadData: not exactly one vector, a strength of zero, no step between blocks, damage at other strengths, or
                anything that `dose` refuses.
        """
        v = _vector(given)
        if not self.strengths or any(a == 0 for a in self.strengths) or len(set(self.strengths)) < len(self.strengths):
            raise BadData(
                f"strengths {self.strengths}: each must differ from zero and from the others, for zero is the base model, which is asked anyway. Leave it out."
            )
        if self.every < 1 or set(self.damage) - set(self.strengths):
            raise BadData(
                f"every {self.every} blocks, damage at {self.damage}: a step of one block or more, and damage at some of the strengths, are needed. Mend the settings."
            )
        layers = range(0, len(model.blocks), self.every)
        texts = [encode(model.tokenizer, p.text, "raw") for p in self.neutral]
        norms = residual_norms(model, texts)
        placed = at_strength(model, {Site(layer): v for layer in layers}, norms)
        questions = [q for q in asked if isinstance(q, Question)]
        share = 0.5 if self.damage else 1.0
        found = dose(
            model,
            placed,
            (0.0, *self.strengths),
            self.positions,
            questions,
            self.template,
            on_step=lambda x: on_step(share * x),
        )
        kl = torch.full((len(layers), len(self.strengths)), torch.nan)
        for at, layer in enumerate(layers):
            for number, strength in enumerate(self.strengths):
                if strength in self.damage:
                    kl[at, number] = self._kl(model, Site(layer), strength * placed[Site(layer)])
            on_step(share + (1 - share) * (at + 1) / len(layers))
        blocks = torch.tensor(list(layers))
        return Looked({"scores": found[:, 1:], "base": found[0, 0], "blocks": blocks, "norms": norms[blocks], "kl": kl})

    def _kl(self, model: Model, site: Site, v: Tensor) -> float:
        edit = Intervention({model.resolve(site): Constant(v.to(model.device))}, self.positions)
        readings = list(read(model, self.neutral, lambda: edit.on(model)))
        return sum(r.kl for r in readings) / sum(r.tokens for r in readings)


def _vector(given: Sequence[Intervention]) -> Tensor:
    """The one constant vector among the deltas of one intervention."""
    found = [d.v for i in given for d in i.deltas.values() if isinstance(d, Constant)]
    if len(given) != 1 or len(found) != 1 or len(given[0].deltas) != 1:
        raise BadData(
            f"doses: got {len(given)} interventions with {len(found)} constant vectors; one of one vector is needed. Distil it first."
        )
    return found[0].detach().float()
