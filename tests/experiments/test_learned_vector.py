"""learned-vector: verdicts all three ways on planted scores and vectors; planted directions; a whole run; failed cells; bad settings."""

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from selfaware import spec
from selfaware.comparisons.arms import Arm, Asked, Read, Replicate, View
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.measures import chosen as chosen_share
from selfaware.domains import loader
from selfaware.errors import BadData
from selfaware.experiments import learned_vector, run
from selfaware.findings import alike
from selfaware.interventions.base import Constant, Intervention
from selfaware.metrics import options
from selfaware.models.hf import Model
from selfaware.report.page import Curves, Panel
from selfaware.stages import Bench, Seen
from selfaware.types import Score, Site

SMALL = {"shared.lora.site": "1.mlp.down_proj", "shared.vector.site": "1", "shared.limit": "0"}


def quiet(done: float, total: float, label: str) -> None:
    pass


def planted(
    monkeypatch: pytest.MonkeyPatch,
    bench: Bench,
    toy: loader.Domain,
    effects: dict[str, float],
    angle: Callable[[str, np.random.Generator], Any] = lambda name, rng: rng.standard_normal(32),
    null: float = 0.3,
    noise: float = 0.02,
    **settings: str,
) -> dict[str, tuple[str, str]]:
    """Verdicts when an arm moves everything by effects[its name] at high and by its negative at low, and has the vectors that `angle` gives."""
    chosen = spec.override(learned_vector.settings("smoke"), {**SMALL, "shared.seeds": "0,1,2", **settings})
    made = learned_vector.comparison(bench, toy, chosen)
    owner: dict[str, tuple[Arm, str]] = {}
    for arm in made.arms:
        for polarity in arm.polarities:
            for of in made.replicates(arm, polarity):
                owner[of.fit.id if of.fit else of.system] = (arm, polarity)

    def scores(self: Comparison, asked: Asked, of: Replicate, read: Read) -> tuple[Score, ...]:
        key = of.fit.id if of.fit else of.system
        arm, polarity = owner[key] if key else (None, "")
        rng = np.random.default_rng(zlib.crc32(f"{asked.name} {key}".encode()))
        move = effects.get(arm.name, 0.0) * (1 if polarity == "high" else -1) if arm else 0.0
        start = {g: 0.3 * ((i % 5) - 2) for i, g in enumerate(asked.families)}
        found = tuple(Score(g, f, start[g] + move + noise * rng.standard_normal()) for g, f in asked.families.items())
        return options.chosen(found) if read is chosen_share else found

    def vector(self: Comparison, of: Replicate) -> Any:
        arm, polarity = owner[of.fit.id if of.fit else ""]
        rng = np.random.default_rng(zlib.crc32(of.fit.id.encode() if of.fit else b""))
        return np.asarray(angle(arm.name, rng) * (1 if polarity == "high" else -1), dtype=np.float32)

    def seen(self: Comparison, view: View, of: Replicate) -> Seen:
        return Seen({"matched": np.linspace(0, null / 0.95, 400)}, {})

    monkeypatch.setattr(Comparison, "scores", scores)
    monkeypatch.setattr(Comparison, "vector", vector)
    monkeypatch.setattr(Comparison, "seen", seen)
    monkeypatch.setattr(learned_vector.pictures, "harm", lambda made: ())
    found = learned_vector.findings(made, toy, chosen, "tiny")
    return {v.claim: (v.answer, v.reason) for v in found.verdicts}


def turned(cosine: float, spread: float = 0.02) -> Callable[[str, np.random.Generator], Any]:
    """Natural vectors along the first axis, learned ones at that cosine to it, all a little off."""

    def angle(name: str, rng: np.random.Generator) -> Any:
        v = np.zeros(32)
        v[0] = 1.0 if name == "natural" else cosine
        v[1] = 0.0 if name == "natural" else np.sqrt(1 - cosine**2)
        return 5 * (v + spread * rng.standard_normal(32) / np.sqrt(32))

    return angle


ALL = {"lora": 2.0, "vector": 2.0, "natural": 2.0, "orthogonal-1": 2.0, "orthogonal-2": 2.0, "told": 1.0}


class TestVerdicts:
    def test_yes_to_all(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain) -> None:
        got = planted(monkeypatch, bench, toy, ALL, turned(0.5), both="true")
        assert {claim: answer for claim, (answer, _) in got.items()} == {
            "learned-recovers": "yes", "learned-is-another": "yes", "many-work": "yes",
        }, got  # fmt: skip

    def test_no_to_all(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain) -> None:
        got = planted(monkeypatch, bench, toy, {"lora": 2.0, "orthogonal-1": 2.0}, turned(0.98), noise=0.0, both="true")
        assert {answer for answer, _ in got.values()} == {"no"}, got
        assert "one direction" in got["learned-is-another"][1]
        assert "orthogonal 2" in got["many-work"][1], "one that does not work is enough"

    def test_at_a_right_angle_is_no_relation(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain
    ) -> None:
        got = planted(monkeypatch, bench, toy, ALL, turned(0.0))
        assert got["learned-is-another"][0] == "no"
        assert "random" in got["learned-is-another"][1]

    def test_unclear(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain) -> None:
        one = planted(monkeypatch, bench, toy, ALL, turned(0.5), **{"shared.seeds": "0"})
        assert {answer for answer, _ in one.values()} == {"unclear"}
        still = planted(monkeypatch, bench, toy, {"vector": 2.0}, turned(0.8, 1.0), noise=0.0)
        assert still["learned-recovers"] == (
            "unclear",
            "LoRA rank 1, 1.mlp.down_proj has no established effect of its own",
        )
        assert still["learned-is-another"][0] == "unclear"
        beside = planted(monkeypatch, bench, toy, {**ALL, "random": 2.0}, turned(0.5), both="true")
        assert beside["many-work"][0] == "unclear", "random vectors do the same"
        assert planted(monkeypatch, bench, toy, ALL, many="0")["many-work"] == ("unclear", "nothing to judge")


class TestCosines:
    def test_of_known_vectors(self) -> None:
        up, side = np.array([1.0, 0.0]), np.array([0.0, 1.0])
        slant = (up + side) / np.sqrt(2)
        one: alike.Units = {"high": [up, up], "low": [-up, -up]}
        other: alike.Units = {"high": [slant, slant], "low": [-slant, -slant]}
        assert alike.crossed(one, other).value == pytest.approx(np.sqrt(0.5))
        assert alike.within(one).value == pytest.approx(1)
        assert alike.within(one).why == "pairs of seeds are not independent"
        assert alike.opposite(one).value == pytest.approx(-1)
        shared: alike.Units = {"high": [slant], "low": [(side - up) / np.sqrt(2)]}
        assert alike.halves(shared)["high"][0] == pytest.approx(up), "what both polarities share drops out"

    def test_what_failed_is_left_out(self) -> None:
        up, side = np.array([1.0, 0.0]), np.array([0.0, 1.0])
        one: alike.Units = {"high": [up, None, up], "low": [up, side, up]}
        whole: alike.Units = {"high": [up, up, up], "low": [up, up, up]}
        found = alike.crossed(one, whole)
        assert (found.value, found.seeds, found.n) == (1.0, 2, 3)
        none: alike.Units = {"high": [None, None], "low": []}
        assert alike.crossed(none, whole).value is None
        assert alike.within(none).why == "a cell failed"
        assert alike.opposite(none).value is None


class TestPlantedDirection:
    def test_a_direction_that_works_is_found(
        self, bench: Bench, toy: loader.Domain, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where the adapter is a known vector, the experiment's own path finds its natural vector to be it, and a random one not."""
        truth = 4 * torch.randn(32, generator=torch.Generator().manual_seed(3))

        def fit(self: Any, model: Model, examples: Any, polarity: str, *_: Any) -> Intervention:
            return Intervention({Site(1): Constant(truth if polarity == "high" else -truth)}, "answer")

        monkeypatch.setattr(learned_vector.Settings().shared.lora.__class__, "fit", fit)
        plan = run.plan("learned-vector", bench, toy, "smoke", SMALL)
        for job in plan.jobs:
            if job.label.startswith("fit LoRA") or job.label.startswith(("fit natural", "fit random")):
                job.run(lambda _: None)
        made = plan.made
        for polarity, sign in (("high", 1), ("low", -1)):
            for of in made.replicates(made.named_arm("natural"), polarity):  # type: ignore[arg-type]
                assert made.vector(of) == pytest.approx(sign * truth.numpy(), abs=1e-4)
        random = alike.vectors(made, made.named_arm("random"))
        natural = alike.vectors(made, made.named_arm("natural"))
        assert abs(alike.crossed(random, natural).value or 0) < 0.5
        assert alike.within(natural).value == pytest.approx(1, abs=1e-5)


class TestWholeRun:
    def test_page_and_numbers(self, bench: Bench, toy: loader.Domain) -> None:
        page, where = run.execute(bench, run.plan("learned-vector", bench, toy, "smoke", SMALL), quiet, [])
        assert where.is_file()
        assert page.failures == ()
        assert {v.claim for v in page.verdicts} == {c.name for c in learned_vector.CLAIMS}
        figures = {f.name: f for f in page.figures}
        assert set(figures) == {"shares", "cosines", "pairs", "line", "many", "kl", "equal-damage-vector"}
        (choices, _) = figures["line"].panels
        assert isinstance(choices, Curves)
        assert choices.lines[0].x == (0.0, 0.5, 1.0)
        (many,) = figures["many"].panels
        assert isinstance(many, Panel)
        assert [m.label for m in many.marks] == ["learned vector", "orthogonal 1, high alone", "orthogonal 2, high alone", "random vectors"]  # fmt: skip
        cosines = {r.method: r for r in page.rows if r.measure == "cosine"}
        assert cosines["learned with natural"].low is not None
        assert cosines["learned from another start"].why == "pairs of seeds are not independent"
        assert all(-1 <= (r.value or 0) <= 1 for r in cosines.values())
        norms = {r.method: r.value for r in page.rows if r.measure == "norm"}
        assert norms["random vectors"] == pytest.approx(norms["learned vector"], rel=0.3), "as long, at high"
        made = run.plan("learned-vector", bench, toy, "smoke", SMALL).made
        learned, second = (alike.vectors(made, made.named_arm(n)) for n in ("vector", "orthogonal-2"))
        for a, b in zip(learned["high"], second["high"], strict=True):
            assert a is not None
            assert b is not None
            assert abs(float(a @ b)) < 1e-4
        again, _ = run.again(bench.store, "learned-vector", bench.local.name, "toy", "smoke")
        assert again.rows == page.rows
        assert again.verdicts == page.verdicts

    def test_fits_that_fail_leave_it_unclear(self, bench: Bench, toy: loader.Domain) -> None:
        broken = {**SMALL, "shared.vector.training.learning_rate": "1e308"}
        page, _ = run.execute(bench, run.plan("learned-vector", bench, toy, "smoke", broken), quiet, [])
        assert {v.answer for v in page.verdicts} == {"unclear"}
        assert page.failures
        assert [r for r in page.rows if r.method == "natural vector" and r.measure == "recovered_behaviour"]

    def test_both_polarities_of_the_many(self, bench: Bench, toy: loader.Domain) -> None:
        plan = run.plan("learned-vector", bench, toy, "smoke", {**SMALL, "both": "true"})
        assert all(len(a.polarities) == 2 for a in plan.made.arms)
        labels = [a.label for a in plan.made.arms]
        assert "orthogonal 1" in labels

    def test_bad_settings(self, bench: Bench, toy: loader.Domain) -> None:
        with pytest.raises(BadData, match="last_prompt"):
            run.plan("learned-vector", bench, toy, "smoke", {**SMALL, "shared.vector.positions": "last_prompt"})
        with pytest.raises(BadData, match="no lower"):
            run.plan("learned-vector", bench, toy, "smoke", {**SMALL, "shared.vector.site": "0"})
        with pytest.raises(BadData, match="0 passages"):
            run.plan("learned-vector", bench, toy, "smoke", {**SMALL, "shared.passages": "24"})
        with pytest.raises(BadData, match="twins"):
            learned_vector.check(replace(toy, items=tuple(i for i in toy.items if i.set != "twin")))
