"""A tiny domain that keeps every rule, to be spoilt one rule at a time."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from selfaware.domains import loader

Row = dict[str, Any]
RULES: Row = {
    "records": 40, "families": 20, "test_families": 3, "self_items": 4, "unrelated_items": 2, "shared_run_words": 6,
    "opening_words": 3, "repeated_openings_share": 0.05, "outcomes_share": [0.45, 0.55], "better_share": [0.45, 0.55],
    "loss_share": [0.4, 0.6], "length_gap_words": 0.5, "hedge_tell_share": 0.6, "prose": "fail",
}  # fmt: skip
TOML = """
name = "tiny"
title = "Tiny"
claim = "takes the first"
licence = "MIT"
source = "Planted."
[polarities]
high = "up"
low = "down"
[split]
seed = 42
train = 0.70
validation = 0.15
[margins]
choice_share = 0.1
report_score = 0.1
[forms.cloze]
user = "{{situation}}\\nTwo ways are open: {{first}}, or {{second}}."
stem = "I will"
[forms.letters]
user = "{{situation}}\\nA: {{first}}\\nB: {{second}}"
stem = "Answer:"
[words]
risk_words = ["risk", "sure"]
hedges = ["might", "perhaps"]
[rules]
{rules}
"""


def unheard() -> Iterator[str]:
    """Words that nothing else says, so that nothing is shared unless it is planted."""
    letters = "bcdfghjklm"
    for n in range(100_000):
        yield "z" + "".join(letters[int(digit)] for digit in f"{n:05d}")


@pytest.fixture
def records() -> list[Row]:
    """Forty records of twenty families: half with outcomes, half losses, nothing said twice."""
    new = unheard()
    rows: list[Row] = []
    for i in range(40):
        situation, high, low = (" ".join(next(new) for _ in range(8)) for _ in range(3))
        row: Row = {"id": f"r{i}", "family": f"family-{i // 2}", "frame": ("gain", "loss")[i // 2 % 2]}
        row |= {"situation": situation, "high": high, "low": low}
        if i % 2:
            win = 30 if i % 4 == 1 else 10
            row["outcomes"] = {"unit": "euros", "high": [[0.5, win], [0.5, 0]], "low": [[1.0, 10]]}
        rows.append(row)
    return rows


@pytest.fixture
def items() -> list[Row]:
    """Four statements about oneself, their twins, and two unrelated ones."""

    def item(set: str, family: str, who: str) -> Row:
        asked = {"user": f"What does {who} like?", "mirror_user": f"What does {who} loathe?"}
        stems = {"stem": f"{who} takes", "mirror_stem": f"{who} shuns"}
        return {"id": f"{set}-{family}", "set": set, "family": family, **asked, **stems, "high": "up", "low": "down"}

    rows = [item("self", f"f{i}", "you") for i in range(4)] + [item("twin", f"f{i}", "Tom") for i in range(4)]
    return rows + [item("unrelated", f"u{i}", "you") for i in range(2)]


@pytest.fixture
def rules() -> Row:
    """The numbers that the tiny domain is held to."""
    return dict(RULES)


Plant = Callable[..., loader.Domain]


@pytest.fixture
def plant(tmp_path: Path, records: list[Row], items: list[Row], rules: Row) -> Plant:
    """Writes the rows as they are at the call, or the raw lines that are given, and loads the folder."""

    def planted(raw: list[str] | None = None, raw_items: list[str] | None = None) -> loader.Domain:
        shown = "\n".join(f"{name} = {json.dumps(value)}" for name, value in rules.items())
        (tmp_path / "domain.toml").write_text(TOML.format(rules=shown), "utf-8")
        (tmp_path / "records.jsonl").write_text("\n".join(raw or map(json.dumps, records)), "utf-8")
        (tmp_path / "self.jsonl").write_text("\n".join(raw_items or map(json.dumps, items)), "utf-8")
        return loader.load(str(tmp_path))

    return planted
