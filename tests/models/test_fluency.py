"""Log-probability and divergence of texts: the same by hand, exactly none without an edit, nothing run twice."""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import pytest
import torch
from torch import Tensor

from selfaware.errors import BadModel
from selfaware.interventions.base import Constant, Delta, Intervention, LowRank
from selfaware.models import fluency as module
from selfaware.models import hooks
from selfaware.models.batch import Row, Touched
from selfaware.models.fake import FAKES, Fake, fake
from selfaware.models.fluency import compared, fluency
from selfaware.models.hf import Model
from selfaware.types import POSITIONS, Positions, Site
from tests.trust import trusting

NEAR = 1e-4


def rows(seed: int = 0) -> list[Row]:
    """As passages are: mostly one token of prompt; longer and shorter than the window of 8."""
    draw = random.Random(seed)
    text = lambda n: tuple(draw.randrange(3, 250) for _ in range(n))
    return [Row(text(n), text(a)) for n, a in ((1, 30), (1, 3), (12, 9), (1, 17), (4, 1))]


def noise(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def edit(m: Model) -> dict[Site, Delta]:
    made: dict[Site, Delta] = {Site(2, "mlp.residual"): Constant(noise(1, 32)), Site(3): Constant(noise(2, 32))}
    if "gpt2" not in m.name:
        where = Site.parse("1.mlp.down_proj")
        linear = m.module(where)
        made[where] = LowRank(noise(3, 2, linear.in_features), noise(4, linear.out_features, 2), 0.3)
    return made


def by_hand(m: Model, row: Row, changes: dict[Site, Delta], positions: Positions) -> Tensor:
    """Log-probabilities `[T, V]` at the positions that predict the answer: one text, a torch hook for each site."""
    start = len(row.prompt) - 1
    at = {"all": slice(0, None), "answer": slice(start, None), "last_prompt": slice(start, start + 1)}[positions]

    def hook(delta: Delta):
        def change(_module, inputs, output):
            y = (output[0] if isinstance(output, tuple) else output).clone()
            y[:, at] = delta(inputs[0][:, at], y[:, at])
            return (y, *output[1:]) if isinstance(output, tuple) else y

        return change

    handles = [m.module(site).register_forward_hook(hook(delta)) for site, delta in changes.items()]
    try:
        ids = torch.tensor([row.prompt + row.answer[:-1]])
        with torch.no_grad():
            return m.net(input_ids=ids).logits[0, start:].double().log_softmax(1)
    finally:
        for handle in handles:
            handle.remove()


def wanted(m: Model, row: Row, changes: dict[Site, Delta], positions: Positions) -> tuple[float, float]:
    p, q = by_hand(m, row, {}, positions), by_hand(m, row, changes, positions)
    logprob = q[torch.arange(len(row.answer)), torch.tensor(row.answer)].sum()
    return float(logprob), float((p.exp() * (p - q)).sum())


def values(found: list[tuple[float, float]]) -> Tensor:
    return torch.tensor(found, dtype=torch.float64)


def close(a: list[tuple[float, float]], b: list[tuple[float, float]], within: float = NEAR) -> bool:
    return float((values(a) - values(b)).abs().max()) < within


@pytest.mark.parametrize("kind", FAKES)
def test_it_is_what_plain_passes_give(kind: Fake) -> None:
    m, some = fake(kind), rows()
    for positions in POSITIONS:
        edited = Intervention(edit(m), positions)
        truth = [wanted(m, row, edit(m), positions) for row in some]
        assert min(kl for _, kl in truth) > 0.05
        for splits in (True, False):
            m.engine.splits = splits
            for batch in (2, 8):
                assert close(fluency(m, some, lambda e=edited: e.on(m), batch), truth), (positions, splits)
        m.engine.splits = True
        assert close(fluency(m, some[::-1], lambda e=edited: e.on(m)), truth[::-1])
    assert hooks.hook_count(m.net) == 0
    assert fluency(m, [], nullcontext) == []


@pytest.mark.parametrize("kind", FAKES)
@pytest.mark.parametrize("cache_gib", [0.01, 0.0])
def test_without_an_edit_nothing_diverges(kind: Fake, cache_gib: float) -> None:
    m, some = fake(kind, cache_gib=cache_gib), rows()
    with torch.no_grad():
        truth = m.logprobs(some).double()
    for splits in (True, True, False):
        m.engine.splits = splits
        found = values(fluency(m, some, nullcontext, 2))
        assert found[:, 1].tolist() == [0.0] * len(some)
        assert float((found[:, 0] - truth).abs().max()) < NEAR


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e-4, 1e-2])
def test_a_small_edit_diverges_little_and_never_below_zero(scale: float) -> None:
    m, some = fake("gemma3"), rows()
    tiny = Intervention({Site(1): Constant(noise(0, 32, scale=scale))}, "answer")
    for _, kl in fluency(m, some, lambda: tiny.on(m)):
        assert -1e-6 <= kl <= max(1e-9, 100 * scale**2)


@pytest.mark.parametrize("splits", [True, False])
def test_an_edit_at_the_answer_touches_the_scored_positions(splits: bool) -> None:
    m, some = trusting(fake("llama")), rows()
    m.engine.splits = splits
    seen: list[Touched] = []

    @contextmanager
    def noted(positions: Positions) -> Iterator[None]:
        with Intervention(edit(m), positions).on(m) as touched:
            seen.append(touched)
            yield

    tokens = {
        "answer": sum(len(row.answer) for row in some),
        "last_prompt": len(some),
        "all": sum(len(row.prompt) + len(row.answer) - 1 for row in some),
    }
    for positions in POSITIONS:
        seen.clear()
        fluency(m, some, partial(noted, positions), 2)
        assert [t.firings for t in seen] == [3, 3, 3]  # one for each of three sites, in each of three batches
        assert sum(t.tokens for t in seen) == 3 * tokens[positions]


def test_what_no_edit_changes_runs_once() -> None:
    m, some = trusting(fake("qwen2")), rows()
    ran: list[int] = []
    for at, block in enumerate(m.blocks):
        block.mlp.register_forward_hook(lambda *_, at=at: ran.append(at))
    late, early = (Intervention({Site(b): Constant(noise(b, 32))}, "answer") for b in (2, 1))
    for edited, wanted_first, wanted_again in ((late, [2, 3], [2, 3]), (early, [0, 1, 2, 3], [1, 2, 3])):
        first = fluency(m, some, lambda e=edited: e.on(m))
        if edited is early:
            assert ran == wanted_first  # what enters block 1 was not kept yet; the unedited part was
        ran.clear()
        assert fluency(m, some, lambda e=edited: e.on(m)) == first
        assert ran == wanted_again
        ran.clear()
        fresh = fake("qwen2")
        assert close(first, fluency(fresh, some, lambda e=edited, f=fresh: e.on(f)), 1e-5)


@pytest.mark.parametrize("splits", [True, False])
def test_the_unembedding_sees_the_scored_positions_only(splits: bool) -> None:
    m, some = trusting(fake("gemma2")), rows()
    m.engine.splits = splits
    seen: list[tuple[int, ...]] = []
    m.head.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape)))
    fluency(m, some, lambda: Intervention(edit(m), "all").on(m))
    assert seen == [(1, sum(len(row.answer) for row in some), m.net.config.vocab_size)] * 2


# comparing ------------------------------------------------------------------------------------------------------------


def test_planted_divergences(monkeypatch: pytest.MonkeyPatch) -> None:
    p = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.25, 0.25, 0.5]], dtype=torch.float64)
    q = torch.tensor([[0.25, 0.75, 0.0], [0.2, 0.3, 0.5], [0.5, 0.5, 0.0], [0.5, 0.5, 0.0]], dtype=torch.float64)
    for chunk in (1, 3, 32):
        monkeypatch.setattr(module, "CHUNK", chunk)
        logprobs, kl = compared(p.log() + 3, q.log() - 40, torch.tensor([0, 2, 1, 1]))
        assert logprobs.exp().tolist() == pytest.approx([0.25, 0.5, 0.5, 0.5])
        assert kl.tolist()[:3] == pytest.approx([0.5 * math.log(4 / 3), 0.0, math.log(2)])
        assert kl[3] == float("inf")
    reverse = compared(q.log(), p.log(), torch.tensor([0, 0, 0, 0]))[1]
    assert float(reverse[0]) != pytest.approx(float(kl[0]), rel=0.05)


def test_large_vocabularies_do_not_add_up_to_noise() -> None:
    before = noise(0, 3, 100_000, scale=3.0)
    after = before + noise(1, 3, 100_000, scale=1e-5)
    kl = compared(before, after, torch.tensor([0, 1, 2]))[1]
    assert bool((kl > 0).all())
    assert bool((kl < 1e-9).all())


def test_a_text_longer_than_the_context_is_refused() -> None:
    m = fake("llama", context=20)
    assert len(fluency(m, [Row((5,), (6,) * 19)], nullcontext)) == 1
    with pytest.raises(BadModel, match=r"text of 21 tokens: fake-llama holds 20\. Shorten it"):
        fluency(m, [Row((5,), (6,) * 20)], nullcontext)
