"""Ablations: the direction is gone where it should be, and everything else is as it was."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from selfaware import spec
from selfaware.errors import BadData, BadFile, BadModel
from selfaware.interventions.ablate import AblatedB, AblatedStream, in_residual, mean_levels
from selfaware.interventions.base import Constant, Intervention, LowRank, Pinned, Recipe, added
from selfaware.interventions.controls import RandomVector
from selfaware.interventions.distil import Natural
from selfaware.interventions.given import Given
from selfaware.interventions.lora import Lora
from selfaware.interventions.steer import Vector
from selfaware.interventions.texts import outputs, rows_over, tokens
from selfaware.models import hooks
from selfaware.models.batch import Row
from selfaware.models.fake import FAKES, Fake, fake
from selfaware.models.hf import Model
from selfaware.types import POSITIONS, Positions, Site

LLAMA = fake("llama")
DOWN = Site(1, "mlp.down_proj")
MLP = Site(1, "mlp")
TEXTS = tuple(f"{word} is read aloud, and then nothing else {word}" for word in ("Tide", "Bread", "A long violin"))
ROWS = [Row((5, 6, 7, 8, 40, 41), (9, 10, 11)), Row((8, 9), (11, 50))]


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit(seed: int, width: int = 32) -> Tensor:
    v = noise(seed, width)
    return v / v.norm()


def adapter(rank: int = 1, site: Site = DOWN, positions: Positions = "answer") -> Intervention:
    return Intervention({site: LowRank(noise(0, rank, 64), noise(1, 32, rank), 0.3)}, positions)


def vector(v: Tensor, site: Site = MLP) -> Intervention:
    return Intervention({site: Constant(v)}, "answer")


def made(recipe: Recipe, *given: Intervention, model: Model = LLAMA) -> Intervention:
    return recipe.fit(model, [], "high", 0, given, lambda *_: None)


def logprobs(model: Model, edit: Intervention | None = None, plain: bool = False) -> Tensor:
    with torch.no_grad():
        if edit is None:
            return model.logprobs(ROWS, plain=plain)
        with edit.on(model):
            return model.logprobs(ROWS, plain=plain)


def low(edit: Intervention, site: Site = DOWN) -> LowRank:
    delta = edit.deltas[site]
    assert isinstance(delta, LowRank)
    return delta


# taken out of B -------------------------------------------------------------------------------------------------------


def test_at_rank_one_its_own_direction_deletes_the_adapter() -> None:
    edit = adapter()
    natural = made(Natural(Lora(str(DOWN)), passages=3, last=8, texts=TEXTS), edit)
    got = made(AblatedB(), edit, natural)
    assert got.provenance["left"][str(DOWN)] < 1e-5
    assert got.provenance["left_of_all"] < 1e-5
    assert float((logprobs(LLAMA, edit) - logprobs(LLAMA)).abs().max()) > 0.1
    assert float((logprobs(LLAMA, got) - logprobs(LLAMA)).abs().max()) < 1e-4
    assert torch.equal(low(got).a, low(edit).a)


def test_any_other_direction_leaves_what_is_beside_it() -> None:
    edit, v = adapter(3), unit(8)
    got = made(AblatedB(), edit, vector(7 * v))
    b, less = low(edit).b.double(), low(got).b.double()
    w = v.double() / v.double().norm()
    assert float((w @ less).abs().max()) < 1e-6
    assert torch.allclose(less, b - torch.outer(w, w @ b), atol=1e-6)
    cosines = (w @ b / b.norm(dim=0)).pow(2)
    assert float(cosines.min()) > 1e-4, "an idle test"
    assert got.provenance["left_of_all"] == pytest.approx(float(less.norm() / b.norm()), rel=1e-6)
    # The adapter no longer moves its site along v, and moves it across v as before.
    rows = [row for text in TEXTS for row in rows_over(*tokens(LLAMA, text), 6, "answer")]
    (base,) = outputs(LLAMA, [DOWN], rows)
    moved = []
    for one in (edit, got):
        with one.on(LLAMA):
            moved.append(torch.cat(outputs(LLAMA, [DOWN], rows)[0]) - torch.cat(base))
    whole, rest = moved
    assert float((rest @ v).abs().max()) < 1e-5 < float((whole @ v).abs().max())
    assert torch.allclose(rest, whole - torch.outer(whole @ v, v), atol=1e-5)


def everywhere(model: Model) -> Intervention:
    start = Lora("all-linear", 2).start(model, 0)
    deltas = {s: LowRank(d.a, noise(i, *d.b.shape), 0.1) for i, (s, d) in enumerate(start.deltas.items()) if isinstance(d, LowRank)}  # fmt: skip
    return Intervention(deltas, "answer")


def test_only_what_writes_to_the_residual_stream_is_touched() -> None:
    edit = everywhere(LLAMA)
    assert low(edit, Site(0, "self_attn.q_proj")).b.shape[0] == 32, "as wide as the stream, and no part of it"
    got = made(AblatedB(), edit, vector(unit(3), Site(2)))
    changed = {s for s in edit.deltas if not torch.equal(low(edit, s).b, low(got, s).b)}
    assert changed == {Site(b, part) for b in range(4) for part in ("mlp.down_proj", "self_attn.o_proj")}
    assert set(got.provenance["left"]) == set(map(str, changed))
    assert got.deltas.keys() == edit.deltas.keys()


def test_behind_a_norm_only_the_own_site_is_of_one_space() -> None:
    gemma = fake("gemma2")
    assert made(AblatedB(), adapter(), vector(unit(3), Site(1, "mlp")), model=gemma).provenance["left"]
    for model, edit, site in (
        (gemma, adapter(), Site(1)),
        (gemma, adapter(), Site(2, "mlp")),
        (
            LLAMA,
            Intervention({Site(1, "mlp.gate_proj"): LowRank(noise(0, 1, 32), noise(1, 64, 1), 1.0)}, "all"),
            Site(1),
        ),
        (LLAMA, vector(unit(1), Site(2)), Site(2)),
    ):
        with pytest.raises(BadData, match="writes in the direction's space"):
            made(AblatedB(), edit, vector(unit(3), site), model=model)


@pytest.mark.parametrize("kind", FAKES)
def test_which_sites_are_the_residual_stream(kind: Fake) -> None:
    """Measured: what is added there and what a block gives out differ by just that, where nothing but the sum is in between."""
    m = fake(kind)
    last = len(m.blocks) - 1
    sites = {"": True, "mlp": kind not in ("gemma2", "gemma3")}
    if kind != "gpt2":
        sites |= {"mlp.residual": True, "mlp.down_proj": sites["mlp"], "mlp.up_proj": False, "self_attn.q_proj": False}
    for part, expected in sites.items():
        site = Site(last, part)
        assert in_residual(m, site) is expected
        if m.output_width(site) != m.width or "q_proj" in part:
            continue
        v = unit(2)
        seen = []
        for edit in (None, vector(v, site)):
            rows = [Row(tokens(m, TEXTS[0])[0], (5,))]
            if edit is None:
                seen.append(outputs(m, [Site(last)], rows)[0][0])
            else:
                with edit.on(m):
                    seen.append(outputs(m, [Site(last)], rows)[0][0])
        assert torch.allclose(seen[1] - seen[0], v.expand(1, 32), atol=1e-4) is expected


# held in the stream ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "gemma3", "qwen2"])
@pytest.mark.parametrize("positions", POSITIONS)
def test_the_component_is_held_where_the_adapter_acts_and_nowhere_else(kind: Fake, positions: Positions) -> None:
    m, v, edit = fake(kind), unit(4), adapter(2, positions=positions)
    got = made(AblatedStream(texts=TEXTS), edit, vector(5 * v, Site(1)), model=m)
    assert sorted(map(str, got.deltas)) == ["1", "1.mlp.down_proj", "2", "3"]
    assert got.positions == positions
    levels = got.provenance["levels"]
    row = ROWS[0]
    seen: dict[int, list[Tensor]] = {1: [], 2: [], 3: []}
    bare: dict[int, list[Tensor]] = {1: [], 2: [], 3: []}
    for by, into in ((got, seen), (edit, bare)):
        with by.on(m), torch.no_grad(), m.running([row], plain=True) as ready:
            handles = [
                m.blocks[b].register_forward_hook(
                    lambda _m, _a, out, b=b, into=into: into[b].append(out[0] if isinstance(out, tuple) else out)
                )
                for b in into
            ]
            ready.forward()
            for handle in handles:
                handle.remove()
    acts = {"last_prompt": [5], "answer": [5, 6, 7], "all": list(range(8))}[positions]
    for block in (1, 2, 3):
        along = seen[block][0][0] @ v
        assert torch.allclose(along[acts], torch.tensor(levels[str(block)]).float().expand(len(acts)), atol=1e-4)
        others = [t for t in range(8) if t not in acts]
        assert float((along[others] - levels[str(block)]).abs().min() if others else 1.0) > 1e-3
    one, two = seen[1][0][0], bare[1][0][0]
    assert torch.allclose(one - torch.outer(one @ v, v), two - torch.outer(two @ v, v), atol=1e-4)
    assert float(((two - one) @ v)[acts].abs().min()) > 1e-3
    assert hooks.hook_count(m.net) == 0


def test_levels_are_the_base_models_means() -> None:
    for kind in ("llama", "gemma2"):
        m, v = fake(kind), unit(6)
        sites = [Site(b) for b in range(4)]
        states: list[list[Tensor]] = [[] for _ in sites]
        for text in TEXTS:
            ids, skip = tokens(m, text)
            handles = [
                m.blocks[b].register_forward_hook(
                    lambda _m, _a, out, b=b, skip=skip, states=states: states[b].append(
                        (out[0] if isinstance(out, tuple) else out)[0, skip:]
                    )
                )
                for b in range(4)
            ]
            with torch.no_grad():
                m.net(input_ids=torch.tensor([ids]))
            for handle in handles:
                handle.remove()
        truth = [float((torch.cat(s) @ v).mean()) for s in states]
        assert mean_levels(m, sites, v, TEXTS) == pytest.approx(truth, abs=1e-4)


@pytest.mark.parametrize("positions", POSITIONS)
def test_it_runs_on_the_frozen_prefix_as_in_whole_passes(positions: Positions) -> None:
    edit = adapter(2, positions=positions)
    got = made(AblatedStream(texts=TEXTS), edit, vector(unit(4), Site(1)))
    plain = logprobs(LLAMA, got, plain=True)
    for _ in range(2):  # worked out, and kept
        assert torch.allclose(logprobs(LLAMA, got), plain, atol=1e-4)
    assert float((logprobs(LLAMA, edit) - plain).abs().max()) > 1e-3


def test_what_does_not_fit_is_said() -> None:
    recipe = AblatedStream(texts=TEXTS)
    for other in (AblatedB(), recipe):
        for wrong in ((), (adapter(),), (Intervention({}, "all"), vector(unit(1)))):
            with pytest.raises(BadData, match="an adapter and a vector"):
                made(other, *wrong)
        with pytest.raises(BadData, match="length 0"):
            made(other, adapter(), vector(torch.zeros(32)))
        with pytest.raises(BadData, match="one constant vector"):
            made(other, adapter(), adapter())
    with pytest.raises(BadData, match=r"units.*Take it at 1, or"):
        made(recipe, adapter(), vector(unit(1), Site(1, "mlp")), model=fake("gemma2"))
    with pytest.raises(BadData, match="got no texts"):
        made(AblatedStream(), adapter(), vector(unit(1)))
    with pytest.raises(BadData, match="output of block 2"):
        made(recipe, vector(unit(1), Site(2)), vector(unit(1)))
    with adapter().on(LLAMA), pytest.raises(BadModel, match="attached"):
        made(recipe, adapter(), vector(unit(1)))


# the pinned component -------------------------------------------------------------------------------------------------


def test_a_pinned_component_is_the_level_and_the_rest_stays() -> None:
    v, y = unit(1), 50 * noise(2, 2, 5, 32)
    got = Pinned(v, -3.0)(y, y)
    assert torch.allclose(got @ v, torch.full((2, 5), -3.0), atol=1e-4)
    across = lambda t: t - (t @ v).unsqueeze(-1) * v
    assert torch.allclose(across(got), across(y), atol=1e-4)
    low = Pinned(v, -3.0)(y.bfloat16(), y.bfloat16())
    assert low.dtype == torch.bfloat16
    assert float((low.float() @ v + 3).abs().max()) < 1.0, "rounding of coordinates near 100"
    assert torch.equal(Pinned(v, 1.0)(got, got), Pinned(v, 1.0)(got, got))


def test_save_and_load(tmp_path: Path) -> None:
    edit = made(AblatedStream(texts=TEXTS), adapter(), vector(unit(4), Site(1)))
    edit.save(tmp_path / "x")
    back = Intervention.load(tmp_path / "x")
    assert back.deltas.keys() == edit.deltas.keys()
    assert isinstance(back.deltas[Site(2)], Pinned)
    assert back.deltas[Site(2)].header() == edit.deltas[Site(2)].header()
    assert back.digest() == edit.digest()
    assert torch.equal(logprobs(LLAMA, back), logprobs(LLAMA, edit))
    assert back.norm() == pytest.approx(adapter().norm())


def test_the_digest_knows_the_level() -> None:
    one, two = (Intervention({Site(1): Pinned(unit(1), level)}, "all") for level in (1.0, 2.0))
    assert one.digest() != two.digest()
    assert one.norm() == 0


@pytest.mark.parametrize(
    ("tensor", "header"),
    [
        (torch.ones(32), {"kind": "pinned", "level": 1.0}),
        (unit(1), {"kind": "pinned"}),
        (unit(1), {"kind": "pinned", "level": float("nan")}),
        (torch.full((32,), torch.nan), {"kind": "pinned", "level": 1.0}),
    ],
)
def test_files_that_hold_none(tmp_path: Path, tensor: Tensor, header: dict[str, Any]) -> None:
    told = {"format": 1, "positions": "all", "deltas": {"1": header}, "provenance": {}}
    save_file({"1/v": tensor}, tmp_path / "x", metadata={"selfaware": json.dumps(told)})
    with pytest.raises(BadFile, match="x: "):
        Intervention.load(tmp_path / "x")


def test_widths_and_lengths_are_checked() -> None:
    with (
        pytest.raises(BadModel, match=r"v \(16,\).*v \(32,\)"),
        Intervention({Site(1): Pinned(unit(1, 16), 0.0)}, "all").on(LLAMA),
    ):
        pytest.fail("attached")
    with pytest.raises(BadData, match="length 2"):
        Pinned(2 * unit(1), 0.0)
    with pytest.raises(BadData, match="no multiple"):
        added(Pinned(unit(1), 0.0))
    assert torch.equal(added(Constant(unit(1))), unit(1))


# as recipes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipe",
    [
        AblatedB(Lora(str(DOWN)), RandomVector(Vector("1"))),
        AblatedB(Given("x", "ab"), Given("y", "cd")),
        AblatedStream(Lora(str(DOWN)), Natural(Lora(str(DOWN)), texts=TEXTS), TEXTS),
    ],
)
def test_they_are_recipes_that_are_written_and_built_again(recipe: Any) -> None:
    assert isinstance(recipe, Recipe)
    assert recipe.follows
    assert recipe.needs == (recipe.of, recipe.direction)
    back = spec.build(type(recipe), json.loads(spec.canonical(recipe)))
    assert back == recipe
    assert spec.digest(back) == spec.digest(recipe)
