"""Effects at equal damage: between multiples of an arm, on planted effects and divergences."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from selfaware import stats
from selfaware.comparisons.arms import Arm
from selfaware.findings import harm
from selfaware.interventions.steer import Vector
from selfaware.metrics import damage
from selfaware.types import Score

FAMILIES = tuple("abcdef")
WHOLE = Arm("whole", "adapter", "arm", (), (), "")
VECTOR = Arm("vector", "vector", "primary", (Vector(),), (), "")


class Made:
    """Three replicates; each arm's divergence is given by replicate, the same at both polarities."""

    def __init__(self, kl: Mapping[str, tuple[float | None, ...]]) -> None:
        self.arms = [WHOLE, VECTOR, *harm.multiples(VECTOR, Vector())]
        self.kl = kl
        self.named = {"neutral": SimpleNamespace(name="neutral")}

    def named_arm(self, name: str) -> Arm:
        return next(a for a in self.arms if a.name == name)

    def replicates(self, arm: Arm, polarity: str) -> list[Any]:
        return [(arm.name, number) for number in range(3)]

    def scores(self, asked: Any, of: Any, read: Any) -> tuple[Score, ...] | None:
        assert read is damage.divergence
        value = self.kl[of[0]][of[1]]
        return None if value is None else (Score("one", "p", value - 0.01), Score("two", "q", value + 0.01))


def found(effects: Mapping[str, float]) -> Any:
    kept = {
        (name, effect): [{f: value + 0.01 * (seed - 1) + 0.002 * at for at, f in enumerate(FAMILIES)} for seed in range(3)]
        for name, value in effects.items() for effect in ("choice_share_effect", "self_effect")
    }  # fmt: skip
    estimates = {key: stats.estimate(values, "share") for key, values in kept.items()}  # type: ignore[arg-type]
    return SimpleNamespace(kept=kept, values=kept, effects=estimates)


def rungs(by_factor: Mapping[float, float]) -> dict[str, Any]:
    return {"vector" if f == 1 else f"vector × {f:g}": v for f, v in by_factor.items()}


SQUARES = {name: (v,) * 3 for name, v in rungs({f: 0.4 * f * f for f in (0.25, 0.5, 1.0, 2.0)}).items()}
LINEAR = rungs({f: 0.2 * f for f in (0.25, 0.5, 1.0, 2.0)})
"""Divergence goes with the square of the factor and the effect with the factor, as for small changes."""


class TestMatched:
    @pytest.mark.parametrize("factor", [0.25, 0.4, 1.0, 1.7, 2.0])
    def test_the_effect_at_the_multiple_that_does_as_much_damage(self, factor: float) -> None:
        made = Made({**SQUARES, "whole": (0.4 * factor**2,) * 3})
        values = harm.matched(made, found({**LINEAR, "whole": 0.3}), VECTOR, WHOLE, "choice_share_effect")  # type: ignore[arg-type]
        (one, two, three) = values
        assert one is not None and two is not None and three is not None
        assert two["a"] == pytest.approx(0.2 * factor, abs=1e-6)
        assert three["b"] == pytest.approx(0.2 * factor + 0.012, abs=1e-6), "family by family, seed by seed"

    @pytest.mark.parametrize("beyond", [0.001, 40.0])
    def test_beyond_the_multiples_nothing_is_guessed(self, beyond: float) -> None:
        made = Made({**SQUARES, "whole": (0.4, beyond, 0.4)})
        told = found({**LINEAR, "whole": 0.3})
        assert [v is None for v in harm.matched(made, told, VECTOR, WHOLE, "self_effect")] == [False, True, False]  # type: ignore[arg-type]
        none = Made({**SQUARES, "whole": (beyond,) * 3})
        estimate = harm.recovered(none, told, VECTOR, WHOLE, "self_effect")  # type: ignore[arg-type]
        assert estimate.value is None
        assert "no multiple" in estimate.why

    def test_a_failed_cell_is_left_out(self) -> None:
        made = Made({**SQUARES, "whole": (0.4, None, 0.4)})
        values = harm.matched(made, found({**LINEAR, "whole": 0.3}), VECTOR, WHOLE, "self_effect")  # type: ignore[arg-type]
        assert values[1] is None
        assert values[0] is not None


def test_a_vector_that_only_wins_by_damage_loses_at_equal_damage() -> None:
    """At its own strength it has twice the adapter's effect, at the adapter's damage half of it."""
    made = Made({**SQUARES, "whole": (0.4 * 0.25**2,) * 3})
    told = found({**LINEAR, "whole": 0.1})
    at_own = stats.ratio(told.kept["vector", "self_effect"], told.kept["whole", "self_effect"])
    at_equal = harm.recovered(made, told, VECTOR, WHOLE, "self_effect")  # type: ignore[arg-type]
    assert at_own.value == pytest.approx(2.0, abs=0.1)
    assert at_equal.value == pytest.approx(0.5, abs=0.1)
    rows = harm.rows(made, told, VECTOR, WHOLE, "tiny", "toy")  # type: ignore[arg-type]
    assert [r.measure for r in rows] == ["recovered_behaviour_at_equal_damage", "recovered_report_at_equal_damage"]
    drawn = harm.figure(made, told, VECTOR, WHOLE)  # type: ignore[arg-type]
    assert len(drawn.panels) == 2


def test_multiples_are_recipes_of_their_own() -> None:
    made = harm.multiples(VECTOR, Vector())
    assert [a.recipes[0].factor for a in made] == list(harm.FACTORS)  # type: ignore[attr-defined]
    assert len({a.name for a in made}) == len(made)
