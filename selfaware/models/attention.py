"""Attention that copies no keys and values, as a drop-in for a model's eager one on a CPU. Knows tensors alone.

Heads that share keys and values are put in one matrix product, where the usual eager function repeats keys and values for
each head and sums their gradients afterwards. So are the rows of a batch that go on from one prompt: its keys and values stay
where they are, once, and are neither repeated nor joined with the rows' own. Masks, rotary tables, scaling and caps
stay the model's own.
"""

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, final

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import AttentionInterface, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.masking_utils import AttentionMaskInterface, eager_mask

GROUPED = "grouped"


@dataclass(frozen=True)
class Attended:
    """What one block attends with: after norms and rotation, heads that share keys not yet repeated.

    Attributes:
        query: `[B, H, T, d]`.
        key, value: `[B, K, S, d]`, what stands before the pass's own tokens included.
    """

    query: Tensor
    key: Tensor
    value: Tensor


class Watch(Protocol):
    """Sees, and may change, what a block attends with and what comes of it."""

    def states(self, block: int, found: Attended) -> Attended:
        """What the block shall attend with instead."""

    def shares(self, block: int, scores: Tensor, shares: Tensor) -> Tensor:
        """How it shall attend instead; scores before the softmax, masked, and shares, `[B, H, T, S]`."""


_WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)


@dataclass(frozen=True)
class Standing:
    """Which prompt each row of a batch goes on from.

    Attributes:
        rows: the prompt's number for each row, `[B]`.
        each: rows of one prompt, where they come prompt by prompt and equally many of each; 0 where they do not.
    """

    rows: Int[Tensor, " B"]
    each: int

    @classmethod
    def of(cls, prompts: Sequence[Hashable], device: torch.device) -> "Standing":
        """Prompts numbered as they first come."""
        order = {prompt: at for at, prompt in enumerate(dict.fromkeys(prompts))}
        rows = [order[prompt] for prompt in prompts]
        each = len(rows) // len(order)
        even = rows == [at for at in range(len(order)) for _ in range(each)]
        return cls(torch.tensor(rows, device=device), each if even else 0)

    def product(self, lines: Tensor, states: Tensor) -> Tensor:
        """`lines @ states`, `[B, K, N, M]` @ `[P, K, M, X]` → `[B, K, N, X]`, each row with its own prompt's."""
        if not self.each:
            return torch.matmul(lines, states[self.rows])
        if self.each == 1:
            return torch.matmul(lines, states)
        batch, kinds, count, size = lines.shape
        apart = (batch // self.each, self.each, kinds, count, size)
        many = lines.view(apart).transpose(1, 2).reshape(apart[0], kinds, self.each * count, size)
        made = torch.matmul(many, states).view(apart[0], kinds, self.each, count, states.shape[3])
        return made.transpose(1, 2).reshape(batch, kinds, count, states.shape[3])


@dataclass(frozen=True)
class _Before:
    states: Tensor
    standing: Standing


@final
class _Ahead(DynamicLayer):
    """The prompts' keys and values, `[P, K, T, d]`: what is added to them is given back with a note of where they are."""

    _layer_type = None  # transformers registers layers that name a type

    def __init__(self, keys: Tensor, values: Tensor, standing: Standing) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(keys, values)
        self.keys, self.values, self.standing = keys, values, standing

    def update(self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
        """The new keys and values alone; nothing is added to what is kept."""
        kept: Any
        for new, kept in ((key_states, self.keys), (value_states, self.values)):
            new.before = _Before(kept, self.standing)  # type: ignore[attr-defined]
        return key_states, value_states


def ahead(layers: Sequence[tuple[Tensor, Tensor]], standing: Standing) -> DynamicCache:
    """A cache in which every row stands on its prompt's keys and values; for passes that attend by `GROUPED`."""
    past: Any = DynamicCache()
    past.layers.extend(_Ahead(keys, values, standing) for keys, values in layers)
    return past


def _grouped(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What attention gives out, `[B, T, H, d]`.

    Args:
        query: `[B, H, T, d]`.
        key, value: `[B, K, S, d]`, where H is a multiple of K; with a note of what stands before them, or without.
        attention_mask: added to the scores, `[B, 1, T, S]`, what stands before included.
    """
    watch = _WATCH.get()
    if watch is not None:
        return _watched(watch, module, query, key, value, attention_mask, scaling, kwargs.get("softcap")), None
    batch, heads, tokens, size = query.shape
    kinds = key.shape[1]
    lines = query.reshape(batch, kinds, heads // kinds * tokens, size)
    scores = torch.matmul(lines, key.transpose(2, 3))
    first, second = (vars(states).get("before") for states in (key, value))
    if first is not None:
        scores = torch.cat((first.standing.product(lines, first.states.transpose(2, 3)), scores), 3)
    scores = scores * (size**-0.5 if scaling is None else scaling)
    cap = kwargs.get("softcap")
    if cap is not None:
        scores = torch.tanh(scores / cap) * cap
    if attention_mask is not None:
        shape = (batch, kinds, heads // kinds, tokens, scores.shape[3])
        scores = (scores.view(shape) + attention_mask[:, :, None]).view(scores.shape)
    shares = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    given = torch.matmul(shares[..., shares.shape[3] - value.shape[2] :], value)
    if second is not None:
        given = given + second.standing.product(shares[..., : second.states.shape[2]], second.states)
    return given.view(batch, heads, tokens, size).transpose(1, 2).contiguous(), None


def _watched(
    watch: Watch,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None,
    cap: float | None,
) -> Tensor:
    """The same, written out: nothing is shared between rows, and every share can be seen."""
    block = int(module.layer_idx)  # type: ignore[arg-type]
    found = watch.states(block, Attended(query, _whole(key), _whole(value)))
    query, key, value = found.query, found.key, found.value
    repeats = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(repeats, 1) for x in (key, value))
    scores = torch.matmul(query, key.transpose(2, 3)) * (query.shape[3] ** -0.5 if scaling is None else scaling)
    if cap is not None:
        scores = torch.tanh(scores / cap) * cap
    if attention_mask is not None:
        scores = scores + attention_mask
    shares = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    shares = watch.shares(block, scores, shares)
    return torch.matmul(shares, value).transpose(1, 2).contiguous()


def _whole(states: Tensor) -> Tensor:
    """Keys or values with what stands before them, row by row."""
    before = vars(states).get("before")
    return states if before is None else torch.cat((before.states[before.standing.rows], states), 2)


AttentionInterface.register(GROUPED, _grouped)
AttentionMaskInterface.register(GROUPED, eager_mask)


def groups(net: nn.Module) -> bool:
    """Whether the net can attend so: on a CPU, where its own fused kernels are slower for few queries, and without sinks."""
    sinks = any(name.endswith("sinks") for name, _ in net.named_parameters())
    return not sinks and next(net.parameters()).device.type == "cpu"


def own_attention(net: Any) -> str:
    """The name under which the net attends now."""
    return str(net.config.get_text_config()._attn_implementation)


@contextmanager
def watched(net: Any, watch: Watch) -> Iterator[None]:
    """Within the context every block that attends shows `watch` how."""
    token = _WATCH.set(watch)
    try:
        with attending(net, GROUPED):
            yield
    finally:
        _WATCH.reset(token)


@contextmanager
def attending(net: Any, name: str) -> Iterator[None]:
    """Within the context the net attends by the function of that name."""
    config, before = net.config.get_text_config(), own_attention(net)
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before
