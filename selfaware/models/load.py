"""Local files → a `Model`, in the type that this machine is fast in. Knows files and devices, no question."""

import math
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from selfaware.errors import BadModel
from selfaware.models.convert import quiet
from selfaware.models.hf import Model
from selfaware.models.hub import Local
from selfaware.models.sites import POST_NORMS

ON_CPU = {"attn_implementation": "eager"}
"""On a CPU the fused kernel's backward takes twice as long for an answer's few queries (0.51 s against 0.26 s for a step of
24 answers on SmolLM2-135M in bfloat16); elsewhere the model's own choice stands."""


def load(local: Local, dtype: str, cache_gib: float = 1.5, device: str = "cpu", spill: Path | None = None) -> Model:
    """The model in that folder with weights of `dtype` (`float32`, `bfloat16`, …).

    Args:
        cache_gib, spill: see `Model`.

    Raises:
        BadModel: the folder holds no causal language model that transformers can load.
    """
    try:
        with quiet():
            net: Any = AutoModelForCausalLM.from_pretrained(
                local.folder, dtype=getattr(torch, dtype), **(ON_CPU if device == "cpu" else {})
            )
    except (OSError, ValueError, KeyError) as error:
        raise BadModel(_no_model(local, error)) from error
    tokenizer, _, system_role = load_tokenizer(local)
    return Model(
        net.to(device),
        tokenizer,
        name=local.name,
        identity=local.identity,
        system_role=system_role,
        cache_gib=cache_gib,
        spill=spill,
    )


def size(local: Local) -> tuple[int, int]:
    """How many blocks the model has, and the width of its residual stream; reads its configuration alone.

    Raises:
        BadModel: the folder holds no model's configuration.
    """
    try:
        found = AutoConfig.from_pretrained(local.folder).get_text_config()
        return int(found.num_hidden_layers), int(found.hidden_size)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise BadModel(_no_model(local, error)) from error


def parameters(local: Local) -> int:
    """How many weights the model's files hold; reads their headers alone."""
    total = 0
    for path in local.folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            total += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    return total


def load_tokenizer(local: Local) -> tuple[Any, int, bool]:
    """The tokenizer alone, the model's context in tokens, and whether its template knows a system role.

    Raises:
        BadModel: the folder holds no tokenizer.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(local.folder)
        config = AutoConfig.from_pretrained(local.folder).get_text_config()
    except (OSError, ValueError, KeyError) as error:
        raise BadModel(_no_model(local, error)) from error
    return tokenizer, int(getattr(config, "max_position_embeddings", 2**31)), local.system_role is not False


def _no_model(local: Local, error: Exception) -> str:
    why = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"model {local.name} in {local.folder}: {why}; a causal language model with its tokenizer is needed. Check the folder."


def describe(model: Model) -> list[tuple[str, str]]:
    """What a reader wants to know before naming a site."""
    block = model.blocks[0]
    norms = [n for n in POST_NORMS if n in dict(block.named_modules())]
    linear = [name for name, module in block.named_modules() if isinstance(module, nn.Linear)]
    return [
        ("name", model.name),
        ("identity", model.identity),
        ("type", type(model.net).__name__),
        ("blocks", f"{len(model.blocks)}, width {model.width}"),
        ("linear modules in a block", ", ".join(linear) or "none: a LoRA has no place here"),
        (
            "post-norm after the MLP",
            ", ".join(norms) or "none: mlp, mlp.residual and the last projection are one site",
        ),
        ("context", f"{model.context} tokens"),
        ("chat template", "yes" if model.tokenizer.chat_template else "no: ask in raw text"),
        ("prompts' keys and values", "kept" if model.splits else "not kept: the whole text runs each time"),
    ]


def has_cuda() -> bool:
    """Whether a GPU is at hand."""
    return torch.cuda.is_available()


def fastest_dtype(device: str = "cpu") -> str:
    """`bfloat16` where a matrix product in it takes less than two thirds of float32's time here, else `float32`.

    A measurement of about a tenth of a second; on CPUs without bfloat16 units that type can be the slower one.
    """
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.ones(512, 768, dtype=dtype, device=device), torch.ones(768, 2048, dtype=dtype, device=device)
        a @ b
        times = []
        for _ in range(7):
            start = time.perf_counter()
            float((a @ b)[0, 0])
            times.append(time.perf_counter() - start)
        seconds[dtype] = min(times)
    return "bfloat16" if seconds[torch.bfloat16] < seconds[torch.float32] * 2 / 3 else "float32"
