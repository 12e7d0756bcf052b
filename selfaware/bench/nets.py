"""The second model of the bench: a random Llama of another shape with the first one's tokenizer. Knows shapes, no library."""

import math
from pathlib import Path

import torch
from torch import nn

from selfaware.errors import BadModel
from selfaware.models import hub, load
from selfaware.models.convert import quiet
from selfaware.models.hf import Model

NAME = "random-llama-24x384"
SHAPE = {
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}


def random_llama(like: Model, folder: Path, dtype: str, seed: int = 0) -> Model:
    """A Llama of 24 blocks of width 384 whose weights are drawn; the folder then holds it.

    Args:
        like: a Llama, whose tokenizer and vocabulary it gets.
        seed: of the weights.

    Raises:
        BadModel: `like` is no Llama.
    """
    if like.config.model_type != "llama":
        raise BadModel(f"{like.name}: {like.config.model_type}; a Llama is needed to make {NAME}. Name one by --model.")
    kept = {name: getattr(like.config, name) for name in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")}
    with torch.random.fork_rng(devices=[]):
        net = type(like.net)(type(like.net.config)(**SHAPE, **kept))
    _fill(net, torch.Generator().manual_seed(seed))
    with quiet():
        net.to(getattr(torch, dtype)).save_pretrained(folder)
        like.tokenizer.save_pretrained(folder)
    local = hub.Local(NAME, folder, f"{NAME}@{seed}", "", "", dtype, like.system_role, "folder")
    return load.load(local, dtype)


def _fill(net: nn.Module, generator: torch.Generator) -> None:
    """Rows of matrices of norm 1 or so, norms at 1: attention, MLP and logits all matter."""
    with torch.no_grad():
        for weight in net.parameters():
            if weight.ndim < 2:
                weight.fill_(1.0)
            else:
                weight.copy_(torch.randn(weight.shape, generator=generator) / math.sqrt(weight.shape[1]))
