"""Training in which some rows keep the base model's own answer. Knows questions marked so; must not know why they are."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from selfaware.ask import ask
from selfaware.errors import BadData
from selfaware.interventions.base import Intervention, Recipe, Step
from selfaware.interventions.lora import Lora
from selfaware.interventions.steer import Vector
from selfaware.interventions.train import Training
from selfaware.models.hf import Model
from selfaware.types import OWN, Answer, Polarity, Question


@dataclass(frozen=True)
class OwnAnswers:
    """What `of` makes of the examples when those of the set `own` are trained towards what the base model prefers there."""

    of: Lora | Vector = field(default_factory=Lora)

    @property
    def needs(self) -> Sequence[Recipe]:
        """Nothing comes before it."""
        return ()

    @property
    def follows(self) -> bool:
        """Needs nothing."""
        return False

    @property
    def label(self) -> str:
        """As written on a page."""
        return self.of.label

    @property
    def training(self) -> Training:
        """How `of` is trained."""
        return self.of.training

    def fit(
        self,
        model: Model,
        examples: Sequence[Question],
        polarity: Polarity,
        seed: int,
        given: Sequence[Intervention],
        on_step: Step,
    ) -> Intervention:
        """What `of` makes of them; the base model is asked the marked rows first.

        Raises:
            BadData: a marked row that the base model gives no readable answer to.
            FitFailed: the loss is not finite.
        """
        marked = [q for q in examples if q.set == OWN]
        said = {a.id: a for a in ask(model, marked, self.of.training.template)}
        made = [_kept(q, said[q.id], polarity) if q.set == OWN else q for q in examples]
        return self.of.fit(model, made, polarity, seed, given, on_step)


def _kept(question: Question, answer: Answer, polarity: Polarity) -> Question:
    """The question with that option as its target which the base model prefers."""
    if answer.logprobs is None:
        raise BadData(
            f"question {question.id}: the base model's answer can't be read ({answer.why}). Leave the row out."
        )
    means = [total / (1 if question.single else n) for total, n in zip(answer.logprobs, answer.tokens, strict=True)]
    preferred = max(range(len(means)), key=means.__getitem__)
    return replace(question, high=preferred if polarity == "high" else 1 - preferred)
