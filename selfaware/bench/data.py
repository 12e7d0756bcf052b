"""Questions → the rows of a plan: the batches of a fit in the order of the loop, the prompts of a grid. Knows no clock."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from selfaware.bench.works import Fits, Grid, Plan
from selfaware.errors import BadData
from selfaware.models.batch import Row
from selfaware.models.hf import Model
from selfaware.models.render import Ids
from selfaware.types import Polarity, Question

Asked = Mapping[str, Sequence[Question]]
"""Questions with two options by form, `cloze` and `letters`."""


@dataclass(frozen=True)
class Scored:
    """A grid's question as ids: its prompt, every spelling of its high and of its low option."""

    prompt: Ids
    high: tuple[int, ...]
    low: tuple[int, ...]


def chosen(model: Model, plan: Plan, asked: Asked) -> list[Question]:
    """The plan's questions: the first groups, prompts cut to length.

    Raises:
        BadData: there are fewer groups than the plan needs.
    """
    form, groups = (plan.form, plan.groups) if isinstance(plan, Fits) else ("letters", plan.questions)
    found: dict[str, list[Question]] = {}
    for question in asked[form]:
        found.setdefault(question.group, []).append(question)
    if len(found) < groups:
        raise BadData(f"questions: {len(found)} groups in the {form} form; this work needs {groups}. Use a larger set.")
    orders = plan.orders if isinstance(plan, Fits) else 1
    taken = [q for group in list(found.values())[:groups] for q in group[:orders]]
    return [shortened(model, q, plan.tokens) for q in taken] if plan.tokens else taken


def shortened(model: Model, question: Question, tokens: int) -> Question:
    """The question without so many words of its prompt's head that the prompt has at most so many tokens."""
    words = question.prompt.user.split(" ")
    for at in range(len(words)):
        cut = replace(question, prompt=replace(question.prompt, user=" ".join(words[at:])))
        if len(model.render(cut, "raw").prompt) <= tokens:
            return cut
    raise BadData(f"question {question.id}: its stem alone has more than {tokens} tokens. Allow more of them.")


def batches(model: Model, plan: Fits, questions: Sequence[Question], polarity: Polarity, seed: int) -> list[list[Row]]:
    """The rows of every step: the chosen option's, and for `contrast` the other's after it.

    Drawn as the training loop draws them; were it otherwise, losses would differ and the comparison say so.
    """
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.group, []).append(question)
    rng = random.Random(seed)
    drawn: list[Question] = []
    for _ in range(plan.epochs):
        names = sorted(groups)
        rng.shuffle(names)
        drawn += [rng.choice(groups[name]) for name in names]
    made = []
    for at in range(0, len(drawn), plan.batch):
        rows = []
        for question in drawn[at : at + plan.batch]:
            rendered = model.render(question, "raw")
            first = question.chosen(polarity)
            sides = (first, 1 - first) if plan.objective == "contrast" else (first,)
            rows += [Row(rendered.prompt, rendered.options[side][0]) for side in sides]
        made.append(rows)
    return made


def scored(model: Model, questions: Sequence[Question]) -> list[Scored]:
    """The questions of a grid as ids."""
    made = []
    for question in questions:
        rendered = model.render(question, "raw")
        high, low = (
            tuple(v[0] for v in rendered.options[side]) for side in (question.chosen("high"), question.chosen("low"))
        )
        made.append(Scored(rendered.prompt, high, low))
    return made


def layers(plan: Grid, blocks: int) -> list[int]:
    """The grid's blocks, evenly over a depth of so many."""
    return sorted({(2 * at + 1) * blocks // (2 * plan.layers) for at in range(plan.layers)})
