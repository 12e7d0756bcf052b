"""What cells will cost before they are made: time from this machine's rate, memory. Knows jobs' tokens and clocks, no experiment."""

import os
import sys
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


WORTH_IT = 60.0
"""Seconds of work from which on several processes share it."""


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
    return Forecast(fits, others, seconds, memory(local, types, cache_gib), rates)


def memory(local: Local, types: tuple[str, str], cache_gib: float) -> float:
    """What one process takes at most for weights and caches, GiB; arguments as for `forecast`."""
    sizes = sum(getattr(torch, name).itemsize for name in dict.fromkeys(types))
    return load.parameters(local) * sizes / GIB + cache_gib * len(set(types))


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def processes(local: Local, jobs: Sequence[Job], types: tuple[str, str], cache_gib: float) -> int:
    """How many processes should share these jobs: one for each core, as far as four fifths of the free memory go; arguments as for `forecast`.

    One thread each does more than several threads in one process: steps of small models are short, and threads wait for each other at every
    operation. Work of less than a minute stays in one process, for each has to load the weights.
    """
    if forecast(local, jobs, types, cache_gib).seconds < WORTH_IT:
        return 1
    return max(1, min(cores(), int(0.8 * _free() / memory(local, types, cache_gib))))


def _free() -> float:
    """Memory that is not in use, GiB; half of all where the system does not tell."""
    try:
        with open("/proc/meminfo") as file:
            known = dict(line.split(":") for line in file)
        return int(known["MemAvailable"].split()[0]) * 1024 / GIB
    except (OSError, KeyError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2 / GIB


def on_gpu(cache_gib: float) -> dict[str, float]:
    """GPU memory for the papers' models, GiB: weights in bfloat16, caches, and a fifth for a step's activations."""
    known = {name: entry.parameters for name, entry in catalog.catalogue().items() if entry.parameters}
    return {name: 1.2 * count * 2 / GIB + cache_gib for name, count in known.items()}
