"""`selfaware bench`: what it prints of a result, what a wrong name gets."""

import pytest

from selfaware.bench.limit import Stage
from selfaware.bench.measure import Result
from selfaware.bench.pairs import Line
from selfaware.bench.spent import KINDS
from selfaware.cli import bench as command
from selfaware.errors import UnknownName

HEADER = {"cpu": "a [bold]cpu", "threads": 2, "matmul": {"float32": 1e11, "bfloat16": 4e11}}
GOOD = Line(
    "fit", "PEFT", "m", "float32", "1 × 2 steps", 2.5, 2.0, 3.0, 2, (2.0, 3.0), 1.0, 2.5, 0.001, 0.002, 0.01, True
)
WRONG = Line("grid", "hooks", "m", "float32", "1 × 2", 2.5, 2.0, 3.0, 2, (2.0, 3.0), 1.0, 2.5, 0.5, 0.5, 0.01, False)
ABSENT = Line("grid", "nnsight", "m", "float32", "1 × 2", why="not installed: sh benchmarks/setup.sh nnsight")
STAGE = Stage("prefill", "m", 40, 1e9, 0.01, 0.005, 0.5, 0.8, dict.fromkeys(KINDS, 1 / 6))


def test_what_is_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.out, "_width", 200)
    result = Result(HEADER, (GOOD, WRONG, ABSENT), (STAGE,))
    command._print(result)
    said = capsys.readouterr().out
    assert "a [bold]cpu" in said
    assert "2.5 [2.0, 3.0]" in said
    assert "0.5: not the same" in said
    assert "setup.sh nnsight" in said
    assert "50%" in said
    assert "80%" in said
    assert not result.ok
    assert Result(HEADER, (GOOD, ABSENT), ()).ok


def test_a_work_that_is_none() -> None:
    with pytest.raises(UnknownName, match="six fits"):
        command.bench(work=["seven fits"])
