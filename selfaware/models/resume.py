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

from selfaware.errors import BadModel
from selfaware.models import hooks, prefix
from selfaware.models.attention import GROUPED, Standing, attending, groups, own_attention
from selfaware.models.batch import Pass, Row, pad, where
from selfaware.models.edits import Edits
from selfaware.models.passes import Layers, States, before, spread, suffixes, texts
from selfaware.models.render import Ids

Route = Literal["plain", "whole", "shared", "suffix"]
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
        self.floors: set[int] = set()
        self.groups = groups(net)
        self.laid = prefix.Laid(cache.budget // 3)

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
            # Padding and sharing are looked at once for a route; at its other blocks the least will do.
            count = 1 if any(known == route for known, _ in self.trusted) else CHECKED_ROWS
            some = spread(rows, count, together=route == "shared")
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
        """How far the plain route's logits of a batch, padded on either side, are from those of single rows."""
        batches = [self._logits("plain", 0, rows, left) for left in (False, True) if left or len(rows) > 1]
        unit = max(torch.finfo(single.dtype).eps * ROUNDING, torch.finfo(self.weights[0].dtype).eps)
        grain = unit * float(single.abs().max())
        return max(*(float((batch - single).abs().max()) for batch in batches), grain)

    def _logits(self, route: Route, floor: int, rows: Sequence[Row], left: bool = False) -> Float[Tensor, "N V"]:
        with self._ready(route, floor, rows, left) as ready, hooks.gathered(self.places[-1], ready.answer):
            return ready.forward().logits[0].float()

    # routes -----------------------------------------------------------------------------------------------------------

    @contextmanager
    def _ready(self, route: Route, floor: int, rows: Sequence[Row], left: bool = False) -> Iterator[Pass]:
        prompts = [row.prompt for row in rows]
        if route == "plain":
            ready = texts(self.net, rows, left)
            with self.edits.at(ready.where):
                yield ready
            return
        if route == "whole":
            ready = texts(self.net, rows)

            def entering() -> list[Tensor]:
                return self._entering_texts(floor, rows)

        elif route == "shared":
            whole = self._entering_texts(floor, rows) if floor else []
            ready = suffixes(self.net, rows, self._prompts(rows, floor, whole), self.groups)

            def entering() -> list[Tensor]:
                return [text[len(prompt) - 1 :] for text, prompt in zip(whole, prompts, strict=True)]

        else:
            ready = suffixes(self.net, rows, self._kept(prompts, floor), self.groups)

            def entering() -> list[Tensor]:
                return self._entering_suffixes(floor, rows)

        resumed: AbstractContextManager[None] = nullcontext()
        if floor:
            asked = (route, floor, self.setting, tuple((row.prompt, row.answer[:-1]) for row in rows))
            (padded,) = self.laid.get(asked, lambda: [pad_sequence(entering(), True)])
            resumed = hooks.resumed(self.places, floor, padded)
        with self.edits.at(ready.where), resumed, self._attending():
            yield ready

    def _entering_texts(self, floor: int, rows: Sequence[Row]) -> list[Tensor]:
        """What enters block `floor` at every token of each text but the last, `[T, D]` each; nothing below is edited."""
        return self._entering(
            floor,
            rows,
            lambda row: ("text", row.prompt + row.answer[:-1]),
            lambda missing, _: texts(self.net, missing),
        )

    def _entering_suffixes(self, floor: int, rows: Sequence[Row]) -> list[Tensor]:
        """The same at the last prompt token and the answer's tokens but the last."""
        return self._entering(
            floor,
            rows,
            lambda row: ("suffix", row.prompt, row.answer[:-1]),
            lambda missing, at: suffixes(
                self.net, missing, self._kept([row.prompt for row in missing], at), self.groups
            ),
        )

    def _entering(
        self,
        floor: int,
        rows: Sequence[Row],
        what: Callable[[Row], Hashable],
        ready: Callable[[list[Row], int], Pass],
    ) -> list[Tensor]:
        setting = self.setting
        keys = [(what(row), floor, setting) for row in rows]
        found = {key: self.cache.get(key) for key in keys}
        missing = {key: row for key, row in zip(keys, rows, strict=True) if found[key] is None}
        if missing:
            # A sweep goes up the blocks: what enters a lower one, where it was kept, spares the way there.
            for at in sorted((f for f in self.floors if f < floor), reverse=True):
                lower = [self.cache.get((what(row), at, setting)) for row in missing.values()]
                if all(held is not None for held in lower):
                    break
            else:
                at, lower = 0, []
            padded = pad_sequence([held for held in lower if held is not None], True) if at else None
            resumed = hooks.resumed(self.places, at, padded) if padded is not None else nullcontext()
            with torch.no_grad(), self.edits.frozen():
                made = ready(list(missing.values()), at)
                with self.edits.at(made.where), resumed, self._attending():
                    fresh = hooks.input_of(self.places[floor], made.forward)
            for key, states, mask in zip(missing, fresh, made.real, strict=True):
                found[key] = kept = states[mask].clone()
                self.cache.put(key, kept)
            self.floors.add(floor)
        return [held for key in keys if (held := found[key]) is not None]

    def prefixes(self, prompts: Sequence[Ids]) -> tuple[Layers, Bool[Tensor, "B T"]]:
        """Keys and values of every prompt but its last token, left-padded, and their mask; none where all have one token."""
        states = self._prompts([Row(p, ()) for p in prompts], 0, []) if self.edits.prompt else self._kept(prompts, 0)
        return states.gathered(), states.mask

    def _kept(self, prompts: Sequence[Ids], floor: int) -> States:
        """Those that no edit changes; blocks below `floor` are not needed and get empty ones."""
        mask, standing = before(prompts), Standing.of(prompts, self.weights[0].device)
        if not mask.shape[1]:
            return States([], standing, mask)
        unique, first = tuple(dict.fromkeys(prompts)), min(floor, len(self.places) - 1)
        (batch,) = self.laid.get(("keys", unique, first, self.setting), lambda: [self._joined(unique, first)])
        return States(prefix.by_block(batch, first), standing, mask)

    def _joined(self, prompts: Sequence[Ids], first: int) -> Tensor:
        """Their kept states as one batch, from block `first` on; what is missing is worked out."""
        keys = {p: ("keys", p, self.setting) for p in prompts}
        found = {p: self.cache.get(key) for p, key in keys.items()}
        missing = [p for p, held in found.items() if held is None and len(p) > 1]
        if missing:
            with torch.no_grad(), self.edits.frozen():
                layers = self._prefill([Row(p[:-1], ()) for p in missing], 0, [])
                for p, made in zip(missing, prefix.split(layers, [len(p) - 1 for p in missing]), strict=True):
                    found[p] = made
                    self.cache.put(keys[p], made)
        return prefix.join([*found.values()], first)

    def _prompts(self, rows: Sequence[Row], floor: int, whole: Sequence[Tensor]) -> States:
        """Those under edits of prompts: each prompt of an owner runs once from block `floor` on, nothing is kept."""
        whose = [(row.prompt, row.owner) for row in rows]
        mask, standing = before([row.prompt for row in rows]), Standing.of(whose, self.weights[0].device)
        if not mask.shape[1]:
            return States([], standing, mask)
        unique = dict.fromkeys(whose)
        texts = {key: text[: len(key[0]) - 1] for key, text in zip(whose, whole, strict=True)} if floor else {}
        layers = self._prefill(
            [Row(prompt[:-1], (), owner) for prompt, owner in unique], floor, [texts[key] for key in unique if floor]
        )
        return States(layers, standing, mask)

    def _prefill(self, rows: Sequence[Row], floor: int, entering: Sequence[Tensor]) -> Layers:
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
