"""faithfulness: planted runs whose self-report follows behaviour, dose, or nothing; controls; whole runs; failed cells."""

import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from selfaware import spec
from selfaware.comparisons.arms import Asked, Read, Replicate
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.shared import smoke
from selfaware.domains import loader
from selfaware.errors import BadData
from selfaware.experiments import faithfulness, run
from selfaware.findings import pictures, points
from selfaware.findings.points import Run
from selfaware.stages import Bench
from selfaware.types import POLARITIES, Estimate, Polarity, Score

RATES = (0.001, 0.003, 0.01, 0.03)
Said = Callable[[np.random.Generator, float, float], float]
"""A draw's generator, the dose (0 to 1) and the behaviour to what the run says."""


def quiet(done: float, total: float, label: str) -> None:
    pass


def planted(said: Said, seeds: int, own: float = 0.1, rates: int = 4, number: int = 0) -> tuple[Run, ...]:
    """Runs whose behaviour rises with the dose, and differs by `own` between seeds; twins say nothing that goes with it."""
    rng = np.random.default_rng(number)
    made = []
    for polarity in POLARITIES:
        sign = 1 if polarity == "high" else -1
        for at in range(rates):
            for seed in range(seeds):
                dose = sign * at / (rates - 1)
                does = dose + own * rng.normal()
                values = {"choices": does, "self": said(rng, dose, does), "twin": rng.normal(), "forecast": None}
                made.append(Run(RATES[at % 4] * (1 + at // 4), seed, polarity, values))
    return tuple(made)


def itself(rng: np.random.Generator, dose: float, does: float) -> float:
    return does + 0.02 * rng.normal()


def its_dose(rng: np.random.Generator, dose: float, does: float) -> float:
    return dose + 0.02 * rng.normal()


def nothing(rng: np.random.Generator, dose: float, does: float) -> float:
    return float(rng.normal())


class TestCorrelations:
    def test_a_report_that_follows_the_run(self) -> None:
        r = points.correlations(planted(itself, seeds=5))
        assert points.answer(r["r_report", "both"], 0.3)[0] == "yes"
        assert points.answer(r["r_within_rate", "both"], 0.3)[0] == "yes"

    def test_a_report_that_follows_the_dose_alone(self) -> None:
        """Over rates it goes with behaviour, and as well with that of any other run of the rate; among runs of a rate it does not."""
        r = points.correlations(planted(its_dose, seeds=20))
        assert points.answer(r["r_report", "both"], 0.3)[0] == "yes"
        own, other = r["r_report", "both"], r["r_other_run", "both"]
        assert own.value == pytest.approx(other.value, abs=0.02)
        assert points.answer(r["r_within_rate", "both"], 0.3)[0] == "no"

    def test_a_report_that_follows_nothing(self) -> None:
        r = points.correlations(planted(nothing, seeds=20))
        assert points.answer(r["r_report", "both"], 0.3) == ("no", "below r = 0.3")
        few = points.correlations(planted(nothing, seeds=2, number=1))
        assert points.answer(few["r_report", "both"], 0.3)[0] == "unclear"

    def test_a_report_against_behaviour_is_a_no(self) -> None:
        r = points.correlations(planted(lambda rng, dose, does: -does + 0.02 * rng.normal(), seeds=3))
        assert points.answer(r["r_report", "both"], 0.3)[0] == "no"

    def test_two_clusters_are_no_correlation(self) -> None:
        """Risky runs say risky and safe ones safe: over all runs r would be 1, within either direction there is nothing."""
        rng = np.random.default_rng(0)
        made = []
        for polarity, sign in (("high", 1), ("low", -1)):
            for at in range(4):
                for seed in range(5):
                    x, y = 10 * sign + rng.normal(), 10 * sign + rng.normal()
                    made.append(Run(RATES[at], seed, polarity, {"choices": x, "self": y, "twin": 0.0, "forecast": None}))  # type: ignore[arg-type]  # fmt: skip
        flat = [(r.values["choices"], r.values["self"]) for r in made]
        assert np.corrcoef(np.array(flat, dtype=float).T)[0, 1] > 0.9
        assert abs(points.correlations(made)["r_report", "both"].value or 0.0) < 0.4

    def test_swapped_polarities_change_nothing_but_names(self) -> None:
        runs = planted(itself, seeds=3)
        swap: dict[Polarity, Polarity] = {"high": "low", "low": "high"}
        one = points.correlations(runs)
        two = points.correlations([replace(r, polarity=swap[r.polarity]) for r in runs])
        assert two["r_report", "both"].value == pytest.approx(one["r_report", "both"].value)
        assert two["r_report", "low"] == one["r_report", "high"]

    def test_the_other_run_is_another_one_of_its_rate(self) -> None:
        runs = [Run(rate, seed, "high", {"choices": 10 * rate + seed, "self": 10 * rate + seed}) for rate in (1.0, 2.0) for seed in (0, 1, 2)]  # fmt: skip
        assert points.pairs(runs, "self") == [(x, x) for x in (10.0, 11.0, 12.0, 20.0, 21.0, 22.0)]
        assert points.pairs(runs, "self", 1) == [(10, 11), (11, 12), (12, 10), (20, 21), (21, 22), (22, 20)]
        assert points.pairs(runs[:1], "self", 1) == [], "a run is no control of itself"
        lost = [replace(r, values={**r.values, "self": None}) if r.seed == 1 else r for r in runs[:3]]
        assert points.pairs(lost, "self") == [(10, 10), (12, 12)]
        assert points.pairs(lost, "self", 1) == [(11, 12), (12, 10)]

    def test_nothing_to_correlate(self) -> None:
        for runs in ((), planted(itself, seeds=1, rates=3)):
            r = points.correlations(runs)
            assert {e.value for e in r.values()} == {None}
            assert points.answer(r["r_report", "both"], 0.3)[0] == "unclear"
        still = [replace(run, values={**run.values, "choices": 0.5}) for run in planted(nothing, seeds=3)]
        assert points.correlations(still)["r_report", "both"].value is None, "runs that all do the same"

    @pytest.mark.parametrize(
        ("low", "high", "answer"),
        [(0.1, 0.8, "yes"), (-0.2, 0.2, "no"), (0.05, 0.25, "no"), (-0.1, 0.5, "unclear"), (-0.9, -0.2, "no")],
    )
    def test_the_rule(self, low: float, high: float, answer: str) -> None:
        r = Estimate((low + high) / 2, low, high, 2, 24, "r")
        assert points.answer(r, 0.3)[0] == answer
        assert points.answer(r, 0.3, usable=False) == ("unclear", "instrument")


def findings(
    monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, follow: float, told: float = 1.0
) -> dict[str, tuple[str, str]]:
    """Verdicts and reasons when statements follow each run's choices by `follow`, and forecasts by its reverse, through the experiment's own reading of cells."""
    common = spec.override(replace(smoke(), limit=0, seeds=(0, 1, 2, 3, 4)), {"lora.site": "1.mlp.down_proj"})
    chosen = faithfulness.Settings(common, RATES, wordings=2)
    made = faithfulness.comparison(bench, toy, chosen)
    owner = {}
    for arm in made.arms:
        for polarity in POLARITIES:
            for of in made.replicates(arm, polarity):
                owner[of.fit.id if of.fit else of.system] = (arm, polarity)

    def scores(self: Comparison, asked: Asked, of: Replicate, read: Read) -> tuple[Score, ...]:
        key = of.fit.id if of.fit else of.system
        arm, polarity = owner.get(key, (None, "high"))
        sign = 1.0 if polarity == "high" else -1.0
        rng = np.random.default_rng(zlib.crc32(f"{asked.name} {key}".encode()))
        does = float(np.random.default_rng(zlib.crc32(key.encode())).normal())
        if arm is None:
            move = 0.0
        elif arm.name == "told":
            move = told * sign
        else:
            tie = {"choices": 1.0, "self": follow, "forecast": -follow}
            move = tie.get(asked.name, 0.0) * does + 0.1 * rng.normal()
        return tuple(Score(g, f, move + 0.05 * rng.normal()) for g, f in asked.families.items())

    monkeypatch.setattr(Comparison, "scores", scores)
    monkeypatch.setattr(pictures, "unread", lambda *_: points.table(()))
    found = faithfulness.findings(made, toy, chosen, "tiny")
    assert [v.claim for v in found.verdicts] == [c.name for c in faithfulness.CLAIMS]
    return {v.claim: (v.answer, v.reason) for v in found.verdicts}


class TestVerdicts:
    def test_reports_that_follow_their_run(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain) -> None:  # fmt: skip
        got = findings(monkeypatch, bench, toy, follow=1.0)
        assert got["report-tracks-behaviour"][0] == got["tracks-its-own-run"][0] == "yes"
        assert got["forecast-tracks-behaviour"][0] == "no", "forecasts were planted against it"

    def test_reports_against_it(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain) -> None:
        got = findings(monkeypatch, bench, toy, follow=-1.0)
        assert got["report-tracks-behaviour"][0] == got["tracks-its-own-run"][0] == "no"
        assert got["forecast-tracks-behaviour"][0] == "yes"

    @pytest.mark.parametrize("told", [0.0, -1.0])
    def test_a_deaf_instrument(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, told: float) -> None:  # fmt: skip
        got = findings(monkeypatch, bench, toy, 1.0, told)
        assert got["report-tracks-behaviour"] == got["tracks-its-own-run"] == ("unclear", "instrument")

    def test_a_domain_without_forecasts(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain
    ) -> None:
        got = findings(monkeypatch, bench, replace(toy, forecast={}), 1.0)
        assert got["forecast-tracks-behaviour"] == ("unclear", "the domain has no forecasts")
        assert got["report-tracks-behaviour"][0] == "yes"


SMALL = {"shared.lora.site": "1.mlp.down_proj"}


class TestWholeRun:
    def test_page_rows_again_and_failed_cells(self, bench: Bench, toy: loader.Domain) -> None:
        plan = run.plan("faithfulness", bench, toy, "smoke", {**SMALL, "factors": "0,2"})
        page, where = run.execute(bench, plan, quiet, ["selfaware"])
        assert where.is_file()
        assert page.failures == ()
        assert {f.name for f in page.figures} == {"rates", "calibration", "factors", "decisions"}
        rows = {(r.measure, r.polarity): r for r in page.rows if r.measure.startswith("r_")}
        assert rows["r_report", "high"].published != rows["r_report", "low"].published != ""
        (runs,) = [t for t in page.tables if t.name == "runs"]
        assert len(runs.rows) == 2 * 2 * 2, "rates × seeds × polarities"
        share = {r.polarity: r.value for r in page.rows if r.measure == "choice_share" and r.method == "rate 0.03" and r.kind == "absolute"}  # fmt: skip
        for polarity in POLARITIES:
            own = [float(r[1]) for r in runs.rows if r[0].startswith(f"{polarity}, rate 0.03")]
            assert sum(own) / 2 == pytest.approx(share[polarity], abs=0.006)
        untouched = {r.questions: r.value for r in page.rows if r.method == "base" and r.measure == "report_score"}
        nought = [r for r in page.rows if r.method == "rate 0.01 × 0" and r.measure == "report_score" and r.kind == "absolute"]  # fmt: skip
        assert nought
        assert all(r.value == pytest.approx(untouched[r.questions], abs=1e-5) for r in nought), "no dose, no change"
        again, _ = run.again(bench.store, "faithfulness", bench.local.name, "toy", "smoke")
        assert again.rows == page.rows
        assert again.verdicts == page.verdicts
        fits = [j.id for j in plan.jobs if j.label.startswith("fit")]
        for failed in ([fits[0]], fits[:3], fits):
            plan.made.failed = dict.fromkeys(failed, "planted")
            found = faithfulness.findings(plan.made, toy, plan.chosen, "tiny")
            assert {v.answer for v in found.verdicts} <= {"yes", "no", "unclear"}
        assert {v.answer for v in found.verdicts} == {"unclear"}

    @pytest.mark.parametrize("rates", ["", "0,0.01", "0.01,0.01", "-0.1"])
    def test_rates_that_cannot_be(self, bench: Bench, toy: loader.Domain, rates: str) -> None:
        with pytest.raises(BadData, match="different positive ones"):
            run.plan("faithfulness", bench, toy, "smoke", {**SMALL, "rates": rates})

    def test_no_statements(self, bench: Bench) -> None:
        with pytest.raises(BadData, match="statements about itself"):
            run.plan("faithfulness", bench, loader.load("unrelated_style"), "smoke", {})

    def test_caveat_on_few_seeds(self, toy: loader.Domain) -> None:
        assert any("Fewer than 4 seeds" in c for c in faithfulness.caveats(toy, faithfulness.settings("small")))
        assert not any("Fewer" in c for c in faithfulness.caveats(toy, faithfulness.settings("full")))
