"""One GGUF file → a Hugging Face style folder that loads fast. Knows tensor layouts; must not know a file's origin.

Loading a GGUF file through transformers takes half a minute or more each time, and what it loads cannot be saved
again; the folder written here holds the same numbers and loads in a second.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from transformers.utils import logging as transformers_logging

from selfaware.errors import BadFile, BadModel
from selfaware.types import require

Progress = Callable[[str, int, int], None]

# What these files are trained with, stated by the pre-tokenizer's name only. transformers 5.23 knows no `smollm` and
# cuts like GPT-2, which glues the newlines before a number to it: "\n\n1." becomes other tokens than in training.
DIGITS_APART = frozenset({"smollm"})


@contextmanager
def quiet() -> Iterator[None]:
    """Silence from transformers: no bars, no advice; its settings are restored on the way out."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def converters() -> dict[str, str]:
    """The versions of the libraries that shape a converted folder."""
    return {name: version(name) for name in ("gguf", "numpy", "safetensors", "tokenizers", "torch", "transformers")}


def convert(path: Path, into: Path, step: Progress) -> None:
    """Config, float32 weights, tokenizer and chat template of the GGUF file `path`, written to the folder `into`.

    float32 because it loses nothing: a 4-bit weight is a scale times a small number plus an offset, and rounding it to
    bfloat16 moves the largest weights by 0.3 %. Memory: twice the float32 weights. Ten seconds for 135 M weights.

    Raises:
        BadFile: `path` cannot be read as GGUF.
        BadModel: an architecture, rope scaling or tensor that this conversion does not know.
    """
    with quiet():
        step("read", 0, 1)
        try:
            reader = gguf.GGUFReader(path)
        except (ValueError, IndexError, KeyError) as error:
            raise BadFile(
                f"{path.name}: not a readable GGUF file ({error}); needs a whole one of version 2 or 3. Fetch it again."
            ) from error
        config = _config(reader)
        step("read", 1, 1)
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
        config.architectures = [type(model).__name__]
        config.dtype = "float32"
        shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        if config.tie_word_embeddings:
            shapes.pop("lm_head.weight", None)
        tensors = _tensors(reader, config, shapes, step)
        save_file(tensors, into / "model.safetensors", metadata={"format": "pt"})
        (into / "model.safetensors").chmod(0o644)  # safetensors writes it for the owner only; caches are shared
        config.save_pretrained(into)
        step("tokenizer", 0, 1)
        tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        if _value(reader, "tokenizer.ggml.pre") in DIGITS_APART:
            tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
                [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
            )
        tokenizer.model_max_length = config.max_position_embeddings
        tokenizer.save_pretrained(into)
        step("tokenizer", 1, 1)


def _value(reader: Any, key: str) -> Any:
    """What the file states under `key`; None where it states nothing."""
    field = reader.fields.get(key)
    return None if field is None else field.contents()


def _config(reader: Any) -> Any:
    """The transformers config that the file's own header describes.

    Written out rather than left to transformers, which reads a file's whole vocabulary twice to get it (10 to 40
    seconds); the tests hold both against each other.
    """
    architecture = _value(reader, "general.architecture")
    require(
        architecture in ("llama", "gemma3"),
        BadModel(
            f"GGUF architecture {architecture!r}: no conversion for it; there are llama and gemma3. Give a folder of "
            "safetensors, or add the architecture to selfaware/models/convert.py."
        ),
    )

    def stated(key: str) -> Any:
        return _value(reader, f"{architecture}.{key}")

    require(
        stated("rope.scaling.type") in (None, "none"),
        BadModel(
            f"GGUF rope scaling {stated('rope.scaling.type')!r}: the conversion would drop it; needs a file "
            "without. Give a folder of safetensors instead."
        ),
    )
    theta = {"rope_type": "default", "rope_theta": stated("rope.freq_base")}
    shared = {
        "bos_token_id": _value(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": _value(reader, "tokenizer.ggml.eos_token_id"),
        "pad_token_id": _value(reader, "tokenizer.ggml.padding_token_id"),
        "hidden_size": stated("embedding_length"),
        "intermediate_size": stated("feed_forward_length"),
        "max_position_embeddings": stated("context_length"),
        "num_attention_heads": stated("attention.head_count"),
        "num_hidden_layers": stated("block_count"),
        "num_key_value_heads": stated("attention.head_count_kv"),
        "rms_norm_eps": stated("attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": all(tensor.name != "output.weight" for tensor in reader.tensors),
        "vocab_size": len(reader.fields["tokenizer.ggml.tokens"].data),
    }
    if architecture == "llama":
        return transformers.LlamaConfig(**shared, rope_parameters=theta)
    # A file states neither the query scale nor the theta of the sliding blocks. The theta is 10 000 in every Gemma 3,
    # the scale 1/√(head size) in all but the 27B, which is known by its 62 blocks.
    require(
        stated("block_count") != 62,
        BadModel(
            "GGUF of Gemma 3 27B: its query scale is not known here; needs 1B, 4B, 12B or 270M. Give safetensors."
        ),
    )
    return transformers.Gemma3TextConfig(
        **shared,
        head_dim=stated("attention.key_length"),
        query_pre_attn_scalar=stated("attention.key_length"),
        sliding_window=stated("attention.sliding_window"),
        rope_parameters={"full_attention": theta, "sliding_attention": theta | {"rope_theta": 10000.0}},
    )


def _tensors(reader: Any, config: Any, shapes: dict[str, tuple[int, ...]], step: Progress) -> dict[str, torch.Tensor]:
    """Every weight that `shapes` names, in float32; each tensor of the file is used exactly once."""
    architecture = _value(reader, "general.architecture")
    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    stored = {tensor.name: tensor for tensor in reader.tensors}
    tensors: dict[str, torch.Tensor] = {}
    for done, (name, shape) in enumerate(shapes.items()):
        step("convert", done, len(shapes))
        base, suffix = name.rsplit(".", 1)
        source = f"{names.get_name(base)}.{suffix}"
        require(
            source in stored,
            BadFile(f"GGUF tensor {source}: missing; the model needs it for {name}. Fetch the file again."),
        )
        tensor = stored.pop(source)
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        if architecture == "gemma3" and "norm" in source:
            values = values - 1  # the file holds 1 + w, so that its readers can share one norm; Gemma's code adds the 1
        if architecture == "llama" and (found := re.search(r"attn_([qk])\.", source)):
            values = _halves(values, config.num_attention_heads if found[1] == "q" else config.num_key_value_heads)
        tensors[name] = torch.from_numpy(np.array(values, dtype=np.float32, order="C"))
        require(
            tuple(tensors[name].shape) == shape,
            BadFile(f"GGUF tensor {source}: shape {tuple(tensors[name].shape)}; {name} needs {shape}. Fetch it again."),
        )
    require(
        not stored,
        BadModel(
            f"GGUF tensors {', '.join(sorted(stored)[:3])}: the model has no place for them; needs plain "
            "llama and gemma3 text models. Give a folder of safetensors instead."
        ),
    )
    step("convert", len(shapes), len(shapes))
    return tensors


def _halves(values: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Rows of a query or key matrix back from interleaved rotary pairs to transformers' two halves per head."""
    pairs = values.reshape(heads, values.shape[0] // heads // 2, 2, *values.shape[1:])
    return pairs.swapaxes(1, 2).reshape(values.shape)
