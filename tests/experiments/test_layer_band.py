"""layer-band: which blocks are in the band; verdicts all three ways; the pooled interval holds the truth; a whole run."""

from dataclasses import replace

import numpy as np
import pytest

from selfaware.comparisons.shared import Shared
from selfaware.domains import loader
from selfaware.errors import BadData
from selfaware.experiments import layer_band, run
from selfaware.experiments.layer_band import Blocks, Settings, apart, more_inside
from selfaware.stages import Bench
from selfaware.types import Estimate, Verdict
from tests.experiments.planting import TOLD, Effects, planted

DEPTH = 30


def quiet(done: float, total: float, label: str) -> None:
    pass


class TestBlocks:
    def test_the_published_depth_gives_the_published_blocks(self) -> None:
        found = Blocks.of(48, Settings(every=1))
        assert found.inside == tuple(range(17, 28))
        assert found.outside == (*range(10), *range(30, 48))

    def test_thirty_blocks(self) -> None:
        found = Blocks.of(DEPTH, Settings())
        assert found.tried == (0, 3, 6, 9, 12, 15, 18, 21, 24, 27)
        assert found.inside == (12, 15)
        assert found.outside == (0, 3, 6, 21, 24, 27)

    def test_four_blocks(self) -> None:
        found = Blocks.of(4, layer_band.settings("smoke"))
        assert (found.inside, found.outside) == ((2,), (0, 3))

    @pytest.mark.parametrize(
        "wrong",
        [
            {"every": 0},
            {"every": -1},
            {"band": (0.6, 0.4)},
            {"reach": (0.5, 0.6)},
            {"reach": (0.1, 0.5)},
            {"reach": (-0.1, 0.7)},
        ],
    )
    def test_what_bounds_nothing(self, wrong: dict[str, object]) -> None:
        with pytest.raises(BadData, match="Set them so"):
            Blocks.of(DEPTH, replace(Settings(), **wrong))  # type: ignore[arg-type]

    def test_a_step_past_the_band(self) -> None:
        with pytest.raises(BadData, match="0 lie inside the band and 2 outside"):
            Blocks.of(4, Settings())


def verdicts(
    monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, effects: Effects, noise: float = 0.0
) -> dict[str, Verdict]:
    deep = Bench(bench.local, bench.store, "float32", depth=DEPTH)
    made = layer_band.comparison(deep, toy, Settings())
    planted(monkeypatch, made, effects, noise)
    found = layer_band.findings(made, toy, Settings(), "tiny")
    assert [v.claim for v in found.verdicts] == [c.name for c in layer_band.CLAIMS]
    return {v.claim: v for v in found.verdicts}


def at(blocks: tuple[int, ...], size: float, sets: tuple[str, ...] = ("choices", "self")) -> Effects:
    return {(f"{method}-{b}", set): size for method in ("lora", "vector") for b in blocks for set in sets}


INSIDE, OUTSIDE = (12, 15), (0, 3, 6, 21, 24, 27)


class TestVerdicts:
    def test_in_the_band_and_nowhere_else(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain
    ) -> None:
        got = verdicts(monkeypatch, bench, toy, {**TOLD, **at(INSIDE, 1.0)}, 0.01)
        assert {v.answer for v in got.values()} == {"yes"}
        assert "blocks 12, 15" in got["middle-band"].text

    def test_what_lies_between_belongs_to_neither(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain
    ) -> None:
        got = verdicts(monkeypatch, bench, toy, {**TOLD, **at(INSIDE, 1.0), **at((9, 18), -5.0)})
        assert {v.answer for v in got.values()} == {"yes"}

    def test_everywhere_alike(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain) -> None:
        got = verdicts(monkeypatch, bench, toy, {**TOLD, **at(INSIDE, 1.0), **at(OUTSIDE, 1.0)}, 0.01)
        assert {v.answer for v in got.values()} == {"no"}

    def test_nowhere_at_all(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain) -> None:
        got = verdicts(monkeypatch, bench, toy, {**TOLD})
        assert [v.answer for v in got.values()] == ["no", "yes", "no", "yes"]

    def test_outside_the_band_alone(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain) -> None:
        got = verdicts(monkeypatch, bench, toy, {**TOLD, **at(OUTSIDE, 1.0)}, 0.01)
        assert {v.answer for v in got.values()} == {"no"}
        assert "less than 0" in got["middle-band"].reason

    def test_blocks_that_differ_among_each_other_are_unclear(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain
    ) -> None:
        got = verdicts(monkeypatch, bench, toy, {**TOLD, **at((12,), 1.0), **at((0, 6), 0.5)})
        assert {v.answer for v in got.values()} == {"unclear"}

    def test_a_deaf_instrument(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain) -> None:
        got = verdicts(monkeypatch, bench, toy, at(INSIDE, 1.0))
        assert [v.answer for v in got.values()] == ["yes", "yes", "unclear", "unclear"]
        assert got["middle-band-report"].reason == "instrument"

    def test_swapped_polarities_do_not_count_as_an_effect(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain
    ) -> None:
        got = verdicts(monkeypatch, bench, toy, {**TOLD, **at(INSIDE, -1.0)}, 0.01)
        assert got["middle-band"].answer == got["middle-band-report"].answer == "no"

    def test_a_small_difference_counts_as_none(self) -> None:
        assert more_inside(Estimate(0.05, 0.03, 0.07, 9, 3, "x"), 0.1)[0] == "no"
        assert more_inside(Estimate(0.3, 0.05, 0.55, 9, 3, "x"), 0.1)[0] == "yes"
        assert more_inside(Estimate(-0.05, -0.3, 0.2, 9, 3, "x"), 0.1)[0] == "unclear"
        assert more_inside(Estimate(None, None, None, 0, 0, "x", why="no fit came back"), 0.1) == (
            "unclear",
            "no fit came back",
        )


class TestApart:
    def table(
        self, rng: np.random.Generator, rows: int, families: np.ndarray, mean: float
    ) -> list[dict[str, float | None]]:
        own = rng.standard_normal(rows)
        return [
            {f"f{j}": mean + own[i] + level + 0.5 * rng.standard_normal() for j, level in enumerate(families)}
            for i in range(rows)
        ]

    @pytest.mark.parametrize(("inside", "outside"), [(4, 12), (12, 3), (6, 6)])
    def test_the_interval_holds_the_truth(self, inside: int, outside: int) -> None:
        """Families shift both groups alike, rows differ in both: were the rows outside taken as known, 12 against 3 would miss half the time."""
        rng, held, runs = np.random.default_rng(0), 0, 300
        for _ in range(runs):
            families = rng.standard_normal(8)
            found = apart(self.table(rng, inside, families, 0.7), self.table(rng, outside, families, 0.0), "x")
            assert found.low is not None and found.high is not None
            held += found.low <= 0.7 <= found.high
        assert held / runs >= 0.92

    def test_the_value_is_the_difference(self) -> None:
        found = apart([{"a": 1.0, "b": 3.0}, {"a": 2.0, "b": 4.0}], [{"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}], "x")
        assert found.value == pytest.approx(2.0)
        assert found.low is not None and found.error is not None
        assert found.freedom == 1

    def test_too_few(self) -> None:
        rows = [{"a": 1.0, "b": 2.0}, {"a": 1.5, "b": 2.0}]
        assert apart([], rows, "x").value is None
        assert apart(rows, [], "x").value is None
        assert apart(rows[:1], rows, "x").why == "one block inside"
        alone = apart(rows, rows[:1], "x")
        assert (alone.low, alone.why) == (None, "one block outside")
        assert apart([{"a": None}], [{"b": 1.0}, {"b": 2.0}], "x").value is None


class TestWholeRun:
    def test_page_and_again(self, bench: Bench, toy: loader.Domain) -> None:
        plan = run.plan("layer-band", bench, toy, "smoke", {"shared.seeds": "0"})
        page, where = run.execute(bench, plan, quiet, [])
        assert where.is_file()
        assert page.failures == ()
        one = [r for r in page.rows if r.measure == "choice_share_effect" and r.method.startswith("LoRA")]
        assert [r.site for r in one] == [f"{b}.mlp" for b in range(4)]
        assert all(r.seeds == 1 and r.why == layer_band.ONE_SEED and r.low is not None for r in one)
        pooled = {(r.measure, r.method, r.questions) for r in page.rows if "band" in r.measure or "minus" in r.measure}
        assert ("inside_minus_outside", "adapters and vectors", "choices") in pooled
        assert ("inside_band", "random directions", "self") in pooled
        curves = page.figures[0].panels
        assert [c.title for c in curves] == list(layer_band.TITLES.values())
        assert all(c.span == (4 * 17 / 48, 4 * 27 / 48) for c in curves)
        again, _ = run.again(bench.store, "layer-band", bench.local.name, "toy", "smoke")
        assert again.rows == page.rows
        assert again.verdicts == page.verdicts

    def test_methods_that_diverge(self, bench: Bench, toy: loader.Domain) -> None:
        wild = {"shared.vector.training.learning_rate": "1e308", "shared.seeds": "0"}
        page, _ = run.execute(bench, run.plan("layer-band", bench, toy, "smoke", wild), quiet, [])
        assert any("vector" in what for what, _ in page.failures)
        assert not any("LoRA" in what for what, _ in page.failures)
        assert "1 and 2 rows" in page.verdicts[0].text
        page, _ = run.execute(bench, run.plan("layer-band", bench, toy, "smoke", {**wild, "rate": "1e308"}), quiet, [])
        assert {v.answer for v in page.verdicts} == {"unclear"}

    def test_scales(self) -> None:
        assert layer_band.settings("small").shared == Shared(seeds=(0,))
        assert layer_band.settings("full").every == 1

    def test_too_shallow(self, bench: Bench, toy: loader.Domain) -> None:
        with pytest.raises(BadData, match="every 3"):
            run.plan("layer-band", bench, toy, "small", {})
