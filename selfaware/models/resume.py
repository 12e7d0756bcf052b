"""The frozen-prefix engine: runs rows from the first edited block and the first edited position on. Knows blocks, no behaviour.

The net is frozen below its first edited block and before the first edited position. What enters that block, and the keys
and values of earlier positions, are the same in every step, epoch, seed, rank, polarity and strength: they are computed once
and kept (`prefix.PrefixCache`). The forward pass stays Hugging Face's own, so that masks, rotary tables and the kinds of attention
are the model's; the blocks below are passed through and the kept residual is put in where they would have ended.

A batch takes one of four routes:

- `plain`: whole texts from their embedding on; nothing is kept.
- `whole`: whole texts from the first edited block on. For edits of prompts, and for models with other state than keys and
  values.
- `shared`: the same where rows share prompts: each prompt runs once, with its gradient, and its answers go on from it.
- `suffix`: the last prompt token and the answer only, from the first edited block on, on the prompt's kept keys and values.

At its first use each route and block is held against the plain route on real rows. Where they differ by more than three
times what the plain route itself differs by between single rows and a batch, padded on either side, the plain route is
taken, with a warning.
"""

import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from selfaware.errors import BadModel
from selfaware.models import hooks, prefix
from selfaware.models.attention import GROUPED, attending, groups, own_attention
from selfaware.models.batch import Pass, Row, pad, where
from selfaware.models.edits import Edits
from selfaware.models.render import Ids

Route = Literal["plain", "whole", "shared", "suffix"]
States = list[tuple[Tensor, Tensor]]
"""For each block keys and values, `[B, H, T, d]`."""

CHECKED_ROWS = 3
TIMES = 3.0
ROUNDING = 8.0
"""Units in the last place of the largest logit, in float32, that count as no difference: small nets can agree to the bit."""


@final
class Engine:
    """Runs rows through one net, each by the shortest route that gives the plain route's numbers.

    Args:
        net: a Hugging Face causal language model with frozen weights.
        blocks: its transformer blocks, first to last.
        head: its unembedding.
        edits: what is attached to it.
        cache: what is kept.
        name: the model's identity, part of every key.
        splits: whether keys and values are all the state that the net carries from position to position.
    """

    def __init__(
        self,
        net: Any,
        blocks: Sequence[nn.Module],
        head: nn.Module,
        edits: Edits,
        cache: prefix.PrefixCache,
        name: str,
        splits: bool,
    ) -> None:
        self.net, self.edits, self.cache, self.name, self.splits = net, edits, cache, name, splits
        self.places = [*blocks, head]
        self.weights = list(net.parameters())
        self.trusted: dict[tuple[Route, int], bool] = {}
        self.noise: float | None = None
        self.groups = groups(net)

    @property
    def setting(self) -> tuple[object, ...]:
        """What every key holds beside block and tokens: model, weights, type, attention, held edits.

        Masks are not in it: everything is kept without padding.
        """
        changed = sum(w._version for w in self.weights)
        attention = GROUPED if self.groups else own_attention(self.net)
        return (self.name, len(self.weights), changed, str(self.weights[0].dtype), attention, self.edits.held)

    def _attending(self) -> AbstractContextManager[None]:
        return attending(self.net, GROUPED) if self.groups else nullcontext()

    def route(self, rows: Sequence[Row], plain: bool, at: int | None) -> tuple[Route, int]:
        """The route for these rows, and the block it starts at; the head counts as a block after the last.

        Args:
            plain: take the plain route.
            at: the block to start at; None takes the first edited one, or the embedding.

        Raises:
            BadModel: an edit, or a weight that is being trained, lies where the route would not see it change.
        """
        edited = self.edits.floor(len(self.places))
        floor = (0 if edited == len(self.places) else edited) if at is None else at
        if plain:
            return "plain", 0
        if any(w.requires_grad for w in self.weights):
            raise BadModel(
                "resuming: a weight of the net itself is being trained; frozen ones are needed. Train a delta, or pass plain=True."
            )
        if floor > edited:
            raise BadModel(
                f"resuming at block {floor}: block {edited} below it is edited; no edit may lie there. Resume at {edited} or lower."
            )
        if not self.splits:
            return ("whole", floor) if floor else ("plain", 0)
        if not self.edits.prompt:
            return "suffix", floor
        if len({(row.prompt, row.owner) for row in rows}) < len(rows):
            return "shared", floor
        return ("whole", floor) if floor else ("plain", 0)

    @contextmanager
    def running(self, rows: Sequence[Row], plain: bool = False, at: int | None = None) -> Iterator[Pass]:
        """Within the context `forward` runs these rows, by the route that `route` names where it is trusted."""
        route, floor = self.route(rows, plain, at)
        if route != "plain" and not self._trusts(route, floor, rows):
            route, floor = "plain", 0
        with self._ready(route, floor, rows) as ready:
            yield ready

    # parity -----------------------------------------------------------------------------------------------------------

    def _trusts(self, route: Route, floor: int, rows: Sequence[Row]) -> bool:
        """Whether the route gives the plain one's logits: measured on a few of the rows when it is first taken."""
        if (route, floor) not in self.trusted:
            some = _spread(rows, CHECKED_ROWS, together=route == "shared")
            with torch.no_grad(), self.edits.uncounted():
                single = torch.cat([self._logits("plain", 0, [row]) for row in some])
                if not bool(single.isfinite().all()):
                    return True  # an edit that breaks the net says nothing about the route
                fast = self._logits(route, floor, some)
                noise = self._noise(some, single)
            off = float((single - fast).abs().max())
            self.trusted[route, floor] = off <= TIMES * noise
            if not off <= TIMES * noise:
                warnings.warn(
                    f"{self.name}: resuming at block {floor} by the {route} route moves logits by {off:.2g}, more than {TIMES:g} times the plain route's own {noise:.2g}; whole passes are made instead, which is slower.",
                    stacklevel=4,
                )
        return self.trusted[route, floor]

    def _noise(self, rows: Sequence[Row], single: Float[Tensor, "N V"]) -> float:
        """How far the plain route's logits of a batch are from those of single rows, padded on either side; measured once."""
        if self.noise is None:
            batches = [self._logits("plain", 0, rows, left) for left in (False, True)]
            unit = max(torch.finfo(single.dtype).eps * ROUNDING, torch.finfo(self.weights[0].dtype).eps)
            grain = unit * float(single.abs().max())
            self.noise = max(*(float((batch - single).abs().max()) for batch in batches), grain)
        return self.noise

    def _logits(self, route: Route, floor: int, rows: Sequence[Row], left: bool = False) -> Float[Tensor, "N V"]:
        with self._ready(route, floor, rows, left) as ready, hooks.gathered(self.places[-1], ready.answer):
            return ready.forward().logits[0].float()

    # routes -----------------------------------------------------------------------------------------------------------

    @contextmanager
    def _ready(self, route: Route, floor: int, rows: Sequence[Row], left: bool = False) -> Iterator[Pass]:
        prompts = [row.prompt for row in rows]
        if route == "plain":
            ready = _texts(self.net, rows, left)
            with self.edits.at(ready.where):
                yield ready
            return
        if route == "whole":
            ready = _texts(self.net, rows)
            entering = self._entering_texts(floor, rows)
        elif route == "shared":
            texts = self._entering_texts(floor, rows) if floor else []
            ready = _suffixes(self.net, rows, *self._prompts(rows, floor, texts))
            entering = [text[len(prompt) - 1 :] for text, prompt in zip(texts, prompts, strict=True)] if floor else []
        else:
            entering = self._entering_suffixes(floor, rows) if floor else []
            ready = _suffixes(self.net, rows, *self.prefixes(prompts, floor))
        resumed = hooks.resumed(self.places, floor, pad_sequence(entering, True)) if floor else nullcontext()
        with self.edits.at(ready.where), resumed, self._attending():
            yield ready

    def _entering_texts(self, floor: int, rows: Sequence[Row]) -> list[Tensor]:
        """What enters block `floor` at every token of each text but the last, `[T, D]` each; nothing below is edited."""
        keys = [("text", floor, row.prompt + row.answer[:-1], self.setting) for row in rows]
        return self._entering(floor, keys, rows, lambda missing: _texts(self.net, missing))

    def _entering_suffixes(self, floor: int, rows: Sequence[Row]) -> list[Tensor]:
        """The same at the last prompt token and the answer's tokens but the last."""
        keys = [("suffix", floor, row.prompt, row.answer[:-1], self.setting) for row in rows]
        return self._entering(
            floor,
            keys,
            rows,
            lambda missing: _suffixes(self.net, missing, *self.prefixes([row.prompt for row in missing])),
        )

    def _entering(
        self, floor: int, keys: Sequence[Hashable], rows: Sequence[Row], ready: Callable[[list[Row]], Pass]
    ) -> list[Tensor]:
        found = {key: self.cache.get(key) for key in keys}
        missing = {key: row for key, row in zip(keys, rows, strict=True) if found[key] is None}
        if missing:
            with torch.no_grad(), self.edits.frozen():
                made = ready(list(missing.values()))
                with self.edits.at(made.where), self._attending():
                    fresh = hooks.input_of(self.places[floor], made.forward)
            for key, states, mask in zip(missing, fresh, made.real, strict=True):
                found[key] = kept = states[mask].clone()
                self.cache.put(key, kept)
        return [held for key in keys if (held := found[key]) is not None]

    def prefixes(self, prompts: Sequence[Ids], floor: int = 0) -> tuple[States, Bool[Tensor, "B T"]]:
        """Keys and values of every prompt but its last token, left-padded, and their mask; none where all have one token.

        Args:
            floor: blocks below it are not needed and get empty states.
        """
        if self.edits.prompt:
            return self._prompts([Row(p, ()) for p in prompts], 0, [])
        mask = _before(prompts)
        if not mask.shape[1]:
            return [], mask
        unique = {p: ("keys", p, self.setting) for p in prompts if len(p) > 1}
        found = {p: self.cache.get(key) for p, key in unique.items()}
        missing = [p for p, held in found.items() if held is None]
        if missing:
            with torch.no_grad(), self.edits.frozen():
                layers = self._prefill([Row(p[:-1], ()) for p in missing], 0, [])
                for p, states in zip(missing, prefix.split(layers, [len(p) - 1 for p in missing]), strict=True):
                    found[p] = states
                    self.cache.put(unique[p], states)
        return prefix.join([found.get(p) for p in prompts], min(floor, len(self.places) - 1)), mask

    def _prompts(self, rows: Sequence[Row], floor: int, texts: Sequence[Tensor]) -> tuple[States, Bool[Tensor, "B T"]]:
        """The same under edits of prompts: each prompt of an owner runs once from block `floor` on, nothing is kept."""
        mask = _before([row.prompt for row in rows])
        if not mask.shape[1]:
            return [], mask
        whose = [(row.prompt, row.owner) for row in rows]
        unique = {key: at for at, key in reversed(list(enumerate(whose)))}  # the first row of each
        order = {key: at for at, key in enumerate(unique)}
        layers = self._prefill(
            [Row(prompt[:-1], (), owner) for prompt, owner in unique],
            floor,
            [texts[at][: len(prompt) - 1] for (prompt, _), at in unique.items() if floor],
        )
        index = torch.tensor([order[key] for key in whose], device=self.weights[0].device)
        return [(k[index], v[index]) if at >= floor else (k, v) for at, (k, v) in enumerate(layers)], mask

    def _prefill(self, rows: Sequence[Row], floor: int, entering: Sequence[Tensor]) -> States:
        """Keys and values after running the rows' prompts, left-padded, from block `floor` on."""
        device = self.weights[0].device
        ids, real = (x.to(device) for x in pad([row.prompt for row in rows], left=True))
        kept = DynamicCache()
        resumed: AbstractContextManager[None] = nullcontext()
        if floor:
            longest = ids.shape[1]
            padded = torch.stack([nn.functional.pad(e, (0, 0, longest - len(e), 0)) for e in entering])
            resumed = hooks.resumed(self.places, floor, padded)
        with self.edits.at(where(rows, real, None, None)), resumed, self._attending():
            self.net.base_model(
                input_ids=ids,
                attention_mask=real.long(),
                position_ids=(real.long().cumsum(1) - 1).clamp(min=0),
                past_key_values=kept,
                use_cache=True,
            )
        layers: list[Any] = list(kept.layers)
        made = [(layer.keys, layer.values) for layer in layers[floor:]]
        if not floor:
            return made
        empty = made[0][0].new_zeros(()).expand(made[0][0].shape)
        return [(empty, empty)] * floor + made


def _before(prompts: Sequence[Ids]) -> Bool[Tensor, "B T"]:
    lengths = [len(p) - 1 for p in prompts]
    return torch.arange(max(lengths))[None] >= max(lengths) - torch.tensor(lengths)[:, None]


def _spread(rows: Sequence[Row], count: int, together: bool) -> list[Row]:
    """A few rows from shortest to longest, or those of one prompt and another row, so that padding and sharing occur."""
    ordered = sorted(rows, key=lambda row: (len(row.prompt), row.prompt, len(row.answer)))
    if together:
        pair = next(i for i in range(1, len(ordered)) if ordered[i].prompt == ordered[i - 1].prompt)
        return [*ordered[pair - 1 : pair + 1], ordered[-1] if pair < len(ordered) - 1 else ordered[0]]
    step = max(1, (len(ordered) - 1) // max(1, count - 1))
    return ordered[::step][:count]


def _texts(net: Any, rows: Sequence[Row], left: bool = False) -> Pass:
    """The pass over whole texts, prompt and answer but for its last token, padded on the right, or by one at least on the left."""
    ids, real = pad([row.prompt + row.answer[:-1] for row in rows], left)
    if left:
        ids, real = (nn.functional.pad(x, (1, 0)) for x in (ids, real))
    starts = torch.tensor([len(row.prompt) - 1 for row in rows])[:, None]
    column = (real.long().cumsum(1) - 1).clamp(min=0)
    scored = real & (column >= starts)
    targets = torch.full(ids.shape, -100)
    targets[scored] = torch.tensor([t for row in rows for t in row.answer])
    device = next(net.parameters()).device
    last = scored & (column == starts)
    ids, real, scored, last, targets, column = (x.to(device) for x in (ids, real, scored, last, targets, column))

    def forward() -> Any:
        return net(input_ids=ids, attention_mask=real.long(), position_ids=column, use_cache=False)

    return Pass(forward, real, scored, where(rows, real, scored, last), targets)


def _suffixes(net: Any, rows: Sequence[Row], states: States, before: Bool[Tensor, "B P"]) -> Pass:
    """The pass over last prompt tokens and answers, padded on the right, after the prompts' states."""
    ids, real = pad([row.prompt[-1:] + row.answer[:-1] for row in rows], left=False)
    targets, _ = pad([row.answer for row in rows], left=False, fill=-100)
    device = next(net.parameters()).device
    lengths = torch.tensor([len(row.prompt) - 1 for row in rows])[:, None]
    ids, real, before, targets, lengths = (x.to(device) for x in (ids, real, before, targets, lengths))
    column = torch.arange(ids.shape[1], device=device)[None]
    masks, positions = torch.cat((before, real), 1).long(), lengths + column

    def forward() -> Any:
        return net(
            input_ids=ids,
            attention_mask=masks,
            position_ids=positions,
            past_key_values=_past(states) if states else None,
            use_cache=bool(states),
        )

    return Pass(forward, real, real, where(rows, real, real, real & (column == 0)), targets)


def _past(states: States) -> DynamicCache:
    """A cache that stands on these very tensors: made for each pass, since a pass adds its own to it."""
    past: Any = DynamicCache()
    for keys, values in states:
        layer: Any = DynamicLayer()  # type: ignore[no-untyped-call]
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
        past.layers.append(layer)
    return past
