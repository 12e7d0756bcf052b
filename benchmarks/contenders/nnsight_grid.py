"""A grid of layers and strengths with nnsight's traces."""

import torch
from grid import Grid
from nnsight import LanguageModel
from talk import Clock, Job, Run, loaded, serve
from torch import Tensor
from transformers import AutoTokenizer


def load(job: Job) -> Run:
    """A trace over all questions for each layer and strength."""
    lm = LanguageModel(loaded(job), tokenizer=AutoTokenizer.from_pretrained(job["model"]))
    grid = Grid(job)
    places = grid.places[..., None]

    def one(block: int, by: Tensor) -> Tensor:
        with torch.no_grad(), lm.trace(grid.inputs):
            before = lm.model.layers[block].output
            lm.model.layers[block].output = before + places.to(before) * by.to(before)
            logits = lm.lm_head.output.save()
        return logits

    def once(clock: Clock) -> list[float]:
        return [s for b, v, added in grid.settings() for s in grid.scores(grid.last(one(b, v * added)))]

    one(0, next(iter(grid.vectors.values())) * 0)
    return once


if __name__ == "__main__":
    serve(load, ["nnsight", "transformers", "torch"])
