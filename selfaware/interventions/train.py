"""The one training loop: gradients reach the deltas and nothing else. Knows questions with two options, no behaviour."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from selfaware.errors import BadData, FitFailed
from selfaware.interventions.base import Intervention, Step
from selfaware.models.batch import Row
from selfaware.models.hf import Model
from selfaware.types import Polarity, Question, Template

Objective = Literal["sft", "contrast"]


@dataclass(frozen=True)
class Training:
    """How deltas are trained. The loss is on the answer only.

    Attributes:
        objective: `sft` is cross-entropy per token of the chosen option; `contrast` is −log σ(β(l_chosen − l_other))
            over the two options, l = mean log-probability per token.
        beta: β of `contrast`, per nat.
        learning_rate: AdamW's, after a warm-up over the first tenth of the steps; falls linearly to zero.
        batch: groups in a step; each shows one of its option orders, drawn by the seed.
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


def train(
    model: Model,
    intervention: Intervention,
    examples: Sequence[Question],
    polarity: Polarity,
    training: Training,
    seed: int,
    on_step: Step,
) -> tuple[float, ...]:
    """Trains the intervention's tensors in place; the loss of every step.

    Args:
        examples: questions with two options; those of one group are the same record with its options swapped.

    Raises:
        BadData: no examples, an example without exactly two options, or settings that train nothing.
        FitFailed: the loss is not a finite number.
    """
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
    tensors = [t.requires_grad_() for delta in intervention.deltas.values() for t in delta.tensors().values()]
    optimiser = torch.optim.AdamW(tensors, lr=training.learning_rate, weight_decay=training.weight_decay)
    rng = random.Random(seed)
    flip = {g: training.shuffle_labels and rng.random() < 0.5 for g in sorted(groups)}
    batches = _batches(groups, training, rng)
    losses: list[float] = []
    with intervention.on(model):
        for at, batch in enumerate(batches):
            for group in optimiser.param_groups:
                group["lr"] = training.learning_rate * schedule(at, len(batches), training.warmup)
            loss = _loss(model, batch, [_flipped(polarity, flip[q.group]) for q in batch], training)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(tensors, training.clip)
            optimiser.step()
            losses.append(loss.item())
            if not math.isfinite(losses[-1]) or not all(bool(t.isfinite().all()) for t in tensors):
                raise FitFailed(
                    f"step {at + 1} of {len(batches)}: loss {losses[-1]}; a finite loss is needed. Lower learning_rate (now {training.learning_rate:g})."
                )
            on_step(at + 1, len(batches), losses[-1])
    for tensor in tensors:
        tensor.requires_grad_(False)
    return tuple(losses)


def schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the learning rate at a step (from 0): up over the first `warmup` share of the steps, then down to zero."""
    rise = max(1, round(steps * warmup))
    return (step + 1) / rise if step < rise else (steps - step) / max(1, steps - rise)


def _batches(groups: dict[str, list[Question]], training: Training, rng: random.Random) -> list[list[Question]]:
    drawn: list[Question] = []
    for _ in range(training.epochs):
        names = sorted(groups)
        rng.shuffle(names)
        drawn += [rng.choice(groups[name]) for name in names]
    return [drawn[i : i + training.batch] for i in range(0, len(drawn), training.batch)]


def _flipped(polarity: Polarity, flip: bool) -> Polarity:
    return ("low" if polarity == "high" else "high") if flip else polarity


def _loss(model: Model, batch: Sequence[Question], polarities: Sequence[Polarity], training: Training) -> Tensor:
    rows: list[Row] = []
    both = training.objective == "contrast"
    for question, polarity in zip(batch, polarities, strict=True):
        rendered = model.render(question, training.template)
        chosen = question.chosen(polarity)
        spelled = [v[0] for v in rendered.options]
        rows += [Row(rendered.prompt, spelled[chosen])] + [Row(rendered.prompt, spelled[1 - chosen])] * both
    tokens = torch.tensor([len(r.answer) for r in rows], device=model.device)
    means = model.logprobs(rows, batch=len(rows)) / tokens
    if not both:
        return -means.mean()
    pairs = means.view(-1, 2)
    return -F.logsigmoid(training.beta * (pairs[:, 0] - pairs[:, 1])).mean()
