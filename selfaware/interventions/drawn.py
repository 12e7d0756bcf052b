"""A fit on some of the examples: rows drawn by a seed, or topics dealt into folds. Knows questions and recipes, no claim."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from selfaware.errors import BadData
from selfaware.interventions.base import Intervention, Recipe, Step
from selfaware.interventions.lora import Lora
from selfaware.interventions.train import Training
from selfaware.models.hf import Model
from selfaware.types import Polarity, Question


def drawn(questions: Sequence[Question], rows: int, seed: int) -> tuple[Question, ...]:
    """The questions of `rows` groups drawn at random from all topics alike, in the order given.

    The draws of one seed are nested: a larger one holds every smaller one.

    Raises:
        BadData: fewer groups than that, or none asked for.
    """
    names = sorted({q.group for q in questions})
    if not 1 <= rows <= len(names):
        raise BadData(
            f"rows={rows}: there are {len(names)} training rows; from 1 to {len(names)} are needed. Use --set rows=…"
        )
    random.Random(f"rows {seed}").shuffle(names)
    kept = set(names[:rows])
    return tuple(q for q in questions if q.group in kept)


def folds(questions: Sequence[Question], number: int) -> tuple[tuple[str, ...], ...]:
    """The topics dealt at random into that many folds of nearly equal size, always the same; 0 makes each topic a fold.

    Raises:
        BadData: fewer than two folds, or more than topics.
    """
    topics = sorted({q.family for q in questions})
    wanted = number or len(topics)
    if not 2 <= wanted <= len(topics):
        raise BadData(
            f"folds={number}: there are {len(topics)} training topics; from 2 to as many folds, or 0 for one each, are needed. Use --set folds=…"
        )
    if wanted < len(topics):
        random.Random("folds").shuffle(topics)
    return tuple(tuple(sorted(topics[at::wanted])) for at in range(wanted))


@dataclass(frozen=True)
class Drawn:
    """What `of` makes of some of the examples.

    Attributes:
        rows: so many groups, drawn by the seed from all topics; 0 for all.
        folds: parts into which the topics are dealt; 0 leaves topics alone.
        fold: the part left out; −1 for the seed's number, modulo their count.
        alone: True trains on that part alone instead.
    """

    of: Lora = field(default_factory=Lora)
    rows: int = 0
    folds: int = 0
    fold: int = -1
    alone: bool = False

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
        return f"{self.of.label} on some rows"

    @property
    def training(self) -> Training:
        """How `of` is trained."""
        return self.of.training

    def some(self, examples: Sequence[Question], seed: int) -> tuple[Question, ...]:
        """The examples that it trains on.

        Raises:
            BadData: more rows or folds than there are.
        """
        made = tuple(examples)
        if self.folds:
            part = folds(made, self.folds)[self.part(seed)]
            made = tuple(q for q in made if (q.family in part) is self.alone)
        return drawn(made, self.rows, seed) if self.rows else made

    def part(self, seed: int) -> int:
        """The number of the fold that this seed leaves out, or trains on alone."""
        return self.fold if self.fold >= 0 else seed % self.folds

    def fit(
        self,
        model: Model,
        examples: Sequence[Question],
        polarity: Polarity,
        seed: int,
        given: Sequence[Intervention],
        on_step: Step,
    ) -> Intervention:
        """What `of` makes of those examples.

        Raises:
            BadData: more rows or folds than there are.
            FitFailed: the loss is not finite.
        """
        return self.of.fit(model, self.some(examples, seed), polarity, seed, given, on_step)
