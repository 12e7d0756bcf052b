"""A grid in one call is the naive loop, cell by cell; and it runs no block more than its plan says."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from selfaware.ask import ask
from selfaware.errors import BadData, BadModel, UnknownName
from selfaware.interventions.base import Constant, Intervention
from selfaware.metrics.options import score
from selfaware.models import hooks
from selfaware.models.batch import Row
from selfaware.models.fake import Fake, fake
from selfaware.models.hf import Model
from selfaware.readouts.dose import Grid, at_strength, dose, residual_norms
from selfaware.types import POSITIONS, Positions, Prompt, Question, Site
from tests.trust import trusting

# A route that is not trusted warns and gives way to the plain one, whose numbers are right: here that is a failure.
pytestmark = pytest.mark.filterwarnings("error::UserWarning")

KINDS: tuple[Fake, ...] = ("llama", "gemma2", "gemma3", "gpt2", "qwen3_next")
ADDED = (-1.5, 0.0, 2.0)
NEAR = 1e-5
WINDOW = 8


def question(id: str, text: str, options: tuple[str, ...], high: int = 0, single: bool = False) -> Question:
    return Question(id, id, id, "choices", Prompt(text, "Answer:"), options, high, single)


# Longer and shorter than the window; two with one prompt; a letter that stands for high once first and once second.
QUESTIONS = (
    question("c1", "So", ("the red one", "blue")),
    question("l1", "Pick one of them, please.", ("A", "B"), 1, single=True),
    question("l2", "A or B", ("A", "B"), single=True),
    question("c2", "Which way, left or right?", ("left", "right"), 1),
    question("c3", "So", ("up", "down and out")),
    question("l3", "Pick one of them, please.", ("B", "A"), 1, single=True),
)


@cache
def model(kind: Fake) -> Model:
    return fake(kind, window=WINDOW)


def noise(seed: int, size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def vectors(m: Model, sites: Sequence[str] = ("0", "2.mlp.residual", "3")) -> dict[Site, Tensor]:
    return {Site.parse(s): noise(at, m.output_width(Site.parse(s))) for at, s in enumerate(sites)}


@torch.no_grad()
def one(m: Model, q: Question) -> float:
    """From whole passes over each option's own row, one at a time."""
    r = m.render(q, "raw")
    alone = lambda ids: m.logprobs([Row(r.prompt, ids)], plain=True).double()
    if q.single:
        each = [float(torch.cat([alone(v) for v in option]).logsumexp(0)) for option in r.options]
    else:
        each = [float(alone(option[0])) / len(option[0]) for option in r.options]
    return each[q.high] - each[1 - q.high]


@cache
def untouched(kind: Fake) -> Tensor:
    return torch.tensor([one(model(kind), q) for q in QUESTIONS])


def naive(
    m: Model, directions: Mapping[Site, Tensor], added: Sequence[float], positions: Positions, asked: Sequence[Question]
) -> Tensor:
    found = torch.zeros(len(directions), len(added), len(asked))
    for i, (site, v) in enumerate(directions.items()):
        for j, a in enumerate(added):
            with Intervention({site: Constant(v * a)}, positions).on(m):
                found[i, j] = torch.tensor([one(m, q) for q in asked])
    return found


def near(a: Tensor, b: Tensor, within: float = NEAR) -> None:
    assert a.shape == b.shape
    assert float((a - b).abs().max()) < within


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_cell_is_the_naive_loops(kind: Fake, positions: Positions) -> None:
    m, directions = model(kind), vectors(model(kind))
    base = untouched(kind)
    true = naive(m, directions, (ADDED[0], ADDED[2]), positions, QUESTIONS)
    assert float((true - base).abs().amax((1, 2)).min()) > 0.01  # every site can be got wrong
    for _ in range(2):  # the second time out of what is kept
        found = dose(m, directions, ADDED, positions, QUESTIONS, "raw")
        near(found[:, [0, 2]], true)
        near(found[:, 1], base.expand(len(directions), -1))
    assert m.untouched
    assert hooks.hook_count(m.net) == 0


@pytest.mark.parametrize("positions", POSITIONS)
def test_it_is_what_asking_and_scoring_give(positions: Positions) -> None:
    m, directions = model("llama"), vectors(model("llama"), ("1",))
    found = dose(m, directions, ADDED, positions, QUESTIONS, "chat")
    for j, a in enumerate(ADDED):
        with Intervention({Site(1): Constant(a * directions[Site(1)])}, positions).on(m):
            answers = list(ask(m, QUESTIONS, "chat"))
        values = [score(q, answer)[0] for q, answer in zip(QUESTIONS, answers, strict=True)]
        near(found[0, j], torch.tensor(values))


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("kind", ["gemma2", "qwen3_next"])
def test_order_and_batch_do_not_matter(kind: Fake, positions: Positions) -> None:
    m, directions = model(kind), vectors(model(kind))
    found = dose(m, directions, ADDED, positions, QUESTIONS, "raw")
    turned = dict(reversed(directions.items()))
    near(dose(m, turned, ADDED[::-1], positions, QUESTIONS[::-1], "raw").flip(0, 1, 2), found)
    for batch in (1, 5):
        near(dose(m, directions, ADDED, positions, QUESTIONS, "raw", batch), found)
    fresh = fake(kind, window=WINDOW)
    alone = [dose(fresh, directions, [a], positions, [q], "raw") for a in ADDED for q in QUESTIONS]
    near(torch.cat(alone, 2).view(len(directions), len(ADDED), len(QUESTIONS)), found)


def test_long_texts_run_in_fewer_rows() -> None:
    m = fake("llama", context=4096)
    long = [question(f"q{n}", "word " * 200 * n, ("A", "B"), single=n != 2) for n in (1, 2, 3)]
    sizes: list[int] = []
    with entering(m, lambda _, x: sizes.append(x.shape[0] * x.shape[1])):
        found = dose(m, vectors(m, ("1",)), ADDED, "all", long, "raw")
    near(found, naive(m, vectors(m, ("1",)), ADDED, "all", long), 1e-4)
    longest = max(len(m.render(q, "raw").prompt) for q in long)
    assert longest > 2048  # one alone is more than goes into a pass
    assert max(sizes) <= longest + 1


@pytest.mark.parametrize("positions", POSITIONS)
def test_inside_another_edit(positions: Positions) -> None:
    m, directions = fake("llama", window=WINDOW), vectors(model("llama"), ("2", "1"))
    inner = Intervention({Site(1): Constant(noise(7, m.width))}, positions)
    for held in (False, True):
        with inner.on(m, held=held):
            near(
                dose(m, directions, ADDED, positions, QUESTIONS, "raw"),
                naive(m, directions, ADDED, positions, QUESTIONS),
            )
    near(dose(m, directions, [0.0], positions, QUESTIONS, "raw")[0, 0], torch.tensor([one(m, q) for q in QUESTIONS]))


def test_progress_ends_at_one() -> None:
    seen: list[float] = []
    m = model("llama")
    dose(m, vectors(m), ADDED, "answer", QUESTIONS, "raw", batch=4, on_step=seen.append)
    assert len(seen) > len(vectors(m))
    assert seen == sorted(seen)
    assert seen[-1] == 1


def test_a_broken_cell_is_not_a_number_and_the_others_are() -> None:
    m = model("llama")
    found = dose(m, vectors(m, ("1",)), [1.0, 3e38], "answer", QUESTIONS, "raw")
    assert bool(found[:, 1].isnan().all())
    near(found[:, :1], dose(m, vectors(m, ("1",)), [1.0], "answer", QUESTIONS, "raw"))


def test_it_leaves_nothing_behind_when_it_fails() -> None:
    m = model("llama")

    def fail(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dose(m, vectors(m), ADDED, "answer", QUESTIONS, "raw", on_step=fail)
    assert m.untouched
    assert hooks.hook_count(m.net) == 0


def test_what_cannot_be_run_is_refused_before_anything_runs() -> None:
    m = fake("llama")
    good, three = vectors(m, ("1",)), question("q3", "So", ("a", "b", "c"))

    def refuses(error: type[Exception], says: str, *arguments: object) -> None:
        given = dict(zip(("vectors", "added", "positions", "questions"), (good, ADDED, "all", QUESTIONS), strict=True))
        given |= dict(zip(given, arguments, strict=False))
        with entering(m, lambda *_: pytest.fail("it ran")), pytest.raises(error, match=says):
            dose(m, template="raw", **given)  # type: ignore[arg-type]

    refuses(BadData, "no sites", {})
    refuses(BadData, "no multipliers", good, ())
    refuses(BadData, "no questions", good, ADDED, "all", ())
    refuses(BadData, "finite", good, (1.0, math.nan))
    refuses(BadData, "finite", good, (math.inf,))
    refuses(BadData, r"site 1: .* not finite", {Site(1): torch.full((m.width,), math.nan)})
    refuses(BadModel, r"site 1: .*\(31,\)", {Site(1): noise(0, 31)})
    refuses(BadModel, r"site 1.mlp.up_proj: .*\(64,\)", {Site(1, "mlp.up_proj"): noise(0, 32)})
    refuses(UnknownName, "site '9'", good | {Site(9): noise(0, 32)})
    refuses(UnknownName, "1.mlp.down_proj", {Site(1, "mlp.dwn_proj"): noise(0, 32)})
    refuses(BadData, "q3", good, ADDED, "all", (*QUESTIONS, three))


# what runs ------------------------------------------------------------------------------------------------------------


@contextmanager
def entering(m: Model, told: Callable[[int, Tensor], object]) -> Iterator[None]:
    """Within the context `told` hears of every block that runs, and what enters its first norm."""

    def hook(block: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _module, inputs: told(block, inputs[0]) and None

    names = ("input_layernorm", "ln_1")
    norms = [next(x for n, x in block.named_modules() if n in names) for block in m.blocks]
    handles = [norm.register_forward_pre_hook(hook(b)) for b, norm in enumerate(norms)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


# Of one length, with options of one length, so that there is no padding to count.
EVEN = tuple(question(f"e{n}", f"Pick {n}, please.", ("A", "B"), single=True) for n in range(6))
EVEN_SPELLED = tuple(question(f"s{n}", f"Pick {n}, please.", ("left", "west")) for n in range(6))


@pytest.mark.parametrize("asked", [EVEN, EVEN_SPELLED], ids=["letters", "cloze"])
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen3_next"])
def test_no_more_runs_than_the_plan_says(kind: Fake, positions: Positions, asked: tuple[Question, ...]) -> None:
    m = trusting(fake(kind))
    assert m.plain_head  # found out once, by a pass over one token
    directions, count = vectors(m, ("3", "1.mlp", "2")), [0] * len(m.blocks)

    def add(block: int, x: Tensor) -> None:
        count[block] += x.shape[0] * x.shape[1]

    grid = Grid(tuple(directions), ADDED, positions, "raw")
    planned = grid.cost(m, asked, batch=9)
    with entering(m, add):
        dose(m, directions, ADDED, positions, asked, "raw", batch=9)
    assert sum(count) == planned.total
    again, before = grid.cost(m, asked, batch=9), list(count)
    assert again == planned
    with entering(m, add):
        dose(m, directions, ADDED, positions, asked, "raw", batch=9)
    assert sum(count) - sum(before) == planned.above
    assert count[0] == before[0]  # all below is kept


def test_the_plan_by_hand() -> None:
    m = fake("llama")
    prompts = {len(m.render(q, "raw").prompt) for q in EVEN}
    assert len(prompts) == 1
    size, (q, s) = prompts.pop(), (len(EVEN), len(ADDED))
    grid = Grid((Site(3), Site(1)), ADDED, "last_prompt", "raw")
    cost = grid.cost(m, EVEN)
    assert (cost.prompts, cost.below, cost.above) == (4 * q * (size - 1), 3 * q, s * q * (1 + 3))
    assert cost.total == cost.prompts + cost.below + cost.above
    cost = replace(grid, positions="all").cost(m, EVEN)
    assert (cost.prompts, cost.below, cost.above) == (0, 3 * q * size, s * q * size * (1 + 3))


# strength -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_norms_by_hand(kind: Fake) -> None:
    m, fresh = fake(kind), fake(kind).net  # asked for `hidden_states`, a net keeps transformers' hooks
    bos = m.tokenizer.bos_token_id
    texts = [tuple(m.tokenizer(t).input_ids) for t in ("The tide table hangs there.", "Oats.", "A kettle and a cup")]
    kept: list[list[Tensor]] = [[] for _ in m.blocks]
    for text in texts:
        left_out = 2 if bos is not None and text[0] == bos else 1
        states = fresh(input_ids=torch.tensor([text]), output_hidden_states=True).hidden_states
        assert len(states) == len(m.blocks) + 1  # what enters each block, and after the last a norm: the trap
        for block in range(len(m.blocks)):
            kept[block] += list(states[block][0, left_out:])
    true = torch.tensor([float(torch.stack(rows).norm(dim=1).mean()) for rows in kept])
    for batch in (1, 2, 8):
        torch.testing.assert_close(residual_norms(m, texts, batch), true, rtol=1e-5, atol=1e-5)
    assert m.untouched
    assert hooks.hook_count(m.net) == 0


def test_norms_are_refused_where_they_would_be_others() -> None:
    m = fake("llama")
    with Intervention({Site(1): Constant(noise(0, m.width))}, "all").on(m), pytest.raises(BadModel, match="attached"):
        residual_norms(m, [(1, 5, 6, 7)])
    for texts in ([], [(1, 5)], [(5,)]):
        with pytest.raises(BadData, match="two words"):
            residual_norms(m, texts)


def test_a_multiplier_is_then_a_strength() -> None:
    m = fake("llama")
    norms = residual_norms(m, [(1, 5, 6, 7), (1, 8, 9)])
    made = at_strength(m, vectors(m), norms)
    assert list(made) == list(vectors(m))
    for site, v in made.items():
        assert float(v.norm()) == pytest.approx(float(norms[site.block]), rel=1e-5)
        assert float(torch.cosine_similarity(v, vectors(m)[site], dim=0)) == pytest.approx(1, abs=1e-5)
    for error, wrong, on in (
        (BadData, {Site(1): torch.zeros(m.width)}, norms),
        (BadData, vectors(m), norms * math.nan),
        (BadModel, {Site(1): noise(0, 31)}, norms),
        (BadModel, vectors(m), norms[:3]),
        (UnknownName, {Site(9): noise(0, m.width)}, norms),
    ):
        with pytest.raises(error):
            at_strength(m, wrong, on)
