"""audit, one-factor and choose-settings, run whole on a tiny model."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from selfaware import spec
from selfaware.domains import loader
from selfaware.errors import BadData, BadFile, UnknownName
from selfaware.experiments import audit, first_look, run
from selfaware.interventions import peft_io
from selfaware.interventions.given import given
from selfaware.stages import Bench


def quiet(done: float, total: float, label: str) -> None:
    pass


def audited(bench: Bench, toy: loader.Domain, path: Path, site: str = "") -> run.Plan:
    which = given(path, site)
    named = {f"given.{name}": str(value) for name, value in spec.plain(which).items() if name != "is"}
    return run.plan("audit", bench, toy, "smoke", {**named, "controls": "true", "limit": "0", "mechanism.every": "1"})


class TestAudit:
    def test_an_adapter_from_elsewhere_has_the_effect_that_its_fit_had(
        self, bench: Bench, toy: loader.Domain, tmp_path: Path
    ) -> None:
        recipe = replace(first_look.Settings().lora, site="1.mlp.down_proj", positions="all")
        examples = toy.questions("choices", "train")
        fitted = bench.fit(examples, recipe, "high", 0)
        peft_io.export(fitted, tmp_path / "adapter", bench.model("float32"))
        plan = audited(bench, toy, tmp_path / "adapter")
        page, where = run.execute(bench, plan, quiet, ["selfaware", "audit", "adapter"])
        assert where.is_file()
        assert page.failures == ()
        assert [v.claim for v in page.verdicts] == [c.name for c in audit.CLAIMS]
        (level,) = [
            r
            for r in page.rows
            if r.measure == "report_score"
            and r.kind == "absolute"
            and r.questions == "self"
            and r.method.startswith("given")
        ]
        cell = bench.ask_cell(toy.questions("self"), bench.fit_cell(examples, recipe, "high", 0).id, "raw")
        bench.ask(toy.questions("self"), bench.fit_cell(examples, recipe, "high", 0).id, fitted, "raw")
        scores = [s.value for s in bench.score(cell.id) if s.value is not None]
        assert level.value == pytest.approx(sum(scores) / len(scores), abs=1e-4)
        assert (level.seeds, level.n) == (0, 12)
        assert level.low is not None
        rows = {r.measure: r for r in page.rows if r.method.startswith("given") and r.polarity == "effect"}
        shift = next(
            r
            for r in page.rows
            if r.method.startswith("given")
            and r.kind == "shift"
            and r.questions == "self"
            and r.measure == "report_score"
        )
        assert rows["self_effect"].value == pytest.approx(shift.value), (
            "without another polarity an effect is the shift"
        )
        again, _ = run.again(bench.store, "audit", bench.local.name, "toy", "smoke")
        assert again.rows == page.rows

    def test_a_vector_needs_its_site(self, bench: Bench, toy: loader.Domain, tmp_path: Path) -> None:
        save_file({"v": torch.randn(32, generator=torch.Generator().manual_seed(1))}, tmp_path / "v.safetensors")
        with pytest.raises((BadData, UnknownName), match="site"):
            audited(bench, toy, tmp_path / "v.safetensors")
        page, _ = run.execute(bench, audited(bench, toy, tmp_path / "v.safetensors", "1"), quiet, [])
        assert page.failures == ()

    def test_an_adapter_that_does_not_fit_is_refused_with_shapes(
        self, bench: Bench, toy: loader.Domain, tmp_path: Path
    ) -> None:
        save_file({"v": torch.ones(33)}, tmp_path / "v.safetensors")
        page, _ = run.execute(bench, audited(bench, toy, tmp_path / "v.safetensors", "1"), quiet, [])
        reasons = [why for what, why in page.failures if what.startswith("fit given")]
        assert reasons
        assert "33" in reasons[0]
        assert "32" in reasons[0]
        assert {v.answer for v in page.verdicts} == {"unclear"}

    def test_nothing_named(self, bench: Bench, toy: loader.Domain) -> None:
        with pytest.raises(BadData, match="selfaware audit PATH"):
            run.plan("audit", bench, toy, "smoke", {})
        with pytest.raises(BadFile):
            given("nowhere")
        assert audit.settings("full").scrambled == 10


class TestOneFactor:
    def test_every_arm_differs_in_one_thing_and_is_reported(
        self, bench: Bench, toy: loader.Domain, other: Path
    ) -> None:
        small = {
            "lora.site": "1.mlp.down_proj", "sites": "0.mlp.down_proj,2.mlp.down_proj", "ranks": "2", "families": "3",
            "lora.training.epochs": "1", "lora.training.batch": "8", "wide.rank": "2", "wide.training.batch": "8",
            "wide.training.epochs": "1", "unrelated": str(other), "seeds": "0,1", "limit": "0",
        }  # fmt: skip
        plan = run.plan("one-factor", bench, toy, "smoke", small)
        labels = [a.label for a in plan.made.arms]
        assert labels[0] == "standard"
        assert {
            "objective sft",
            "form letters",
            "template chat",
            "site 0.mlp.down_proj",
            "positions last_prompt",
            "positions all",
            "rank 2",
            "3 families",
            "shuffled labels",
            "unrelated fine-tune",
        } <= set(labels)
        standard = plan.made.arms[0]
        for arm in plan.made.arms:
            if arm.label.startswith(("site", "objective", "positions", "rank 2", "template")):
                a, b = spec.plain(arm.recipes[0]), spec.plain(standard.recipes[0])
                changed = [k for k in a if a[k] != b[k] and k != "training"]
                changed += [k for k in a["training"] if a["training"][k] != b["training"][k]]
                assert len(changed) == 1, (arm.label, changed)
                assert arm.examples == standard.examples
        few = next(a for a in plan.made.arms if a.label == "3 families")
        assert len({q.family for q in few.examples}) == 3
        page, where = run.execute(bench, plan, quiet, [])
        assert page.failures == ()
        for label in labels:
            measures = {r.measure for r in page.rows if r.method == label and r.value is not None}
            assert {
                "choice_share",
                "choice_share_effect",
                "self_effect",
                "twin_effect",
                "self_minus_twin",
            } <= measures, label
        (looks,) = json.loads((where.parent / "summary.json").read_text())["tables"]
        assert looks["name"] == "looks"
        assert all(0 <= float(row[2]) <= 1 for row in looks["rows"])


class TestImported:
    def test_first_look_runs_on_letters_alone(
        self, bench: Bench, toy: loader.Domain, tmp_path: Path, overrides: dict[str, str]
    ) -> None:
        folder = tmp_path / "letters"
        folder.mkdir()
        text = (toy.folder / "domain.toml").read_text()
        start, end = text.index("[forms.cloze]"), text.index("[statements]")
        fixed = '[forms.letters]\nuser = "{situation}"\nstem = ""\nfixed = true\nsingle = true\n'
        (folder / "domain.toml").write_text(f'self_from = "{toy.folder}"\n' + text[:start] + fixed + text[end:])
        rows = [
            {
                "id": f"q{n}",
                "family": f"q{n}",
                "situation": f"Pick {n}. A or B?",
                "high": "AB"[n % 2],
                "low": "BA"[n % 2],
            }
            for n in range(20)
        ]
        (folder / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        domain = loader.load(str(folder))
        assert domain.form == "letters"
        page, _ = run.execute(bench, run.plan("first-look", bench, domain, "demo", overrides), quiet, [])
        assert page.failures == ()
        base = next(r for r in page.rows if r.measure == "choice_share" and r.method == "base")
        assert base.n == 6, "each question of the test part is its own family"
