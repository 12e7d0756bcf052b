"""read-out: planted directions speak, or do not; verdicts all three ways; a whole run; words that are missing; failed cells."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from selfaware import launch, spec
from selfaware.comparisons.comparison import Comparison
from selfaware.domains import loader
from selfaware.errors import BadData
from selfaware.experiments import read_out, run
from selfaware.findings import words
from selfaware.interventions.base import Constant, Intervention
from selfaware.report.page import Ranked
from selfaware.stages import Bench
from selfaware.types import Polarity, Row, Site, Verdict

SMALL = {
    "shared.lora.site": "1.mlp.down_proj",
    "shared.wider.site": "1.mlp",
    "shared.vector.site": "1",
    "shared.limit": "0",
}


def quiet(done: float, total: float, label: str) -> None:
    pass


@dataclass(frozen=True)
class Planted:
    """A vector that speaks for a's and against b's (for `low` the reverse), for nothing that is counted, or for anything."""

    what: str

    needs: Sequence[Any] = ()
    follows: bool = False

    @property
    def label(self) -> str:
        return self.what

    def fit(self, model: Any, examples: Any, polarity: Polarity, seed: int, given: Any, on_step: Any) -> Intervention:
        def rows(texts: Sequence[str]) -> torch.Tensor:
            found = model.head.weight[
                [model.tokenizer(t, add_special_tokens=False).input_ids[0] for t in texts]
            ].float()
            return (found / found.norm(dim=1, keepdim=True)).sum(0)

        noise = torch.randn(model.width, generator=torch.Generator().manual_seed(seed))
        if self.what == "noise":
            v = noise
        elif self.what == "speaks":
            v = 20 * (rows(("a", "A", " a", " A")) - rows(("b", "B", " b", " B"))) + 0.1 * noise
        else:
            v = 20 * (rows(("K", "k", " k", " K", "Q")) - rows(("z", "Z", " z", " Z", "X"))) + 0.1 * noise
        return Intervention({Site(1): Constant(v if polarity == "high" else -v)}, "answer")


def planted(bench: Bench, toy: loader.Domain, what: str, **settings: str) -> tuple[Verdict, tuple[Row, ...]]:
    """The verdict where the primary arm's vector is the one said and the control is noise; really fitted, looked at, read back."""
    chosen = spec.override(read_out.settings("smoke"), {**SMALL, "shared.seeds": "0,1,2", "draws": "199", **settings})
    made = read_out.comparison(bench, toy, chosen)
    kept = {read_out.PRIMARY: what, "random": "noise"}
    arms = [replace(a, recipes=(Planted(kept.get(a.name, "mute")),), sets=("none",)) for a in made.arms]
    made = Comparison(bench, arms, made.sets, made.seeds, made.views)
    made.failed = launch.run(made.jobs(), quiet)
    assert made.failed == {}
    found = read_out.findings(made, toy, chosen, "tiny")
    return found.verdicts[0], found.rows


class TestPlanted:
    def test_a_direction_that_speaks_is_heard_and_the_random_one_is_not(self, bench: Bench, toy: loader.Domain) -> None:
        verdict, rows = planted(bench, toy, "speaks")
        assert verdict.answer == "yes", verdict
        by = {(r.method, r.measure): r for r in rows}
        own = next(
            r for (m, name), r in by.items() if m.startswith("natural vector of LoRA rank 1") and name == "words_excess"
        )
        random = by["random direction", "words_excess"]
        assert own.condition["looks"] == 6
        assert int(own.condition["found"]) > 24, "more than two of five at each of twelve ends"
        assert float(own.condition["p"]) <= 0.05
        assert float(random.condition["p"]) > 0.05
        assert (own.value or 0) > (random.value or 0)

    def test_a_direction_that_speaks_of_something_else_does_not(self, bench: Bench, toy: loader.Domain) -> None:
        verdict, _ = planted(bench, toy, "mute")
        assert verdict.answer == "no", verdict

    def test_the_wrong_way_round_is_no_yes(
        self, bench: Bench, toy: loader.Domain, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Words of the opposite at the high end: a sign swapped anywhere would turn this into a yes."""
        monkeypatch.setattr(words, "stems", lambda _: {"high": ("b",), "low": ("a",)})
        verdict, _ = planted(bench, toy, "speaks")
        assert verdict.answer == "no", verdict

    def test_one_seed_is_unclear(self, bench: Bench, toy: loader.Domain) -> None:
        verdict, _ = planted(bench, toy, "speaks", **{"shared.seeds": "0"})
        assert (verdict.answer, verdict.reason) == ("unclear", "one seed")

    def test_noise_with_a_narrow_margin_is_unclear(self, bench: Bench, toy: loader.Domain) -> None:
        verdict, _ = planted(bench, toy, "noise", margin="0.01", count="20")
        assert verdict.answer == "unclear", verdict

    def test_words_that_the_vocabulary_lacks_show_nothing(
        self, bench: Bench, toy: loader.Domain, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(words, "stems", lambda _: {"high": ("danger",), "low": ("b",)})
        verdict, _ = planted(bench, toy, "speaks")
        assert verdict.answer == "unclear"
        assert verdict.reason.startswith("instrument")


class TestWords:
    def test_a_domain_may_list_its_stems(self, toy: loader.Domain) -> None:
        assert words.stems(toy) == {"high": ("a",), "low": ("b",)}, "the first item answered in one word"
        own = replace(toy, words={"high_stems": ("Risk", "risk", "gambl"), "low_stems": ("safe",)})
        assert words.stems(own) == {"high": ("risk", "gambl"), "low": ("safe",)}
        half = replace(toy, words={"high_stems": ("risk",)})
        assert words.stems(half)["high"] == ("a",)
        with pytest.raises(BadData, match="high_stems"):
            read_out.check(replace(toy, spoken=()))

    def test_the_built_in_domain_has_words(self) -> None:
        found = words.stems(loader.load("risky_choices"))
        assert any(w.startswith("risk") for w in found["high"])
        assert any(w.startswith("saf") for w in found["low"])
        assert not set(found["high"]) & set(found["low"])


class TestWholeRun:
    def test_page_and_numbers(self, bench: Bench, toy: loader.Domain) -> None:
        page, where = run.execute(bench, run.plan("read-out", bench, toy, "smoke", SMALL), quiet, [])
        assert where.is_file()
        assert page.failures == ()
        counts, lists = page.tables
        assert [row[0] for row in lists.rows] == ["red", "blue"]
        assert len(counts.rows) == 8
        names = {f.name for f in page.figures}
        assert {"words", "tokens-rank-1-natural-cosine", "tokens-rank-1-natural-logits", "tokens-learned-cosine", "tokens-random-cosine"} <= names  # fmt: skip
        for figure in page.figures:
            for panel in figure.panels:
                if isinstance(panel, Ranked):
                    assert len(panel.words) == len(panel.values) == len(panel.marked) == 5
        rows = [r for r in page.rows if r.measure == "words_excess"]
        assert len(rows) == 4
        assert all(0 < float(r.condition["p"]) <= 1 and r.low is not None for r in rows)
        again, _ = run.again(bench.store, "read-out", bench.local.name, "toy", "smoke")
        assert again.rows == page.rows
        assert again.verdicts == page.verdicts

    def test_cells_that_fail_leave_it_unclear(self, bench: Bench, toy: loader.Domain) -> None:
        broken = {**SMALL, "shared.lora.training.learning_rate": "1e308"}
        page, _ = run.execute(bench, run.plan("read-out", bench, toy, "smoke", broken), quiet, [])
        assert [(v.answer, v.reason) for v in page.verdicts] == [("unclear", "a cell failed")]
        assert [r for r in page.rows if r.method == "learned vector" and r.measure == "words_excess" and r.value is not None]  # fmt: skip

    def test_bad_settings(self, bench: Bench, toy: loader.Domain) -> None:
        with pytest.raises(BadData, match="count=0"):
            run.plan("read-out", bench, toy, "smoke", {**SMALL, "count": "0"})
