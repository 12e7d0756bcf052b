"""One JSON line in, one JSON line out: how a contender is told what to do. Knows torch and transformers, no other package of ours.

Lines in: `{"do": "load", …}` once, then `{"do": "run"}` for each measurement. Lines out: `{"versions": …}`, then
`{"seconds", "marks", "numbers"}`, or `{"why": …}` where something failed. Whatever else a library prints goes to stderr.
"""

import importlib.metadata
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForCausalLM

Job = dict[str, Any]


class Clock:
    """Seconds since the run began, one mark a training step."""

    def __init__(self) -> None:
        self.marks: list[float] = []
        self.start()

    def start(self) -> None:
        """Begins (again): what came before is not measured."""
        self.began = time.perf_counter()

    def mark(self) -> None:
        """Notes that a step is done."""
        self.marks.append(time.perf_counter() - self.began)


Run = Callable[[Clock], list[float]]


def serve(load: Callable[[Job], Run], packages: list[str]) -> None:
    """Answers on stdout until stdin ends; `load` gives the work, which takes a clock and gives its numbers."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    work: Run | None = None
    for line in sys.stdin:
        job = json.loads(line)
        try:
            if job["do"] == "load":
                torch.set_num_threads(job["threads"])
                work = load(job)
                answer: Job = {"versions": {p: importlib.metadata.version(p) for p in packages}}
            else:
                assert work is not None
                clock = Clock()
                numbers = work(clock)
                answer = {"seconds": time.perf_counter() - clock.began, "marks": clock.marks, "numbers": numbers}
        except Exception as error:
            traceback.print_exc()
            answer = {"why": f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0][:300]}"}
        print(json.dumps(answer), file=channel, flush=True)


def loaded(job: Job) -> Any:
    """The model of the job's folder, frozen, as transformers loads it, with the attention kernel that the job names if any."""
    kernel = {"attn_implementation": job["attention"]} if job["attention"] else {}
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=getattr(torch, job["dtype"]), **kernel)
    return model.eval().requires_grad_(False)
