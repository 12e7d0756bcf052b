"""Forecasts decision by decision, on planted runs: one that knows its choices, one that knows its dose alone."""

import zlib
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest

from selfaware.comparisons.arms import Arm, Replicate
from selfaware.comparisons.measures import Measure
from selfaware.findings import decisions
from selfaware.interventions.lora import Lora
from selfaware.types import Score

ARMS = {rate: Arm(f"rate-{rate}", "", "arm", (Lora(),), (), "") for rate in (0.01, 0.03)}
OF = [Measure("choice_share", "e", "choices", len, "share"), Measure("forecast", "f", "forecast", len, "0 to 1")]  # type: ignore[arg-type]


class Made:
    """Three seeds at two rates and polarities, sixteen decisions each; a run's forecast follows its choices, or its dose, or is missing."""

    def __init__(self, says: Literal["choices", "dose", "nothing"]) -> None:
        self.says, self.seeds = says, (0, 1, 2)
        self.named = {name: SimpleNamespace(name=name) for name in ("choices", "forecast")}

    def replicates(self, arm: Arm, polarity: str) -> list[Any]:
        return [SimpleNamespace(fit=(arm.name, polarity, seed)) for seed in self.seeds]

    def scores(self, asked: Any, of: Any, read: Any) -> tuple[Score, ...] | None:
        key = getattr(of, "fit", None)
        kind = "choices" if asked.name == "choices" or self.says == "choices" else "dose"
        seed = zlib.crc32(repr((key, kind if key else "base")).encode())
        rng = np.random.default_rng(seed)
        values = rng.normal(size=16)
        if asked.name == "forecast" and isinstance(of, Replicate):
            values = np.random.default_rng(99).normal(size=16)
        elif asked.name == "forecast" and self.says == "dose":
            values = np.full(16, 0.7)
        elif asked.name == "forecast":
            values = values + 0.1 * np.random.default_rng(seed + 1).normal(size=16)
        if self.says == "nothing" and asked.name == "forecast":
            return None
        return tuple(Score(f"d{n}", f"t{n}", float(v)) for n, v in enumerate(values))


def test_a_run_that_knows_its_choices_forecasts_them_better_than_others_do() -> None:
    found = decisions.estimates(decisions.correlations(Made("choices"), OF, ARMS))  # type: ignore[arg-type]
    assert (found["own"].value or 0) > 0.9
    assert abs(found["other_run"].value or 0) < 0.4
    assert abs(found["base"].value or 0) < 0.4
    assert (found["gain"].low or 0) > 0
    assert {m.label for p in decisions.figure(found).panels for m in p.marks} == {
        name for name, _ in decisions.WHOSE.values()
    }  # type: ignore[union-attr]


@pytest.mark.parametrize("says", ["dose", "nothing"])
def test_the_same_of_every_decision_is_no_correlation(says: Any) -> None:
    found = decisions.estimates(decisions.correlations(Made(says), OF, ARMS))  # type: ignore[arg-type]
    assert found["own"].value is None
    assert found["own"].why


def test_too_few_decisions() -> None:
    few = {f"d{n}": float(n) for n in range(decisions.LEAST - 1)}
    assert decisions.correlation(dict(few), dict(few)) is None
    more = {f"d{n}": float(n) for n in range(decisions.LEAST)}
    assert decisions.correlation(dict(more), dict(more)) == pytest.approx(1.0)
    assert decisions.correlation(dict(more), {**more, "d0": None}) is None
