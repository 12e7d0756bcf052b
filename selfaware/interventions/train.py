"""The one training loop: gradients reach the deltas and nothing else. Knows questions with two options, no behaviour."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from selfaware.errors import BadData, FitFailed
from selfaware.interventions.base import Intervention, Step
from selfaware.models.batch import Row
from selfaware.models.hf import Model
from selfaware.models.render import Rendered
from selfaware.types import Polarity, Question, Template

Objective = Literal["sft", "contrast"]

Projection = Callable[[Tensor], Tensor]
"""A linear projection: gives the nearest tensor of those allowed, and of a gradient the part along them."""

Beside = Callable[[int, int | None], Float[Tensor, ""]]
"""A second loss: given a step, from 0, and a run's owner, what is added to the run's loss at that step."""


@dataclass(frozen=True)
class Training:
    """How deltas are trained. The loss is on the answer only.

    Attributes:
        objective: `sft` is cross-entropy per token of the chosen option; `contrast` is −log σ(β(l_chosen − l_other))
            over the two options, l = mean log-probability per token.
        beta: β of `contrast`, per nat.
        learning_rate: AdamW's, after a warm-up over the first tenth of the steps; falls linearly to zero.
        batch: groups in a step; each shows one of its option orders, drawn by the seed. Groups named `record/…` are versions of one record
            and follow each other.
        clip: largest gradient norm.
        template: how the prompt is written.
        shuffle_labels: True draws the option to train towards at random for each group: the control in which there
            is nothing to learn but the rows.
    """

    objective: Objective = "contrast"
    beta: float = 4.0
    learning_rate: float = 0.01
    epochs: int = 2
    batch: int = 12
    warmup: float = 0.1
    clip: float = 1.0
    weight_decay: float = 0.0
    template: Template = "raw"
    shuffle_labels: bool = False


@dataclass(frozen=True)
class Run:
    """What is trained in one run: an intervention at its start, towards one polarity, with the draws of one seed.

    Attributes:
        within: holds each of its tensors among those allowed, from the start on and after every step.
    """

    intervention: Intervention
    polarity: Polarity
    seed: int
    within: Projection | None = None


def train(
    model: Model,
    runs: Sequence[Run],
    examples: Sequence[Question],
    training: Training,
    on_step: Step,
    beside: Beside | None = None,
    until: int | None = None,
) -> list[tuple[float, ...]]:
    """Trains the tensors of every run in place; for each run the loss of every step.

    Several runs go through the net in one batch, each on its own rows; their losses are added, so that every tensor gets
    the gradient that it would get alone, and each run's gradient is clipped by itself.

    Args:
        examples: questions with two options; those of one group are the same record with its options swapped.
        on_step: told the mean of the runs' losses.
        beside: a second loss, worked out while the edits are attached; a run's loss is then the sum of both.
        until: stop after so many steps of the same schedule; None for all.

    Raises:
        BadData: no examples, an example without exactly two options, or settings that train nothing.
        FitFailed: a run's loss is not a finite number; the others end with it.
    """
    groups = _groups(examples, training)
    tensors = [[t.requires_grad_() for d in r.intervention.deltas.values() for t in d.tensors().values()] for r in runs]
    optimiser = torch.optim.AdamW(
        [t for some in tensors for t in some], lr=training.learning_rate, weight_decay=training.weight_decay
    )
    plans = [_plan(groups, training, run) for run in runs]
    seen = {id(question): question for plan in plans for batch in plan for question, _ in batch}
    rendered = {key: model.render(question, training.template) for key, question in seen.items()}
    steps = len(plans[0])
    losses: list[list[float]] = [[] for _ in runs]
    owners = [number if len(runs) > 1 else None for number in range(len(runs))]
    _hold(runs, tensors)
    with ExitStack() as undo:
        for owner, run in zip(owners, runs, strict=True):
            undo.enter_context(run.intervention.on(model, owner=owner))
        for at in range(steps if until is None else min(until, steps)):
            for group in optimiser.param_groups:
                group["lr"] = training.learning_rate * schedule(at, steps, training.warmup)
            found = _losses(model, [plan[at] for plan in plans], rendered, training)
            optimiser.zero_grad()
            found.sum().backward()  # type: ignore[no-untyped-call]
            if beside is not None:  # run by run, since each holds distributions over the whole vocabulary
                found = found.detach().clone()
                for number, owner in enumerate(owners):
                    more = beside(at, owner)
                    more.backward()  # type: ignore[no-untyped-call]
                    found[number] += more.detach()
            # Before the clipping: what is not allowed would use up the largest norm, and AdamW's memory of squares.
            _hold(runs, [[t.grad for t in some if t.grad is not None] for some in tensors])
            for some in tensors:
                torch.nn.utils.clip_grad_norm_(some, training.clip)
            optimiser.step()
            _hold(runs, tensors)
            for run, own, some, loss in zip(runs, losses, tensors, found.tolist(), strict=True):
                own.append(loss)
                if not math.isfinite(loss) or not all(bool(t.isfinite().all()) for t in some):
                    raise FitFailed(
                        f"step {at + 1} of {steps}, {run.polarity}, seed {run.seed}: loss {loss}; a finite loss is needed. Lower learning_rate (now {training.learning_rate:g})."
                    )
            on_step(at + 1, steps, sum(own[-1] for own in losses) / len(losses))
    for tensor in (t for some in tensors for t in some):
        tensor.requires_grad_(False)
    return [tuple(own) for own in losses]


def _hold(runs: Sequence[Run], tensors: Sequence[Sequence[Tensor]]) -> None:
    """Nothing; tensors of runs that are held to something are then what is allowed of them."""
    with torch.no_grad():
        for run, some in zip(runs, tensors, strict=True):
            if run.within is not None:
                for tensor in some:
                    tensor.copy_(run.within(tensor))


def _groups(examples: Sequence[Question], training: Training) -> dict[str, list[Question]]:
    if not (0 <= training.learning_rate < math.inf and training.batch >= 1 and training.epochs >= 1):
        got = f"learning_rate={training.learning_rate:g}, batch={training.batch}, epochs={training.epochs}"
        raise BadData(
            f"training: got {got}; a finite rate of 0 or more, and at least one of the others are needed. Set them so."
        )
    groups: dict[str, list[Question]] = {}
    for question in examples:
        if len(question.options) != 2:
            raise BadData(
                f"question {question.id}: {len(question.options)} options; training needs two. Give it both polarities."
            )
        groups.setdefault(question.group, []).append(question)
    if not groups:
        raise BadData("training set: got no examples; a fit needs at least one. Check the domain's train part.")
    return groups


def run_length(examples: Sequence[Question], training: Training) -> int:
    """How many steps a run on these examples takes.

    Raises:
        BadData: as `train`.
    """
    return math.ceil(training.epochs * len(_groups(examples, training)) / training.batch)


def schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the learning rate at a step (from 0): up over the first `warmup` share of the steps, then down to zero."""
    rise = max(1, round(steps * warmup))
    return (step + 1) / rise if step < rise else (steps - step) / max(1, steps - rise)


Batch = list[tuple[Question, Polarity]]
"""Questions of one step, each with the polarity that it is trained towards."""


def _plan(groups: dict[str, list[Question]], training: Training, run: Run) -> list[Batch]:
    rng = random.Random(run.seed)
    flip = {g: training.shuffle_labels and rng.random() < 0.5 for g in sorted(groups)}
    # Groups that are versions of one record (`record/with`, `record/without`) stand side by side, in one option order: what
    # they have in common cancels within a step, and what is left is what tells them apart.
    records: dict[str, list[str]] = {}
    for name in sorted(groups):
        records.setdefault(name.partition("/")[0], []).append(name)
    drawn: Batch = []
    for _ in range(training.epochs):
        order = list(records)
        rng.shuffle(order)
        for record in order:
            versions = records[record]
            at = rng.choice(range(len(groups[versions[0]])))
            drawn += [(groups[name][at % len(groups[name])], _flipped(run.polarity, flip[name])) for name in versions]
    return [drawn[i : i + training.batch] for i in range(0, len(drawn), training.batch)]


def _flipped(polarity: Polarity, flip: bool) -> Polarity:
    return ("low" if polarity == "high" else "high") if flip else polarity


def _losses(
    model: Model, batches: Sequence[Batch], rendered: Mapping[int, Rendered], training: Training
) -> Float[Tensor, " S"]:
    rows: list[Row] = []
    both = training.objective == "contrast"
    for number, batch in enumerate(batches):
        owner = number if len(batches) > 1 else None
        for question, polarity in batch:
            prompt, spelled = rendered[id(question)].prompt, [v[0] for v in rendered[id(question)].options]
            chosen = question.chosen(polarity)
            rows.append(Row(prompt, spelled[chosen], owner))
            if both:
                rows.append(Row(prompt, spelled[1 - chosen], owner))
    tokens = torch.tensor([len(r.answer) for r in rows], device=model.device)
    means = model.logprobs(rows, batch=len(rows)) / tokens
    if both:
        pairs = means.view(-1, 2)
        each = -F.logsigmoid(training.beta * (pairs[:, 0] - pairs[:, 1]))
    else:
        each = -means
    return torch.stack([part.mean() for part in torch.split(each, [len(batch) for batch in batches])])
