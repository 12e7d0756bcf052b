"""Texts that a model writes, each drawn by numbers of its own. Knows ids and keys; must not know what a text means.

A text's draws follow from the sampling's seed, its prompt's key and its own number, and a token is where the cumulative
distribution passes its draw. So nothing depends on the other texts of a batch or on their order, but for rounding: a
batch moves the logits by a millionth or so, and a draw that falls into such a gap is as rare.

An edit acts as elsewhere: at `answer` on the prompt's last token and on every written token that is read again, at
`last_prompt` on the first of these only, at `all` on the prompt too.
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import DynamicCache

from selfaware.errors import BadData, BadModel
from selfaware.models import hooks
from selfaware.models.batch import Row
from selfaware.models.hf import Model
from selfaware.models.render import Ids, turn_end
from selfaware.types import Sampling

Read = Callable[[Sequence[int], Sequence[Ids]], Float[Tensor, "B V"]]
"""Takes the rows still being written and what each row has so far, gives the logits of those rows' next tokens."""


def sample(
    model: Model, prompts: Sequence[Ids], keys: Sequence[str], sampling: Sampling, batch: int = 64
) -> list[tuple[str, ...]]:
    """For each prompt `sampling.samples` texts, without special tokens and otherwise as they came.

    A text ends before the token that the model ends a reply with, or is cut at `max_new_tokens`. Temperature 0 takes the
    likeliest token each time, so that all texts of a prompt are the same.

    Args:
        keys: what fixes the draws of each prompt, such as a question's id.
        batch: texts that are written at once.

    Raises:
        BadData: no text, no token or no temperature is asked for.
        BadModel: a prompt leaves too little room in the context, or the logits are not numbers.
    """
    if sampling.samples < 1 or sampling.max_new_tokens < 1 or not 0 <= sampling.temperature < math.inf:
        raise BadData(
            f"sampling: got samples={sampling.samples}, max_new_tokens={sampling.max_new_tokens}, temperature={sampling.temperature:g}; "
            "at least one of the first two and a finite temperature of 0 or more are needed. Set them so."
        )
    for key, prompt in zip(keys, prompts, strict=True):
        if len(prompt) + sampling.max_new_tokens > model.context:
            raise BadModel(
                f"question {key}: {len(prompt)} tokens and up to {sampling.max_new_tokens} to write; {model.name} holds {model.context}. "
                "Shorten it or lower max_new_tokens."
            )
    stops = ends(model)
    texts: dict[int, list[str]] = {i: [] for i in range(len(prompts))}
    order = sorted(texts, key=lambda i: len(prompts[i]))
    together = max(1, batch // sampling.samples)
    with torch.no_grad():
        for group in (order[at : at + together] for at in range(0, len(order), together)):
            some = [prompts[i] for i in group]
            kept = model.prefixes(some) if model.splits else None
            rows = [(place, number) for place in range(len(group)) for number in range(sampling.samples)]
            for part in (rows[at : at + batch] for at in range(0, len(rows), batch)):
                places = [place for place, _ in part]
                read = _Onward(model, some, places, *kept) if kept else _whole(model, some, places)
                named = [keys[group[place]] for place in places]
                draws = [random.Random(f"{sampling.seed}\n{key}\n{n}") for key, (_, n) in zip(named, part, strict=True)]
                for place, ids in zip(places, _write(read, draws, named, sampling, stops), strict=True):
                    texts[group[place]].append(_text(model.tokenizer, ids))
    return [tuple(texts[i]) for i in range(len(prompts))]


def ends(model: Model) -> frozenset[int]:
    """The tokens that end a text: the tokenizer's and the configuration's, and the one that closes a chat reply."""
    said = [model.tokenizer.eos_token_id, turn_end(model.tokenizer), getattr(model.config, "eos_token_id", None)]
    generation = getattr(model.net, "generation_config", None)
    if generation is not None:
        said.append(generation.eos_token_id)
    return frozenset(t for s in said for t in (s if isinstance(s, (list, tuple)) else [s]) if t is not None)


def _write(
    read: Read, draws: Sequence[random.Random], keys: Sequence[str], sampling: Sampling, stops: frozenset[int]
) -> list[Ids]:
    written: list[Ids] = [()] * len(draws)
    live = list(range(len(draws)))
    for _ in range(sampling.max_new_tokens):
        logits = read(live, written).double().cpu()
        for row, largest in zip(live, logits.amax(1).tolist(), strict=True):
            if not math.isfinite(largest):
                raise BadModel(
                    f"question {keys[row]}: logits after {len(written[row])} written tokens reach {largest}; finite ones are needed. "
                    "Load the model in float32, or lower the edit's strength."
                )
        tokens = _drawn(logits, [draws[row].random() for row in live], sampling.temperature)
        going = [(row, token) for row, token in zip(live, tokens, strict=True) if token not in stops]
        live = [row for row, _ in going]
        for row, token in going:
            written[row] = (*written[row], token)
        if not live:
            break
    return written


def _drawn(logits: Float[Tensor, "B V"], draws: Sequence[float], temperature: float) -> list[int]:
    """The token at which each row's cumulative distribution passes its draw; one of probability zero never does."""
    if temperature == 0:
        return [int(t) for t in logits.argmax(1)]
    # Less its largest value first, or a tiny temperature would overflow.
    scaled = (logits - logits.amax(1, keepdim=True)) / temperature
    cumulative = scaled.softmax(1).cumsum(1)
    reached = torch.tensor(draws, dtype=torch.float64)[:, None] * cumulative[:, -1:]
    places = torch.searchsorted(cumulative, reached, right=True)[:, 0]
    return [int(t) for t in places.clamp(max=logits.shape[1] - 1)]


@final
class _Onward:
    """Reads token by token on keys and values, which grow; rows that are no longer written are dropped.

    Args:
        places: which of the `P` prompts each row goes on from.
        states: for each block keys and values of the prompts but their last tokens, `[P, H, T, d]`.
        before: where these are real, `[P, T]`.
    """

    def __init__(
        self,
        model: Model,
        prompts: Sequence[Ids],
        places: Sequence[int],
        states: Sequence[tuple[Tensor, Tensor]],
        before: Bool[Tensor, "P T"],
    ) -> None:
        self.model, self.prompts, self.rows = model, [prompts[place] for place in places], list(range(len(places)))
        at = torch.tensor(places)
        self.real, at = before[at].to(model.device), at.to(model.device)
        self.past = DynamicCache([(keys[at], values[at]) for keys, values in states]) if states else DynamicCache()
        self.started = False

    def __call__(self, live: Sequence[int], written: Sequence[Ids]) -> Float[Tensor, "B V"]:
        """See `Read`; each call reads the last token of every live row."""
        device = self.model.device
        if len(live) < len(self.rows):
            at = torch.tensor([self.rows.index(row) for row in live], device=device)
            self.past.batch_select_indices(at)
            self.real, self.rows = self.real[at], list(live)
        here = torch.ones((len(live), 1), dtype=torch.bool, device=device)
        self.real = torch.cat((self.real, here), 1)
        tokens = [[(written[row] or self.prompts[row])[-1]] for row in live]
        positions = [[len(self.prompts[row]) + len(written[row]) - 1] for row in live]
        with self.model.at(here, here, None if self.started else here):
            out: Any = self.model.net(
                input_ids=torch.tensor(tokens, device=device),
                attention_mask=self.real.long(),
                position_ids=torch.tensor(positions, device=device),
                past_key_values=self.past,
                use_cache=True,
            )
        self.started = True
        return out.logits[:, -1]


def _whole(model: Model, prompts: Sequence[Ids], places: Sequence[int]) -> Read:
    """Reads each text from its start every time, for models that keep more than keys and values."""

    def read(live: Sequence[int], written: Sequence[Ids]) -> Float[Tensor, "B V"]:
        # A row's last token is never read: any will do.
        rows = [Row(prompts[places[row]], (*written[row], 0)) for row in live]
        with model.running(rows, plain=True) as ready:
            column = torch.arange(ready.real.shape[1], device=model.device)
            with hooks.gathered(model.head, column == ready.real.sum(1, keepdim=True) - 1):
                return ready.forward().logits[0]

    return read


def _text(tokenizer: Any, ids: Ids) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))
