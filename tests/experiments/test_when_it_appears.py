"""when-it-appears: verdicts all three ways on planted paths; angles and onsets that are known; a whole run; cells that fail."""

import math
import zlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from selfaware.comparisons.arms import Arm
from selfaware.comparisons.shared import Shared
from selfaware.domains import loader
from selfaware.errors import BadData, UnknownName
from selfaware.experiments import run, when_it_appears
from selfaware.experiments.when_it_appears import Settings
from selfaware.findings import paths
from selfaware.findings.paths import Walk, over_seeds
from selfaware.interventions.train import Training
from selfaware.metrics import options
from selfaware.report.page import Panel
from selfaware.stages import Bench
from selfaware.types import Polarity, Verdict
from tests.experiments.planting import TOLD, Effects, planted

TINY = {"shared.lora.site": "1.mlp.down_proj"}
STEPS = (2, 4, 6, 8, 10)
# Half of the largest is reached at step 5, half-way between snapshots.
EARLY, LATE = (0.0, 0.4, 0.6, 1.0, 1.0), (0.0, 0.0, 0.0, 0.4, 0.8)


def quiet(done: float, total: float, label: str) -> None:
    pass


def settings(seeds: tuple[int, ...] = (0, 1, 2)) -> Settings:
    """On the toy domain, whose train part has 20 records, ten steps and five snapshots."""
    common = Shared(seeds=seeds)
    lora = replace(common.lora, site="1.mlp.down_proj", training=Training(epochs=5, batch=10))
    return Settings(replace(common, lora=lora), every=2, described_epochs=4, described_every=1)


def moved(run: str, set: str, profile: tuple[float, ...], size: float = 1.0) -> Effects:
    names = [f"{run}-{step}" for step in STEPS[:-1]] + [run]
    return {(name, set): size * x for name, x in zip(names, profile, strict=True)}


def direction(turns: tuple[int, ...], number: int) -> np.ndarray:
    """A vector of three numbers after so many turns of which each is worth a right angle less its size in degrees."""
    angle = math.radians(sum((5.0, 60.0)[t] for t in turns))
    return np.array([math.cos(angle), math.sin(angle), 0.1 * number])


def looks(own: int | tuple[int, ...], other: int, knows: tuple[float, float] = (0.0, 0.0)):  # type: ignore[no-untyped-def]
    """Paths that turn most between snapshots `own` and the next (by seed), and `other`; a scalar that knows self from choices so well.

    Args:
        knows: trained and untrained, standard deviations between the kinds; 0 for a scalar that is always the same.
    """

    def look(view: str, arm: Arm | None, polarity: Polarity, number: int) -> Mapping[str, np.ndarray] | None:
        if view == "weights":
            assert arm is not None
            name, _, step = arm.name.partition("-")
            at = STEPS.index(int(step)) if step else len(STEPS) - 1
            where = other if name == "shuffled" else own[number] if isinstance(own, tuple) else own
            b = direction(tuple(int(k == where) for k in range(at)), number)
            return {"a": np.ones(4), "b": b, "norm": np.array([1.0 + at])}
        if view == "gate":
            assert arm is not None
            size = knows[arm.name == "start"]
            rng = np.random.default_rng(zlib.crc32(f"{arm.name}{polarity}{number}".encode()))
            noise = rng.standard_normal(KINDS.size) if size else 0.0
            return {"x": (size * KINDS + noise)[:, None]}
        return {"x": np.random.default_rng(0).standard_normal((KINDS.size, 3))}

    return look


KINDS = np.zeros(0)


def found(
    monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, effects: Effects, look=None,  # type: ignore[no-untyped-def]
    seeds: tuple[int, ...] = (0, 1, 2), noise: float = 0.0,
):  # fmt: skip
    chosen = settings(seeds)
    made = when_it_appears.comparison(bench, toy, chosen)
    assert when_it_appears.runs(toy, chosen)["lora"].steps == STEPS
    kinds = np.array([q.set == "self" for q in made.views[1].questions], dtype=float)  # type: ignore[union-attr]
    monkeypatch.setitem(globals(), "KINDS", kinds)
    planted(monkeypatch, made, effects, noise, look)
    return when_it_appears.findings(made, toy, chosen, "tiny")


def verdicts(*args, **more) -> dict[str, Verdict]:  # type: ignore[no-untyped-def]
    return {v.claim: v for v in found(*args, **more).verdicts}


BEGUN = {**TOLD, **moved("lora", "choices", EARLY), **moved("lora", "self", EARLY)}


class TestRotation:
    def test_turns_where_choices_begin(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain) -> None:
        """Choices are half-way at step 5; the turn lies between 4 and 6; with shuffled labels between 8 and 10."""
        page = found(monkeypatch, bench, toy, BEGUN, looks(1, 3))
        assert {v.claim: v.answer for v in page.verdicts}["rotation-at-onset"] == "yes"
        rows = {(r.measure, r.method): r for r in page.rows if r.measure in ("turn", "turn_gap")}
        assert rows["turn", "LoRA rank 1"].value == 5.0
        assert rows["turn_gap", "LoRA rank 1"].value == pytest.approx(0.0)
        assert rows["turn_gap", "shuffled labels"].value == pytest.approx(4.0)
        onset = next(r for r in page.rows if r.measure == "onset" and r.questions == "choices")
        assert (onset.value, onset.seeds, onset.n) == (pytest.approx(5.0), 3, 6)

    def test_turns_at_another_step(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain) -> None:
        got = verdicts(monkeypatch, bench, toy, BEGUN, looks(3, 0))["rotation-at-onset"]
        assert got.answer == "no"
        assert "beyond ±2 steps" in got.reason

    def test_turns_there_with_nothing_to_learn_too(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain
    ) -> None:
        got = verdicts(monkeypatch, bench, toy, BEGUN, looks(1, 1))["rotation-at-onset"]
        assert (got.answer, got.reason) == ("unclear", "a run with nothing to learn may turn there too")

    def test_every_seed_turns_elsewhere(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain
    ) -> None:
        got = verdicts(monkeypatch, bench, toy, BEGUN, looks((0, 1, 3), 3))["rotation-at-onset"]
        assert got.answer == "unclear"
        assert "reaches across" in got.reason

    @pytest.mark.parametrize("size", [0.0, -1.0])
    def test_where_nothing_begins(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, size: float
    ) -> None:
        effects = {**TOLD, **moved("lora", "choices", EARLY, size)}
        got = verdicts(monkeypatch, bench, toy, effects, looks(1, 3))
        assert {got[name].answer for name in ("rotation-at-onset", "report-with-behaviour")} == {"unclear"}
        assert "nothing begins" in got["rotation-at-onset"].reason

    def test_one_seed(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain) -> None:
        got = verdicts(monkeypatch, bench, toy, BEGUN, looks(1, 3, (3.0, 0.0)), seeds=(0,))
        assert {v.answer for v in got.values()} == {"unclear"}


class TestReport:
    def test_together(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain) -> None:
        got = verdicts(monkeypatch, bench, toy, BEGUN)["report-with-behaviour"]
        assert got.answer == "yes"
        assert "choices: +5.00 [+5.00, +5.00]" in got.text

    def test_later(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain) -> None:
        late = {**BEGUN, **moved("lora", "self", LATE)}
        got = verdicts(monkeypatch, bench, toy, late)["report-with-behaviour"]
        assert got.answer == "no"
        assert "Self-report minus choices: +3.00" in got.text

    def test_never(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain) -> None:
        """Sound questions and a tight zero: it does not begin with behaviour. The positive arm shows that it could."""
        still = {**BEGUN, **moved("lora", "self", (0.0,) * 5)}
        steps = len(when_it_appears.runs(toy, settings())["described"].steps)
        positive = {(f"described-{s}" if s < steps else "described", "self"): 1.0 for s in range(1, steps + 1)}
        got = verdicts(monkeypatch, bench, toy, {**still, **positive})["report-with-behaviour"]
        assert got.answer == "no"
        assert got.reason.startswith("choices begin, self-report never does")
        assert "Trained on self-descriptions: about itself +0.50" in got.text

    def test_a_report_that_may_or_may_not_move(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain
    ) -> None:
        still = {**BEGUN, **moved("lora", "self", (0.0,) * 5), ("told", "self"): 3.0}
        got = verdicts(monkeypatch, bench, toy, still, noise=0.5)["report-with-behaviour"]
        assert got.answer == "unclear"

    def test_a_deaf_instrument(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain) -> None:
        got = verdicts(monkeypatch, bench, toy, {**BEGUN, ("told", "self"): 0.0}, looks(1, 3))
        assert (got["report-with-behaviour"].answer, got["report-with-behaviour"].reason) == ("unclear", "instrument")
        assert got["rotation-at-onset"].answer == "yes", "choices are no self-report"


class TestGate:
    @pytest.mark.parametrize(
        ("knows", "answer"), [((6.0, 0.0), "yes"), ((0.0, 0.0), "no"), ((6.0, 6.0), "unclear"), ((0.0, 6.0), "no")]
    )
    def test_the_scalar(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, knows: tuple[float, float], answer: str
    ) -> None:
        page = found(monkeypatch, bench, toy, BEGUN, looks(1, 3, knows))
        got = {v.claim: v for v in page.verdicts}["gate-knows-self"]
        assert got.answer == answer, got
        rows = {(r.method, r.questions): r for r in page.rows if r.measure == "probe_accuracy"}
        assert rows["a·x, trained", "self/choices"].value == pytest.approx(1.0 if knows[0] else 0.5, abs=0.05)
        assert rows["a·x, trained", "self/choices"].n == 12, "six families of either kind"
        assert rows["residual stream", "self/choices"].seeds == 0
        assert all(r.published for r in rows.values())


class TestPaths:
    def test_angles_and_lengths(self) -> None:
        looked = [
            {"a": np.array([1.0, 0.0]), "b": np.array(b), "norm": np.array([n])}
            for b, n in (([1.0, 0.0], 1.0), ([2.0, 0.0], 2.0), ([0.0, 3.0], 3.0))
        ]
        walk = Walk.of((5, 10, 12), looked)
        assert walk.middles.tolist() == [7.5, 11.0]
        assert walk.angles["b"].tolist() == pytest.approx([0.0, 90.0])
        assert walk.angles["a"].tolist() == [0.0, 0.0]
        assert walk.toward["b"].tolist() == pytest.approx([0.0, 0.0, 1.0])
        assert walk.bends["b"].tolist() == pytest.approx([-2 / math.sqrt(13)])
        assert walk.lengths.tolist() == [1.0, 2.0, 3.0]
        assert paths.turn([walk]) == 11.0

    def test_a_snapshot_without_a_direction_has_no_turn(self) -> None:
        looked = [{"a": np.ones(2), "b": np.zeros(2), "norm": np.zeros(1)} for _ in range(3)]
        assert math.isnan(paths.turn([Walk.of((1, 2, 3), looked)]))

    def test_onsets_count_from_zero_at_the_start(self) -> None:
        assert paths.onset((4, 8), np.array([1.0, 1.0]), 0.5) == pytest.approx(2.0)
        assert paths.onset((4, 8, 10), np.array([0.0, 0.4, 1.0]), 0.5) == pytest.approx(8 + 2 / 6)
        assert math.isnan(paths.onset((4, 8), np.array([0.0, -1.0]), 0.5))
        assert math.isnan(paths.onset((4, 8), np.array([0.0, np.nan]), 0.5))

    def test_over_seeds(self) -> None:
        three = over_seeds([1.0, 2.0, 3.0], "steps", 7)
        assert (three.value, three.seeds, three.n, three.freedom) == (2.0, 3, 7, 2)
        assert three.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-4)
        lost = over_seeds([1.0, math.nan], "steps")
        assert (lost.value, lost.low, lost.unknown, lost.why) == (1.0, None, 1, "only one seed has one")
        assert over_seeds([math.nan], "steps").why == "no seed has one"
        assert over_seeds([2.0], "steps").why == "one seed"

    def test_effects_are_those_that_are_measured(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain
    ) -> None:
        made = when_it_appears.comparison(bench, toy, settings())
        planted(monkeypatch, made, BEGUN, 0.1)
        path = when_it_appears._found(made, toy, settings())["lora"]
        got = path.effects(made, made.named["choices"], options.scores)
        for number in range(3):
            for at, arm in enumerate(path.arms):
                each = made.effect(made.named["choices"], arm, options.scores)[number]
                assert got[number][at] == pytest.approx(np.mean([v for v in each.values() if v is not None]))
        failed = made.replicates(path.arms[2], "low")[1].fit
        assert failed is not None
        made.failed = {failed.id: "diverged"}
        assert sorted(path.effects(made, made.named["choices"], options.scores)) == [0, 2]


class TestSettings:
    def test_bad_ones(self, bench: Bench, toy: loader.Domain) -> None:
        for name, value, message in (
            ("every", "3", "three at least"), ("every", "0", "Set every to 1 up to 2"), ("described_every", "3", "Set described_every"),
            ("share", "0", "shares of a peak"), ("margin", "1.5", "shares of a peak"),
        ):  # fmt: skip
            with pytest.raises(BadData, match=message):
                run.plan("when-it-appears", bench, toy, "smoke", {**TINY, name: value})
        with pytest.raises(UnknownName, match="all-linear"):
            run.plan("when-it-appears", bench, toy, "smoke", {"shared.lora.site": "all-linear"})

    def test_it_shares_its_last_fit_with_the_others(self, bench: Bench, toy: loader.Domain) -> None:
        plan = run.plan("when-it-appears", bench, toy, "smoke", TINY)
        other = run.plan("minimal-rank", bench, toy, "smoke", {**TINY, "shared.lora.training.epochs": "4"})
        shared = {j.id for j in plan.jobs if j.label.startswith("fit LoRA rank 1 ")} & {j.id for j in other.jobs}
        assert len(shared) == 4, "two seeds, two polarities"


class TestWholeRun:
    def test_page_and_again(self, bench: Bench, toy: loader.Domain) -> None:
        plan = run.plan("when-it-appears", bench, toy, "smoke", TINY)
        page, where = run.execute(bench, plan, quiet, [])
        assert where.is_file()
        assert page.failures == ()
        assert {v.claim for v in page.verdicts} == {c.name for c in when_it_appears.CLAIMS}
        assert [f.name for f in page.figures] == ["effects", "directions", "probe"]
        assert {"onset", "onset_gap", "turn", "turn_gap", "probe_accuracy"} <= {r.measure for r in page.rows}
        lengths = next(p for p in page.figures[1].panels if p.title == "length of what is added").lines  # type: ignore[union-attr]
        assert all(e.value is not None and e.value > 0 for e in lengths[0].estimates)
        assert all(isinstance(p, Panel) and len(p.marks) == 3 for p in page.figures[2].panels)
        again, _ = run.again(bench.store, "when-it-appears", bench.local.name, "toy", "smoke")
        assert again.rows == page.rows
        assert again.verdicts == page.verdicts
        assert again.figures == page.figures

    def test_a_run_that_diverges(self, bench: Bench, toy: loader.Domain) -> None:
        wild = {**TINY, "shared.lora.alpha": "1e308", "shared.seeds": "0"}
        page, _ = run.execute(bench, run.plan("when-it-appears", bench, toy, "smoke", wild), quiet, [])
        assert any("step 2" in what for what, _ in page.failures)
        assert {v.answer for v in page.verdicts} == {"unclear"}

    def test_without_self_descriptions(self, bench: Bench, toy: loader.Domain) -> None:
        bare = replace(toy, items=tuple(i for i in toy.items if i.set != "described"))
        plan = run.plan("when-it-appears", bench, bare, "smoke", TINY)
        assert not [j for j in plan.jobs if "self-descriptions" in j.label]
        assert any("no positive arm" in c for c in plan.experiment.caveats(bare, plan.chosen))
