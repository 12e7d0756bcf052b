"""What an adapter adds, token by token: planted constants and gates, the first token, brute force, bad input."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from selfaware.errors import BadData, UnknownName
from selfaware.interventions.base import Constant, Intervention, LowRank
from selfaware.models import hooks
from selfaware.models.fake import FAKES, Fake, fake
from selfaware.readouts.base import Looked, Readout
from selfaware.readouts.differences import Differences
from selfaware.types import Prompt, Question, Site

LLAMA = fake("llama")
TEXTS = ("The cat sat on a mat.", "Rain fell, and it went on all day.")
ASKED = (Question("q0", "f", "g", "choices", Prompt("Pick one", "I will"), ("go home", "stay out"), 0),)


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gate(seed: int = 0, rank: int = 1) -> Intervention:
    return Intervention(
        {Site(1, "mlp.down_proj"): LowRank(noise(seed, rank, 64), noise(seed + 1, 32, rank), 0.5)}, "answer"
    )


def look(edit: Intervention, *sites: str, last: int = 90, kind: Fake = "llama") -> Looked:
    readout = Differences(sites, TEXTS, "raw", last)
    assert isinstance(readout, Readout)
    return readout.look(LLAMA if kind == "llama" else fake(kind), [edit], ASKED, lambda _: None)


@pytest.mark.parametrize("kind", FAKES)
def test_a_constant_has_one_direction_and_one_length(kind: Fake) -> None:
    v = 3 * noise(1, 32)
    seen = look(Intervention({Site(1): Constant(v)}, "last_prompt"), "1", "3", kind=kind).numbers
    for name in ("cosine", "with_first", "first", "answer", "across"):
        known = seen[name][0][seen[name][0].isfinite()]
        assert torch.allclose(known, torch.ones_like(known), atol=1e-4), name
    assert seen["answer"].isnan().tolist() == [[True, True, False]] * 2, "passages have no answer"
    lengths = seen["norms"][0]
    assert torch.allclose(lengths[lengths.isfinite()], v.norm(), atol=1e-3)
    assert seen["explained"][0, :, 0, 0] == pytest.approx(torch.ones(3), abs=1e-4)
    assert float(seen["cosine"][1].max()) < 1 - 1e-4, "not so further up"
    assert "coefficients" not in seen
    assert hooks.hook_count(LLAMA.net) == 0


def test_a_gate_shows_its_signs() -> None:
    """At its own module an adapter of rank 1 adds multiples of B: the map is ±1, and its signs are those of a·x."""
    edit = gate()
    seen = look(edit, "1.mlp.down_proj", "1").numbers
    signs = seen["coefficients"][0][: len(seen["map"][0])].sign()
    assert torch.allclose(seen["map"][0], torch.outer(signs, signs), atol=1e-4)
    assert seen["identity"] == pytest.approx(torch.ones(3), abs=1e-4)
    inner = seen["coefficients"][1][seen["coefficients"][1].isfinite()][
        2:
    ]  # after begin-of-sequence and the first letter
    up = float((inner > 0).double().mean())
    assert float(seen["sign_share"][1]) == pytest.approx(max(up, 1 - up))
    assert float(seen["variation"][1]) == pytest.approx(float(inner.std() / inner.mean().abs()), rel=1e-3)
    signs = inner.sign()
    pairs = [float(a * b) for a, b in itertools.permutations(signs.tolist(), 2)]
    assert float(seen["cosine"][0, 1]) == pytest.approx(sum(pairs) / len(pairs), abs=1e-4)


def test_coefficients_are_a_times_the_modules_input() -> None:
    edit = gate(5)
    (delta,) = edit.deltas.values()
    assert isinstance(delta, LowRank)
    caught: list[Tensor] = []
    handle = LLAMA.module(Site(1, "mlp.down_proj")).register_forward_pre_hook(
        lambda _m, args: caught.append(args[0][0])
    )
    ids = LLAMA.tokenizer(TEXTS[0]).input_ids
    with torch.no_grad():
        LLAMA.net(torch.tensor([ids]))
    handle.remove()
    seen = look(edit, "1.mlp").numbers
    assert torch.allclose(seen["coefficients"][0, : len(ids)], caught[0] @ delta.a[0], atol=1e-4)


def test_the_adapter_acts_on_the_first_token_whatever_it_was_trained_at() -> None:
    edit = gate(2, rank=2)
    first, second = (look(replace(edit, positions=p), "1", "2").numbers for p in ("last_prompt", "all"))
    assert set(first) == set(second)
    for name, value in first.items():
        assert torch.equal(value.nan_to_num(7), second[name].nan_to_num(7)), name
    assert float(first["norms"][0, :, 0].min()) > 0


def test_means_are_those_of_the_map() -> None:
    seen = look(gate(3, rank=3), "2").numbers
    cosines, skip = seen["map"][0], 2
    size = len(cosines)
    inner = [float(cosines[i, j]) for i, j in itertools.permutations(range(skip, size), 2)]
    assert float(seen["cosine"][0, 0]) == pytest.approx(sum(inner) / len(inner), abs=1e-5)
    whole = [float(cosines[i, j]) for i, j in itertools.permutations(range(size), 2)]
    assert float(seen["with_first"][0, 0]) == pytest.approx(sum(whole) / len(whole), abs=1e-5)
    assert float(seen["first"][0, 0]) == pytest.approx(float(cosines[0, skip:].mean()), abs=1e-5)


def test_shares_of_components_and_texts_that_end_early() -> None:
    seen = look(gate(4, rank=2), "1.mlp", last=12).numbers
    assert seen["map"].shape == (1, 12, 12)
    assert seen["norms"][0, 0].isfinite().sum() == 12
    uncentred = seen["explained"][0, :, 0]
    assert uncentred[:, :2].sum(1) == pytest.approx(torch.ones(3), abs=1e-4), "rank 2: two components hold everything"
    assert "coefficients" not in seen


def test_a_gate_that_never_fires_is_no_number() -> None:
    """Rows of zero have no direction; the rest is still seen."""
    edit = Intervention({Site(1, "mlp.down_proj"): LowRank(noise(0, 1, 64), torch.zeros(32, 1), 1.0)}, "all")
    with pytest.raises(BadData, match="adds nothing"):
        look(edit, "1")


@pytest.mark.parametrize(
    ("sites", "texts", "what"),
    [(("0",), TEXTS, "first block is 1"), ((), TEXTS, "0 sites"), (("1",), (), "no texts"), (("1",), ("x",), "text 0")],
)
def test_bad_input_is_refused(sites: tuple[str, ...], texts: tuple[str, ...], what: str) -> None:
    with pytest.raises(BadData, match=what):
        Differences(sites, texts, "raw").look(LLAMA, [gate()], (), lambda _: None)


def test_sites_and_adapters_must_be_there() -> None:
    with pytest.raises(UnknownName, match="mlp"):
        look(gate(), "1.mlq")
    with pytest.raises(BadData, match="got 0 interventions"):
        Differences(("1",), TEXTS, "raw").look(LLAMA, [], (), lambda _: None)
