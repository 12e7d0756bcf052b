"""The table of what is measured and against whom: one entry a work, one a contender. Knows sizes, runs nothing.

A *plan* is what is done; a *work* is a line of the result: a plan, the part of its time that counts, the contenders. Works
of one plan share its runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from selfaware.errors import unknown
from selfaware.interventions.lora import Lora
from selfaware.interventions.steer import Vector
from selfaware.interventions.train import Objective, Training
from selfaware.types import POLARITIES, Form, Polarity, Positions

Measure = Literal["whole", "epoch", "step"]
Terms = Literal["rows", "tokens"]
Head = Literal["full", "scored"]


@dataclass(frozen=True)
class Contender:
    """Who does the same work.

    Attributes:
        name: as written in the table.
        script: the file in `benchmarks/contenders`.
        environment: the folder of its Python environment; empty for this interpreter's own.
        head: whether it unembeds every position, as `model(**batch).logits` does, or the scored ones.
        attention: the attention kernel asked of transformers; its own choice unless named.
        terms: what its loss is a mean over, rows or tokens; where it is tokens, and the schedule its own, the first step's
            loss alone is compared.
    """

    name: str
    script: str
    environment: str = ""
    head: Head = "full"
    attention: Literal["", "eager"] = ""
    terms: Terms = "rows"


@dataclass(frozen=True)
class Fits:
    """Fits on the first groups of a question set, one after the other or all at once.

    Attributes:
        depth: share of the blocks below the edited one.
        orders: 2 where a step shows either order of a group's options, as drawn; 1 where there is only one.
        tokens: longest prompt; words are dropped from a prompt's head until it fits; 0 for none.
        together: whether the fits are one batch (`fit_together`).
    """

    method: Literal["lora", "vector"]
    positions: Positions
    objective: Objective = "sft"
    depth: float = 0.5
    form: Form = "cloze"
    orders: int = 2
    tokens: int = 0
    groups: int = 48
    epochs: int = 3
    batch: int = 12
    seeds: tuple[int, ...] = (0,)
    polarities: tuple[Polarity, ...] = ("high",)
    together: bool = False

    def recipe(self, blocks: int) -> Lora | Vector:
        """What is fitted on a model of so many blocks; rates at which no fit diverges."""
        block = int(self.depth * blocks)
        training = Training(self.objective, epochs=self.epochs, batch=self.batch)
        if self.method == "lora":
            positions, training = self.positions, replace(training, learning_rate=0.001)
            return Lora(f"{block}.mlp", rank=1, alpha=16.0, positions=positions, training=training)
        return Vector(str(block), positions=self.positions, training=replace(training, learning_rate=0.05))

    @property
    def arms(self) -> tuple[tuple[Polarity, int], ...]:
        """Polarity and seed of every fit."""
        return tuple((polarity, seed) for seed in self.seeds for polarity in self.polarities)

    def smaller(self) -> "Fits":
        """The same with a fraction of the work."""
        return replace(self, groups=min(self.groups, self.batch), epochs=min(self.epochs, 2))


@dataclass(frozen=True)
class Grid:
    """Vectors added at layers × strengths, letters questions scored.

    Attributes:
        layers: evenly over the depth.
        tokens: longest prompt, as in `Fits`.
    """

    positions: Positions
    layers: int = 12
    strengths: int = 8
    questions: int = 40
    tokens: int = 75

    def smaller(self) -> "Grid":
        """The same with a fraction of the work."""
        return replace(self, layers=min(self.layers, 3), strengths=min(self.strengths, 3))


Plan = Fits | Grid


@dataclass(frozen=True)
class Work:
    """A line of the result.

    Attributes:
        measure: the whole of the plan, its time for an epoch after the first, or for a step after the first epoch.
    """

    name: str
    plan: Plan
    against: tuple[Contender, ...]
    measure: Measure = "whole"


PEFT = Contender("PEFT loop", "peft_loop.py")
PEFT_SCORED = Contender("PEFT loop + answer-only head", "peft_loop.py", head="scored")
TRL = Contender("TRL defaults", "trl_sft.py", "trl", terms="tokens")
HOOKS = Contender("full forward + hook", "hooks_loop.py")
HOOKS_SCORED = Contender("full forward + hook + answer-only head", "hooks_loop.py", head="scored")
NAIVE = Contender("naive hooks", "hooks_loop.py")
NAIVE_SCORED = Contender("naive hooks + answer-only head", "hooks_loop.py", head="scored")
NAIVE_EAGER = Contender("naive hooks, plain attention", "hooks_loop.py", attention="eager")
TRANSFORMER_LENS = Contender("TransformerLens", "transformer_lens_grid.py", "transformer_lens")
NNSIGHT = Contender("nnsight", "nnsight_grid.py", "nnsight")

MIDDLE = Fits("lora", "all", groups=36)
DEEP = replace(MIDDLE, depth=5 / 6)
CONTRAST = replace(MIDDLE, objective="contrast", groups=24)
ANSWER = replace(CONTRAST, positions="answer")
LAST = Fits("vector", "last_prompt", form="letters", orders=1, tokens=75)
SPOKEN = Fits("vector", "answer", orders=1, groups=36)
SIX = replace(CONTRAST, seeds=(0, 1, 2), polarities=POLARITIES, groups=12)
SIX_VECTORS = replace(LAST, seeds=(0, 1, 2), polarities=POLARITIES, together=True, groups=24)
SMALL_GRID = Grid("last_prompt", layers=4, strengths=4, questions=20)
ALL_GRID = Grid("all", layers=4, strengths=3, questions=16)

WORKS: tuple[Work, ...] = (
    Work("lora-fit middle", MIDDLE, (PEFT, PEFT_SCORED, TRL)),
    Work("lora-epoch middle", MIDDLE, (PEFT, PEFT_SCORED, TRL), "epoch"),
    Work("lora-fit 5/6", DEEP, (PEFT,)),
    Work("lora-epoch 5/6", DEEP, (PEFT,), "epoch"),
    Work("lora-fit middle, contrast", CONTRAST, (PEFT,)),
    Work("lora-fit middle, contrast, answer positions", ANSWER, (PEFT,)),
    Work("six fits", SIX, (PEFT,)),
    Work("vector fit last_prompt", LAST, (HOOKS, HOOKS_SCORED)),
    Work("vector step last_prompt", LAST, (HOOKS, HOOKS_SCORED), "step"),
    Work("six vectors at once", SIX_VECTORS, (HOOKS,)),
    Work("vector fit answer", SPOKEN, (HOOKS,)),
    Work("vector step answer", SPOKEN, (HOOKS,), "step"),
    Work("grid last_prompt, 12 × 8 × 40", Grid("last_prompt"), (NAIVE,)),
    Work("grid last_prompt, 4 × 4 × 20", SMALL_GRID, (NAIVE_SCORED, TRANSFORMER_LENS, NNSIGHT)),
    Work("grid all, 4 × 3 × 16", ALL_GRID, (NAIVE, NAIVE_EAGER, TRANSFORMER_LENS, NNSIGHT)),
    Work("grid all, 12 × 8 × 40", Grid("all"), (NAIVE,)),
)


def named(names: Sequence[str], quick: bool = False) -> tuple[Work, ...]:
    """The works of those names, all of them for none.

    Args:
        quick: True shrinks each of them.

    Raises:
        UnknownName: there is no such work.
    """
    known = {w.name: w for w in WORKS}
    for name in names:
        if name not in known:
            raise unknown("work", name, known)
    chosen = [w for w in WORKS if not names or w.name in names]
    return tuple(replace(w, plan=w.plan.smaller()) for w in chosen) if quick else tuple(chosen)
