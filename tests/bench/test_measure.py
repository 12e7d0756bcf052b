"""The whole path on tiny nets in float32: real contenders in their own process give our losses and scores."""

from dataclasses import replace
from pathlib import Path

import pytest

from selfaware.bench import data, limit, ours
from selfaware.bench.contender import Absent, Places, running
from selfaware.bench.measure import Result, measure
from selfaware.bench.works import (
    HOOKS,
    HOOKS_SCORED,
    NAIVE,
    NAIVE_EAGER,
    NAIVE_SCORED,
    PEFT,
    PEFT_SCORED,
    TRL,
    Contender,
    Fits,
    Grid,
    Work,
)
from selfaware.domains import loader
from selfaware.errors import BadData
from selfaware.models.fake import fake
from selfaware.types import Form

SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "contenders"
FIT = Fits("lora", "all", groups=6, epochs=2, batch=4, tokens=60)
VECTOR = replace(FIT, method="vector", positions="last_prompt", form="letters", orders=1)
SWEEP = Grid("last_prompt", layers=2, strengths=2, questions=4, tokens=60)


@pytest.fixture(scope="module")
def asked() -> data.Asked:
    domain = loader.load("risky_choices")
    forms: tuple[Form, ...] = ("cloze", "letters")
    return {form: domain.questions("choices", "train", form)[:40] for form in forms}


def measured(works: list[Work], asked: data.Asked, environments: Path) -> Result:
    places = Places(SCRIPTS, environments)
    return measure([lambda _: fake("llama")], works, asked, places, 1, False, lambda *_: None)


CONTRAST = replace(FIT, objective="contrast", positions="answer", polarities=("high", "low"))
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "work",
    [
        Work("contrast", CONTRAST, (PEFT,)),
        pytest.param(Work("fit", FIT, (PEFT_SCORED,)), marks=SLOW),
        pytest.param(Work("vector", VECTOR, (HOOKS,)), marks=SLOW),
        pytest.param(Work("answer", replace(VECTOR, positions="answer", form="cloze"), (HOOKS_SCORED,)), marks=SLOW),
        pytest.param(Work("at once", replace(VECTOR, together=True, seeds=(0, 1)), (HOOKS_SCORED,)), marks=SLOW),
        Work("all", replace(SWEEP, positions="all"), (NAIVE,)),
        pytest.param(Work("plain attention", replace(SWEEP, positions="all"), (NAIVE_EAGER,)), marks=SLOW),
        pytest.param(Work("last", SWEEP, (NAIVE_SCORED,)), marks=SLOW),
    ],
    ids=lambda w: w.name,
)
def test_a_contender_gives_our_losses_or_scores(work: Work, asked: data.Asked, tmp_path: Path) -> None:
    """All of them in float32, not the first step's alone."""
    works = [work, replace(work, name="again")]
    result = measured(works, asked, tmp_path)
    assert [x.work for x in result.lines] == [work.name, "again"]
    for row in result.lines:
        assert not row.why
        assert row.same, row
        assert row.max_difference is not None
        assert row.max_difference < 2e-5, row
        assert row.ratio is not None
        assert row.ratio > 0
        assert "torch" in row.versions
    assert result.ok
    assert result.header["matmul"]["float32"] > 0
    assert set(result.plain()) == {"header", "rows", "stages"}


def test_parts_of_a_fit_share_its_runs(asked: data.Asked, tmp_path: Path) -> None:
    """An epoch is less than the fit: were runs not shared, a second process would have to start."""
    nobody = Contender("nobody", "nobody.py")
    works = [Work("fit", FIT, (nobody,)), Work("epoch", FIT, (nobody,), "epoch")]
    told: list[tuple[float, float]] = []
    places = Places(SCRIPTS, tmp_path)
    measure(
        [lambda _: fake("llama")], works, asked, places, 3, False, lambda done, total, _: told.append((done, total))
    )
    assert told == [(0, 3), (3, 3)]


def test_stages_of_a_model(asked: data.Asked) -> None:
    model = fake("llama")
    works = [Work("vector", VECTOR, ()), Work("sweep", SWEEP, ()), Work("two", CONTRAST, ())]
    found = list(limit.stages(model, works, asked))
    suffixes = [f"suffix forward: {n}" for n in ("single tokens", "2 strengths at once", "cloze answers")]
    assert [s.name for s in found] == ["prefill", *suffixes, "training step: vector", "sweep"]
    for stage in found:
        assert 0 < stage.share < 1.5
        assert stage.seconds > 0 and stage.possible > 0
        assert abs(sum(stage.spent.values()) - 1) < 1e-6


def test_the_numbers_of_a_grid_depend_on_layer_and_strength(asked: data.Asked) -> None:
    model = fake("llama")
    questions = data.chosen(model, SWEEP, asked)
    directions = ours.vectors(model, SWEEP, data.scored(model, questions))
    assert [s.block for s in directions] == [1, 3]
    run = ours.grid(model, SWEEP, questions, directions)()
    assert len(run.numbers) == 2 * 2 * 4
    assert len({round(x, 5) for x in run.numbers}) == 16


def test_who_is_not_installed_has_a_row_that_says_so(asked: data.Asked, tmp_path: Path) -> None:
    nobody = Contender("nobody", "nobody.py")
    result = measured([Work("fit", FIT, (TRL, nobody))], asked, tmp_path)
    assert [x.ratio for x in result.lines] == [None, None]
    assert "setup.sh trl" in result.lines[0].why
    assert "nobody.py" in result.lines[1].why
    assert result.ok


def test_who_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_of_that_name")
    with (
        pytest.raises(Absent, match="nothing_of_that_name"),
        running(Contender("broken", "broken.py"), Places(tmp_path, tmp_path), {}),
    ):
        pass
    with (
        pytest.raises(Absent, match="KeyError"),
        running(Contender("hooks", "hooks_loop.py"), Places(SCRIPTS, tmp_path), {"threads": 1}),
    ):
        pass


def test_prompts_are_cut_from_the_head_to_their_length(asked: data.Asked) -> None:
    model = fake("llama")
    for question in data.chosen(model, SWEEP, asked):
        rendered = model.render(question, "raw")
        assert 40 <= len(rendered.prompt) <= 60
        assert rendered.text.endswith("Answer:")
    with pytest.raises(BadData, match="stem alone"):
        data.chosen(model, replace(SWEEP, tokens=3), asked)
    with pytest.raises(BadData, match="this work needs 1000"):
        data.chosen(model, replace(SWEEP, questions=1000), asked)


def test_orders_are_drawn_or_fixed(asked: data.Asked) -> None:
    model = fake("llama")
    for orders in (1, 2):
        questions = data.chosen(model, replace(FIT, orders=orders), asked)
        assert len(questions) == 6 * orders
    drawn = data.batches(model, FIT, questions, "high", 0)
    assert [len(step) for step in drawn] == [4, 4, 4]
    other = data.batches(model, replace(FIT, objective="contrast"), questions, "low", 0)
    assert [r.prompt for r in other[0][::2]] == [r.prompt for r in drawn[0]]
    assert [r.answer for r in other[0][1::2]] == [r.answer for r in drawn[0]]
