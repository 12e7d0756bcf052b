"""The one Hugging Face model: sites, edits that name their positions, log-probabilities of answers. Knows no behaviour.

A forward pass comes in two parts. *Prefill* runs the prompt without its last token; *suffix* runs that token and the
answer on the prompt's keys and values. An edit at `answer` or `last_prompt` touches the suffix only, so the
prefill is shared by options, steps, seeds and arms, and so is the suffix's residual below the first edited block
(`prefix.PrefixCache`); an edit at `all` positions runs its own. The unembedding runs on the suffix only. Where a model
keeps more than keys and values, the whole text runs at once.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import DynamicCache

from selfaware.errors import BadModel, unknown
from selfaware.models import hooks, prefix
from selfaware.models.batch import Row, Touched, pad, summed
from selfaware.models.render import Ids, Rendered, prompt_text, render
from selfaware.types import Positions, Prompt, Question, Site, Template

GIB = 2**30
POST_NORMS = ("post_feedforward_layernorm", "post_mlp_layernorm")
"""Names under which a block keeps the norm between its MLP and the residual stream (Gemma 2 and 3, Olmo 2, GLM 4)."""


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
        self.net, self.tokenizer, self.name, self.identity, self.system_role = (
            net.eval(),
            tokenizer,
            name,
            identity,
            system_role,
        )
        for weight in net.parameters():
            weight.requires_grad_(False)
        self.config = net.config.get_text_config()
        self.blocks = _blocks(net, self.config.num_hidden_layers)
        self.width = int(self.config.hidden_size)
        self.context = int(getattr(self.config, "max_position_embeddings", 2**31))
        self.cache = prefix.PrefixCache(int(cache_gib * GIB))
        kinds = set(getattr(self.config, "layer_types", None) or ["full_attention"])
        shared = bool(getattr(self.config, "num_kv_shared_layers", 0))
        self.splits = kinds <= {"full_attention", "sliding_attention"} and not shared
        self._masks: dict[Positions, Bool[Tensor, "B T"] | None] | None = None
        self._edits_prompt = 0
        self._edited: list[int] = []
        self._widths: dict[Site, int] = {}

    @property
    def dtype(self) -> torch.dtype:
        """The weights' type."""
        return next(self.net.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.net.parameters()).device

    # sites ------------------------------------------------------------------------------------------------------------

    def module(self, site: Site) -> nn.Module:
        """The module whose output `site` is.

        Raises:
            UnknownName: the block or the part does not exist; names the nearest.
        """
        if site.block >= len(self.blocks):
            raise unknown(
                "site",
                str(site),
                [f"{b}.mlp" for b in range(len(self.blocks))],
                f"{self.name} has {len(self.blocks)} blocks.",
            )
        block = self.blocks[site.block]
        if not site.part:
            return block
        parts = dict(block.named_modules())
        if site.part == "mlp.residual":
            return (
                next((parts[n] for n in POST_NORMS if n in parts), parts["mlp"])
                if "mlp" in parts
                else self._no_part(site, parts)
            )
        if site.part not in parts or isinstance(parts[site.part], nn.ModuleList):
            return self._no_part(site, parts)
        return parts[site.part]

    def _no_part(self, site: Site, parts: dict[str, nn.Module]) -> nn.Module:
        known = [f"{site.block}.{n}" for n in parts if n] + [f"{site.block}.mlp.residual"] * ("mlp" in parts)
        raise unknown("site", str(site), known, f"Block {site.block} of {self.name}.")

    def resolve(self, site: Site) -> Site:
        """The one name of what `site` adds to: parts with the same output share it.

        `mlp.down_proj` and, where the block has no post-norm, `mlp.residual` give the MLP's output: all become `mlp`.
        A post-norm's own name becomes `mlp.residual`. For vectors only; a LoRA's site is its linear module.
        """
        module, parts = self.module(site), dict(self.blocks[site.block].named_modules())
        same = [parts[n] for n in ("mlp", "mlp.down_proj") if n in parts]
        if any(module is m for m in same):
            return Site(site.block, "mlp")
        return Site(site.block, "mlp.residual") if site.part in POST_NORMS and "mlp" in parts else site

    def linears(self, where: str) -> tuple[Site, ...]:
        """The linear modules that a LoRA at `where` goes on: `all-linear`, a linear module, or all those inside a part.

        Raises:
            UnknownName: no such site.
            BadModel: a site without a linear module.
        """
        if where == "all-linear":
            return tuple(s for b in range(len(self.blocks)) for s in self.linears(str(b)))
        site = Site.parse(where)
        module = self.module(site)
        dotted = [(site.part, module)] if isinstance(module, nn.Linear) else [
            (f"{site.part}.{name}".strip("."), inner) for name, inner in module.named_modules() if isinstance(inner, nn.Linear)
        ]  # fmt: skip
        if not dotted:
            raise BadModel(
                f"site {where}: holds no linear module; a LoRA needs one. Use {site.block}.mlp or a projection inside it."
            )
        return tuple(Site(site.block, part) for part, _ in dotted)

    def output_width(self, site: Site) -> int:
        """Width of the site's output, `D`; for an unusual part it is measured once, by running one token.

        Raises:
            BadModel: the part's output is not one vector for each token.
        """
        module = self.module(site)
        if isinstance(module, nn.Linear):
            return int(module.out_features)
        if site.part in ("", "mlp", "mlp.residual"):
            return self.width
        if site not in self._widths:
            with torch.no_grad(), self._at(None, None, None), hooks.recorded([module]) as seen:
                self.net(input_ids=torch.zeros((1, 1), dtype=torch.long, device=self.device), use_cache=False)
            if seen[0] is None or seen[0].ndim != 3:
                got = "nothing" if seen[0] is None else f"shape {tuple(seen[0].shape)} for one token"
                raise BadModel(
                    f"site {site}: its output is {got}; one vector a token is needed. Use {site.block}.mlp or {site.block}."
                )
            self._widths[site] = int(seen[0].shape[2])
        return self._widths[site]

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
    def _at(self, real: Tensor | None, answer: Tensor | None, last: Tensor | None) -> Iterator[None]:
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
        order = sorted(range(len(rows)), key=lambda i: (len(rows[i].prompt), len(rows[i].answer)))
        run = self._whole if plain or not self.splits else self._split
        parts = [run([rows[i] for i in order[at : at + batch]]) for at in range(0, len(order), batch)]
        if not parts:
            return torch.zeros(0)
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order)] = torch.arange(len(order))
        return torch.cat(parts)[back.to(parts[0].device)]

    def _whole(self, rows: Sequence[Row]) -> Float[Tensor, " N"]:
        texts = [row.prompt + row.answer[:-1] for row in rows]
        ids, real = pad(texts, left=False)
        starts = torch.tensor([len(row.prompt) - 1 for row in rows])[:, None]
        column = torch.arange(ids.shape[1])[None]
        scored = real & (column >= starts)
        ids, real, scored = ids.to(self.device), real.to(self.device), scored.to(self.device)
        with self._at(real, scored, scored & (column.to(self.device) == starts.to(self.device))):
            logits = self.net(
                input_ids=ids,
                attention_mask=real.long(),
                position_ids=column.to(self.device).expand_as(ids),
                use_cache=False,
            ).logits
        targets = torch.full(ids.shape, -100, device=self.device)
        targets[scored] = torch.tensor([t for row in rows for t in row.answer], device=self.device)
        return summed(logits, targets)

    def _split(self, rows: Sequence[Row]) -> Float[Tensor, " N"]:
        states, before = self._prefixes([row.prompt for row in rows])
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

        floor = 0 if self._edits_prompt else min(self._edited, default=0)
        if not floor:
            with self._at(real, real, real & (column == 0)):
                return summed(forward().logits, targets)
        residual = self._below(floor, rows, real, forward)
        with self._at(real, real, real & (column == 0)), hooks.resumed(self.blocks, floor, residual):
            return summed(forward().logits, targets)

    def _below(
        self, floor: int, rows: Sequence[Row], real: Tensor, forward: Callable[[], Any]
    ) -> Float[Tensor, "B T D"]:
        """What enters block `floor` at the suffix; nothing below it is edited, so it is computed once for each row."""
        held = [self.cache.get((floor, row.prompt, row.answer)) for row in rows]
        if any(h is None for h in held):
            with torch.no_grad():
                fresh = hooks.input_of(self.blocks[floor], forward)
            for row, states, mask in zip(rows, fresh, real, strict=True):
                self.cache.put((floor, row.prompt, row.answer), states[mask].clone())
            return fresh
        return torch.nn.utils.rnn.pad_sequence([h for h in held if h is not None], batch_first=True)

    def _prefixes(self, prompts: Sequence[Ids]) -> tuple[list[tuple[Tensor, Tensor]], Bool[Tensor, "B T"]]:
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
        if missing:
            with torch.no_grad():
                for states, p in zip(
                    prefix.split(self._prefill([p[:-1] for p in missing]), [len(p) - 1 for p in missing]),
                    missing,
                    strict=True,
                ):
                    fresh[p] = states
                    self.cache.put(p, states)
        return prefix.join([fresh[p] if p in fresh else self._held(p) for p in prompts]), mask

    def _held(self, prompt: Ids) -> Tensor:
        found = self.cache.get(prompt)
        if found is None:
            with torch.no_grad():
                found = prefix.split(self._prefill([prompt[:-1]]), [len(prompt) - 1])[0]
        return found

    def _prefill(self, texts: Sequence[Ids]) -> list[tuple[Tensor, Tensor]]:
        ids, real = (x.to(self.device) for x in pad(texts, left=True))
        positions = (real.long().cumsum(1) - 1).clamp(min=0)
        kept = DynamicCache()
        with self._at(real, None, None):
            self.net.base_model(
                input_ids=ids, attention_mask=real.long(), position_ids=positions, past_key_values=kept, use_cache=True
            )
        layers: list[Any] = list(kept.layers)
        return [(layer.keys, layer.values) for layer in layers]


def _blocks(net: nn.Module, count: int) -> list[nn.Module]:
    """The transformer blocks: the module list whose length is the configured number of layers."""
    found = [m for m in net.modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    if not found:
        raise BadModel(
            f"model of type {type(net).__name__}: no list of {count} blocks inside; a decoder-only transformer is needed. Use another model."
        )
    return list(found[0])
