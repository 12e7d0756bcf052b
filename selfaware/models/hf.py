"""The one Hugging Face model: sites, edits that name their positions, log-probabilities of answers. Knows no behaviour.

A forward pass comes in two parts. *Prefill* runs the prompt without its last token; *suffix* runs that token and the
answer on the prompt's keys and values. An edit at `answer` or `last_prompt` touches the suffix only, so the
prefill is shared by options, steps, seeds and arms, and so is the suffix's residual below the first edited block
(`prefix.PrefixCache`); an edit at `all` positions runs its own. The unembedding runs on the suffix only. Where a model
keeps more than keys and values, the whole text runs at once.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import DynamicCache

from selfaware.errors import BadModel
from selfaware.models import hooks, prefix
from selfaware.models.batch import Pass, Row, Touched, bucketed, pad, summed
from selfaware.models.render import Ids, Rendered, prompt_text, render
from selfaware.models.sites import Sites, find_blocks, find_head
from selfaware.types import Positions, Prompt, Question, Site, Template

GIB = 2**30


@final
class Model:
    """A causal language model with frozen weights, its tokenizer, and the verbs that arms are measured with.

    Args:
        net: any Hugging Face causal language model.
        cache_gib: memory for keys and values of prompts, GiB.
    """

    def __init__(
        self, net: Any, tokenizer: Any, *, name: str, identity: str, system_role: bool = True, cache_gib: float = 1.5
    ) -> None:
        self.net, self.tokenizer = net.eval(), tokenizer
        self.name, self.identity, self.system_role = name, identity, system_role
        for weight in net.parameters():
            weight.requires_grad_(False)
        self.config = net.config.get_text_config()
        self.blocks = find_blocks(net, self.config.num_hidden_layers)
        self.head = find_head(net)
        self.width = int(self.config.hidden_size)
        self.sites = Sites(self.blocks, self.width, name, self._one_token)
        self.context = int(getattr(self.config, "max_position_embeddings", 2**31))
        self.cache = prefix.PrefixCache(int(cache_gib * GIB))
        kinds = set(getattr(self.config, "layer_types", None) or ["full_attention"])
        shared = bool(getattr(self.config, "num_kv_shared_layers", 0))
        self.splits = kinds <= {"full_attention", "sliding_attention"} and not shared
        self._masks: dict[Positions, Bool[Tensor, "B T"] | None] | None = None
        self._edits_prompt = 0
        self._edited: list[int] = []

    @property
    def dtype(self) -> torch.dtype:
        """The weights' type."""
        return next(self.net.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.net.parameters()).device

    @property
    def untouched(self) -> bool:
        """Whether no edit is attached."""
        return not (self._edited or self._edits_prompt)

    # sites ------------------------------------------------------------------------------------------------------------

    def module(self, site: Site) -> nn.Module:
        """The module whose output `site` is; see `Sites.module`."""
        return self.sites.module(site)

    def resolve(self, site: Site) -> Site:
        """The one name of what `site` adds to; see `Sites.resolve`."""
        return self.sites.resolve(site)

    def linears(self, where: str) -> tuple[Site, ...]:
        """The linear modules that a LoRA at `where` goes on; see `Sites.linears`."""
        return self.sites.linears(where)

    def output_width(self, site: Site) -> int:
        """Width of the site's output, `D`; see `Sites.output_width`."""
        return self.sites.output_width(site)

    def _one_token(self) -> None:
        with torch.no_grad(), self.at(None, None, None):
            self.net(input_ids=torch.zeros((1, 1), dtype=torch.long, device=self.device), use_cache=False)

    # edits ------------------------------------------------------------------------------------------------------------

    @contextmanager
    def edited(self, changes: Sequence[tuple[Site, hooks.Change]], positions: Positions) -> Iterator[Touched]:
        """Within the context each site's output is changed at `positions`; gives the count of what was touched.

        Edits nest. Nothing stays behind, also when attaching fails half-way.
        """
        touched = Touched(sites=len(changes))

        def at_positions(change: hooks.Change) -> hooks.Change:
            def masked(x: Tensor, y: Tensor) -> Tensor:
                mask = self._mask(positions, y)
                if mask is None:
                    return y
                touched.firings += 1
                touched.tokens += int(mask.sum())
                return hooks.mask_in(change(x, y), y, mask)

            return masked

        with hooks.changed([(self.module(site), at_positions(change)) for site, change in changes]):
            before = self._edited
            self._edits_prompt += positions == "all"
            self._edited = [*before, *(site.block for site, _ in changes)]
            try:
                yield touched
            finally:
                self._edits_prompt -= positions == "all"
                self._edited = before

    def _mask(self, positions: Positions, y: Tensor) -> Bool[Tensor, "B T"] | None:
        if self._masks is not None:
            return self._masks[positions]
        if positions == "all":
            return torch.ones(y.shape[:2], dtype=torch.bool, device=y.device)
        raise BadModel(
            f"positions '{positions}': a bare forward pass does not know them. Use Model.logprobs, or positions 'all'."
        )

    @contextmanager
    def at(self, real: Tensor | None, answer: Tensor | None, last: Tensor | None) -> Iterator[None]:
        """Within the context a forward pass has these positions, each `[B, T]`, for the edits to act at.

        Args:
            real: all positions that are no padding.
            answer: those that predict a token of the answer.
            last: the prompt's last token. None, here as above: no position, and nothing is counted.
        """
        before = self._masks
        self._masks = {"all": real, "answer": answer, "last_prompt": last}
        try:
            yield
        finally:
            self._masks = before

    # text -------------------------------------------------------------------------------------------------------------

    def render(self, question: Question, template: Template) -> Rendered:
        """The question as ids; see `models.render`."""
        return render(self.tokenizer, question, template, self.context, self.system_role)

    def text(self, prompt: Prompt, template: Template) -> str:
        """The prompt as the model sees it."""
        return prompt_text(self.tokenizer, prompt, template, self.system_role)

    # numbers ----------------------------------------------------------------------------------------------------------

    def logprobs(self, rows: Sequence[Row], batch: int = 32, plain: bool = False) -> Float[Tensor, " N"]:
        """Summed log-probability of each row's answer given its prompt, nats, float32; gradients reach attached edits.

        Rows are bucketed by length, `batch` at a time, and come back in the order given.

        Args:
            plain: run prompt and answer as one text, without keys and values kept; for models that need it and for checks.
        """
        buckets, parts = bucketed(rows, batch), []
        for bucket in buckets:
            with self.running([rows[i] for i in bucket], plain) as ready:
                parts.append(summed(ready.forward().logits, ready.targets))
        if not parts:
            return torch.zeros(0)
        back = torch.empty(len(rows), dtype=torch.long)
        back[torch.tensor([i for bucket in buckets for i in bucket])] = torch.arange(len(rows))
        return torch.cat(parts)[back.to(parts[0].device)]

    def logits(self, rows: Sequence[Row]) -> Float[Tensor, "N V"]:
        """Logits that predict the answers' tokens, row after row, in the net's type; one batch, so mind the memory.

        The unembedding sees these positions alone. Where nothing is edited, what it sees is kept for the next time.
        """
        with self.running(rows, top=len(self.blocks)) as ready, hooks.gathered(self.head, ready.answer):
            return ready.forward().logits[0]

    @contextmanager
    def running(self, rows: Sequence[Row], plain: bool = False, top: int = 0) -> Iterator[Pass]:
        """Within the context `forward` runs these rows: edits know their positions, what no edit changes is skipped.

        Args:
            plain: run prompt and answer as one text.
            top: with no edit attached, the block to resume at on residuals kept from the pass before; the number of
                blocks stands for the head.
        """
        ready = self._whole(rows) if plain or not self.splits else self._split(rows)
        floor = min(self._edited, default=top) if ready.split and not self._edits_prompt else 0
        residual = self._below(floor, rows, ready) if floor else None
        with self.at(ready.real, ready.answer, ready.last), ExitStack() as undo:
            if residual is not None:
                undo.enter_context(hooks.resumed([*self.blocks, self.head], floor, residual))
            yield ready

    def _whole(self, rows: Sequence[Row]) -> Pass:
        texts = [row.prompt + row.answer[:-1] for row in rows]
        ids, real = pad(texts, left=False)
        starts = torch.tensor([len(row.prompt) - 1 for row in rows])[:, None]
        column = torch.arange(ids.shape[1])[None]
        scored = real & (column >= starts)
        targets = torch.full(ids.shape, -100)
        targets[scored] = torch.tensor([t for row in rows for t in row.answer])
        last = scored & (column == starts)
        ids, real, scored, last, targets, column = (
            x.to(self.device) for x in (ids, real, scored, last, targets, column)
        )

        def forward() -> Any:
            return self.net(
                input_ids=ids, attention_mask=real.long(), position_ids=column.expand_as(ids), use_cache=False
            )

        return Pass(forward, real, scored, last, targets, split=False)

    def _split(self, rows: Sequence[Row]) -> Pass:
        states, before = self.prefixes([row.prompt for row in rows])
        ids, real = pad([row.prompt[-1:] + row.answer[:-1] for row in rows], left=False)
        targets, _ = pad([row.answer for row in rows], left=False, fill=-100)
        lengths = torch.tensor([len(row.prompt) - 1 for row in rows])[:, None]
        ids, real, before, targets = (x.to(self.device) for x in (ids, real, before, targets))
        column = torch.arange(ids.shape[1], device=self.device)[None]
        masks, positions = torch.cat((before, real), 1).long(), lengths.to(self.device) + column

        def forward() -> Any:
            past = DynamicCache(states) if states else None
            return self.net(
                input_ids=ids,
                attention_mask=masks,
                position_ids=positions,
                past_key_values=past,
                use_cache=bool(states),
            )

        return Pass(forward, real, real, real & (column == 0), targets, split=True)

    def _below(self, floor: int, rows: Sequence[Row], ready: Pass) -> Float[Tensor, "B T D"]:
        """What enters block `floor` at the suffix; nothing below it is edited, so it is computed once for each row."""
        held = [self.cache.get((floor, row.prompt, row.answer)) for row in rows]
        if any(h is None for h in held):
            with torch.no_grad():
                fresh = hooks.input_of([*self.blocks, self.head][floor], ready.forward)
            for row, states, mask in zip(rows, fresh, ready.real, strict=True):
                self.cache.put((floor, row.prompt, row.answer), states[mask].clone())
            return fresh
        return torch.nn.utils.rnn.pad_sequence([h for h in held if h is not None], batch_first=True)

    def prefixes(self, prompts: Sequence[Ids]) -> tuple[list[tuple[Tensor, Tensor]], Bool[Tensor, "B T"]]:
        """Keys and values of every prompt but its last token, `[B, H, T, d]` for each block, and their mask."""
        lengths = [len(p) - 1 for p in prompts]
        column = torch.arange(max(lengths))[None]
        mask = column >= max(lengths) - torch.tensor(lengths)[:, None]
        if max(lengths) == 0:
            return [], mask
        unique = list(dict.fromkeys(prompts))
        if self._edits_prompt:
            index = torch.tensor([unique.index(p) for p in prompts], device=self.device)
            layers = self._prefill([p[:-1] for p in unique])
            return [(k[index], v[index]) for k, v in layers], mask
        missing = [p for p in unique if self.cache.get(p) is None]
        fresh: dict[Ids, Tensor] = {}
        if any(len(p) > 1 for p in missing):
            with torch.no_grad():
                for states, p in zip(
                    prefix.split(self._prefill([p[:-1] for p in missing]), [len(p) - 1 for p in missing]),
                    missing,
                    strict=True,
                ):
                    fresh[p] = states
                    self.cache.put(p, states)
        return prefix.join([fresh[p] if p in fresh else self._held(p) for p in prompts]), mask

    def _held(self, prompt: Ids) -> Tensor | None:
        found = self.cache.get(prompt)
        if found is None and len(prompt) > 1:
            with torch.no_grad():
                found = prefix.split(self._prefill([prompt[:-1]]), [len(prompt) - 1])[0]
        return found

    def _prefill(self, texts: Sequence[Ids]) -> list[tuple[Tensor, Tensor]]:
        ids, real = (x.to(self.device) for x in pad(texts, left=True))
        positions = (real.long().cumsum(1) - 1).clamp(min=0)
        kept = DynamicCache()
        with self.at(real, None, None):
            self.net.base_model(
                input_ids=ids, attention_mask=real.long(), position_ids=positions, past_key_values=kept, use_cache=True
            )
        layers: list[Any] = list(kept.layers)
        return [(layer.keys, layer.values) for layer in layers]
