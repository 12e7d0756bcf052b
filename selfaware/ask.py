"""A model × questions → answers, verbatim: options scored, own words sampled, passages read. Must not parse or judge."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import torch

from selfaware.errors import BadData
from selfaware.models.batch import Row
from selfaware.models.fluency import fluency
from selfaware.models.hf import Model
from selfaware.models.render import Rendered, encode
from selfaware.models.sample import sample
from selfaware.types import Answer, Open, Passage, Question, Reading, Said, Sampling, Template


def ask(model: Model, questions: Sequence[Question], template: Template, batch: int = 32) -> Iterator[Answer]:
    """The answer to each question, in order, as they come: every option's summed log-probability and token count.

    Single-token options: the probabilities of a letter's spellings are summed, and `valid` is what all options hold. One
    pass over the prompt gives them all.

    Args:
        batch: rows in a forward pass; a question has a row for each spelling of each option, or one for all its letters.
    """
    rendered = [model.render(q, template) for q in questions]
    rows_each = max(
        (1 if q.single else sum(map(len, r.options)) for q, r in zip(questions, rendered, strict=True)), default=1
    )
    step = max(1, 4 * batch // rows_each)
    for at in range(0, len(questions), step):
        part = list(zip(questions[at : at + step], rendered[at : at + step], strict=True))
        with torch.no_grad():
            letters = iter(_letters(model, [r for q, r in part if q.single], batch))
            rows = [Row(r.prompt, v) for q, r in part if not q.single for option in r.options for v in option]
            values = iter(model.logprobs(rows, batch).double().tolist())
        for question, r in part:
            found = iter(next(letters)) if question.single else values
            options = [[next(found) for _ in option] for option in r.options]
            if any(math.isnan(v) for option in options for v in option):
                yield Answer(question.id, None, (), None, "log-probability is not a number")
                continue
            totals = [float(torch.tensor(o, dtype=torch.float64).logsumexp(0)) for o in options]
            valid = float(torch.tensor(totals, dtype=torch.float64).logsumexp(0)) if question.single else None
            yield Answer(question.id, tuple(totals), tuple(len(o[0]) for o in r.options), valid)


def _letters(model: Model, rendered: Sequence[Rendered], batch: int) -> Iterator[list[float]]:
    """Log-probability of every spelling of every single-token option at the first answer position, for each question."""
    rows = [Row(r.prompt, r.options[0][0]) for r in rendered]
    yield from model.first(rows, [[v[0] for option in r.options for v in option] for r in rendered], batch)


def say(
    model: Model, questions: Sequence[Open], template: Template, sampling: Sampling, step: int = 32
) -> Iterator[Said]:
    """What was sampled for each question, in order, as it comes.

    Args:
        step: questions in a batch; each has a row for each sample.
    """
    for at in range(0, len(questions), step):
        part = questions[at : at + step]
        prompts = [encode(model.tokenizer, model.text(q.prompt, template), template) for q in part]
        texts = sample(model, prompts, [q.id for q in part], sampling, batch=step * sampling.samples)
        yield from (Said(q.id, t) for q, t in zip(part, texts, strict=True))


def read(
    model: Model, passages: Sequence[Passage], edit: Callable[[], AbstractContextManager[object]], step: int = 8
) -> Iterator[Reading]:
    """How each passage fares under the edit, in order: its first token is given, the others are scored.

    Args:
        edit: gives the context within which the model is changed; the base model is read outside it.
        step: passages in a batch.

    Raises:
        BadData: a passage of fewer than two tokens.
    """
    for at in range(0, len(passages), step):
        part = passages[at : at + step]
        rows = []
        for passage in part:
            ids = encode(model.tokenizer, passage.text, "raw")
            given = 1 + (model.tokenizer.bos_token_id is not None and ids[:1] == (model.tokenizer.bos_token_id,))
            if len(ids) <= given:
                raise BadData(f"passage {passage.id}: {len(ids)} tokens; at least two words are needed. Write more.")
            rows.append(Row(ids[:given], ids[given:]))
        found = fluency(model, rows, edit)
        for passage, row, (logprob, kl) in zip(part, rows, found, strict=True):
            yield Reading(passage.id, logprob, len(row.answer), kl)


def one_of_each(questions: Sequence[Question] | Sequence[Open] | Sequence[Passage]) -> None:
    """Whether the ids differ.

    Raises:
        BadData: two questions share an id.
    """
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise BadData(f"question {question.id!r}: stands twice in its set; ids must differ. Rename one.")
        seen.add(question.id)
