"""Outputs of sites: what a hook of one's own sees, where an edit at the answer would act, of the model itself."""

import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from selfaware.errors import BadModel, UnknownName
from selfaware.interventions.base import Constant, Intervention
from selfaware.models import hooks
from selfaware.models.activations import outputs
from selfaware.models.batch import Row
from selfaware.models.fake import FAKES, Fake, fake
from selfaware.models.hf import Model
from selfaware.types import Site
from tests.trust import trusting

SITES = ("0", "3", "1.mlp", "2.mlp.residual", "1.mlp.act_fn")
LLAMA_LIKE = ("1.self_attn.k_proj", "3.mlp.down_proj", "0.input_layernorm", "2.self_attn")


def rows(seed: int = 0) -> list[Row]:
    draw = random.Random(seed)
    text = lambda n: tuple(draw.randrange(3, 250) for _ in range(n))
    return [Row(text(n), text(a)) for n, a in ((20, 3), (1, 4), (33, 12), (2, 1), (9, 3))]


def by_hand(m: Model, site: Site, some: Sequence[Row]) -> Tensor:
    found = []
    for row in some:
        seen = []
        handle = m.module(site).register_forward_hook(
            lambda _, __, out, seen=seen: seen.append(out[0] if isinstance(out, tuple) else out)
        )
        with torch.no_grad():
            m.net(input_ids=torch.tensor([row.prompt + row.answer]))
        handle.remove()
        start = len(row.prompt) - 1
        found.append(seen[0][0, start : start + len(row.answer)])
    return torch.cat(found)


@pytest.mark.parametrize("kind", FAKES)
def test_they_are_what_a_hook_sees(kind: Fake) -> None:
    m, some = fake(kind), rows()
    names = SITES if kind != "gpt2" else ("0", "3", "1.mlp", "1.mlp.c_fc", "2.attn")
    for name in (*names, *(LLAMA_LIKE if kind != "gpt2" else ())):
        site = Site.parse(name)
        truth = by_hand(m, site, some)
        for splits in (True, False):
            m.engine.splits = splits
            for batch in (8, 2):
                got = outputs(m, site, some, batch)
                assert (got.dtype, tuple(got.shape)) == (torch.float32, (23, m.output_width(site)))
                assert float((got - truth).abs().max()) < 1e-4, (name, splits, batch)
        m.engine.splits = True
        last = outputs(m, site, some[::-1])
        assert float((last[:3] - truth[-3:]).abs().max()) < 1e-4
    assert hooks.hook_count(m.net) == 0


def test_they_are_where_an_edit_at_the_answer_acts() -> None:
    m, some, site = trusting(fake("gemma2")), rows(), Site(1)
    seen: list[Tensor] = []

    def note(_x: Tensor, y: Tensor) -> Tensor:
        seen.append(y)
        return y

    with torch.no_grad(), m.edited([(site, note)], "answer") as touched:
        m.logprobs(some, batch=1)
    assert touched.tokens == len(outputs(m, site, some)) == 23
    order = sorted(range(5), key=lambda i: len(some[i].prompt))
    assert float((torch.cat([s[0] for s in seen]) - outputs(m, site, [some[i] for i in order])).abs().max()) < 1e-4


def test_the_pass_ends_after_the_sites_block() -> None:
    m, ran = fake("llama"), []
    for at, block in enumerate(m.blocks):
        block.register_forward_hook(lambda *_, at=at: ran.append(at))
    outputs(m, Site(1, "mlp"), rows())
    ran.clear()
    outputs(m, Site(1, "mlp"), rows())
    assert ran == [0, 1]


def test_other_types_of_weights_give_float32() -> None:
    m = fake("llama")
    m.net.to(torch.bfloat16)
    assert outputs(m, Site(1), rows()).dtype == torch.float32


def test_refusals() -> None:
    m = fake("qwen3")
    with (
        Intervention({Site(3): Constant(torch.ones(32))}, "answer").on(m),
        pytest.raises(BadModel, match="an edit is attached"),
    ):
        outputs(m, Site(1), rows())
    with pytest.raises(BadModel, match="one vector a token"):
        outputs(m, Site.parse("1.self_attn.q_norm"), rows())
    with pytest.raises(UnknownName, match="4 blocks"):
        outputs(m, Site(4), rows())
    assert outputs(m, Site.parse("1.mlp.up_proj"), []).shape == (0, 64)
    assert m.untouched
    assert hooks.hook_count(m.net) == 0
