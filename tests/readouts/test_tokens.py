"""Tokens of a vector as a readout: planted words are counted where they belong, draws are shared, bad input is refused."""

import pytest
import torch
from torch import Tensor

from selfaware.errors import BadData
from selfaware.interventions.base import Constant, Intervention, LowRank
from selfaware.interventions.texts import outputs, rows_over, tokens
from selfaware.models import hooks
from selfaware.models.fake import fake
from selfaware.models.hf import Model
from selfaware.readouts.base import Looked, Readout
from selfaware.readouts.tokens import Tokens
from selfaware.readouts.unembed import read_out
from selfaware.types import Passage, Prompt, Question, Site

LLAMA = fake("llama")
PASSAGES = (Passage("p", "f", "The cat sat on a mat."), Passage("q", "g", "Rain fell all day."))
WORDS = {"high": ("k", "q"), "low": ("z",)}


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def speaking(up: str, down: str, model: Model = LLAMA) -> Tensor:
    """The sum of the unembedding's rows of some letters, less those of others."""

    def rows(letters: str) -> Tensor:
        ids = [
            model.tokenizer(t, add_special_tokens=False).input_ids[0] for a in letters for t in (a, a.upper(), f" {a}")
        ]
        found = model.head.weight[ids].detach()  # type: ignore[index]
        return (found / found.norm(dim=1, keepdim=True)).sum(0)

    return rows(up) - rows(down)


def look(v: Tensor, site: str = "1", seed: int = 0, model: Model = LLAMA) -> Looked:
    readout = Tokens(6, 60, WORDS, "raw", seed)
    assert isinstance(readout, Readout)
    return readout.look(model, [Intervention({Site.parse(site): Constant(v)}, "answer")], PASSAGES, lambda _: None)


def test_planted_words_are_counted_at_their_ends() -> None:
    wide = fake("llama", width=256)  # where letters are at right angles, or nearly
    seen = look(4 * speaking("kq", "z", wide), model=wide)
    n = seen.numbers
    assert n["cosine/found"].tolist() == [[6, 0], [0, 3]]
    assert n["cosine/marked"][0].tolist() == [0] * 6
    assert sorted(n["cosine/marked"][1].tolist()) == [-1, -1, -1, 1, 1, 1]
    assert set(seen.words["cosine/top"]) == {"k", "K", " k", "q", "Q", " q"}
    assert n["cosine/top"].tolist() == sorted(n["cosine/top"].tolist(), reverse=True)
    assert n["vocabulary"].tolist() == [8, 4]
    assert int(n["cosine/isotropic"][:, 0, 0].max()) < 6
    assert n["cosine/isotropic"].shape == n["logits/covariance"].shape == (60, 2, 2)
    assert hooks.hook_count(wide.net) == 0


@pytest.mark.parametrize("by", ["cosine", "logits"])
def test_it_is_what_read_out_says(by: str) -> None:
    v = noise(3, 32)
    seen = look(v, "2")
    rows, site = [], Site(3)
    for passage in PASSAGES:
        ids, skip = tokens(LLAMA, passage.text)
        rows += rows_over(ids, skip, len(ids) - skip, "answer")
    sample = torch.cat([made[1:] for made in outputs(LLAMA, [site], rows)[0]])
    (ranking,) = [r for r in read_out(LLAMA, v, 6, 60, 0, WORDS, sample.mean(0), sample).rankings if r.by == by]
    assert seen.words[f"{by}/bottom"] == tuple(t.text for t in ranking.bottom)
    for one in ranking.counted:
        end, of = ("top", "bottom").index(one.end), list(WORDS).index(one.words)
        null = seen.numbers[f"{by}/{one.null}"][:, end, of]
        assert int(seen.numbers[f"{by}/found"][end, of]) == one.found
        assert float(null.double().mean()) == pytest.approx(one.expected)
        assert (1 + int((null >= one.found).sum())) / 61 == pytest.approx(one.p)


def test_looks_of_one_seed_share_their_draws() -> None:
    first, second, other = look(noise(1, 32)), look(9 * noise(2, 32), "2"), look(noise(1, 32), seed=1)
    for kind in ("isotropic", "covariance"):
        assert torch.equal(first.numbers[f"cosine/{kind}"], second.numbers[f"cosine/{kind}"])
        assert not torch.equal(first.numbers[f"cosine/{kind}"], other.numbers[f"cosine/{kind}"])


def test_questions_give_states_too() -> None:
    question = Question("q", "f", "g", "choices", Prompt("Pick", "I will"), ("go home", "stay"), 0)
    made = Tokens(3, 5, WORDS, "raw").look(LLAMA, [Intervention({Site(1): Constant(noise(1, 32))}, "all")], (question,), lambda _: None)  # fmt: skip
    assert len(made.words["logits/top"]) == 3


def test_bad_input_is_refused() -> None:
    v = noise(1, 32)
    with pytest.raises(BadData, match="residual stream"):
        look(v, "1.mlp", model=fake("gemma2"))
    with pytest.raises(BadData, match="one constant vector"):
        Tokens(3, 5, WORDS, "raw").look(
            LLAMA, [Intervention({Site(1, "mlp.down_proj"): LowRank(noise(0, 1, 64), v[:, None], 1.0)}, "all")], PASSAGES, lambda _: None
        )  # fmt: skip
    edit = [Intervention({Site(1): Constant(v)}, "all")]
    with pytest.raises(BadData, match="got 0 interventions"):
        Tokens(3, 5, WORDS, "raw").look(LLAMA, [], PASSAGES, lambda _: None)
    with pytest.raises(BadData, match="no texts"):
        Tokens(3, 5, WORDS, "raw").look(LLAMA, edit, (), lambda _: None)
    with pytest.raises(BadData, match="0 lists"):
        Tokens(3, 5, {}, "raw").look(LLAMA, edit, PASSAGES, lambda _: None)
    with pytest.raises(BadData, match="zero"):
        look(0 * v)
