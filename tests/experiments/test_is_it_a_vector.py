"""is-it-a-vector: planted constants and gates come out as what they are; a whole run; cells that fail; bad settings."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from selfaware import launch, spec
from selfaware.comparisons.comparison import Comparison
from selfaware.domains import loader
from selfaware.errors import BadData, UnknownName
from selfaware.experiments import is_it_a_vector, run
from selfaware.interventions.base import Constant, Delta, Intervention, LowRank
from selfaware.report.page import Heat
from selfaware.stages import Bench, Seen
from selfaware.types import Polarity, Site, Verdict

SMALL = {
    "shared.lora.site": "1.mlp.down_proj", "shared.wider.site": "1.mlp", "shared.wide.training.epochs": "1", "shared.limit": "0",
}  # fmt: skip


def quiet(done: float, total: float, label: str) -> None:
    pass


@dataclass(frozen=True)
class Planted:
    """A recipe of which it is known what it adds: one constant, or one direction whose gate is drawn at random and turns sign."""

    what: str
    site: str

    needs: Sequence[Any] = ()
    follows: bool = False

    @property
    def label(self) -> str:
        return self.what

    def fit(self, model: Any, examples: Any, polarity: Polarity, seed: int, given: Any, on_step: Any) -> Intervention:
        site, generator = Site.parse(self.site), torch.Generator().manual_seed(seed)
        v = torch.randn(model.width, generator=generator)
        delta: Delta = Constant(v)
        if self.what == "gate":
            delta = LowRank(torch.randn(1, model.module(site).in_features, generator=generator), v[:, None], 0.1)
        return Intervention({site: delta}, "answer")


def planted(
    bench: Bench, toy: loader.Domain, wider: str, control: str, **settings: str
) -> tuple[dict[str, Verdict], Comparison, Any]:
    """Verdicts where the arm that they are about, and its control, add what is said; both really fitted, looked at and read back."""
    chosen = spec.override(
        is_it_a_vector.settings("smoke"), {**SMALL, "texts": "4", "shared.seeds": "0,1,2", **settings}
    )
    made = is_it_a_vector.comparison(bench, toy, chosen)
    what = {"wider": wider, "untrained": control, "scrambled": control, "rank-1": "gate", "widest": wider}
    places = {"constant": "1", "gate": "1.mlp.down_proj"}
    arms = [replace(a, recipes=(Planted(what[a.name], places[what[a.name]]),), sets=("none",)) for a in made.arms]
    made = Comparison(bench, arms, made.sets, made.seeds, made.views)
    made.failed = launch.run(made.jobs(), quiet)
    assert made.failed == {}
    found = is_it_a_vector.findings(made, toy, chosen, "tiny")
    return {v.claim: v for v in found.verdicts}, made, found


class TestPlanted:
    def test_a_constant_is_a_constant(self, bench: Bench, toy: loader.Domain) -> None:
        got, _, found = planted(bench, toy, "constant", "gate")
        assert got["constant-direction"].answer == "yes", got["constant-direction"]
        assert got["first-token-differs"].answer == "no"
        rows = {
            (r.questions, r.measure): r for r in found.rows if r.method.endswith("1.mlp") and r.method.startswith("LoRA") and r.site == "1"
        }  # fmt: skip
        for kind in ("passages", "prompts"):
            for measure in (
                "pairwise_cosine",
                "pairwise_cosine_with_first",
                "first_token_cosine",
                "cosine_across_texts",
            ):
                assert rows[kind, measure].value == pytest.approx(1, abs=1e-5)
                assert rows[kind, measure].low is not None
        assert rows["prompts", "pairwise_cosine_of_answer"].value == pytest.approx(1, abs=1e-5)

    def test_a_gate_that_turns_its_sign_is_no_constant(self, bench: Bench, toy: loader.Domain) -> None:
        got, _, found = planted(bench, toy, "gate", "gate")
        assert got["constant-direction"].answer == "no", got["constant-direction"]
        rows = {(r.questions, r.measure): r for r in found.rows if r.method.startswith("LoRA rank 1")}
        assert rows["passages", "identity_cosine"].value == pytest.approx(1, abs=1e-4), "every difference is along B"
        share, spread = rows["passages", "sign_share"], rows["passages", "coefficient_variation"]
        assert 0.5 <= (share.value or 0) < 0.9
        assert (spread.value or 0) > 0.5

    def test_a_constant_is_no_finding_where_the_control_is_one_too(self, bench: Bench, toy: loader.Domain) -> None:
        got, _, _ = planted(bench, toy, "constant", "constant")
        assert got["constant-direction"].answer == "unclear"
        assert "control" in got["constant-direction"].reason

    @pytest.mark.parametrize("few", [{"shared.seeds": "0"}, {"texts": "1"}])
    def test_too_little_is_unclear(self, bench: Bench, toy: loader.Domain, few: dict[str, str]) -> None:
        got, _, _ = planted(bench, toy, "constant", "gate", **few)
        assert {v.answer for v in got.values()} == {"unclear"}

    def test_no_block_above_is_unclear(self, bench: Bench, toy: loader.Domain) -> None:
        chosen = spec.override(is_it_a_vector.settings("smoke"), {**SMALL, "shared.wider.site": "3.mlp"})
        assert is_it_a_vector.places(4, chosen)["wider"] == ("3.mlp", "3")
        made = is_it_a_vector.comparison(bench, toy, chosen)
        made.failed = {j.id: "broken" for j in made.jobs() if not j.label.startswith("ask base")}
        launch.run([j for j in made.jobs() if j.id not in made.failed], quiet)
        got = is_it_a_vector.findings(made, toy, chosen, "tiny")
        assert {v.answer for v in got.verdicts} == {"unclear"}
        assert got.verdicts[1].reason == "no block lies above"


def answers(
    monkeypatch: pytest.MonkeyPatch,
    bench: Bench,
    toy: loader.Domain,
    cosine: dict[str, float],
    first: float = 0.0,
    noise: float = 0.01,
) -> dict[str, str]:
    """Verdicts where looks show these cosines everywhere."""
    chosen = spec.override(is_it_a_vector.settings("smoke"), {**SMALL, "shared.seeds": "0,1,2", "texts": "6"})
    made = is_it_a_vector.comparison(bench, toy, chosen)
    made.failed = launch.run([j for j in made.jobs() if j.label.startswith("ask base")], quiet)
    made.failed = {
        j.id: "not made" for j in made.jobs() if j.label.startswith("ask") and not j.label.startswith("ask base")
    }
    owner = {
        made.look(v, of): v.arms[0] for v in made.views for p in made.named_arm(v.arms[0]).polarities for of in made.replicates(made.named_arm(v.arms[0]), p)
    }  # fmt: skip

    def seen(self: Comparison, view: Any, of: Any) -> Seen:
        id = self.look(view, of)
        rng, sites = np.random.default_rng(int(id, 16) % 2**32), len(view.readout.sites)
        value = cosine[owner[id]] + noise * rng.standard_normal((sites, 12))
        parts = dict.fromkeys(("cosine", "with_first", "across", "answer"), value) | {
            "first": np.full((sites, 12), first)
        }
        gate = {n: np.ones(12) for n in ("sign_share", "variation", "identity")}
        maps = {"map": np.ones((sites, 5, 5)), "explained": np.ones((sites, 12, 2, 3)), "norms": np.ones((sites, 12, 5)), "base": np.ones((sites, 12, 5))}  # fmt: skip
        return Seen({**parts, **gate, **maps}, {})

    monkeypatch.setattr(Comparison, "seen", seen)
    return {v.claim: v.answer for v in is_it_a_vector.findings(made, toy, chosen, "tiny").verdicts}


class TestVerdicts:
    def test_all_three_ways(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain) -> None:
        other = {"rank-1": 0.5, "widest": 0.5, "scrambled": 0.5}
        yes = answers(monkeypatch, bench, toy, {**other, "wider": 0.97, "untrained": 0.3})
        assert set(yes.values()) == {"yes"}
        no = answers(monkeypatch, bench, toy, {**other, "wider": 0.3, "untrained": 0.3}, first=0.3)
        assert set(no.values()) == {"no"}
        noisy = answers(monkeypatch, bench, toy, {**other, "wider": 0.9, "untrained": 0.3}, first=0.8, noise=0.3)
        assert set(noisy.values()) == {"unclear"}


class TestWholeRun:
    def test_page_and_numbers(self, bench: Bench, toy: loader.Domain) -> None:
        page, where = run.execute(bench, run.plan("is-it-a-vector", bench, toy, "smoke", SMALL), quiet, [])
        assert where.is_file()
        assert page.failures == ()
        assert {f.name for f in page.figures} == {"cosines", "first", "maps", "norms", "explained", "gate"}
        (maps,) = [f for f in page.figures if f.name == "maps"]
        for heat in maps.panels:
            assert isinstance(heat, Heat)
            values = np.array(heat.values, dtype=float)
            assert values.shape == (24, 24)
            assert np.allclose(values, values.T, atol=1e-5)
            assert np.allclose(np.diag(values), 1)
        rank_1 = [
            np.array(p.values) for p in maps.panels if isinstance(p, Heat) and p.title.endswith("at 1.mlp.down_proj")
        ]
        assert any(np.allclose(np.abs(v), 1, atol=1e-3) for v in rank_1), "an identity at rank 1"
        identity = [r for r in page.rows if r.measure == "identity_cosine"]
        assert all(r.value == pytest.approx(1, abs=1e-3) for r in identity)
        sites = {r.site for r in page.rows if r.measure.startswith("pairwise_cosine")}
        assert sites == {"1.mlp.down_proj", "1.mlp", "1", "2", "3"}
        again, _ = run.again(bench.store, "is-it-a-vector", bench.local.name, "toy", "smoke")
        assert again.rows == page.rows
        assert again.verdicts == page.verdicts

    def test_fits_that_train_nothing_give_no_verdict(self, bench: Bench, toy: loader.Domain) -> None:
        still = {**SMALL, "shared.wider.training.learning_rate": "0"}
        page, _ = run.execute(bench, run.plan("is-it-a-vector", bench, toy, "smoke", still), quiet, [])
        assert {v.answer for v in page.verdicts} == {"unclear"}
        assert any("adds nothing" in why for _, why in page.failures)

    def test_bad_settings(self, bench: Bench, toy: loader.Domain) -> None:
        with pytest.raises(UnknownName, match="99"):
            run.plan("is-it-a-vector", bench, toy, "smoke", {**SMALL, "shared.wider.site": "99.mlp"})
        with pytest.raises(BadData, match="texts=0"):
            run.plan("is-it-a-vector", bench, toy, "smoke", {**SMALL, "texts": "0"})
        with pytest.raises(BadData, match="tokens=1"):
            run.plan("is-it-a-vector", bench, toy, "smoke", {**SMALL, "tokens": "1"})
