"""Reading a direction out: a planted token is found, counts stand beside their null, any vocabulary can be written."""

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from selfaware.errors import BadData, BadModel
from selfaware.interventions.base import Constant, Intervention
from selfaware.models import hooks
from selfaware.models.fake import FAKES, Fake, fake
from selfaware.models.hf import Model
from selfaware.readouts.spelling import BYTES, spelled
from selfaware.readouts.unembed import ReadOut, logits_at, read_out
from selfaware.types import Site

LLAMA = fake("llama")


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def row(text: str, model: Model = LLAMA) -> Tensor:
    """The unembedding's row of that token."""
    return model.head.weight[_id(text, model)].detach().clone()  # type: ignore[index]


def _id(text: str, model: Model = LLAMA) -> int:
    (found,) = model.tokenizer(text, add_special_tokens=False).input_ids
    return int(found)


def read(v: Tensor, model: Model = LLAMA, count: int = 5, draws: int = 200, seed: int = 0, **more: Any) -> ReadOut:
    return read_out(model, v, count, draws, seed, more.pop("words", {}), **more)


@pytest.mark.parametrize("kind", FAKES)
def test_the_token_whose_row_was_planted_is_on_top_and_its_reverse_at_the_bottom(kind: Fake) -> None:
    m = fake(kind)
    for text in ("K", " q", "?"):
        (cosine,) = read(7 * row(text, m), m).rankings
        assert (cosine.by, cosine.top[0].id, cosine.top[0].text) == ("cosine", _id(text, m), text)
        assert cosine.top[0].value == pytest.approx(1, abs=1e-5)
        assert [t.value for t in cosine.top] == sorted((t.value for t in cosine.top), reverse=True)
        assert [t.value for t in cosine.bottom] == sorted(t.value for t in cosine.bottom)
        (reverse,) = read(-row(text, m), m).rankings
        assert reverse.bottom[0].text == text
        assert [t.id for t in reverse.bottom] == [t.id for t in cosine.top]
        assert cosine.counted == ()
    assert hooks.hook_count(m.net) == 0


@pytest.mark.parametrize("kind", [*FAKES, "olmo2", "gpt_neox", "opt"])
def test_logits_are_the_models_own(kind: Fake) -> None:
    """States of a real pass give the logits of that pass: final norm, head and cap in place."""
    m = fake(kind)
    seen: list[Tensor] = []
    handle = m.blocks[-1].register_forward_hook(
        lambda _m, _a, out: seen.append(out[0] if isinstance(out, tuple) else out)
    )
    with torch.no_grad():
        truth = m.net(input_ids=torch.tensor([[5, 9, 30, 77]])).logits[0]
    handle.remove()
    assert torch.allclose(logits_at(m, seen[0].view(4, -1)), truth, atol=1e-4)
    state, v = seen[0].view(4, -1)[2], 3 * noise(1, 32)
    _, logits = read(v, m, state=state).rankings
    change = logits_at(m, (state + v)[None])[0] - truth[2]
    assert logits.by == "logits"
    assert [t.value for t in logits.top] == pytest.approx(change.topk(5).values.tolist(), abs=1e-3)
    assert [t.id for t in logits.bottom] == (-change).topk(5).indices.tolist()
    assert hooks.hook_count(m.net) == 0


def test_counts_stand_beside_those_of_random_directions() -> None:
    planted = [row(t) for t in ("q", "Q", " q", " Q")]
    v = torch.stack([r / r.norm() for r in planted]).sum(0)
    words = {"planted": ("q",), "absent": ("zebra",), "either": ("x", "q")}
    got = read(v, count=10, draws=500, words=words)
    (ranking,) = got.rankings
    counted = {(c.words, c.end): c for c in ranking.counted}
    assert len(counted) == 6
    top = counted["planted", "top"]
    assert top.found == sum(t.text.strip() in ("q", "Q") for t in ranking.top) == 4
    assert top.p == pytest.approx(1 / 501)
    assert top.expected == pytest.approx(4 * 10 / len(LLAMA.tokenizer), abs=0.06)
    assert (counted["planted", "bottom"].found, counted["planted", "bottom"].p) == (0, 1)
    assert (counted["absent", "top"].found, counted["absent", "top"].p, counted["absent", "top"].expected) == (0, 1, 0)
    assert counted["either", "top"].found >= 4
    assert {c.null for c in ranking.counted} == {"isotropic"}
    assert read(v, count=10, draws=500, words=words) == got
    assert read(v, count=10, draws=500, seed=1, words=words) != got


def test_random_directions_with_the_covariance_of_a_sample() -> None:
    """Where states lie along the direction anyway, as many words among its tokens say little."""
    planted = [row(t) for t in ("q", "Q", " q", " Q")]
    v = torch.stack([r / r.norm() for r in planted]).sum(0)
    sample = torch.outer(noise(0, 60), v) + 0.01 * noise(1, 60, 32) + 9
    state = noise(5, 32)
    for ranking in read(v, count=10, words={"planted": ("q",)}, sample=sample, state=state).rankings:
        both = {c.null: c for c in ranking.counted if c.end == "top"}
        if ranking.by == "cosine":
            assert both["isotropic"].p < 0.02
            assert 0.35 < both["covariance"].p < 0.65
        assert both["covariance"].expected > both["isotropic"].expected
        assert both["covariance"].found == both["isotropic"].found


def test_chance_is_rarely_surprised() -> None:
    letters = {"vowels": ("a", "e", "i", "o", "u")}
    values = []
    for seed in range(40):
        (ranking,) = read(noise(100 + seed, 32), count=20, draws=99, seed=seed, words=letters).rankings
        values.append(ranking.counted[0].p)
    assert sum(p <= 0.1 for p in values) <= 9
    assert min(values) >= 1 / 100


def test_stems_match_beginnings_whatever_the_case_and_the_sign_before() -> None:
    m = fake("llama")
    words = ("Risky", " risk", "_risks", ".riskX", "brisk", "ris", "RISK", "Straße", "降低", "降", "ﬂow")
    m.tokenizer = Listed(len(m.tokenizer), dict(enumerate(words)))
    got = read(noise(0, 32), m, count=len(words), words={"risk": ("risk",), "lower": ("降",), "street": ("STRASSE",)})
    counted = {c.words: c.found for c in got.rankings[0].counted if c.end == "top"}
    assert counted == {"risk": 5, "lower": 2, "street": 1}


class Listed:
    """A tokenizer of some ids alone; rows of the unembedding beyond it stand for nothing."""

    def __init__(self, size: int, texts: dict[int, str]) -> None:
        self.size, self.texts = size, texts

    def get_vocab(self) -> dict[str, int]:
        return {text: i for i, text in self.texts.items()} | {"<beyond>": self.size + 5}

    def convert_ids_to_tokens(self, i: int) -> str | None:
        return self.texts.get(i)

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(self.texts.get(i, "") for i in ids)


def test_rows_without_a_token_are_left_out() -> None:
    m = fake("llama")
    m.tokenizer = Listed(len(m.tokenizer), {i: f"word{i}" for i in range(40)})
    (ranking,) = read(m.head.weight[100].detach(), m, count=40, words={"w": ("word",)}).rankings  # type: ignore[index]
    assert {t.id for t in ranking.top} == {t.id for t in ranking.bottom} == set(range(40))
    assert ranking.counted[0].found == 40
    assert ranking.counted[0].p == 1
    with pytest.raises(BadData, match="1 to 40 tokens"):
        read(noise(0, 32), m, count=41)


def test_a_row_of_zeros_is_in_nobodys_way() -> None:
    m = fake("llama")
    with torch.no_grad():
        m.head.weight[50] = 0  # type: ignore[index]
    (ranking,) = read(noise(0, 32), m, count=len(m.tokenizer)).rankings
    assert all(abs(t.value) <= 1 + 1e-5 for t in ranking.top)
    assert next(t.value for t in ranking.top if t.id == 50) == 0


def test_other_types_of_weights() -> None:
    m = fake("llama")
    m.net.to(torch.bfloat16)
    cosine, logits = read(row("K", m).float(), m, state=noise(1, 32)).rankings
    assert cosine.top[0].text == "K"
    assert len(logits.top) == 5


def test_what_cannot_be_read_is_refused() -> None:
    good = noise(0, 32)
    for v, message in ((noise(0, 16), r"\(16,\)"), (noise(0, 2, 32), r"\(2, 32\)")):
        with pytest.raises((BadModel, TypeError), match=message):
            read(v)
    with pytest.raises(BadModel, match="state of shape"):
        read(good, state=noise(0, 8))
    for v in (torch.zeros(32), torch.full((32,), torch.nan)):
        with pytest.raises(BadData, match="zero or not finite"):
            read(v)
    for sample in (noise(0, 4, 16), torch.ones(4, 32), noise(0, 1, 32)):
        with pytest.raises(BadData, match="sample of shape"):
            read(good, sample=sample)
    for count in (0, 10_000):
        with pytest.raises(BadData, match="count"):
            read(good, count=count)
    with pytest.raises(BadData, match="0 draws"):
        read(good, draws=0, words={"a": ("a",)})
    assert read(good, draws=0).rankings[0].top
    for stems in ((), ("",), (" a",), ("a", "_b")):
        with pytest.raises(BadData, match="stems that begin"):
            read(good, words={"a": stems})
    with pytest.raises(BadModel, match="width 32"):
        read(good, fake("opt_post_norm"))
    with Intervention({Site(1): Constant(good)}, "all").on(LLAMA), pytest.raises(BadModel, match="attached"):
        read(good)


# tokens as text -------------------------------------------------------------------------------------------------------


def byte_level(*pieces: str) -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner)


def letters() -> dict[int, str]:
    """The letter of each byte, taken from the library through characters that hold it; no character holds the last two."""
    found = {0xFF: "ÿ", 0xFE: "þ"}
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for code in (*range(0x800), *range(0x800, 0xD800, 64), *range(0xE000, 0x110000, 64)):
        found |= dict(zip(chr(code).encode(), level.pre_tokenize_str(chr(code))[0][0], strict=True))
    return found


LETTERS = letters()


def test_the_table_of_bytes_is_the_librarys() -> None:
    assert all(BYTES[letter] == byte for byte, letter in LETTERS.items())
    assert len(BYTES) == 256


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"cautious", "cautious"),
        (b" cautious", " cautious"),
        ("降低".encode(), "降低"),
        ("降低".encode()[:2], "⟨E9 99⟩"),
        (b" " + "降低".encode()[:5], " 降⟨E4 BD⟩"),
        ("低".encode()[1:], "⟨BD 8E⟩"),
        ("مرحبا".encode(), "مرحبا"),
        ("😀".encode()[:3], "⟨F0 9F 98⟩"),
        (b"\xff\xfe ok", "⟨FF FE⟩ ok"),
        ("\ufffd".encode(), "\ufffd"),
        (b"\n\t", "\n\t"),
        (b"\x00", "\x00"),
    ],
)
def test_any_bytes_can_be_written(raw: bytes, shown: str) -> None:
    tokenizer = byte_level("a", "".join(LETTERS[b] for b in raw))
    assert spelled(tokenizer, 1) == shown


def test_a_space_that_is_left_out_is_put_back_and_bytes_fall_back() -> None:
    inner = Tokenizer(models.BPE({"▁risk": 0, "risk": 1, "▁": 2, "▁▁": 3, "<0xE9>": 4, "_x": 5}, []))
    inner.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, additional_special_tokens=["<|end|>"])
    assert [spelled(tokenizer, i) for i in range(7)] == [" risk", "risk", " ", "  ", "⟨E9⟩", "_x", "<|end|>"]
    assert spelled(tokenizer, 99) == "⟨id 99⟩"


def test_tokens_that_decode_to_nothing_have_their_name() -> None:
    class Odd(Listed):
        def decode(self, ids: list[int], **_: Any) -> str:
            return ""

    assert spelled(Odd(3, {0: "<ctrl>"}), 0) == "<ctrl>"
    assert spelled(Odd(3, {0: ""}), 0) == "⟨id 0⟩"
    assert spelled(Odd(3, {0: b"\xe9\x99"}), 0) == "⟨E9 99⟩"  # type: ignore[dict-item]


@pytest.mark.parametrize("kind", FAKES)
def test_every_token_of_a_fake_can_be_written(kind: Fake) -> None:
    m = fake(kind)
    texts = [spelled(m.tokenizer, i) for i in range(len(m.tokenizer))]
    assert all(texts)
    assert len(set(texts)) == len(texts)
    assert "".join(texts).encode()
