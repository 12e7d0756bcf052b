"""minimal-rank: verdicts all three ways on planted answers; a whole run; ranks that no model has; cells that fail."""

from dataclasses import replace

import pytest

from selfaware.comparisons.shared import Shared
from selfaware.domains import loader
from selfaware.errors import BadData
from selfaware.experiments import minimal_rank, run
from selfaware.stages import Bench
from selfaware.types import Verdict
from tests.experiments.planting import TOLD, Effects, planted

TINY = {"shared.lora.site": "1.mlp.down_proj"}


def quiet(done: float, total: float, label: str) -> None:
    pass


def verdicts(
    monkeypatch: pytest.MonkeyPatch,
    bench: Bench,
    toy: loader.Domain,
    effects: Effects,
    noise: float = 0.0,
    seeds: tuple[int, ...] = (0, 1, 2),
) -> dict[str, Verdict]:
    chosen = replace(minimal_rank.settings("small"), shared=Shared(seeds=seeds))
    made = minimal_rank.comparison(bench, toy, chosen)
    planted(monkeypatch, made, effects, noise)
    return {v.claim: v for v in minimal_rank.findings(made, toy, chosen, "tiny").verdicts}


def both(small: float, wide: float) -> Effects:
    return {
        **TOLD,
        **{(arm, set): x for arm, x in (("module-1", small), ("widest", wide)) for set in ("choices", "self")},
    }


class TestVerdicts:
    def test_as_good_as_the_widest(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain) -> None:
        got = verdicts(monkeypatch, bench, toy, both(1.0, 1.0), 0.02)
        assert {v.answer for v in got.values()} == {"yes"}
        assert "Smallest that is not inferior: rank 1, 15.mlp.down_proj." in got["rank-1-behaves"].text
        assert "Control: scrambled" in got["rank-1-behaves"].text

    def test_no_better_than_half(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain) -> None:
        got = verdicts(monkeypatch, bench, toy, {**both(0.2, 1.0), ("mlp-4", "self"): 1.0}, 0.01)
        assert got["rank-1-behaves"].answer == got["rank-1-reports"].answer == "no"
        assert "Smallest that is not inferior: none of those tried." in got["rank-1-behaves"].text
        assert "Smallest that is not inferior: rank 4, 15.mlp." in got["rank-1-reports"].text

    def test_just_below_the_margin_is_not_decided_by_noise(
        self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain
    ) -> None:
        got = verdicts(monkeypatch, bench, toy, both(0.8, 1.0), 0.3)
        assert got["rank-1-reports"].answer == "unclear"

    def test_nothing_to_be_a_share_of(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain) -> None:
        for wide in (0.0, -1.0):
            got = verdicts(monkeypatch, bench, toy, both(1.0, wide))
            assert got["rank-1-behaves"].answer == "unclear"
            assert "no established effect" in got["rank-1-behaves"].reason

    def test_a_deaf_instrument(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain) -> None:
        got = verdicts(monkeypatch, bench, toy, {**both(1.0, 1.0), ("told", "self"): 0.0})
        assert (got["rank-1-reports"].answer, got["rank-1-reports"].reason) == ("unclear", "instrument")
        assert got["rank-1-behaves"].answer == "yes"

    def test_one_seed(self, monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain) -> None:
        got = verdicts(monkeypatch, bench, toy, both(1.0, 1.0), seeds=(0,))
        assert {v.answer for v in got.values()} == {"unclear"}


class TestWholeRun:
    def test_page_and_again(self, bench: Bench, toy: loader.Domain) -> None:
        page, where = run.execute(bench, run.plan("minimal-rank", bench, toy, "smoke", TINY), quiet, [])
        assert where.is_file()
        assert page.failures == ()
        assert {v.claim for v in page.verdicts} == {c.name for c in minimal_rank.CLAIMS}
        parts = [r for r in page.rows if r.measure == "share_of_widest_behaviour"]
        assert [r.method for r in parts] == [
            "rank 1, 1.mlp.down_proj", "rank 2, 1.mlp.down_proj", "rank 2, 1.mlp", "scrambled rank 1, 1.mlp.down_proj",
        ]  # fmt: skip
        again, _ = run.again(bench.store, "minimal-rank", bench.local.name, "toy", "smoke")
        assert again.rows == page.rows
        assert again.verdicts == page.verdicts

    def test_a_widest_that_diverges_leaves_the_others(self, bench: Bench, toy: loader.Domain) -> None:
        wild = {**TINY, "shared.wide.training.learning_rate": "1e308"}
        page, _ = run.execute(bench, run.plan("minimal-rank", bench, toy, "smoke", wild), quiet, [])
        assert any("rank 2, all-linear" in what for what, _ in page.failures)
        assert {v.answer for v in page.verdicts} == {"unclear"}
        assert [r for r in page.rows if r.method == "rank 1, 1.mlp.down_proj" and r.value is not None]

    def test_a_smallest_that_diverges(self, bench: Bench, toy: loader.Domain) -> None:
        wild = {**TINY, "shared.lora.alpha": "1e308"}
        page, _ = run.execute(bench, run.plan("minimal-rank", bench, toy, "smoke", wild), quiet, [])
        assert any("scrambled" in what for what, _ in page.failures)
        assert {v.answer for v in page.verdicts} == {"unclear"}


class TestRanks:
    @pytest.mark.parametrize(
        ("name", "ranks"),
        [
            ("module_ranks", "1,33"),
            ("mlp_ranks", "33"),
            ("all_ranks", "64"),
            ("shared.wide.rank", "33"),
            ("module_ranks", "0"),
        ],
    )
    def test_out_of_range(self, bench: Bench, toy: loader.Domain, name: str, ranks: str) -> None:
        with pytest.raises(BadData, match=rf"rank {ranks.rsplit(',', maxsplit=1)[-1]}; one of 1 to 32, the width of"):
            run.plan("minimal-rank", bench, toy, "smoke", {**TINY, name: ranks})

    def test_as_wide_as_the_model_is_allowed(self, bench: Bench, toy: loader.Domain) -> None:
        assert run.plan("minimal-rank", bench, toy, "smoke", {**TINY, "module_ranks": "1,32"}).jobs

    def test_none(self, bench: Bench, toy: loader.Domain) -> None:
        with pytest.raises(BadData, match="module_ranks is empty"):
            run.plan("minimal-rank", bench, toy, "smoke", {**TINY, "module_ranks": ""})

    def test_a_domain_without_twins(self, bench: Bench) -> None:
        with pytest.raises(BadData, match="statements about itself"):
            run.plan("minimal-rank", bench, loader.load("unrelated_style"), "smoke", TINY)
