"""Cells → done: by this process, one after the other, or by workers. Knows no science."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, final

from selfaware.errors import SelfawareError

Tell = Callable[[float], None]
"""Told the share of a job that is done, 0 to 1."""


@dataclass(frozen=True)
class Job:
    """One cell's work: `run` is told a callback for its progress (0 to 1); `cost` is its share of the whole, any unit.

    `after` names jobs that must have succeeded.
    """

    id: str
    label: str
    cost: float
    run: Callable[[Tell], object]
    after: tuple[str, ...] = ()


class Watch(Protocol):
    """Told how much of all work is done, in units of cost, and what is being worked on. What is done never shrinks."""

    def __call__(self, done: float, total: float, label: str) -> None:
        """Called at the start of each job, as it goes on, and at the end with all done."""


class Hands(Protocol):
    """Who does the jobs."""

    @property
    def count(self) -> int:
        """How many jobs they do at a time; at least one."""

    def begin(self, job: Job, tell: Tell) -> None:
        """Has one of them begin the job; only while fewer than `count` are under way."""

    def ended(self) -> tuple[str, str]:
        """Waits until a job that was begun has ended; gives its id, and why it failed, or nothing.

        An error that is not a `SelfawareError` is a mistake in the program and is passed on.
        """


@final
class Here:
    """This process: a job has ended as soon as it is begun."""

    count = 1

    def __init__(self) -> None:
        self._ended = ("", "")

    def begin(self, job: Job, tell: Tell) -> None:
        """Does the whole job."""
        try:
            job.run(tell)
        except SelfawareError as error:
            self._ended = (job.id, str(error))
        else:
            self._ended = (job.id, "")

    def ended(self) -> tuple[str, str]:
        """The job that was begun last."""
        return self._ended


def run(jobs: Sequence[Job], watch: Watch, hands: Hands | None = None) -> dict[str, str]:
    """Runs every job once, each after those it needs; gives the failed ones' ids with the reason.

    A job that fails does not stop the others, only those that need it. An error that is not a `SelfawareError` is a
    mistake in the program and is passed on.

    Args:
        hands: who does them; this process, one after the other, where nobody is named.
    """
    hands = hands or Here()
    unique = {job.id: job for job in jobs}
    total, done = sum(j.cost for j in unique.values()), 0.0
    furthest = 0.0
    failed: dict[str, str] = {}
    shares: dict[str, float] = {}  # of the jobs under way

    def tell(share: float, job: Job) -> None:
        # A cell that makes another first counts from 0 to 1 twice; what is shown must not go back.
        nonlocal furthest
        shares[job.id] = min(max(share, 0.0), 1.0)
        begun = sum(unique[id].cost * part for id, part in shares.items())
        furthest = max(furthest, min(done + begun, total))
        watch(furthest, total, job.label)

    left = dict(unique)
    while left or shares:
        waited = left.keys() | shares.keys()
        job = None
        if len(shares) < hands.count:
            job = next((j for j in left.values() if waited.isdisjoint(j.after)), None)
        if job is not None:
            del left[job.id]
            broken = [a for a in job.after if a in failed or a not in unique]
            if broken:
                what = "failed" if broken[0] in unique else "is not planned"
                failed[job.id] = f"needs {_label(unique, broken[0])}, which {what}"
                done += job.cost
            else:
                tell(0.0, job)
                hands.begin(job, partial(tell, job=job))
        elif shares:
            id, why = hands.ended()
            if why:
                failed[id] = why
            del shares[id]
            done += unique[id].cost
        else:
            for job in left.values():
                needed = next(a for a in job.after if a in left)
                failed[job.id] = f"needs {_label(unique, needed)}, which waits for it"
            break
    watch(total, total, "done")
    return failed


def _label(jobs: Mapping[str, Job], id: str) -> str:
    return jobs[id].label if id in jobs else f"cell {id}"
