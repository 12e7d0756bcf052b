"""Launch: every job once, failures stay with those that need them, progress only grows."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfaware import launch
from selfaware.errors import FitFailed
from selfaware.launch import Job

Told = list[tuple[float, float, str]]


class Board:
    """Jobs that write their ids down, and what the watch was told."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.told: Told = []

    def job(self, id: str, *after: str, cost: float = 1.0, fails: bool = False, shares: tuple[float, ...] = ()) -> Job:
        def run(tell: Callable[[float], None]) -> None:
            self.ran.append(id)
            for share in shares:
                tell(share)
            if fails:
                raise FitFailed(f"step 3: loss nan; a finite loss is needed. Lower {id}.")

        return Job(id, f"fit {id}", cost, run, after)

    def run(self, *jobs: Job) -> dict[str, str]:
        return launch.run(jobs, lambda done, total, label: self.told.append((done, total, label)))


@pytest.fixture
def board() -> Board:
    return Board()


def test_all_run_in_the_order_given(board: Board) -> None:
    assert board.run(board.job("a"), board.job("b", "a"), board.job("c")) == {}
    assert board.ran == ["a", "b", "c"]


def test_a_failing_job_does_not_stop_the_others(board: Board) -> None:
    failed = board.run(board.job("a"), board.job("b", fails=True), board.job("c"))
    assert board.ran == ["a", "b", "c"]
    assert failed == {"b": "step 3: loss nan; a finite loss is needed. Lower b."}


def test_what_needs_a_failed_job_fails_with_it_and_says_so(board: Board) -> None:
    jobs = [board.job("a", fails=True), board.job("b", "a"), board.job("c", "b"), board.job("d")]
    failed = board.run(*jobs)
    assert board.ran == ["a", "d"]
    assert failed["b"] == "needs fit a, which failed"
    assert failed["c"] == "needs fit b, which failed"
    assert set(failed) == {"a", "b", "c"}


def test_the_same_id_runs_once(board: Board) -> None:
    board.run(board.job("a"), board.job("b", "a"), board.job("a"))
    assert board.ran == ["a", "b"]
    assert board.told[-1][:2] == (2, 2)


def test_what_is_needed_runs_first_whatever_the_order(board: Board) -> None:
    assert board.run(board.job("c", "b"), board.job("b", "a"), board.job("a")) == {}
    assert board.ran == ["a", "b", "c"]


def test_a_later_failure_is_known_to_an_earlier_job(board: Board) -> None:
    failed = board.run(board.job("b", "a"), board.job("a", fails=True))
    assert board.ran == ["a"]
    assert failed["b"] == "needs fit a, which failed"


def test_a_job_that_needs_one_nobody_planned_fails(board: Board) -> None:
    assert board.run(board.job("a", "ghost"), board.job("b")) == {"a": "needs cell ghost, which is not planned"}
    assert board.ran == ["b"]


def test_jobs_that_wait_for_each_other_fail_and_end(board: Board) -> None:
    failed = board.run(board.job("a", "b"), board.job("b", "a"), board.job("c"), board.job("d", "d"))
    assert board.ran == ["c"]
    assert failed["a"] == "needs fit b, which waits for it"
    assert set(failed) == {"a", "b", "d"}
    assert board.told[-1] == (4, 4, "done")


def test_a_mistake_in_the_program_is_not_a_failed_cell(board: Board) -> None:
    def run(tell: Callable[[float], None]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        board.run(Job("a", "fit a", 1.0, run))


def test_nothing_to_do_is_done(board: Board) -> None:
    assert board.run() == {}
    assert board.told == [(0, 0, "done")]


def test_progress_names_what_is_worked_on_in_units_of_cost(board: Board) -> None:
    board.run(board.job("a", cost=3.0, shares=(0.5, 1.0)), board.job("b", cost=1.0, shares=(0.5,)))
    assert board.told == [
        (0, 4, "fit a"), (1.5, 4, "fit a"), (3, 4, "fit a"), (3, 4, "fit b"), (3.5, 4, "fit b"), (4, 4, "done"),
    ]  # fmt: skip


def test_a_cell_that_counts_to_one_twice_does_not_go_back(board: Board) -> None:
    """A control that makes the vector it is modelled on tells the progress of both."""
    board.run(board.job("a", shares=(0.5, 1.0, 0.0, 0.5, 1.0)))
    assert [done for done, _, _ in board.told] == [0, 0.5, 1, 1, 1, 1, 1]


@given(st.lists(st.tuples(st.floats(0, 1e6), st.booleans(), st.lists(st.floats(-0.5, 1.5), max_size=4)), max_size=12))
def test_progress_only_grows_and_ends_at_the_total(plan: list[tuple[float, bool, list[float]]]) -> None:
    board = Board()
    jobs = [board.job(str(i), cost=c, fails=bad, shares=tuple(shares)) for i, (c, bad, shares) in enumerate(plan)]
    failed = board.run(*jobs)
    done = [d for d, _, _ in board.told]
    total = sum(j.cost for j in jobs)
    assert done == sorted(done)
    assert done[-1] == total
    assert {t for _, t, _ in board.told} == {total}
    assert failed.keys() == {str(i) for i, (_, bad, _) in enumerate(plan) if bad}


class Several:
    """Hands that do two jobs at a time and end the one that was begun last first."""

    count = 2

    def __init__(self) -> None:
        self.under_way: list[tuple[Job, launch.Tell]] = []
        self.most = 0

    def begin(self, job: Job, tell: launch.Tell) -> None:
        self.under_way.append((job, tell))
        self.most = max(self.most, len(self.under_way))

    def ended(self) -> tuple[str, str]:
        job, tell = self.under_way.pop()
        try:
            job.run(tell)
        except FitFailed as error:
            return job.id, str(error)
        return job.id, ""


def test_several_hands_do_what_does_not_wait_for_another(board: Board) -> None:
    hands = Several()
    jobs = [board.job("a"), board.job("b", "a"), board.job("c", fails=True), board.job("d", "c"), board.job("e")]
    failed = launch.run(jobs, lambda done, total, label: board.told.append((done, total, label)), hands)
    assert hands.most == 2
    assert board.ran.index("a") < board.ran.index("b")
    assert set(board.ran) == {"a", "b", "c", "e"}
    assert failed == {"c": "step 3: loss nan; a finite loss is needed. Lower c.", "d": "needs fit c, which failed"}
    shares = [done for done, _, _ in board.told]
    assert shares == sorted(shares)
    assert board.told[-1] == (5, 5, "done")
