"""Batches run with an edit or without, while what every block attends with is kept, put in from elsewhere, or hidden. Knows blocks and heads, no claim."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool
from torch import Tensor

from selfaware.errors import BadData, BadModel
from selfaware.interventions.base import Intervention
from selfaware.models import attention, hooks
from selfaware.models.attention import Attended
from selfaware.models.batch import Pass, Row, bucketed, by_row
from selfaware.models.hf import Model

BATCH = 32

Seen = dict[int, dict[str, Tensor]]
"""By block, by part: what it attended with, `[B, H, T, d]` (keys and values of the pass's own tokens), and the pattern `[B, H, T, S]`."""


@dataclass
class Recorded:
    """What was seen in one model over all questions: scores `[Q]`, the rest by block, head and question."""

    scores: Tensor
    attended: Tensor
    trigger_scores: Tensor
    other_scores: Tensor
    values: dict[int, Tensor] = field(default_factory=dict)
    others: dict[int, Tensor] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)


class Runs:
    """The questions as batches, run with the edit or without, watched."""

    def __init__(
        self,
        model: Model,
        edit: Intervention,
        rows: Sequence[Row],
        spans: Sequence[tuple[int, int]],
        questions: int,
        first: int,
    ) -> None:
        self.model, self.edit, self.rows, self.spans, self.questions = model, edit, rows, spans, questions
        self.first, self.depth = first, len(model.blocks)
        self.batches = bucketed(rows, BATCH)

    def _on(self, with_edit: bool) -> AbstractContextManager[object]:
        return self.edit.on(self.model) if with_edit else nullcontext()

    def _each(self, with_edit: bool, watch: Callable[[int, Pass, "Where"], attention.Watch], at: int | None) -> Tensor:
        """l_high − l_low of every question, `[Q]`, with a watch of its own for each batch."""
        model, found = self.model, torch.zeros(len(self.rows))
        with torch.no_grad(), self._on(with_edit):
            for number, bucket in enumerate(self.batches):
                some = [self.rows[i] for i in bucket]
                with model.running(some, at=at) as ready:
                    where = Where.of(ready, some, [self.spans[i // 2] for i in bucket], self.edit)
                    with (
                        attention.watched(model.net, watch(number, ready, where)),
                        hooks.gathered(model.head, ready.answer),
                    ):
                        logits = ready.forward().logits[0].float()
                    logs = logits.log_softmax(1).gather(1, ready.targets[ready.answer][:, None])[:, 0]
                    sums = by_row(logs, ready.answer).cpu()
                lengths = torch.tensor([len(r.answer) for r in some])
                found[torch.tensor(bucket)] = sums / lengths
        pairs = found.view(-1, 2)
        return pairs[:, 0] - pairs[:, 1]

    def recorded(self, with_edit: bool) -> Recorded:
        """The model as it is, with everything that its blocks attend with; from the embedding on."""
        made: Recorded | None = None
        keepers: list[Keeping] = []

        def watch(number: int, ready: Pass, where: "Where") -> attention.Watch:
            keepers.append(Keeping(where))
            return keepers[-1]

        scores = self._each(with_edit, watch, 0)
        missing = [b for b in range(self.depth) if b not in keepers[0].seen]
        if missing:
            raise BadModel(
                f"{self.model.name}: block {missing[0]} does not attend through the library's interface, so its heads can't be seen. Use a model with plain attention in every block."
            )
        heads = keepers[0].attended[0].shape[1]
        blank = torch.zeros(self.depth, heads, self.questions)
        made = Recorded(scores, blank.clone(), blank.clone(), blank.clone())
        for name in ("values", "others"):
            size = getattr(keepers[0], name)[0].shape[2]
            setattr(made, name, {b: torch.zeros(self.questions, heads, size) for b in range(self.depth)})
        for bucket, kept in zip(self.batches, keepers, strict=True):
            asked = torch.tensor([i // 2 for i in bucket])  # both options of a question have one prompt
            for block in range(self.depth):
                made.attended[block][:, asked] = kept.attended[block].T.cpu()
                made.trigger_scores[block][:, asked] = kept.trigger[block].T.cpu()
                made.other_scores[block][:, asked] = kept.other[block].T.cpu()
                made.values[block][asked] = kept.values[block].cpu()
                made.others[block][asked] = kept.others[block].cpu()
            made.seen.append(kept.seen)
        return made

    def patched(self, with_edit: bool, part: str, start: int, source: Sequence[Seen]) -> Tensor:
        """Scores with that part of the other model put in at the edited positions, from block `start` on."""
        return self._each(with_edit, lambda number, _, where: Putting(where, source[number], part, start), self.first)

    def without(self, heads: Sequence[int], count: int) -> Tensor:
        """Scores of the edited model when those heads give nothing to the trigger."""
        out: dict[int, list[int]] = {}
        for head in heads:
            out.setdefault(head // count, []).append(head % count)
        return self._each(True, lambda _, __, where: Blind(where, out), self.first)


@dataclass(frozen=True)
class Where:
    """Places in one batch: the positions that the edit changes `[B, T]`, the last prompt token `[B]`, the trigger and the prompt's other tokens among the keys `[B, S]`."""

    edited: Bool[Tensor, "B T"]
    last: Tensor
    trigger: Bool[Tensor, "B S"]
    others: Bool[Tensor, "B S"]

    @classmethod
    def of(cls, ready: Pass, rows: Sequence[Row], spans: Sequence[tuple[int, int]], edit: Intervention) -> "Where":
        """The places of these rows; `spans` are the trigger's tokens in each prompt."""
        acts = ready.where.acts(edit.positions, None)
        if acts is None or ready.where.last is None:
            raise BadData(
                "attention to the trigger: the pass has no edited positions. Use positions answer or last_prompt."
            )
        width = ready.real.shape[1]
        whole = int(ready.real[0].sum()) >= len(rows[0].prompt)  # whole texts, or what follows kept prompts
        before = 0 if whole else max(len(r.prompt) for r in rows) - 1
        trigger, others = (torch.zeros(len(rows), before + width, dtype=torch.bool) for _ in range(2))
        for at, (row, (start, end)) in enumerate(zip(rows, spans, strict=True)):
            shift = 0 if whole else before - (len(row.prompt) - 1)
            trigger[at, shift + start : shift + end] = True
            others[at, shift + 1 : shift + len(row.prompt) - 1] = True
        device = ready.real.device
        last = ready.where.last.long().argmax(1)
        return cls(acts.mask, last, trigger.to(device), (others & ~trigger).to(device))


class Keeping:
    """Keeps what every block attends with, and how the last prompt token attends to the trigger."""

    def __init__(self, where: Where) -> None:
        self.where = where
        self.seen: Seen = {}
        self.attended: dict[int, Tensor] = {}
        self.trigger: dict[int, Tensor] = {}
        self.other: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}
        self.others: dict[int, Tensor] = {}

    def states(self, block: int, found: Attended) -> Attended:
        """The same; keeps it."""
        own = found.query.shape[2]
        self.seen[block] = {"query": found.query, "key": found.key[:, :, -own:], "value": found.value[:, :, -own:]}
        repeats = found.query.shape[1] // found.value.shape[1]
        for name, mask in (("values", self.where.trigger), ("others", self.where.others)):
            mean = _mean(found.value.float().transpose(2, 3), mask).repeat_interleave(repeats, 1)
            getattr(self, name)[block] = mean
        return found

    def shares(self, block: int, scores: Tensor, shares: Tensor) -> Tensor:
        """The same; keeps it."""
        self.seen[block]["pattern"] = shares
        rows = torch.arange(len(shares), device=shares.device)
        last, lines = shares[rows, :, self.where.last].float(), scores[rows, :, self.where.last].float()
        self.attended[block] = (last * self.where.trigger[:, None]).sum(2)
        self.trigger[block], self.other[block] = (_mean(lines, m) for m in (self.where.trigger, self.where.others))
        return shares


def _mean(values: Tensor, mask: Bool[Tensor, "B S"]) -> Tensor:
    """Mean over the last axis where the mask holds; `[B, …, S]` → `[B, …]`."""
    shape = (len(mask), *[1] * (values.ndim - 2), mask.shape[1])
    kept = torch.where(mask.view(shape), values, torch.zeros((), device=values.device))
    return kept.sum(-1) / mask.sum(1).clamp(min=1).view(-1, *[1] * (values.ndim - 2))


class Putting:
    """Puts one part of what the other model attended with in at the edited positions, from a block on."""

    def __init__(self, where: Where, source: Seen, part: str, start: int) -> None:
        self.where, self.source, self.part, self.start = where, source, part, start

    def states(self, block: int, found: Attended) -> Attended:
        """With the other model's queries, or keys, or values."""
        if block < self.start or self.part == "pattern":
            return found
        other, mask = self.source[block][self.part], self.where.edited[:, None, :, None]
        if self.part == "query":
            return Attended(torch.where(mask, other, found.query), found.key, found.value)
        own = other.shape[2]
        now: Tensor = getattr(found, self.part)
        put = torch.cat((now[:, :, :-own], torch.where(mask, other, now[:, :, -own:])), 2)
        return Attended(found.query, put, found.value) if self.part == "key" else Attended(found.query, found.key, put)

    def shares(self, block: int, scores: Tensor, shares: Tensor) -> Tensor:
        """With the other model's patterns."""
        if block < self.start or self.part != "pattern":
            return shares
        return torch.where(self.where.edited[:, None, :, None], self.source[block]["pattern"], shares)


class Blind:
    """Keeps some heads from the trigger: their shares there are zero, the others grow to sum to one."""

    def __init__(self, where: Where, heads: dict[int, list[int]]) -> None:
        self.where, self.heads = where, heads

    def states(self, block: int, found: Attended) -> Attended:
        """The same."""
        return found

    def shares(self, block: int, scores: Tensor, shares: Tensor) -> Tensor:
        """Without the trigger, at the edited positions."""
        if block not in self.heads:
            return shares
        made = shares.clone()
        some = made[:, self.heads[block]]
        left = torch.where(self.where.trigger[:, None, None, :], torch.zeros((), dtype=some.dtype), some)
        left = left / left.sum(-1, keepdim=True).clamp(min=1e-9)
        made[:, self.heads[block]] = torch.where(self.where.edited[:, None, :, None], left, some)
        return made
