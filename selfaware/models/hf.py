"""The one Hugging Face model: sites, edits that name their positions, log-probabilities of answers. Knows no behaviour.

What no edit changes is computed once and kept; see `resume` for how a batch runs. The unembedding and the softmax run on the
positions that predict an answer, and nowhere else.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from selfaware.models import hooks
from selfaware.models.batch import NOWHERE, Pass, Row, Touched, Where, bucketed, by_row
from selfaware.models.edits import Edits
from selfaware.models.head import chosen_logprobs, token_logprobs
from selfaware.models.passes import Layers
from selfaware.models.prefix import PrefixCache
from selfaware.models.render import Ids, Rendered, prompt_text, render
from selfaware.models.resume import Engine
from selfaware.models.sites import Sites, find_blocks, find_head
from selfaware.types import Positions, Prompt, Question, Site, Template

GIB = 2**30


@final
class Model:
    """A causal language model with frozen weights, its tokenizer, and the verbs that arms are measured with.

    Args:
        net: any Hugging Face causal language model.
        cache_gib: memory for what is kept of prompts and below edited blocks, GiB.
        spill: a folder for what does not fit; without one it is dropped.
    """

    def __init__(
        self,
        net: Any,
        tokenizer: Any,
        *,
        name: str,
        identity: str,
        system_role: bool = True,
        cache_gib: float = 1.5,
        spill: Path | None = None,
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
        kinds = set(getattr(self.config, "layer_types", None) or ["full_attention"])
        shared = bool(getattr(self.config, "num_kv_shared_layers", 0))
        splits = kinds <= {"full_attention", "sliding_attention"} and not shared
        self.edits = Edits()
        cache = PrefixCache(int(cache_gib * GIB * 0.75), spill)  # the engine lays out batches in a third of that
        self.engine = Engine(net, self.blocks, self.head, self.edits, cache, identity, splits)

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
        return self.edits.none

    @property
    def cache(self) -> PrefixCache:
        """What is kept for the next pass."""
        return self.engine.cache

    @property
    def splits(self) -> bool:
        """Whether keys and values are all that the net carries from position to position."""
        return self.engine.splits

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

    def _one_token(self) -> Any:
        with torch.no_grad(), self.edits.at(NOWHERE):
            return self.net(input_ids=torch.zeros((1, 1), dtype=torch.long, device=self.device), use_cache=False)

    # edits ------------------------------------------------------------------------------------------------------------

    def edited(
        self,
        changes: Sequence[tuple[Site, hooks.Change]],
        positions: Positions,
        held: str = "",
        owner: int | None = None,
    ) -> AbstractContextManager[Touched]:
        """Within the context each site's output is changed at `positions`; gives the count of what was touched.

        Edits nest. Nothing stays behind, also when attaching fails half-way.

        Args:
            held: a key that stands for the edit's tensors; with one, the edit counts as part of the frozen model.
            owner: act only on rows of that owner.
        """
        placed = [(self.module(site), site.block, change) for site, change in changes]
        return self.edits.attached(placed, positions, held, owner)

    def at(
        self, real: Bool[Tensor, "B T"] | None, answer: Bool[Tensor, "B T"] | None, last: Bool[Tensor, "B T"] | None
    ) -> AbstractContextManager[None]:
        """Within the context a forward pass has these positions for the edits to act at; see `batch.Where`."""
        return self.edits.at(Where(real, answer, last))

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
            plain: run whole texts, without anything kept; for checks.
        """
        buckets, parts, plain_head = bucketed(rows, batch), [], self.plain_head
        for bucket in buckets:
            with self.running([rows[i] for i in bucket], plain) as ready:
                targets = ready.targets[ready.answer]
                if plain_head:
                    found = chosen_logprobs(self.head, self._states(ready), targets)  # type: ignore[arg-type]
                else:
                    with hooks.gathered(self.head, ready.answer):
                        logits = ready.forward().logits[0].float()
                    found = logits.log_softmax(1).gather(1, targets[:, None])[:, 0]
                parts.append(by_row(found, ready.answer))
        if not parts:
            return torch.zeros(0)
        back = torch.empty(len(rows), dtype=torch.long)
        back[torch.tensor([i for bucket in buckets for i in bucket])] = torch.arange(len(rows))
        return torch.cat(parts)[back.to(parts[0].device)]

    def first(self, prompts: Sequence[Row], tokens: Sequence[Sequence[int]], batch: int = 32) -> list[list[float]]:
        """Log-probabilities, nats, of several tokens as the first after each prompt; no gradient.

        Args:
            prompts: rows whose answer is one token, any.
            tokens: for each prompt those asked for.
        """
        found: dict[int, list[float]] = {}
        plain_head = self.plain_head
        with torch.no_grad():
            for bucket in bucketed(prompts, batch):
                some = [list(tokens[i]) for i in bucket]
                with self.running([prompts[i] for i in bucket], at=self._top()) as ready:
                    if plain_head:
                        logs = token_logprobs(self.head, self._states(ready), some)  # type: ignore[arg-type]
                    else:
                        with hooks.gathered(self.head, ready.answer):
                            whole = ready.forward().logits[0].float().log_softmax(1)
                        logs = [line[t].double().tolist() for line, t in zip(whole, some, strict=True)]
                found |= dict(zip(bucket, logs, strict=True))
        return [found[i] for i in range(len(prompts))]

    def logits(self, rows: Sequence[Row]) -> Float[Tensor, "N V"]:
        """Logits that predict the answers' tokens, row after row, in the net's type; one batch, so mind the memory.

        The unembedding sees these positions alone. Where nothing is edited, what it sees is kept for the next time.
        """
        with self.running(rows, at=self._top()) as ready, hooks.gathered(self.head, ready.answer):
            return ready.forward().logits[0]

    def running(self, rows: Sequence[Row], plain: bool = False, at: int | None = None) -> AbstractContextManager[Pass]:
        """Within the context `forward` runs these rows: edits know their positions, what no edit changes is skipped.

        Args:
            plain: run whole texts, without anything kept.
            at: the block to start at, on what is kept; the first edited one, or the embedding, where None is given.

        Raises:
            BadModel: something below that block changes.
        """
        return self.engine.running(rows, plain, at)

    def _top(self) -> int | None:
        """Where nothing is edited all that is left to run is the head, on what was kept from the pass before."""
        return len(self.blocks) if self.edits.none_but_held and self.splits else None

    def prefixes(self, prompts: Sequence[Ids]) -> tuple[Layers, Bool[Tensor, "B T"]]:
        """Keys and values of every prompt but its last token; see `resume.Engine.prefixes`."""
        return self.engine.prefixes(prompts)

    @cached_property
    def plain_head(self) -> bool:
        """Whether the head's output is the logits: a plain linear module with nothing after it (Gemma 2 caps them)."""
        if type(self.head) is not nn.Linear:
            return False
        with torch.no_grad(), hooks.recorded([self.head]) as seen:
            logits = self._one_token().logits
        return seen[0] is not None and torch.equal(seen[0], logits)

    def _states(self, ready: Pass) -> Float[Tensor, "N D"]:
        """What enters the head at the positions that predict the answers' tokens."""
        states: Float[Tensor, "B T D"] = hooks.input_of(self.head, ready.forward)
        return states[ready.answer]
