"""A plan as the contenders are told it: a folder with the model, rows as ids, the start of every fit. Knows files, no process."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from selfaware.bench import data, ours
from selfaware.bench.works import Fits, Grid
from selfaware.interventions.lora import Lora
from selfaware.models.convert import quiet
from selfaware.models.hf import Model
from selfaware.types import Question


def basis(model: Model, folder: Path) -> dict[str, Any]:
    """What every job says: model, type, threads. The folder then holds the model."""
    if not (folder / "config.json").is_file():
        with quiet():
            model.net.save_pretrained(folder)
            model.tokenizer.save_pretrained(folder)
    return {
        "model": str(folder),
        "dtype": str(model.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }


def fits(model: Model, plan: Fits, questions: Sequence[Question], folder: Path) -> dict[str, Any]:
    """A plan of fits; the files of their starts land in the folder."""
    recipe = plan.recipe(len(model.blocks))
    training, of_lora = recipe.training, isinstance(recipe, Lora)
    arms = []
    for at, (polarity, seed) in enumerate(plan.arms):
        begin = folder / f"start-{at}.safetensors"
        recipe.start(model, seed).save(begin)
        steps = data.batches(model, plan, questions, polarity, seed)
        rows = [[(list(row.prompt), list(row.answer)) for row in step] for step in steps]
        arms.append({"start": str(begin), "batches": rows})
    sites = [str(site) for site in model.linears(recipe.site)] if of_lora else [recipe.site]
    return {
        "kind": "fits", "fits": arms, "sites": sites, "block": int(recipe.site.partition(".")[0]),
        "positions": plan.positions, "objective": training.objective, "beta": training.beta,
        "learning_rate": training.learning_rate, "warmup": training.warmup, "clip": training.clip,
        "weight_decay": training.weight_decay, "batch": plan.batch,
        "rank": recipe.rank if isinstance(recipe, Lora) else 0, "alpha": recipe.alpha if isinstance(recipe, Lora) else 0,
    }  # fmt: skip


def grid(
    plan: Grid, scored: Sequence[data.Scored], directions: dict[Any, torch.Tensor], folder: Path
) -> dict[str, Any]:
    """A grid; its vectors land in the folder."""
    path = folder / f"vectors-{plan.positions}.safetensors"
    save_file({str(site.block): vector.contiguous() for site, vector in directions.items()}, path)
    return {
        "kind": "grid", "positions": plan.positions, "vectors": str(path), "added": ours.strengths(plan),
        "prompts": [list(q.prompt) for q in scored], "options": [[list(q.high), list(q.low)] for q in scored],
    }  # fmt: skip
