"""Local workers: processes that make the same plan and do the jobs that they are told. Knows plans, no claim."""

import multiprocessing
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import final

import torch

from selfaware.domains import loader
from selfaware.errors import SelfawareError
from selfaware.experiments import run as runs
from selfaware.launch import Hands, Here, Job, Tell
from selfaware.models.hub import Local
from selfaware.stages import Bench
from selfaware.store import Store


@dataclass(frozen=True)
class Order:
    """What a process needs to make the same plan; all of it can be sent to another one.

    Attributes:
        domain: a name or a folder.
        threads: of each process.
    """

    name: str
    domain: str
    scale: str
    overrides: dict[str, str]
    local: Local
    folder: Path
    train_dtype: str
    score_dtype: str
    cache_gib: float
    device: str
    threads: int


@dataclass(frozen=True)
class _Worker:
    process: BaseProcess
    pipe: Connection


@final
class Workers:
    """Several processes. One that dies takes the job it was at with it, and the others go on."""

    def __init__(self, free: list[_Worker]) -> None:
        self._free, self._at = free, dict[Connection, tuple[_Worker, str, Tell]]()

    @property
    def count(self) -> int:
        """How many are alive.

        Raises:
            SelfawareError: none.
        """
        alive = len(self._free) + len(self._at)
        if not alive:
            raise SelfawareError(
                "workers: every one of them has died; one at least is needed, and memory is the usual cause. Use --workers 1; what is finished is kept."
            )
        return alive

    def begin(self, job: Job, tell: Tell) -> None:
        """Sends the job to one that is free; see `launch.Hands`."""
        worker = self._free.pop()
        with suppress(OSError):  # it has died: `ended` will find that out
            worker.pipe.send(job.id)
        self._at[worker.pipe] = (worker, job.id, tell)

    def ended(self) -> tuple[str, str]:
        """Tells what progress they make until one has ended; see `launch.Hands`.

        Raises:
            RuntimeError: an error in one of them that is not a `SelfawareError`, with its traceback.
        """
        while True:
            for pipe in wait(list(self._at)):
                assert isinstance(pipe, Connection)
                worker, id, tell = self._at[pipe]
                try:
                    kind, said = pipe.recv()
                except (EOFError, OSError):
                    del self._at[pipe]
                    worker.process.join()
                    return (
                        id,
                        f"the process that worked on it died (exit code {worker.process.exitcode}); memory is the usual cause. Use --workers 1, and run again: what is finished is kept.",
                    )
                if kind == "share":
                    tell(said)
                    continue
                if kind == "broke":
                    raise RuntimeError(f"in a worker:\n{said}")
                del self._at[pipe]
                self._free.append(worker)
                return id, said


@contextmanager
def hired(count: int, order: Order) -> Iterator[Hands]:
    """So many processes for the context; this one alone where `count` is 1. They end with it, whatever ends it."""
    if count <= 1:
        yield Here()
        return
    context = multiprocessing.get_context("spawn")
    workers = []
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, order), daemon=True)
            process.start()
            theirs.close()
            workers.append(_Worker(process, ours))
        yield Workers(list(reversed(workers)))
    finally:
        for worker in workers:
            worker.pipe.close()
            worker.process.terminate()
        for worker in workers:
            worker.process.join()


def _serve(pipe: Connection, order: Order) -> None:
    """What a worker does: a job for each id that it is sent, until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # one Ctrl-C reaches all of them; the first process ends the others
    torch.set_num_threads(order.threads)
    jobs: dict[str, Job] | None = None
    while True:
        try:
            id = pipe.recv()
        except EOFError:
            return
        try:
            if jobs is None:
                store, types = Store(order.folder), (order.train_dtype, order.score_dtype)
                bench = Bench(order.local, store, *types, order.cache_gib, order.device)
                plan = runs.plan(order.name, bench, loader.load(order.domain), order.scale, order.overrides)
                jobs = {job.id: job for job in plan.jobs}
            jobs[id].run(lambda share: pipe.send(("share", share)))
        except SelfawareError as error:
            pipe.send(("ended", str(error)))
        except Exception:
            pipe.send(("broke", traceback.format_exc()))
        else:
            pipe.send(("ended", ""))
