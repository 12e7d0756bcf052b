"""PEFT's folder for a LoRA, written and read: `adapter_config.json`, `adapter_model.safetensors`. Must not import peft.

A PEFT adapter acts at every position and has no word for any other rule: so `export` wants `all` or an explicit
consent, and `read` gives `all`. What a folder asks for beyond plain LoRA is refused by its name, never left out.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from selfaware.errors import BadData, BadFile, BadModel
from selfaware.interventions.base import Intervention, LowRank
from selfaware.models.batch import Row
from selfaware.models.hf import Model
from selfaware.types import Site, require

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

HARMLESS = frozenset(
    {
        "alpha_pattern",
        "auto_mapping",
        "base_model_name_or_path",
        "bias",
        "corda_config",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
        "fan_in_fan_out",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_alpha",
        "lora_dropout",
        "lora_ga_config",
        "megatron_config",
        "megatron_core",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "r",
        "rank_pattern",
        "revision",
        "runtime_config",
        "target_modules",
        "task_type",
        "use_rslora",
        "velora_config",
    }
)
"""Settings that the weights already show, that are read here, or that act in training alone. Others must be unset."""

PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Values of `init_lora_weights` that leave the model's own weights alone; PiSSA, OLoRA, LoftQ and others change them."""


def export(intervention: Intervention, folder: Path, model: Model, all_positions: bool = False) -> None:
    """Nothing; `folder` then holds the intervention as PEFT's `PeftModel.from_pretrained` reads it.

    Args:
        intervention: deltas of kind `LowRank` alone.
        folder: made where it is missing; the two files in it are replaced.
        model: the model it was made for; gives the modules their full names.
        all_positions: True exports one that acts at some positions only: what is written then acts at all of them, and is
            another intervention than the one that was measured.

    Raises:
        BadData: it is not a LoRA, or acts at some positions only.
        BadModel: it does not fit the model.
    """
    lows = {site: delta for site, delta in intervention.deltas.items() if isinstance(delta, LowRank)}
    others = [str(site) for site in intervention.deltas if site not in lows]
    if others or not lows:
        got = f"constants at {', '.join(others)}" if others else "no delta"
        raise BadData(f"export: got {got}; PEFT's format holds low-rank deltas only. Save it with Intervention.save.")
    if intervention.positions != "all" and not all_positions:
        raise BadData(
            f"export: got positions {intervention.positions!r}; a PEFT adapter acts at all of them. Fit with "
            "positions=all, or pass all_positions=True and measure again what you have written."
        )
    intervention.check(model)
    paths = _paths(model)
    targets = {paths[site]: delta for site, delta in lows.items()}
    also = [name for name, _ in model.net.named_modules() if name not in targets and _listed(name, list(targets))]
    require(
        not also, BadModel(f"export: PEFT's name matching would hit {', '.join(also[:3])} too. Export is not possible.")
    )
    ranks = {path: int(delta.a.shape[0]) for path, delta in targets.items()}
    alphas = {path: delta.scale * ranks[path] for path, delta in targets.items()}
    rank, alpha = Counter(ranks.values()).most_common(1)[0][0], Counter(alphas.values()).most_common(1)[0][0]
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": model.name,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": _whole(alpha),
        "use_rslora": False,
        "rank_pattern": {re.escape(path): r for path, r in ranks.items() if r != rank},
        "alpha_pattern": {re.escape(path): _whole(a) for path, a in alphas.items() if a != alpha},
        "target_modules": sorted(targets),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_dora": False,
        "modules_to_save": None,
        "init_lora_weights": True,
    }
    tensors = {}
    for path, delta in targets.items():
        for name, tensor in (("A", delta.a), ("B", delta.b)):
            key = f"base_model.model.{path}.lora_{name}.weight"
            tensors[key] = tensor.detach().float().cpu().contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def positions_matter(intervention: Intervention, model: Model, rows: Sequence[Row]) -> float:
    """Largest change of a row's summed log-probability, nats, when the intervention acts at all positions instead.

    PEFT knows no other positions: this is what an export changes.
    """
    with torch.no_grad():
        with intervention.on(model):
            before = model.logprobs(rows)
        with replace(intervention, positions="all").on(model):
            after = model.logprobs(rows)
    return float((after - before).abs().max())


def read(folder: Path, model: Model) -> Intervention:
    """The LoRA in a PEFT folder, at positions `all`.

    Args:
        folder: what PEFT's `save_pretrained` or `export` wrote.
        model: the model it was trained on; every tensor must land on one of its linear modules.

    Raises:
        BadFile: a file is missing or broken, tensors do not land, or the adapter adds nothing.
        BadData: it needs more than plain LoRA of linear modules; names what.
    """
    config, tensors = _config(folder), _tensors(folder)
    _refuse_unsupported(folder, config, tensors)
    pairs: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        found = re.fullmatch(r"(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.default)?\.weight", key)
        if not found:
            raise BadFile(
                f"{folder / WEIGHTS}: tensor {key} {tuple(tensor.shape)} is no LoRA weight; "
                "lora_A and lora_B of linear modules are needed. Save the adapter alone."
            )
        pairs.setdefault(found[1], {})[found[2]] = tensor
    sites = {path: site for site, path in _paths(model).items()}
    _check_landing(folder, config, pairs, sites, model)
    deltas = {}
    for path, pair in pairs.items():
        a, b = (pair[name].float().to(model.device) for name in "AB")
        rank = int(_setting(config, "rank_pattern", path, config.get("r", 8)))
        if a.shape[0] != rank:
            raise BadFile(
                f"{folder}: {path}.lora_A is {tuple(a.shape)}; the config says rank {rank}. "
                "Weights and config are of different adapters: save it again."
            )
        alpha = float(_setting(config, "alpha_pattern", path, config.get("lora_alpha", 8)))
        scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
        deltas[sites[path]] = LowRank(a, b, scale)
    read_one = Intervention(
        dict(sorted(deltas.items())),
        "all",
        {"method": "PEFT adapter", "base_model": config.get("base_model_name_or_path")},
    )
    if not all(bool(d.a.isfinite().all() and d.b.isfinite().all()) for d in deltas.values()):
        raise BadFile(
            f"{folder / WEIGHTS}: holds values that are not finite; finite weights are needed. Train it again."
        )
    if not read_one.norm() > 0:
        raise BadFile(
            f"{folder / WEIGHTS}: norm(B·A·scale) is 0, so the adapter is an exact identity; trained weights are needed. "
            "Either it was never trained or its weights did not land when it was saved: save it again and compare logits."
        )
    return read_one


def _paths(model: Model) -> dict[Site, str]:
    """Each linear module of each block, by its full name in the net."""
    names = {id(module): name for name, module in model.net.named_modules()}
    return {site: names[id(model.module(site))] for site in model.linears("all-linear")}


def _listed(name: str, targets: list[str]) -> bool:
    """Whether PEFT takes the module for one of a list of targets: by its whole name or the end of it after a dot."""
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _whole(number: float) -> float | int:
    return int(number) if number == int(number) else number


def _setting(config: Mapping[str, Any], pattern: str, path: str, otherwise: float) -> float:
    """The first pattern that the path or its end after a dot matches, as PEFT looks it up."""
    for key, value in (config.get(pattern) or {}).items():
        if re.match(rf"(.*\.)?({key})$", path):
            return float(value)
    return otherwise


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadFile(
            f"{folder / CONFIG}: {error}; PEFT's config is needed. Give the folder that PEFT saved."
        ) from error
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise BadFile(f"{folder / CONFIG}: peft_type {kind!r}; 'LORA' is needed. Only LoRA adapters can be read.")
    return dict(config)


def _tensors(folder: Path) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    if not path.exists() and (folder / "adapter_model.bin").exists():
        raise BadFile(f"{folder}: holds adapter_model.bin; {WEIGHTS} is needed. Save it with safe_serialization=True.")
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise BadFile(f"{path}: {error}; PEFT's weights are needed. Fetch or save the adapter again.") from error


def _refuse_unsupported(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    named = {
        "DoRA (use_dora)": bool(config.get("use_dora")) or any("lora_magnitude_vector" in key for key in tensors),
        "trained biases (bias, lora_bias)": config.get("bias", "none") not in ("none", None)
        or bool(config.get("lora_bias"))
        or any(key.endswith(".bias") for key in tensors),
        "whole modules (modules_to_save)": bool(config.get("modules_to_save"))
        or any("modules_to_save" in key for key in tensors),
        "embeddings": any(re.search(r"lora_embedding_|embed_tokens|\.wte\.", key) for key in tensors),
        "the output head (lm_head)": any(re.search(r"(^|\.)lm_head\.", key) for key in tensors),
        f"a start that changes the model's weights (init_lora_weights={config.get('init_lora_weights')!r})": config.get(
            "init_lora_weights"
        )
        not in PLAIN_STARTS,
    }
    seen = {"use_dora", "lora_bias", "modules_to_save"}
    named |= {name: bool(value) for name, value in config.items() if name not in HARMLESS | seen}
    wanted = [name for name, present in named.items() if present]
    if wanted:
        raise BadData(
            f"{folder}: the adapter uses {'; '.join(wanted)}; only LoRA on linear modules inside the blocks can be read. "
            "Merge it into the model and load that instead."
        )


def _check_landing(
    folder: Path,
    config: Mapping[str, Any],
    pairs: Mapping[str, Mapping[str, Tensor]],
    sites: Mapping[str, Site],
    model: Model,
) -> None:
    """Every tensor has its module and its shape, every pair is whole, and no module that the config lists is left out."""
    wrong = []
    for path, pair in pairs.items():
        shapes = {f"lora_{name}": tuple(tensor.shape) for name, tensor in pair.items()}
        got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        if path not in sites:
            wrong.append(f"{path} ({got}): no such linear module")
            continue
        module = model.module(sites[path])
        fan_in, fan_out = (int(getattr(module, side)) for side in ("in_features", "out_features"))
        a, b = shapes.get("lora_A", ()), shapes.get("lora_B", ())
        if len(a) != 2 or len(b) != 2 or a[1] != fan_in or b[0] != fan_out or a[0] != b[1]:
            wrong.append(f"{path} ({got}): needs lora_A (r, {fan_in}) and lora_B ({fan_out}, r)")
    targets = config.get("target_modules")
    if isinstance(targets, list) and not config.get("exclude_modules") and config.get("layers_to_transform") is None:
        linear = [name for name, module in model.net.named_modules() if isinstance(module, nn.Linear)]
        wrong += [
            f"{name}: the config lists it, no tensor" for name in linear if _listed(name, targets) and name not in pairs
        ]
    if not pairs:
        wrong.append("no tensor at all")
    if wrong:
        more = f"; … ({len(wrong)} in all)" if len(wrong) > 3 else ""
        have = ", ".join(list(sites)[:2])
        raise BadFile(
            f"{folder / WEIGHTS}: {'; '.join(wrong[:3])}{more}. {model.name} has {have}, …: every tensor must land. "
            "Use the model that the adapter was trained on."
        )
