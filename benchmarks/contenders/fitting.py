"""The plain training loop: whole texts, padded on the right, AdamW. What a fit costs when nothing is kept."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from talk import Clock, Job
from torch import Tensor

Row = tuple[list[int], list[int]]
IGNORED = -100


class Batch:
    """Rows of prompt and answer as one right-padded batch; `labels` are the tokens to predict, −100 elsewhere.

    `scored` and `last` are the positions that predict an answer's token and that hold the prompt's last one, `[B, T]`.
    """

    def __init__(self, rows: list[Row]) -> None:
        longest = max(len(p) + len(a) for p, a in rows)
        self.ids = torch.zeros((len(rows), longest), dtype=torch.long)
        self.mask = torch.zeros_like(self.ids)
        self.labels = torch.full_like(self.ids, IGNORED)
        self.last = torch.zeros_like(self.ids, dtype=torch.bool)
        for at, (prompt, answer) in enumerate(rows):
            end = len(prompt) + len(answer)
            self.ids[at, :end] = torch.tensor(prompt + answer)
            self.mask[at, :end] = 1
            self.labels[at, len(prompt) : end] = torch.tensor(answer)
            self.last[at, len(prompt) - 1] = True
        self.scored = F.pad(self.labels[:, 1:] != IGNORED, (0, 1))
        self.inputs = {"input_ids": self.ids, "attention_mask": self.mask}

    def places(self, positions: str) -> Tensor:
        """Where an edit at these positions acts, `[B, T]`."""
        return {"all": self.mask.bool(), "answer": self.scored, "last_prompt": self.last}[positions]


def means(model: Any, batch: Batch, head: str) -> Tensor:
    """Mean log-probability of each row's answer, `[B]`; `head` says whether all positions are unembedded or the scored ones."""
    labels, counted = batch.labels[:, 1:], batch.labels[:, 1:] != IGNORED
    if head == "full":
        logits = model(**batch.inputs).logits[:, :-1]
        losses = F.cross_entropy(logits.transpose(1, 2).float(), labels, reduction="none", ignore_index=IGNORED)
    else:
        hidden = model.base_model(**batch.inputs).last_hidden_state[:, :-1]
        found = F.cross_entropy(
            model.get_output_embeddings()(hidden[counted]).float(), labels[counted], reduction="none"
        )
        losses = torch.zeros(labels.shape).masked_scatter(counted, found)
    return -losses.sum(1) / counted.sum(1)


def objective(values: Tensor, job: Job) -> Tensor:
    """The loss of a batch: cross-entropy of the answers, or the contrast of each pair of rows."""
    if job["objective"] == "sft":
        return -values.mean()
    pairs = values.view(-1, 2)
    return -F.logsigmoid(job["beta"] * (pairs[:, 0] - pairs[:, 1])).mean()


def rate(step: int, steps: int, job: Job) -> float:
    """The learning rate of a step: up over the warm-up, then down to zero."""
    rise = max(1, round(steps * job["warmup"]))
    return job["learning_rate"] * ((step + 1) / rise if step < rise else (steps - step) / max(1, steps - rise))


def train(
    forward: Callable[[Batch], Tensor], weights: Iterable[Tensor], batches: list[list[Row]], job: Job, clock: Clock
) -> list[float]:
    """The loss of every step."""
    weights = list(weights)
    optimiser = torch.optim.AdamW(weights, lr=job["learning_rate"], weight_decay=job["weight_decay"])
    losses = []
    for at, rows in enumerate(batches):
        for group in optimiser.param_groups:
            group["lr"] = rate(at, len(batches), job)
        loss = objective(forward(Batch(rows)), job)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, job["clip"])
        optimiser.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise ValueError(f"step {at + 1}: the loss is {losses[-1]}")
        clock.mark()
    return losses
