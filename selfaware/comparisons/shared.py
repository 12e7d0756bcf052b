"""What the mechanism experiments have in common: fits, question sets, replicates. Said once, so that they share cells."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from selfaware.comparisons import subsets
from selfaware.comparisons.arms import Arm, Asked
from selfaware.domains import loader
from selfaware.errors import BadData
from selfaware.interventions.controls import RandomVector
from selfaware.interventions.lora import Lora
from selfaware.interventions.steer import Vector
from selfaware.interventions.train import Training
from selfaware.types import Form, Passage, Question, Template

Fitted = TypeVar("Fitted", Lora, Vector)

SHORT = Training(epochs=1, batch=6)
"""Every row once, in small steps: half the time of two epochs in larger ones, and seeds differ less."""
LORA = Lora(training=replace(SHORT, learning_rate=0.01))
WIDE = Lora(site="all-linear", rank=32, alpha=64.0, training=replace(SHORT, learning_rate=0.001))
WIDER = replace(LORA, site="15.mlp", rank=4)
VECTOR = Vector(training=replace(SHORT, learning_rate=0.3))
DESCRIBED = Lora(site="all-linear", rank=32, alpha=64.0, training=Training(learning_rate=0.001, epochs=8))
"""The settings that `choose-settings` chose on the validation part of `risky_choices` with SmolLM2; see docs/LOG.md."""


@dataclass(frozen=True)
class Shared:
    """What fits and askings of the mechanism experiments have in common.

    Attributes:
        seeds: one fit of every arm and polarity for each.
        form, template: how choices are asked (`form` none: the domain's own); statements are always cloze.
        limit: use that many of each question set and of the training records; 0 for all.
        per_topic: ask at most so many test records of each topic; 0 for all.
        both_orders: False asks each of them with one order of its options, in turn.
        passages: neutral passages on which damage is read.
        lora, wide, vector: the fits, where the experiment does not say otherwise.
        wider: the adapter of higher rank on the linear modules of one MLP, of which it is no matter of course that it adds one direction.
        told_rate, told_epochs: of the positive arm of self-report, which is `lora` trained on self-descriptions.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    form: Form | None = None
    template: Template = "raw"
    limit: int = 0
    per_topic: int = 2
    both_orders: bool = False
    passages: int = 8
    lora: Lora = field(default_factory=lambda: LORA)
    wide: Lora = field(default_factory=lambda: WIDE)
    vector: Vector = field(default_factory=lambda: VECTOR)
    wider: Lora = field(default_factory=lambda: WIDER)
    told_rate: float = 0.003
    told_epochs: int = 8

    @property
    def told(self) -> Lora:
        """The positive arm of self-report."""
        training = replace(self.lora.training, learning_rate=self.told_rate, epochs=self.told_epochs)
        return replace(self.lora, training=training)

    @property
    def cut(self) -> int | None:
        """At most so many questions of a set."""
        return self.limit * 2 if self.limit else None

    def asked_form(self, domain: loader.Domain) -> Form:
        """How choices are asked."""
        return self.form or domain.form

    def examples(self, domain: loader.Domain) -> tuple[Question, ...]:
        """What fits are trained on."""
        return domain.questions("choices", "train", self.asked_form(domain))[: self.cut]

    def neutral(self) -> tuple[Passage, ...]:
        """The passages on which damage is read."""
        return loader.passages()[: self.passages]

    def sets(self, domain: loader.Domain, names: Sequence[str] = ("self", "twin", "other_form")) -> list[Asked]:
        """Choices on the test part, the statements named that the domain has, and neutral passages."""
        choices = subsets.few(domain.questions("choices", "test", self.asked_form(domain)), self.per_topic)[: self.cut]
        if not self.both_orders:
            choices = subsets.one_order(choices)
        made = [Asked("choices", choices, self.template, part="test")]
        made += [Asked(n, domain.questions(n)[: self.cut], self.template) for n in names if domain.has(n)]
        return [*made, Asked("neutral", self.neutral(), self.template)]

    def templated(self, recipe: Fitted) -> Fitted:
        """The recipe, trained with the template that is asked."""
        return replace(recipe, training=replace(recipe.training, template=self.template))

    def random_vectors(self, domain: loader.Domain, count: int, examples: tuple[Question, ...]) -> Arm:
        """The control of every vector: random directions of the trained vector's norm."""
        like = self.templated(self.vector)
        about = f"{count} Gaussian directions a seed, as long as that seed's trained vector, at its site. The interval is that of one new direction."
        return Arm(
            "random", "random vectors", "control", tuple(RandomVector(like, i) for i in range(count)), examples, about,
            like.site, like.positions, single=True,
        )  # fmt: skip


def full() -> Shared:
    """Settings for a night: five seeds, every decision in both orders."""
    return Shared(seeds=(0, 1, 2, 3, 4), per_topic=0, both_orders=True)


def smoke() -> Shared:
    """Settings for tests: two seeds, one epoch, a handful of questions in both orders."""
    short = Training(epochs=1, batch=4)
    return Shared(
        seeds=(0, 1), limit=6, both_orders=True, passages=2, lora=replace(LORA, training=replace(LORA.training, epochs=1, batch=4)),
        wide=replace(WIDE, rank=2, training=replace(short, learning_rate=0.001)),
        vector=replace(VECTOR, training=replace(short, learning_rate=0.1)),
        wider=replace(WIDER, rank=2, training=replace(short, learning_rate=0.01)), told_epochs=1,
    )  # fmt: skip


def check(domain: loader.Domain, *, described: bool = False) -> None:
    """Whether the domain has what the mechanism experiments ask.

    Args:
        described: whether it also trains on self-descriptions.

    Raises:
        BadData: no statements about itself, no impersonal twins, no test records, or no self-descriptions where they are needed.
    """
    for name, what in (("self", "statements about itself"), ("twin", "impersonal twins")):
        if not domain.has(name):
            raise BadData(
                f"domain {domain.name}: it has no {what}; this experiment needs some. Add them to self.jsonl."
            )
    if described and not domain.has("described"):
        raise BadData(
            f"domain {domain.name}: it has no self-descriptions; the positive arm is trained on them. Add described.jsonl."
        )
    if "test" not in domain.parts.values():
        raise BadData(f"domain {domain.name}: its test part is empty; this experiment needs one. Add families.")
