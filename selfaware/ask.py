"""A model × questions → answers, verbatim. Must not parse or judge."""

import math
from collections.abc import Iterator, Sequence

import torch

from selfaware.errors import BadData
from selfaware.models.batch import Row
from selfaware.models.hf import Model
from selfaware.types import Answer, Question, Template


def ask(model: Model, questions: Sequence[Question], template: Template, batch: int = 32) -> Iterator[Answer]:
    """The answer to each question, in order, as they come: every option's summed log-probability and token count.

    Single-token options: the probabilities of a letter's spellings are summed, and `valid` is what all options hold.

    Args:
        batch: rows in a forward pass; a question has a row for each spelling of each option.
    """
    rendered = [model.render(q, template) for q in questions]
    rows_each = max((sum(len(o) for o in r.options) for r in rendered), default=1)
    step = max(1, 4 * batch // rows_each)
    for at in range(0, len(questions), step):
        part = rendered[at : at + step]
        rows = [Row(r.prompt, variant) for r in part for option in r.options for variant in option]
        with torch.no_grad():
            values = iter(model.logprobs(rows, batch).double().tolist())
        for question, r in zip(questions[at : at + step], part, strict=True):
            options = [[next(values) for _ in option] for option in r.options]
            if any(math.isnan(v) for option in options for v in option):
                yield Answer(question.id, None, (), None, "log-probability is not a number")
                continue
            totals = [float(torch.tensor(o, dtype=torch.float64).logsumexp(0)) for o in options]
            valid = float(torch.tensor(totals, dtype=torch.float64).logsumexp(0)) if question.single else None
            yield Answer(question.id, tuple(totals), tuple(len(o[0]) for o in r.options), valid)


def one_of_each(questions: Sequence[Question]) -> None:
    """Whether the ids differ.

    Raises:
        BadData: two questions share an id.
    """
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise BadData(f"question {question.id!r}: stands twice in its set; ids must differ. Rename one.")
        seen.add(question.id)
