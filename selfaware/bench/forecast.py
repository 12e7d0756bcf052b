"""What cells will cost before they are made: time from this machine's rate, memory. Knows jobs' tokens and clocks, no experiment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from selfaware.bench.limit import product_rate
from selfaware.launch import Job
from selfaware.models import catalog, load
from selfaware.models.hf import GIB
from selfaware.models.hub import Local

OVER = 1.3
"""Seconds that cells took over those that their tokens would take at the rate of a large product: 1.2 for the demo on SmolLM2 and
2 cores (563 s of cells against 473), with a margin."""


@dataclass(frozen=True)
class Forecast:
    """What is to be expected.

    Attributes:
        fits, others: tokens that run through the model, in the training type and in the scoring type.
        seconds: about how long.
        gib: memory that weights and caches take at most.
        rates: operations a second of a large matrix product, by type, measured now.
    """

    fits: float
    others: float
    seconds: float
    gib: float
    rates: Mapping[str, float]


def forecast(local: Local, jobs: Sequence[Job], types: tuple[str, str], cache_gib: float) -> Forecast:
    """Time and memory for these jobs on this machine's processor.

    Args:
        jobs: those that are left; a job's cost is in tokens.
        types: of the weights, in fits and in scores.
        cache_gib: for each loaded type.
    """
    fits = sum(j.cost for j in jobs if j.label.startswith("fit"))
    others = sum(j.cost for j in jobs) - fits
    weights = load.parameters(local)
    rates = {name: product_rate(getattr(torch, name)) for name in dict.fromkeys(types)}
    seconds = OVER * 2 * weights * (fits / rates[types[0]] + others / rates[types[1]])
    sizes = sum(getattr(torch, name).itemsize for name in dict.fromkeys(types))
    return Forecast(fits, others, seconds, weights * sizes / GIB + cache_gib * len(set(types)), rates)


def on_gpu(cache_gib: float) -> dict[str, float]:
    """GPU memory for the papers' models, GiB: weights in bfloat16, caches, and a fifth for a step's activations."""
    known = {name: entry.parameters for name, entry in catalog.catalogue().items() if entry.parameters}
    return {name: 1.2 * count * 2 / GIB + cache_gib for name, count in known.items()}
