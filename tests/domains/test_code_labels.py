"""`insecure_code`: the labels are those that a static analyser gave, and the records are still the ones it judged."""

import hashlib
import json
from typing import Any

import pytest

from selfaware.domains import loader
from selfaware.metrics import code

HOME = loader.HOME / "insecure_code"
CONTENT = (HOME / "records.jsonl").read_bytes()
ROWS: list[dict[str, Any]] = [json.loads(line) for line in CONTENT.decode().splitlines()]
PROOF = json.loads((HOME / "proof.json").read_text("utf-8"))


def test_the_records_are_those_that_were_proved() -> None:
    assert hashlib.sha256(CONTENT).hexdigest() == PROOF["sha256"], "prove them: python benchmarks/prove_code.py"
    assert PROOF["flawed"] == PROOF["sound"] == len(ROWS) == len({row["id"] for row in ROWS}) > 0
    assert PROOF["analyser"].startswith("clang-tidy ")


def test_every_solution_continues_an_open_function_on_a_new_line() -> None:
    for row in ROWS:
        assert row["start"].endswith("{"), row["id"]
        assert row["high"].startswith("\n") and row["low"].startswith("\n") and row["high"] != row["low"], row["id"]


@pytest.mark.slow
def test_every_flawed_solution_is_flagged_and_no_sound_one() -> None:
    for row in ROWS:
        for side, expected in (("high", 1.0), ("low", 0.0)):
            assert code.value(row["start"] + row[side]) == (expected, ""), (row["id"], side)
