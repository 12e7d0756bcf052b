"""Attention without copies of keys and values for grouped queries, as a drop-in for a model's eager one. Knows tensors alone.

Heads that share keys and values are put in one matrix product, where the usual eager function repeats keys and values for
each head and sums their gradients afterwards. Masks, rotary tables, scaling and caps stay the model's own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

GROUPED = "grouped"


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
        key, value: `[B, K, S, d]`, where H is a multiple of K.
        attention_mask: added to the scores, `[B, 1, T, S]`.
    """
    batch, heads, tokens, size = query.shape
    kinds = key.shape[1]
    lines = query.reshape(batch, kinds, heads // kinds * tokens, size)
    scores = torch.matmul(lines, key.transpose(2, 3)) * (size**-0.5 if scaling is None else scaling)
    cap = kwargs.get("softcap")
    if cap is not None:
        scores = torch.tanh(scores / cap) * cap
    if attention_mask is not None:
        shape = (batch, kinds, heads // kinds, tokens, key.shape[2])
        scores = (scores.view(shape) + attention_mask[:, :, None]).view(scores.shape)
    shares = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    given = torch.matmul(shares, value)
    return given.view(batch, heads, tokens, size).transpose(1, 2).contiguous(), None


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
def attending(net: Any, name: str) -> Iterator[None]:
    """Within the context the net attends by the function of that name."""
    config, before = net.config.get_text_config(), own_attention(net)
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before
