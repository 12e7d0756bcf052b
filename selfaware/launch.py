"""Cells → done, in this process, one after the other. Knows no science."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
    run: Callable[[Callable[[float], None]], None]
    after: tuple[str, ...] = ()


class Watch(Protocol):
    """Told how much of all work is done, in units of cost, and what is being worked on."""

    def __call__(self, done: float, total: float, label: str) -> None: ...


def run(jobs: Sequence[Job], watch: Watch) -> dict[str, str]:
    """Runs every job once; gives the failed ones' ids with the reason.

    A job that fails does not stop the others, only those that need it.
    """
    unique = {job.id: job for job in jobs}
    total, done = sum(j.cost for j in unique.values()), 0.0
    failed: dict[str, str] = {}
    for job in unique.values():
        broken = [a for a in job.after if a in failed]
        if broken:
            failed[job.id] = f"needs {unique[broken[0]].label}, which failed" if broken[0] in unique else "needs a cell that failed"
        else:
            watch(done, total, job.label)
            try:
                job.run(lambda share, at=done, cost=job.cost, label=job.label: watch(at + share * cost, total, label))  # type: ignore[misc]
            except SelfawareError as error:
                failed[job.id] = str(error)
        done += job.cost
    watch(done, total, "done")
    return failed
