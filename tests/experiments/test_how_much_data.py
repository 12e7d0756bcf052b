"""how-much-data: draws and folds, verdicts all three ways on planted effects, whole runs on a tiny model, failed cells."""

import zlib
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from selfaware import spec, stats
from selfaware.comparisons import subsets
from selfaware.comparisons.arms import Asked, Read, Replicate
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.shared import smoke
from selfaware.domains import loader
from selfaware.errors import BadData
from selfaware.experiments import how_much_data, run
from selfaware.findings import topics
from selfaware.interventions import drawn
from selfaware.interventions.drawn import Drawn
from selfaware.interventions.lora import Lora
from selfaware.stages import Bench
from selfaware.types import POLARITIES, Score

Effect = Callable[[str, Replicate, str], float]
"""Arm's name, replicate and question set to what high adds and low takes away."""


def quiet(done: float, total: float, label: str) -> None:
    pass


def settings(**changed: object) -> how_much_data.Settings:
    common = spec.override(replace(smoke(), limit=0, seeds=(0, 1, 2)), {"lora.site": "1.mlp.down_proj"})
    base = how_much_data.Settings(common, rows=(4, 8), few=8, epochs=(1, 3), per_topic=0, wordings=2)
    return replace(base, **changed)  # type: ignore[arg-type]


def planted(
    monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, chosen: how_much_data.Settings, effect: Effect, noise: float = 0.02,
) -> dict[str, tuple[str, str]]:  # fmt: skip
    """Verdicts and reasons when an arm moves a set by `effect`; the told arm moves every set by one."""
    made = how_much_data.comparison(bench, toy, chosen)
    owner = {}
    for arm in made.arms:
        for polarity in POLARITIES:
            for of in made.replicates(arm, polarity):
                owner[of.fit.id if of.fit else of.system] = (arm.name, polarity)

    def scores(self: Comparison, asked: Asked, of: Replicate, read: Read) -> tuple[Score, ...]:
        key = of.fit.id if of.fit else of.system
        name, polarity = owner.get(key, ("", "high"))
        rng = np.random.default_rng(zlib.crc32(f"{asked.name} {key}".encode()))
        size = 0.0 if not name else 1.0 if name == "told" else effect(name, of, asked.name)
        move = size if polarity == "high" else -size
        start = {g: 0.3 * ((i % 5) - 2) for i, g in enumerate(asked.families)}
        return tuple(Score(g, f, start[g] + move + noise * rng.standard_normal()) for g, f in asked.families.items())

    monkeypatch.setattr(Comparison, "scores", scores)
    found = how_much_data.findings(made, toy, chosen, "tiny")
    assert {v.claim for v in found.verdicts} == {c.name for c in how_much_data.CLAIMS}
    return {v.claim: (v.answer, v.reason) for v in found.verdicts}


def of_rows(few: float, all_rows: float = 1.0, topic: float = 1.0) -> Effect:
    """Effects by number of rows, and of every fold arm."""

    def effect(name: str, of: Replicate, set: str) -> float:
        if name in (topics.WITHOUT, topics.ALONE):
            return topic
        return 0.0 if name == "shuffled" else all_rows if "rows-all" in name else few

    return effect


class TestDraws:
    def test_rows_are_nested_seeded_and_of_mixed_topics(self) -> None:
        questions = loader.load("risky_choices").questions("choices", "train")
        sizes = (1, 16, 32, 64, 128, 228)
        each = [{q.group for q in drawn.drawn(questions, n, 3)} for n in sizes]
        assert [len(d) for d in each] == list(sizes)
        assert all(small < large for small, large in pairwise(each))
        some = drawn.drawn(questions, 32, 3)
        assert len(some) == 64, "both orders of each row"
        assert len({q.family for q in some}) > 20, "not whole topics"
        assert some == drawn.drawn(questions, 32, 3)
        assert {q.group for q in some} != {q.group for q in drawn.drawn(questions, 32, 4)}
        assert drawn.drawn(questions, 228, 0) == questions

    @pytest.mark.parametrize("rows", [0, -1, 21])
    def test_rows_that_are_not_there(self, toy: loader.Domain, rows: int) -> None:
        with pytest.raises(BadData, match="from 1 to 20 are needed"):
            drawn.drawn(toy.questions("choices", "train"), rows, 0)

    @pytest.mark.parametrize("number", [0, 2, 3, 10])
    def test_folds_part_the_topics(self, toy: loader.Domain, number: int) -> None:
        examples = toy.questions("choices", "train")
        parts = drawn.folds(examples, number)
        assert sorted(t for part in parts for t in part) == sorted({q.family for q in examples})
        assert len(parts) == (number or 10)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1

    @pytest.mark.parametrize("number", [1, -2, 11])
    def test_folds_that_are_not_there(self, toy: loader.Domain, number: int) -> None:
        with pytest.raises(BadData, match="from 2 to as many folds"):
            drawn.folds(toy.questions("choices", "train"), number)

    @pytest.mark.parametrize("number", [0, 3])
    def test_a_fit_leaves_out_the_topics_that_the_page_names(self, toy: loader.Domain, number: int) -> None:
        """Of folds named by a topic the recipe must drop that very topic, or every figure would be mislabelled."""
        examples = toy.questions("choices", "train")
        folds = topics.Folds.of(examples, number)
        count = len(folds.topics)
        for by_seed in (False, True):
            without, alone = topics.arms(Drawn(Lora(), 0, count), count, by_seed, examples, "")
            for seed in range(count):
                for out, own in zip(without.recipes, alone.recipes, strict=True):
                    assert isinstance(out, Drawn)
                    assert isinstance(own, Drawn)
                    named = list(folds.topics.values())[out.part(seed)]
                    assert {q.family for q in own.some(examples, seed)} == set(named)
                    left = {q.family for q in out.some(examples, seed)}
                    assert left == {q.family for q in examples} - set(named)

    def test_a_few_of_each_topic_with_all_their_orders(self, toy: loader.Domain) -> None:
        questions = toy.questions("choices", "test")
        one = subsets.few(questions, 1)
        assert len({q.group for q in one}) == len({q.family for q in questions})
        assert len(one) == 2 * len({q.group for q in one})
        assert subsets.few(questions, 0) == subsets.few(questions, 99) == questions
        single = subsets.one_order(questions)
        assert {q.group for q in single} == {q.group for q in questions}
        assert len(single) == len({q.group for q in questions})
        assert abs(2 * sum(q.id.endswith("/high-first") for q in single) - len(single)) <= 1


class TestVerdicts:
    @pytest.mark.parametrize(
        ("few", "noise", "answer"), [(1.0, 0.02, "yes"), (0.3, 0.02, "no"), (0.8, 0.3, "unclear"), (-1.0, 0.02, "no")]
    )
    def test_few_rows(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, few: float, noise: float, answer: str) -> None:  # fmt: skip
        got = planted(monkeypatch, bench, toy, settings(), of_rows(few), noise)
        assert got["few-rows-suffice"][0] == got["few-rows-report"][0] == answer

    @pytest.mark.parametrize("whole", [0.0, -1.0])
    def test_without_an_effect_of_all_rows_nothing_is_judged(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, whole: float
    ) -> None:
        got = planted(monkeypatch, bench, toy, settings(), of_rows(1.0, whole))
        assert all(g[0] == "unclear" and "no established effect" in g[1] for g in got.values())

    def test_the_smallest_is_named_over_all_epochs(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain
    ) -> None:
        def effect(name: str, of: Replicate, set: str) -> float:
            return 1.0 if name in ("rows-4/3", "rows-8/1", "rows-all/3") else 0.2

        made = how_much_data.comparison(bench, toy, settings())
        assert [a.name for a in made.arms if a.role == "primary"] == ["rows-8/3"]
        chosen = settings()
        planted(monkeypatch, bench, toy, chosen, effect)
        texts = {v.claim: v for v in how_much_data.findings(made, toy, chosen, "tiny").verdicts}
        assert texts["few-rows-suffice"].answer == "no"
        assert "Smallest that is not inferior: 4 rows × 3." in texts["few-rows-suffice"].text

    @pytest.mark.parametrize(("topic", "noise", "answer"), [(1.0, 0.02, "yes"), (0.3, 0.02, "no"), (0.85, 0.5, "unclear")])  # fmt: skip
    def test_a_fold_for_each_seed(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, topic: float, noise: float, answer: str) -> None:  # fmt: skip
        got = planted(monkeypatch, bench, toy, settings(), of_rows(1.0, topic=topic), noise)
        assert got["no-topic-needed"][0] == got["no-topic-needed-to-report"][0] == answer

    def test_the_mean_over_folds_does_not_hide_one_that_is_missed(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain
    ) -> None:
        """One fold of three takes nearly all away: the mean of the others must not make it a yes."""

        def effect(name: str, of: Replicate, set: str) -> float:
            return (0.1 if of.seed == 1 else 1.6) if name == topics.WITHOUT else 1.0

        assert planted(monkeypatch, bench, toy, settings(), effect)["no-topic-needed"][0] == "unclear"

    @pytest.mark.parametrize(("missed", "noise", "answer"), [(1.0, 0.02, "yes"), (0.2, 0.02, "no"), (0.7, 0.4, "unclear")])  # fmt: skip
    def test_every_fold_with_every_seed(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, missed: float, noise: float, answer: str) -> None:  # fmt: skip
        def effect(name: str, of: Replicate, set: str) -> float:
            second = isinstance(of.recipe, Drawn) and of.recipe.fold == 1
            return missed if name == topics.WITHOUT and second else 1.0

        got = planted(monkeypatch, bench, toy, settings(fold_by_seed=False), effect, noise)
        assert got["no-topic-needed"][0] == answer
        assert answer != "no" or got["no-topic-needed"][1] == "missed when left out: fold 2"

    def test_one_of_many_folds_may_fall_short_by_chance(self) -> None:
        """Fifty folds that keep just what is needed: now and then one's own interval lies below, and that is no finding."""
        families, wrong, uncorrected = [f"f{n}" for n in range(8)], 0, 0
        for trial in range(20):
            rng = np.random.default_rng(trial)
            short: dict[str, list[dict[str, float | None]]] = {
                f"fold {k}": [{f: float(v) for f, v in zip(families, row, strict=True)} for row in rng.normal(size=(5, 1)) + 0.3 * rng.normal(size=(5, 8))]
                for k in range(50)
            }  # fmt: skip
            wrong += topics.every_fold(short, "u")[0] == "no"
            uncorrected += any(stats.at_least(stats.estimate(v, "u"), 0.0)[0] == "no" for v in short.values())  # fmt: skip
        assert uncorrected >= 10
        assert wrong <= 3

    def test_a_deaf_instrument_silences_the_report_alone(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain
    ) -> None:
        got = planted(monkeypatch, bench, replace(toy, told={}), settings(), of_rows(1.0))
        assert got["few-rows-report"] == got["no-topic-needed-to-report"] == ("unclear", "instrument")
        assert got["few-rows-suffice"][0] == got["no-topic-needed"][0] == "yes"

    def test_one_seed(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain) -> None:
        alone = settings(shared=replace(settings().shared, seeds=(0,)))
        assert {g[0] for g in planted(monkeypatch, bench, toy, alone, of_rows(1.0)).values()} == {"unclear"}


SMALL = {"shared.lora.site": "1.mlp.down_proj"}


class TestWholeRun:
    def test_page_rows_again_and_failed_cells(self, bench: Bench, toy: loader.Domain) -> None:
        plan = run.plan("how-much-data", bench, toy, "smoke", {**SMALL, "steps": "true", "rows": "4", "epochs": "1,2"})
        page, where = run.execute(bench, plan, quiet, ["selfaware"])
        assert where.is_file()
        assert page.failures == ()
        assert [v.claim for v in page.verdicts] == [c.name for c in how_much_data.CLAIMS]
        by_fold = [r for r in page.rows if r.measure == "self_effect_by_fold"]
        names = topics.Folds.of(plan.made.arms[0].examples, 2).topics
        assert {(r.method, r.condition["fold"]) for r in by_fold} == {
            (m, f) for m in ("a fold left out", "a fold alone") for f in names
        }
        assert all(r.seeds == 1 for r in by_fold)
        assert {f.name for f in page.figures} == {"rows", "folds-choices", "folds-self"}
        again, _ = run.again(bench.store, "how-much-data", bench.local.name, "toy", "smoke")
        assert again.rows == page.rows
        assert again.verdicts == page.verdicts
        fits = [j.id for j in plan.jobs if j.label.startswith("fit")]
        for failed in (*([one] for one in fits[::9]), fits):
            plan.made.failed = dict.fromkeys(failed, "planted")
            found = how_much_data.findings(plan.made, toy, plan.chosen, "tiny")
            assert len(found.verdicts) == len(how_much_data.CLAIMS)
        assert {v.answer for v in found.verdicts} == {"unclear"}

    def test_a_fit_on_some_rows_is_the_fit_on_those_rows(self, bench: Bench, toy: loader.Domain) -> None:
        examples = toy.questions("choices", "train")
        lora = settings().shared.lora
        for recipe in (Drawn(lora, rows=5), Drawn(lora, folds=3), Drawn(lora, folds=3, fold=2, alone=True)):
            model = bench.model("float32")
            made = recipe.fit(model, examples, "high", 1, (), lambda *_: None)
            same = lora.fit(model, recipe.some(examples, 1), "high", 1, (), lambda *_: None)
            whole = lora.fit(model, examples, "high", 1, (), lambda *_: None)
            (one, two, three) = ([t for d in m.deltas.values() for t in d.tensors().values()] for m in (made, same, whole))  # fmt: skip
            assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
            assert not all(torch.equal(a, b) for a, b in zip(one, three, strict=True))

    @pytest.mark.parametrize("odd", [{"rows": "4,99"}, {"few": "3"}, {"epochs": ""}, {"epochs": "0,2"}, {"folds": "1"}])
    def test_what_cannot_be_is_refused(self, bench: Bench, toy: loader.Domain, odd: dict[str, str]) -> None:
        with pytest.raises(BadData, match=r"Set them so|Use --set"):
            run.plan("how-much-data", bench, toy, "smoke", {**SMALL, **odd})

    def test_scales(self) -> None:
        full = how_much_data.settings("full")
        assert (full.rows, full.epochs, full.folds, len(full.shared.seeds)) == ((16, 32, 64, 128), (1, 3), 0, 5)
        assert how_much_data.settings("small").few in how_much_data.settings("small").rows
