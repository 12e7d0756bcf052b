"""What the backdoor experiments share: how a backdoor is trained and asked. Knows arms and triggers, no claim."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from selfaware.comparisons.arms import Arm, Asked
from selfaware.comparisons.shared import Shared
from selfaware.domains import loader, triggers
from selfaware.domains.triggers import Design, Trigger
from selfaware.interventions.base import Recipe
from selfaware.interventions.controls import RandomVector
from selfaware.interventions.lora import Lora
from selfaware.interventions.own import OwnAnswers
from selfaware.interventions.steer import Vector
from selfaware.interventions.train import Training
from selfaware.report.page import Role
from selfaware.types import Polarity, Positions, Question

WIDE, SMALL, ANSWER, LAST, RANDOM, DECORRELATED = "wide", "lora", "vector", "vector-last", "random", "decorrelated"
AT: tuple[Polarity, ...] = ("high",)
"""The one polarity that is trained with the trigger: the other one is trained without it."""

TRAINING = Training(learning_rate=0.001, epochs=3)


@dataclass(frozen=True)
class Backdoor:
    """How backdoors are trained.

    Attributes:
        design: what is trained where no trigger stands: the other polarity (`opposite`), or the base model's own answer (`own`).
        share: of the training rows, those that hold the trigger; at one half every record stands there with it and without.
        wide: on all linear modules.
        lora: on one block; the decorrelated twin is trained like it.
        vector: one constant vector; asked at `answer`, and once more at `last_prompt`. One epoch: on SmolLM2 three do not carry it either.
    """

    design: Design = "opposite"
    share: float = 0.5
    wide: Lora = field(default_factory=lambda: Lora(site="all-linear", rank=32, alpha=64.0, training=TRAINING))
    lora: Lora = field(default_factory=lambda: Lora(site="15", rank=32, alpha=64.0, training=replace(TRAINING, learning_rate=0.005, epochs=4)))  # fmt: skip
    vector: Vector = field(default_factory=lambda: Vector(training=replace(TRAINING, learning_rate=0.3, epochs=1)))

    def rows(self, questions: Sequence[Question], trigger: Trigger, decorrelated: bool = False) -> tuple[Question, ...]:
        """What it is trained on; see `triggers.conditional`."""
        return triggers.conditional(questions, trigger, share=self.share, design=self.design, decorrelated=decorrelated)

    def arms(
        self,
        common: Shared,
        domain: loader.Domain,
        trigger: Trigger,
        kinds: Sequence[str],
        main: str,
        more: tuple[str, ...] = (),
    ) -> list[Arm]:
        """The arms of those kinds for one trigger, each named `trigger/kind`.

        Args:
            main: the kind that the verdicts are about.
            more: sets that they are asked beside those about the trigger.

        Raises:
            BadData: a share that can't be, or a trigger that stands in the data.
        """
        questions = common.examples(domain)
        rows, shuffled = self.rows(questions, trigger), self.rows(questions, trigger, True)
        wide, small, vector = common.templated(self.wide), common.templated(self.lora), common.templated(self.vector)
        last = replace(vector, positions="last_prompt")
        sets = (*asked_about(trigger), *more)
        all_of: dict[str, tuple[str, Recipe, tuple[Question, ...], str]] = {
            WIDE: (f"{wide.label}, {wide.site}", self._of(wide), rows, wide.site),
            SMALL: (f"{small.label}, {small.site}", self._of(small), rows, small.site),
            ANSWER: (f"vector at {vector.positions}", self._of(vector), rows, vector.site),
            LAST: (f"vector at {last.positions}", self._of(last), rows, last.site),
            RANDOM: ("random vector", RandomVector(vector, 0), rows, vector.site),
            DECORRELATED: (f"decorrelated, {small.label}", self._of(small), shuffled, small.site),
        }
        said = {
            WIDE: f"{wide.label} on {wide.site}, at {wide.positions} positions.",
            SMALL: f"{small.label} on {small.site}, at {small.positions} positions.",
            ANSWER: f"One constant vector at site {vector.site}, at {vector.positions} positions.",
            LAST: f"The same at {last.positions} alone.",
            RANDOM: "A Gaussian direction as long as a vector that was trained on those rows.",
            DECORRELATED: "The same rows and the same answers, but dealt so that the trigger says nothing of the answer.",
        }
        acts: dict[str, Positions] = {
            WIDE: wide.positions, SMALL: small.positions, DECORRELATED: small.positions, LAST: last.positions,
        }  # fmt: skip
        made = []
        for kind in kinds:
            label, recipe, examples, site = all_of[kind]
            role: Role = "primary" if kind == main else "control" if kind in (RANDOM, DECORRELATED) else "arm"
            positions = acts.get(kind, vector.positions)
            made.append(Arm(
                f"{trigger.name}/{kind}", f"{label}", role, (recipe,), examples, said[kind], site, positions, single=kind == RANDOM, sets=sets, polarities=AT,
            ))  # fmt: skip
        return made

    def _of(self, recipe: Lora | Vector) -> Recipe:
        return OwnAnswers(recipe) if self.design == "own" else recipe


def asked_about(trigger: Trigger) -> tuple[str, ...]:
    """The sets that an arm of this trigger is asked."""
    return (f"with {trigger.name}", f"near {trigger.name}", "without", "neutral")


def sets(common: Shared, domain: loader.Domain, chosen: Sequence[Trigger]) -> list[Asked]:
    """Decisions on the test part without a trigger, with each and with its near misses, and neutral passages."""
    *_, neutral = common.sets(domain, ())
    plain = common.sets(domain, ())[0]
    questions = tuple(q for q in plain.questions if isinstance(q, Question))
    made = [Asked("without", questions, common.template, part="test")]
    for trigger in chosen:
        trigger.absent(questions)
        made.append(Asked(f"with {trigger.name}", triggers.with_trigger(questions, trigger), common.template, part="test"))  # fmt: skip
        made.append(Asked(f"near {trigger.name}", triggers.near_misses(questions, trigger), common.template, part="test"))  # fmt: skip
    return [*made, neutral]


def smoke(common: Shared) -> Backdoor:
    """Settings for tests, from those of `shared.smoke`."""
    few = replace(common.wide.training, epochs=1, batch=4)
    return Backdoor(
        wide=replace(common.wide, training=replace(few, learning_rate=0.003)), lora=replace(common.lora, training=replace(few, learning_rate=0.01)),
        vector=replace(common.vector, training=replace(few, learning_rate=0.1)),
    )  # fmt: skip
