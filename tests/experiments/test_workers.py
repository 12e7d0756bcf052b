"""Workers: the same page as one process makes, whatever becomes of one of them."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from selfaware import launch
from selfaware.domains import loader
from selfaware.errors import SelfawareError
from selfaware.experiments import run
from selfaware.experiments.workers import Order, hired
from selfaware.stages import Bench
from selfaware.store import Store

SMALL = {
    "shared.limit": "2", "shared.lora.site": "1.mlp.down_proj", "shared.wider.site": "1.mlp", "shared.vector.site": "1",
    "module_ranks": "1", "mlp_ranks": "2", "shared.wide.rank": "2",
}  # fmt: skip


class Heard:
    """A watch that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[float, float, str]] = []

    def __call__(self, done: float, total: float, label: str) -> None:
        self.told.append((done, total, label))


def order(bench: Bench, toy: loader.Domain, folder: Path, overrides: dict[str, str]) -> Order:
    return Order(
        "minimal-rank", str(toy.folder), "smoke", overrides, bench.local, folder, bench.train_dtype, bench.score_dtype, 0.1, bench.device, 1
    )  # fmt: skip


def beside(bench: Bench, folder: Path) -> Bench:
    """A bench for the same model, with a store of its own."""
    return Bench(bench.local, Store(folder), bench.train_dtype, bench.score_dtype)


def test_two_make_the_page_that_one_makes(bench: Bench, toy: loader.Domain, tmp_path: Path) -> None:
    alone, _ = run.execute(bench, run.plan("minimal-rank", bench, toy, "smoke", SMALL), Heard(), [])
    other, heard = beside(bench, tmp_path / "other"), Heard()
    plan = run.plan("minimal-rank", other, toy, "smoke", SMALL)
    with hired(2, order(bench, toy, tmp_path / "other", SMALL)) as hands:
        assert hands.count == 2
        page, where = run.execute(other, plan, heard, [], hands)
    assert where.is_file()
    assert page.failures == ()
    assert len(page.rows) == len(alone.rows)
    for got, wanted in zip(page.rows, alone.rows, strict=True):
        assert (got.measure, got.method, got.polarity) == (wanted.measure, wanted.method, wanted.polarity)
        assert got.value == pytest.approx(wanted.value, abs=2e-3)
    assert all(other.store.cell(job.id).whole() for job in plan.jobs)
    shares = [done for done, _, _ in heard.told]
    assert shares == sorted(shares)
    assert heard.told[-1] == (heard.told[-1][1], heard.told[-1][1], "done")


def test_a_fit_that_diverges_in_a_worker_is_a_failed_cell(bench: Bench, toy: loader.Domain, tmp_path: Path) -> None:
    wild = {**SMALL, "shared.wide.training.learning_rate": "1e308"}
    other = beside(bench, tmp_path / "other")
    with hired(2, order(bench, toy, tmp_path / "other", wild)) as hands:
        page, _ = run.execute(other, run.plan("minimal-rank", other, toy, "smoke", wild), Heard(), [], hands)
    assert any("all-linear" in what for what, _ in page.failures)
    assert any("finite loss" in why for _, why in page.failures)


class Deadly:
    """Hands of which one is killed when the first job ends, in the midst of another."""

    def __init__(self, hands: Any) -> None:
        self.hands, self.killed = hands, False

    @property
    def count(self) -> int:
        return int(self.hands.count)

    def begin(self, job: launch.Job, tell: launch.Tell) -> None:
        self.hands.begin(job, tell)

    def ended(self) -> tuple[str, str]:
        if not self.killed:
            self.killed = True
            os.kill(next(iter(self.hands._at.values()))[0].process.pid, signal.SIGKILL)
        found: tuple[str, str] = self.hands.ended()
        return found


def test_one_that_is_killed_takes_its_job_alone_and_the_next_run_mends_it(bench: Bench, toy: loader.Domain, tmp_path: Path) -> None:  # fmt: skip
    folder = tmp_path / "other"
    other = beside(bench, folder)
    plan = run.plan("minimal-rank", other, toy, "smoke", SMALL)
    with hired(2, order(bench, toy, folder, SMALL)) as hands:
        failed = launch.run(plan.jobs, Heard(), Deadly(hands))
    assert any("died (exit code -9)" in why for why in failed.values())
    assert all("died" in why or "which failed" in why for why in failed.values())
    assert any(other.store.cell(job.id).whole() for job in plan.jobs)
    with hired(2, order(bench, toy, folder, SMALL)) as hands:
        assert launch.run(plan.jobs, Heard(), hands) == {}
    assert all(other.store.cell(job.id).whole() for job in plan.jobs)


def test_when_all_have_died_the_run_says_so(bench: Bench, toy: loader.Domain, tmp_path: Path) -> None:
    plan = run.plan("minimal-rank", bench, toy, "smoke", SMALL)
    with hired(2, order(bench, toy, tmp_path / "other", SMALL)) as hands:
        for worker in list(hands._free):  # type: ignore[attr-defined]
            os.kill(worker.process.pid, signal.SIGKILL)
        with pytest.raises(SelfawareError, match="every one of them has died"):
            launch.run(plan.jobs, Heard(), hands)


def test_a_mistake_in_a_worker_is_passed_on_with_its_traceback(
    bench: Bench, toy: loader.Domain, tmp_path: Path
) -> None:
    ghost = launch.Job("ghost", "fit ghost", 1.0, lambda _: None)
    made = hired(2, order(bench, toy, tmp_path / "other", SMALL))
    with made as hands, pytest.raises(RuntimeError, match="KeyError: 'ghost'"):
        launch.run([ghost], Heard(), hands)


def test_one_process_alone_is_this_one(bench: Bench, toy: loader.Domain, tmp_path: Path) -> None:
    with hired(1, order(bench, toy, tmp_path, SMALL)) as hands:
        assert isinstance(hands, launch.Here)
