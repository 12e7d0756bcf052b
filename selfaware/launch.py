"""Cells → done, in this process, one after the other. Knows no science."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from selfaware.errors import SelfawareError


@dataclass(frozen=True)
class Job:
    """One cell's work: `run` is told a callback for its progress (0 to 1); `cost` is its share of the whole, any unit.

    `after` names jobs that must have succeeded.
    """

    id: str
    label: str
    cost: float
    run: Callable[[Callable[[float], None]], object]
    after: tuple[str, ...] = ()


class Watch(Protocol):
    """Told how much of all work is done, in units of cost, and what is being worked on. What is done never shrinks."""

    def __call__(self, done: float, total: float, label: str) -> None:
        """Called at the start of each job, as it goes on, and at the end with all done."""


def run(jobs: Sequence[Job], watch: Watch) -> dict[str, str]:
    """Runs every job once, each after those it needs; gives the failed ones' ids with the reason.

    A job that fails does not stop the others, only those that need it. An error that is not a `SelfawareError` is a
    mistake in the program and is passed on.
    """
    unique = {job.id: job for job in jobs}
    total, done = sum(j.cost for j in unique.values()), 0.0
    furthest = 0.0
    failed: dict[str, str] = {}

    def tell(share: float, job: Job) -> None:
        # A cell that makes another first counts from 0 to 1 twice; what is shown must not go back.
        nonlocal furthest
        furthest = max(furthest, min(done + min(max(share, 0.0), 1.0) * job.cost, total))
        watch(furthest, total, job.label)

    left = dict(unique)
    while left:
        job = next((j for j in left.values() if not any(a in left for a in j.after)), None)
        if job is None:
            for job in left.values():
                needed = next(a for a in job.after if a in left)
                failed[job.id] = f"needs {_label(unique, needed)}, which waits for it"
            break
        del left[job.id]
        broken = [a for a in job.after if a in failed or a not in unique]
        if broken:
            what = "failed" if broken[0] in unique else "is not planned"
            failed[job.id] = f"needs {_label(unique, broken[0])}, which {what}"
        else:
            tell(0.0, job)
            try:
                job.run(partial(tell, job=job))
            except SelfawareError as error:
                failed[job.id] = str(error)
        done += job.cost
    watch(total, total, "done")
    return failed


def _label(jobs: Mapping[str, Job], id: str) -> str:
    return jobs[id].label if id in jobs else f"cell {id}"
