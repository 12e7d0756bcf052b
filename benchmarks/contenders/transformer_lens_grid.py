"""A grid of layers and strengths with TransformerLens's bridge and its run_with_hooks."""

from typing import Any

import torch
from grid import Grid
from talk import Clock, Job, Run, loaded, serve
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge


def load(job: Job) -> Run:
    """A pass over all questions for each layer and strength."""
    bridge = TransformerBridge.boot_transformers(job["model"], device="cpu", hf_model=loaded(job))
    grid = Grid(job)
    places = grid.places[..., None]

    def once(clock: Clock) -> list[float]:
        found = []
        for block, vector, added in grid.settings():

            def add(resid: Tensor, hook: Any, by: Tensor = vector * added) -> Tensor:
                return resid + places.to(resid) * by.to(resid)

            with torch.no_grad():
                logits = bridge.run_with_hooks(
                    grid.ids, attention_mask=grid.mask, return_type="logits",
                    fwd_hooks=[(f"blocks.{block}.hook_resid_post", add)],
                )  # fmt: skip
            found += grid.scores(grid.last(logits))
        return found

    with torch.no_grad():
        bridge(grid.ids, attention_mask=grid.mask, return_type="logits")
    return once


if __name__ == "__main__":
    serve(load, ["transformer-lens", "transformers", "torch"])
