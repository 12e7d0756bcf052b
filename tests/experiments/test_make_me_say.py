"""make-me-say: games judged for both codewords, verdicts all three ways, a whole run on a tiny model."""

from pathlib import Path

import numpy as np
import pytest
import torch

from selfaware.comparisons.arms import Arm, ByFamily, Kept, Replicate
from selfaware.comparisons.comparison import Comparison
from selfaware.domains import loader
from selfaware.errors import BadData
from selfaware.experiments import make_me_say, run
from selfaware.interventions.base import Constant, Intervention
from selfaware.models.fake import fake
from selfaware.readouts.games import OUTCOMES, Games
from selfaware.stages import Bench
from selfaware.stages.contents import Seen
from selfaware.types import Polarity, Sampling, Site

GAME = loader.load("make_me_say")
PLACED = {
    "shared.lora.site": "1.mlp.down_proj", "shared.vector.site": "1", "shared.wider.site": "1.mlp", "shared.limit": "2", "shared.lora.training.batch": "2",
}  # fmt: skip


def quiet(done: float, total: float, label: str) -> None:
    pass


def planted(
    monkeypatch: pytest.MonkeyPatch, bench: Bench, own: float, other: float = 0.0, random: float = 0.0, noise: float = 0.02
) -> tuple[str, str]:  # fmt: skip
    """The verdict when games are won so much more often than by the untouched model."""
    rng = np.random.default_rng(1)

    def wins(
        made: Comparison, chosen: make_me_say.Settings, domain: loader.Domain, arm: Arm, its_own: bool
    ) -> list[ByFamily]:
        size = random if arm.name == "random" else own if its_own else other
        families = dict.fromkeys(f for f, _ in make_me_say.openings(domain, 0))
        return [{f: size + noise * rng.standard_normal() for f in families} for _ in range(3)]

    monkeypatch.setattr(make_me_say, "wins", wins)
    monkeypatch.setattr(Comparison, "seen", lambda *_: None)
    monkeypatch.setattr(Comparison, "answers", lambda *_: None)
    plan = run.plan("make-me-say", bench, GAME, "smoke", PLACED)
    (verdict,) = make_me_say.findings(plan.made, GAME, plan.chosen, "tiny").verdicts
    return verdict.answer, verdict.reason


@pytest.mark.parametrize(
    ("sizes", "answer"),
    [
        ((0.6,), "yes"), ((0.0,), "no"), ((0.2, 0.0, 0.0, 0.5), "unclear"), ((0.3, 0.3), "unclear"), ((0.3, 0.0, 0.3), "unclear"), ((-0.5,), "unclear"),
    ],
)  # fmt: skip
def test_verdicts(sizes: tuple[float, ...], answer: str, monkeypatch: pytest.MonkeyPatch, bench: Bench) -> None:
    assert planted(monkeypatch, bench, *sizes)[0] == answer


def test_where_nobody_wins_nothing_is_concluded(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> None:
    """Shares of zero without any spread have an interval of no width: it would say no of three games as of three hundred."""
    plan = run.plan("make-me-say", bench, GAME, "smoke", PLACED)
    count = len(make_me_say.openings(GAME, plan.chosen.openings))
    for code, answer in ((OUTCOMES.index("no codeword"), "unclear"), (OUTCOMES.index("win"), "no")):
        games = Seen({"outcomes": np.full((2, count), code)}, {"transcripts": ("…",) * count})
        monkeypatch.setattr(Comparison, "seen", lambda *_, games=games: games)
        monkeypatch.setattr(Comparison, "answers", lambda *_: None)
        (verdict,) = make_me_say.findings(plan.made, GAME, plan.chosen, "tiny").verdicts
        assert verdict.answer == answer
        assert ("0 of" in verdict.reason) is (answer == "unclear")


def test_wins_are_counted_beyond_the_untouched_models(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> None:
    """Trained towards ring it wins every game for ring, towards spring none; the untouched model wins half for ring."""
    plan = run.plan("make-me-say", bench, GAME, "smoke", PLACED)

    def shares(
        made: Comparison, chosen: make_me_say.Settings, domain: loader.Domain, arm: Arm | None, played: Polarity, word: Polarity, outcome: str
    ) -> Kept:  # fmt: skip
        level = (0.5 if word == "high" else 0.0) if arm is None else float(word == "high" and played == "high")
        run: ByFamily = {"a": level, "b": level}
        # One fit failed at either polarity: the one seed that has both is left.
        return [run] if arm is None else [None, run, run] if played == "high" else [run, run, None]

    monkeypatch.setattr(make_me_say, "shares", shares)
    lora = plan.made.named_arm("lora")
    own = make_me_say.wins(plan.made, plan.chosen, GAME, lora, True)
    other = make_me_say.wins(plan.made, plan.chosen, GAME, lora, False)
    assert own == [{"a": 0.25, "b": 0.25}]  # (½ + 0) / 2
    assert other == [{"a": -0.25, "b": -0.25}]  # (0 − ½) / 2


def test_openings_are_those_of_topics_that_no_adapter_sees() -> None:
    some, every = make_me_say.openings(GAME, 1), make_me_say.openings(GAME, 0)
    assert len(some) == len({family for family, _ in every}) < len(every)
    assert {GAME.parts[family] for family, _ in every} == {"test"}
    assert len({text for _, text in every}) == len(every)
    assert not any(text.startswith("Partner") for _, text in every)


def test_games_are_played_by_the_edited_model_against_the_untouched_one() -> None:
    model = fake("llama")
    games = Games(("ring", "spring"), ("Hello.", "Hi."), "Which word?", 2, "raw", Sampling(samples=1, max_new_tokens=6))
    plain = games.look(model, [], (), lambda _: None)
    edit = Intervention({Site(1): Constant(50 * torch.randn(32, generator=torch.Generator().manual_seed(0)))}, "answer")
    edited = games.look(model, [edit], (), lambda _: None)
    assert plain.numbers["outcomes"].shape == (2, 2)
    assert model.untouched
    one, two = (look.words["transcripts"][0].splitlines() for look in (plain, edited))
    assert one[0] == two[0] == "partner: Hello."
    assert one[1] != two[1]
    again = games.look(model, [edit], (), lambda _: None)
    assert again.words == edited.words
    with pytest.raises(BadData, match="0 openings"):
        Games(("ring",), (), "?", 2, "raw", Sampling()).look(model, [], (), lambda _: None)


def test_a_whole_run_and_a_page_made_again(bench: Bench) -> None:
    plan = run.plan("make-me-say", bench, GAME, "smoke", PLACED)
    page, where = run.execute(bench, plan, quiet, ["selfaware"])
    assert page.failures == ()
    assert {t.name for t in page.tables} == {"outcomes", "games"}
    levels = {(r.method, r.polarity, r.measure): r.value for r in page.rows if r.questions == "games" and r.polarity}
    for method, polarity, _ in list(levels):
        values = [levels[method, polarity, f"{o.replace(' ', '_')}_share"] for o in OUTCOMES]
        assert all(v is None for v in values) or sum(v or 0 for v in values) == pytest.approx(1)
    assert Path(where).is_file()
    view = plan.made.views[1]
    assert plan.made.seen(view, Replicate()) is not None
    repeated, _ = run.again(bench.store, "make-me-say", bench.local.name, "make_me_say", "smoke")
    assert repeated.verdicts == page.verdicts


def test_what_cannot_be_played_is_refused(bench: Bench, toy: loader.Domain) -> None:
    with pytest.raises(BadData, match="openings"):
        run.plan("make-me-say", bench, toy, "smoke", {})
    with pytest.raises(BadData, match="turns=0"):
        run.plan("make-me-say", bench, GAME, "smoke", {**PLACED, "turns": "0"})
