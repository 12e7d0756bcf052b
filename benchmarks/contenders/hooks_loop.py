"""Steering vectors with a forward hook: a fit by a loop written by hand, and a grid of layers and strengths."""

from typing import Any

import torch
from fitting import Batch, means, train
from grid import Grid
from safetensors.torch import load_file
from talk import Clock, Job, Run, loaded, serve
from torch import Tensor, nn


def blocks(model: Any) -> Any:
    """The transformer blocks of a Llama-like model."""
    return model.model.layers


def adding(module: nn.Module, vector: Tensor, places: list[Tensor]) -> Any:
    """A hook that adds the vector to the module's output at the places."""

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        first = output[0] if isinstance(output, tuple) else output
        changed = first + places[0][..., None].to(first) * vector.to(first)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    return module.register_forward_hook(hook)


def fits(model: Any, job: Job) -> Run:
    """All fits of the job, one after the other."""

    def one(fit: Job, clock: Clock) -> list[float]:
        ((site, start),) = load_file(fit["start"]).items()
        vector = start.clone().requires_grad_()
        places: list[Tensor] = []
        handle = adding(blocks(model)[int(site.partition("/")[0])], vector, places)

        def forward(batch: Batch) -> Tensor:
            places[:] = [batch.places(job["positions"])]
            return means(model, batch, job["head"])

        losses = train(forward, [vector], fit["batches"], job, clock)
        handle.remove()
        return losses

    return lambda clock: [loss for fit in job["fits"] for loss in one(fit, clock)]


def sweep(model: Any, job: Job) -> Run:
    """The grid: a forward pass over all questions for each layer and strength."""
    grid = Grid(job)

    def once(clock: Clock) -> list[float]:
        found = []
        for block, vector, added in grid.settings():
            handle = adding(blocks(model)[block], vector * added, [grid.places])
            with torch.no_grad():
                if job["head"] == "full":
                    logits = grid.last(model(**grid.inputs).logits)
                else:
                    logits = model.get_output_embeddings()(grid.last(model.model(**grid.inputs).last_hidden_state))
            handle.remove()
            found += grid.scores(logits)
        return found

    return once


def load(job: Job) -> Run:
    """The job's fits or its grid."""
    model = loaded(job)
    made = fits(model, job) if job["kind"] == "fits" else sweep(model, job)
    with torch.no_grad():
        warm = Batch(job["fits"][0]["batches"][0]).inputs if job["kind"] == "fits" else Grid(job).inputs
        model(**warm)
    return made


if __name__ == "__main__":
    serve(load, ["transformers", "torch"])
