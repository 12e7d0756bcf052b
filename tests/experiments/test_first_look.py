"""first-look: verdicts all three ways on planted scores; whole runs on a tiny model; resuming; shared cells; failures."""

import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from selfaware import spec
from selfaware.comparisons.arms import Arm, Asked, Read, Replicate
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.measures import chosen as chosen_share
from selfaware.domains import loader
from selfaware.errors import BadData, BadFile, UnknownName
from selfaware.experiments import first_look, run
from selfaware.interventions.base import Intervention
from selfaware.metrics import options
from selfaware.models.batch import Row
from selfaware.models.hf import Model
from selfaware.stages import Bench
from selfaware.types import POLARITIES, Score

Watch = Callable[[float, float, str], None]


def quiet(done: float, total: float, label: str) -> None:
    pass


def planted(
    monkeypatch: pytest.MonkeyPatch,
    bench: Bench,
    toy: loader.Domain,
    other: Path,
    seeds: tuple[int, ...],
    effects: dict[tuple[str, str], float],
    noise: float = 0.02,
) -> dict[str, tuple[str, str]]:
    """Verdicts, with their reasons, when arm a moves set s by effects[a, s] at high and by its negative at low; the told arm moves reports unless said."""
    chosen = spec.override(
        replace(first_look.Settings(), seeds=seeds, unrelated=str(other)),
        {"lora.site": "1.mlp.down_proj", "vector.site": "1"},
    )
    made = first_look.comparison(bench, toy, chosen)
    owner: dict[str, tuple[Arm, str]] = {}
    for arm in made.arms:
        for polarity in POLARITIES:
            for of in made.replicates(arm, polarity):
                owner[of.fit.id if of.fit else of.system] = (arm, polarity)
    effects = {("told", name): 0.5 for name in ("self", "twin")} | effects

    def scores(self: Comparison, asked: Asked, of: Replicate, read: Read) -> tuple[Score, ...]:
        key = of.fit.id if of.fit else of.system
        arm, polarity = owner[key] if key else (None, "")
        rng = np.random.default_rng(zlib.crc32(f"{asked.name} {key}".encode()))
        move = effects.get((arm.name, asked.name), 0.0) * (1 if polarity == "high" else -1) if arm else 0.0
        start = {g: 0.3 * ((i % 5) - 2) for i, g in enumerate(asked.families)}
        found = tuple(Score(g, f, start[g] + move + noise * rng.standard_normal()) for g, f in asked.families.items())
        return options.chosen(found) if read is chosen_share else found

    monkeypatch.setattr(Comparison, "scores", scores)
    return {
        v.claim: (v.answer, v.reason)
        for v in first_look.findings(made, toy, first_look.settings("smoke"), "tiny").verdicts
    }


def answers(verdicts: dict[str, tuple[str, str]]) -> dict[str, str]:
    return {claim: answer for claim, (answer, _) in verdicts.items()}


class TestVerdicts:
    def test_yes_to_all(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, other: Path) -> None:
        got = planted(
            monkeypatch,
            bench,
            toy,
            other,
            (0, 1, 2),
            {("lora-1", "choices"): 2.0, ("lora-1", "self"): 1.0, ("lora-1", "twin"): 0.2},
        )
        assert answers(got) == {"behaviour-learned": "yes", "self-report-moved": "yes", "self-specific": "yes"}

    def test_no_to_all(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, other: Path) -> None:
        got = planted(monkeypatch, bench, toy, other, (0, 1, 2), {}, noise=0.0)
        assert answers(got) == {"behaviour-learned": "no", "self-report-moved": "no", "self-specific": "no"}

    def test_unclear_with_one_seed(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, other: Path
    ) -> None:
        got = planted(monkeypatch, bench, toy, other, (0,), {("lora-1", "choices"): 2.0, ("lora-1", "self"): 1.0})
        assert set(answers(got).values()) == {"unclear"}

    def test_unclear_where_a_control_moves_as_far(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, other: Path
    ) -> None:
        moves = {(a, s): 1.0 for a in ("lora-1", "unrelated") for s in ("choices", "self")}
        got = planted(monkeypatch, bench, toy, other, (0, 1, 2), moves)
        assert got["behaviour-learned"][0] == got["self-report-moved"][0] == "unclear"

    def test_twins_do_not_gate_the_self_report(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, other: Path
    ) -> None:
        got = planted(monkeypatch, bench, toy, other, (0, 1, 2), {("lora-1", "self"): 1.0, ("lora-1", "twin"): 1.0})
        assert got["self-report-moved"][0] == "yes"
        assert got["self-specific"][0] == "no"

    def test_unclear_when_the_report_moves_against_training(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, other: Path
    ) -> None:
        got = planted(monkeypatch, bench, toy, other, (0, 1, 2), {("lora-1", "self"): -1.0})
        assert got["self-report-moved"][0] == "unclear"

    def test_noise_is_unclear(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, other: Path
    ) -> None:
        got = planted(monkeypatch, bench, toy, other, (0, 1, 2), {}, noise=1.0)
        assert got["self-report-moved"][0] == "unclear"

    def test_a_deaf_instrument_gives_no_verdict(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, other: Path
    ) -> None:
        """The positive arms are the base model here: nothing could have been seen, so nothing is concluded."""
        deaf = {("told", "self"): 0.0, ("told", "twin"): 0.0}
        got = planted(monkeypatch, bench, toy, other, (0, 1, 2), deaf, noise=0.0)
        assert got["self-report-moved"] == got["self-specific"] == ("unclear", "instrument")
        assert got["behaviour-learned"][0] == "no", "the questions about choices are not self-report"
        moved = {**deaf, ("lora-1", "self"): 1.0}
        assert planted(monkeypatch, bench, toy, other, (0, 1, 2), moved)["self-report-moved"] == (
            "unclear",
            "instrument",
        )

    def test_positive_controls_that_move_the_wrong_way_are_deaf_too(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, other: Path
    ) -> None:
        got = planted(monkeypatch, bench, toy, other, (0, 1, 2), {("told", "self"): -0.5}, noise=0.0)
        assert got["self-report-moved"] == ("unclear", "instrument")


class TestWholeRun:
    def test_page_and_numbers(self, bench: Bench, toy: loader.Domain, overrides: dict[str, str]) -> None:
        plan = run.plan("first-look", bench, toy, "small", overrides)
        page, where = run.execute(bench, plan, quiet, ["selfaware", "run", "first-look"])
        assert where.is_file()
        assert page.failures == ()
        summary = json.loads((where.parent / "summary.json").read_text())
        assert {v["claim"] for v in summary["verdicts"]} == {"behaviour-learned", "self-report-moved", "self-specific"}
        primary = [
            r
            for r in summary["rows"]
            if r["method"] == "LoRA rank 1" and r["measure"] == "choice_share" and r["kind"] == "absolute"
        ]
        assert {r["polarity"] for r in primary} == {"high", "low"}
        assert all(
            r["n"] == len({f for f, p in toy.parts.items() if p == "test"}) and r["seeds"] == 2
            for r in primary
            if r["questions"] == "choices/test"
        )
        asked = {r["questions"] for r in summary["rows"]}
        everything = {
            "choices/test",
            "choices-letters/test",
            "lotteries",
            "lotteries-letters",
            "self",
            "twin",
            "unrelated",
            "self-shown",
        }
        assert asked >= everything | {"twin-shown", "other_form", "spoken", "spoken-twin", "forecast/test", "neutral"}
        assert {t["name"] for t in summary["tables"]} == {"instrument", "surface", "damage", "unread"}
        assert {r["method"] for r in summary["rows"]} >= {
            "random vectors",
            "random, residual covariance",
            "unrelated fine-tune",
            "shuffled labels",
            "told by system prompt",
            "trained on self-descriptions",
        }
        mass = [r for r in summary["rows"] if r["measure"] == "valid_mass" and r["kind"] == "absolute"]
        assert mass
        assert all(0 <= r["value"] <= 1 for r in mass)
        again, _ = run.again(bench.store, "first-look", bench.local.name, "toy", "small")
        assert again.rows == page.rows
        assert again.verdicts == page.verdicts

    def test_learning_rate_of_zero_never_gives_a_yes(
        self, bench: Bench, toy: loader.Domain, overrides: dict[str, str]
    ) -> None:
        still = {
            **overrides,
            "lora.training.learning_rate": "0",
            "wide.training.learning_rate": "0",
            "vector.training.learning_rate": "0",
        }
        page, _ = run.execute(bench, run.plan("first-look", bench, toy, "demo", still), quiet, [])
        assert "yes" not in {v.answer for v in page.verdicts}
        moved = [r.value for r in page.rows if r.method == "LoRA rank 1" and r.kind == "shift"]
        assert moved
        assert all(v == pytest.approx(0.0, abs=1e-5) for v in moved)

    def test_a_fit_that_diverges_fails_alone(self, bench: Bench, toy: loader.Domain, overrides: dict[str, str]) -> None:
        page, _ = run.execute(
            bench,
            run.plan("first-look", bench, toy, "demo", {**overrides, "vector.training.learning_rate": "1e308"}),
            quiet,
            [],
        )
        failed = {what for what, _ in page.failures}
        assert any("trained vector" in what for what in failed)
        assert not any("LoRA" in what for what in failed)
        assert any("random" in what for what in failed), "random vectors need the trained one's norm"
        assert [r for r in page.rows if r.method == "LoRA rank 1" and r.value is not None]
        assert "unclear" in {v.answer for v in page.verdicts}

    def test_what_is_finished_is_not_done_twice(
        self, bench: Bench, toy: loader.Domain, overrides: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Stop(BaseException):
            pass

        seen: list[str] = []

        def stopping(done: float, total: float, label: str) -> None:
            seen.append(label)
            if len(set(seen)) > 12:
                raise Stop

        with pytest.raises(Stop):
            run.execute(bench, run.plan("first-look", bench, toy, "demo", overrides), stopping, [])
        stamps = {p: p.stat().st_mtime_ns for p in bench.store.root.glob("cells/*/done.json")}
        assert stamps
        run.execute(bench, run.plan("first-look", bench, toy, "demo", overrides), quiet, [])
        assert all(p.stat().st_mtime_ns == t for p, t in stamps.items())
        monkeypatch.setattr(Bench, "model", lambda *_: pytest.fail("a finished run loads no model"))
        run.execute(bench, run.plan("first-look", bench, toy, "demo", overrides), quiet, [])

    def test_two_experiments_share_a_cell(self, bench: Bench, toy: loader.Domain, overrides: dict[str, str]) -> None:
        first = run.plan("first-look", bench, toy, "demo", overrides)
        second = run.plan("choose-settings", bench, toy, "small", {
            "seeds": "0,1", "rates": "0.01", "epochs": "2", "lora_sites": "1.mlp.down_proj", "lora.training.batch": "8",
            "vector_sites": "1",
        })  # fmt: skip
        shared = {j.id for j in first.jobs if j.label.startswith("fit")} & {
            j.id for j in second.jobs if j.label.startswith("fit")
        }
        assert len(shared) == 4, "rank-1 LoRA, two polarities, two seeds"

    def test_an_altered_answer_is_noticed(self, bench: Bench, toy: loader.Domain, overrides: dict[str, str]) -> None:
        run.execute(bench, run.plan("first-look", bench, toy, "demo", overrides), quiet, [])
        answers = next(bench.store.root.glob("cells/*/answers.jsonl"))
        answers.write_text(answers.read_text().replace("-", "", 1))
        with pytest.raises(BadFile, match="checksum"):
            run.again(bench.store, "first-look", bench.local.name, "toy", "demo")

    def test_a_domain_without_statements_is_refused(self, bench: Bench, overrides: dict[str, str]) -> None:
        with pytest.raises(BadData, match="self"):
            run.plan("first-look", bench, loader.load("unrelated_style"), "demo", overrides)

    def test_unknown_names(self, bench: Bench, toy: loader.Domain) -> None:
        with pytest.raises(UnknownName, match="first-look"):
            run.plan("first-lok", bench, toy, "demo", {})
        with pytest.raises(UnknownName, match="small"):
            run.plan("first-look", bench, toy, "smal", {})
        with pytest.raises(UnknownName, match=r"lora\.rank"):
            run.plan("first-look", bench, toy, "small", {"lora.rnk": "2"})


class TestStages:
    def test_an_interrupted_asking_goes_on(
        self, bench: Bench, toy: loader.Domain, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        questions = toy.questions("self")
        whole = bench.ask(questions, "", None, "raw")
        cell = bench.store.cell(bench.ask_cell(questions, "", "raw").id)
        lines = cell.path("answers.jsonl").read_text().splitlines(keepends=True)
        cell.path("done.json").unlink()
        cell.path("answers.jsonl").write_text("".join(lines[:5]) + lines[5][:20])
        again = bench.ask(questions, "", None, "raw")
        assert [a.id for a in again] == [a.id for a in whole]
        assert all(a.logprobs == pytest.approx(b.logprobs, abs=1e-5) for a, b in zip(again, whole, strict=True))

    def test_a_new_question_set_never_refits(self, bench: Bench, toy: loader.Domain, tmp_path: Path) -> None:
        recipe = spec.override(first_look.Settings().lora, {"site": "1.mlp.down_proj"})
        before = bench.fit_cell(toy.questions("choices", "train"), recipe, "high", 0)
        folder = tmp_path / "changed"
        folder.mkdir()
        for name in ("domain.toml", "records.jsonl"):
            (folder / name).write_bytes((toy.folder / name).read_bytes())
        assert bench.fit_cell(loader.load(str(folder)).questions("choices", "train"), recipe, "high", 0).id == before.id

    def test_fit_is_kept_as_it_was_made(self, bench: Bench, toy: loader.Domain) -> None:
        recipe = spec.override(first_look.Settings().lora, {"site": "1.mlp.down_proj", "training.epochs": "1"})
        examples = toy.questions("choices", "train")
        made = bench.fit(examples, recipe, "high", 0)
        kept = bench.fit(examples, recipe, "high", 0)
        model: Model = bench.model("float32")
        assert isinstance(kept, Intervention)
        question = toy.questions("self")[:1]
        rows = _rows(model, question)
        with made.on(model):
            first = model.logprobs(rows)
        with kept.on(model) as touched:
            second = model.logprobs(rows)
        assert touched.tokens > 0
        assert first.tolist() == second.tolist()


def _rows(model: Model, questions: tuple) -> list:  # type: ignore[type-arg]
    return [Row(r.prompt, o[0]) for r in (model.render(q, "raw") for q in questions) for o in r.options]
