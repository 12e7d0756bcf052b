"""Tiny random models of real architectures with a byte tokenizer, made in memory. Knows no network and no real weight.

They are ordinary `Model`s: the code under them is transformers' own, so that what holds here holds at the same seam for
the real thing. A fake knows nothing: use it to check plumbing, never a finding.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from selfaware.errors import unknown
from selfaware.models.hf import Model

Common = Literal["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "gpt2"]
Rare = Literal["qwen3_moe", "qwen3_5", "qwen3_next", "phi3", "olmo2", "smollm3", "gpt_neox", "opt", "mixtral"]
Variant = Literal["gpt_neox_sequential", "opt_post_norm"]
Fake = Common | Rare | Variant

FAKES: tuple[Fake, ...] = get_args(Common)
"""Between them every way in which text, sites and positions differ: what the suite at large runs on."""

ARCHITECTURES: tuple[Fake, ...] = (*FAKES, *get_args(Rare))
"""All architectures, each once."""

VARIANTS: tuple[Fake, ...] = get_args(Variant)
"""Architectures whose published models are wired in a second way, wired so: Pythia's small kin, OPT-350m."""

TURNS = "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '\n' }}{% endfor %}"
REPLY = "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
MODEL_TURNS = "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] | trim + '\n' }}{% endfor %}"


@dataclass(frozen=True)
class _Build:
    """How one architecture is made: its config class, its own settings, its tokenizer's ways."""

    config: str
    own: dict[str, Any]
    bos: bool
    template: str | None
    system_role: bool = True


LINEAR_ATTENTION = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "full_attention_interval": 2,
    "partial_rotary_factor": 0.5,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "norm_topk_prob": True, "moe_intermediate_size": 16}
NO_DROPOUT = {"hidden_dropout": 0.0, "attention_dropout": 0.0}

BUILDS: dict[Fake, _Build] = {
    "llama": _Build("LlamaConfig", {}, True, "{{ bos_token }}" + TURNS + REPLY),
    "mistral": _Build("MistralConfig", {"sliding_window": "window"}, True, None),
    "qwen2": _Build(
        "Qwen2Config",
        {"use_sliding_window": True, "sliding_window": "window", "max_window_layers": 1},
        False,
        TURNS + REPLY,
    ),
    "qwen3": _Build("Qwen3Config", {}, False, TURNS + REPLY),
    "gemma2": _Build(
        "Gemma2Config",
        {"sliding_window": "window", "query_pre_attn_scalar": 8},
        True,
        "{{ bos_token }}" + NO_SYSTEM + MODEL_TURNS + REPLY,
        system_role=False,
    ),
    "gemma3": _Build("Gemma3TextConfig", {"sliding_window": "window", "query_pre_attn_scalar": 8}, True, None),
    "gpt2": _Build("GPT2Config", {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}, False, None),
    "qwen3_moe": _Build(
        "Qwen3MoeConfig",
        {"use_sliding_window": True, "sliding_window": "window", "mlp_only_layers": [1], **EXPERTS},
        False,
        TURNS + REPLY,
    ),
    "qwen3_5": _Build("Qwen3_5TextConfig", LINEAR_ATTENTION, False, TURNS + REPLY),
    "qwen3_next": _Build(
        "Qwen3NextConfig",
        {"mlp_only_layers": [2], "shared_expert_intermediate_size": 16, **EXPERTS, **LINEAR_ATTENTION},
        False,
        TURNS + REPLY,
    ),
    "phi3": _Build("Phi3Config", {"sliding_window": "window", "partial_rotary_factor": 0.5}, True, TURNS + REPLY),
    "olmo2": _Build("Olmo2Config", {}, False, TURNS + REPLY),
    "smollm3": _Build(
        "SmolLM3Config",
        {"use_sliding_window": True, "sliding_window": "window", "no_rope_layer_interval": 2},
        False,
        TURNS + REPLY,
    ),
    "gpt_neox": _Build("GPTNeoXConfig", NO_DROPOUT, False, None),
    "gpt_neox_sequential": _Build("GPTNeoXConfig", {"use_parallel_residual": False, **NO_DROPOUT}, False, None),
    "opt": _Build("OPTConfig", {"dropout": 0.0}, True, None),
    "opt_post_norm": _Build(
        "OPTConfig", {"dropout": 0.0, "do_layer_norm_before": False, "word_embed_proj_dim": 16}, True, None
    ),
    "mixtral": _Build(
        "MixtralConfig",
        {"sliding_window": "window", "num_local_experts": 4, "num_experts_per_tok": 2},
        True,
        "{{ bos_token }}" + NO_SYSTEM + MODEL_TURNS + REPLY,
        system_role=False,
    ),
}


def fake(
    kind: Fake,
    seed: int = 0,
    blocks: int = 4,
    width: int = 32,
    window: int = 8,
    context: int = 512,
    cache_gib: float = 0.01,
) -> Model:
    """A random model of that architecture, float32, on the CPU: some 40 000 weights, made in some milliseconds.

    Weights are scaled so that attention, MLP and logits all matter, which the usual tiny initialisation would hide.

    Args:
        kind: `gemma2` and `gemma3` have a norm after the MLP; `gemma2`, `gemma3`, `qwen2` and `mistral` have sliding windows;
            `gpt2` has absolute positions, and no linear modules that a LoRA could go on; `gpt2`, `mistral` and
            `gemma3` have no chat template; `gemma2` has no system role; `qwen2`, `qwen3` and `gpt2` have no
            begin-of-sequence token. Beyond `FAKES`: every other block of `qwen3_5` and `qwen3_next`, the first among
            them, keeps a recurrent state in place of keys and values; `qwen3_moe`, `qwen3_next` and `mixtral` route
            tokens to experts, the former two with an ordinary MLP in one block; `phi3` has one linear module for
            queries, keys and values; `olmo2` has norms after attention and MLP alone; every other block of `smollm3`
            has no positions; `gpt_neox` adds attention and MLP side by side, `gpt_neox_sequential` one after the other;
            `opt` has no module for its MLP, and `opt_post_norm` its norms on the residual stream and embeddings
            narrower than it.
        seed: of the weights; the global generator is left as it was.
        blocks: transformer blocks.
        width: of the residual stream; a multiple of 16.
        window: tokens that a sliding window spans, for the kinds that have one.
        context: longest text, tokens.
        cache_gib: memory for keys and values of prompts, GiB.

    Raises:
        UnknownName: there is no such kind.
    """
    if kind not in BUILDS:
        raise unknown("fake model", kind, BUILDS)
    build, words = BUILDS[kind], tokenizer(kind)
    sizes: dict[str, Any] = {
        "vocab_size": len(words),
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": blocks,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": width // 4,
        "max_position_embeddings": context,
        "tie_word_embeddings": kind.startswith("gem"),
    }
    if kind == "gpt2":
        sizes = {"vocab_size": len(words), "n_embd": width, "n_layer": blocks, "n_head": 4, "n_positions": context}
    if build.config == "OPTConfig":
        renamed = {"intermediate_size": "ffn_dim"}
        kept = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        sizes = {renamed.get(n, n): sizes[n] for n in (*kept, "max_position_embeddings")}
    if kind == "phi3":
        sizes["original_max_position_embeddings"] = context
    if kind == "gemma3":
        sizes["layer_types"] = [("sliding_attention", "full_attention")[b % 2] for b in range(blocks)]
    own = {name: window if value == "window" else value for name, value in build.own.items()}
    ends = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    config = getattr(transformers, build.config)(**sizes, **own, **ends)
    with torch.random.fork_rng(devices=[]):
        net = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    _fill(net, torch.Generator().manual_seed(seed))
    identity = f"fake-{kind}-{seed}-{blocks}-{width}-{window}-{context}"
    return Model(net, words, name=f"fake-{kind}", identity=identity, system_role=build.system_role, cache_gib=cache_gib)


def write(
    kind: Fake, folder: Path, seed: int = 0, blocks: int = 4, width: int = 32, window: int = 8, context: int = 512
) -> None:
    """Nothing; `folder` then holds config, weights and tokenizer of `fake(kind, …)`, as transformers loads them."""
    model = fake(kind, seed, blocks, width, window, context)
    model.net.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)


def tokenizer(kind: Fake) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes: every letter is a token, and so is a space with the letter after it (" A", not " Ab")."""
    build = BUILDS[kind]
    special = ["<pad>", "<bos>", "<eos>"]
    letters = [chr(c) for c in (*range(ord("A"), ord("Z") + 1), *range(ord("a"), ord("z") + 1))]
    merges = [("Ġ", letter) for letter in letters]
    vocabulary = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in merges)]
    inner = Tokenizer(models.BPE({word: at for at, word in enumerate(vocabulary)}, merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    if build.bos:
        inner.post_processor = processors.TemplateProcessing(
            single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", 1)]
        )
    names = {"pad_token": "<pad>", "eos_token": "<eos>"} | ({"bos_token": "<bos>"} if build.bos else {})
    words = PreTrainedTokenizerFast(tokenizer_object=inner, **names)  # type: ignore[no-untyped-call]
    words.chat_template = build.template
    return words


def _fill(net: nn.Module, generator: torch.Generator) -> None:
    """Random weights in place: rows of matrices of norm 1 or so, norms and biases a tenth off their start.

    Decay rates start at random, from the global generator, and mostly so fast that a recurrent state would be gone
    after one token: they are drawn anew, around a half-life of four.
    """
    for name, weight in net.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        with torch.no_grad():
            if weight.ndim > 1:
                weight.copy_(noise / math.sqrt(weight.shape[-1]))
            elif name.endswith("A_log"):
                weight.copy_(noise - 2)
            else:
                weight.add_(0.1 * noise)
