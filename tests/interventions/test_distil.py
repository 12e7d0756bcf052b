"""Natural vectors: the differences are those that hooks of one's own see, and what is planted in an adapter comes out."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from selfaware import spec
from selfaware.errors import BadData, BadModel, UnknownName
from selfaware.interventions.anchored import Anchored
from selfaware.interventions.base import Constant, Intervention, LowRank, Pinned, Recipe
from selfaware.interventions.distil import Line, Natural, Scaled, differences, vector_of
from selfaware.interventions.given import Given
from selfaware.interventions.lora import Lora
from selfaware.interventions.orthogonal import Orthogonal
from selfaware.interventions.steer import Vector
from selfaware.interventions.texts import tokens
from selfaware.models import hooks
from selfaware.models.batch import Row
from selfaware.models.fake import Fake, fake
from selfaware.models.hf import Model
from selfaware.types import POLARITIES, POSITIONS, Positions, Prompt, Question, Site

LLAMA = fake("llama")
DOWN = Site(1, "mlp.down_proj")
BLOCK = Site(2)
TEXTS = tuple(f"{word} is read aloud, and then nothing else {word}" for word in ("Tide", "Bread", "A long violin"))
NATURAL = Natural(Lora(str(DOWN)), passages=3, last=7, texts=TEXTS)


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def low_rank(rank: int, seed: int = 0, fan_in: int = 64) -> LowRank:
    return LowRank(noise(seed, rank, fan_in), noise(seed + 1, 32, rank), 0.3)


def adapter(rank: int = 1, positions: Positions = "answer") -> Intervention:
    return Intervention({DOWN: low_rank(rank)}, positions)


def deep(positions: Positions) -> Intervention:
    """On two blocks, so that a later one sees what earlier tokens were changed to."""
    return Intervention({DOWN: low_rank(2), Site(2, "self_attn.v_proj"): LowRank(noise(5, 2, 32), noise(6, 16, 2), 1.0)}, positions)  # fmt: skip


def questions(count: int) -> list[Question]:
    return [
        Question(
            f"q{i}", f"f{i}", f"g{i}", "train", Prompt(f"Number {i} or what?", "It is"), ("red one", "blue"), i % 2
        )
        for i in range(count)
    ]


def made(recipe: Recipe, *given: Intervention, model: Model = LLAMA, examples: int = 4) -> Intervention:
    return recipe.fit(model, questions(examples), "high", 0, given, lambda *_: None)


def v(intervention: Intervention) -> Tensor:
    return vector_of("test", intervention)[1]


def cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0))


def by_hand(m: Model, edit: Intervention, site: Site, text: str, last: int) -> Tensor:
    """Differences at the last tokens, from bare passes and hooks of one's own; an edit at `last_prompt` acts on that token alone."""
    ids, skip = tokens(m, text)
    found = []
    for at in range(len(ids) - last, len(ids)):
        both = []
        for edited in (False, True):
            seen: list[Tensor] = []
            handles = []

            def change(delta: Any, start: int) -> Any:
                def hook(_m: Any, args: Any, out: Tensor) -> Tensor:
                    return torch.cat([out[:, :start], delta(args[0], out)[:, start:]], 1)

                return hook

            if edited:
                start = {"last_prompt": at, "answer": skip - 1, "all": 0}[edit.positions]
                handles = [m.module(s).register_forward_hook(change(d, start)) for s, d in edit.deltas.items()]
            handles.append(
                m.module(site).register_forward_hook(
                    lambda _m, _a, out, seen=seen: seen.append(out[0] if isinstance(out, tuple) else out)
                )
            )
            with torch.no_grad():
                m.net(input_ids=torch.tensor([ids[: at + 1]]))
            for handle in handles:
                handle.remove()
            both.append(seen[0][0, -1])
        found.append(both[1] - both[0])
    return torch.stack(found)


# differences ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "gemma2", "qwen2"])
@pytest.mark.parametrize("positions", POSITIONS)
def test_differences_are_what_hooks_see(kind: Fake, positions: Positions) -> None:
    m, edit = fake(kind), deep(positions)
    for site in (Site(2), Site(3, "mlp"), DOWN):
        got = differences(m, edit, site, [tokens(m, text) for text in TEXTS], 5)
        truth = torch.cat([by_hand(m, edit, site, text, 5) for text in TEXTS])
        assert (tuple(got.shape), got.dtype) == ((15, 32), torch.float32)
        assert float((got - truth).abs().max()) < 1e-4
        assert float(truth.norm(dim=1).min()) > 0.01
    assert hooks.hook_count(m.net) == 0


def test_the_first_token_is_never_looked_at() -> None:
    for kind in ("llama", "qwen2"):  # with and without a begin-of-sequence token
        m = fake(kind)
        ids, skip = tokens(m, TEXTS[0])
        assert skip == (2 if kind == "llama" else 1)
        longest = replace(NATURAL, passages=1, last=len(ids) - skip)
        assert made(longest, adapter(), model=m).provenance["differences"] == len(ids) - skip
        with pytest.raises(BadData, match=f"text 0: {len(ids)} tokens; {skip} are passed over"):
            made(replace(longest, last=len(ids) - skip + 1), adapter(), model=m)


# what comes out -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["mean", "unitized", "pc1", "pc1-centred"])
@pytest.mark.parametrize("kind", ["llama", "gemma2"])
@pytest.mark.parametrize("positions", POSITIONS)
def test_at_rank_one_the_direction_is_b_by_identity(way: Any, kind: Fake, positions: Positions) -> None:
    edit, m = adapter(1, positions), fake(kind)
    got = made(replace(NATURAL, way=way), edit, model=m)
    (delta,) = edit.deltas.values()
    assert isinstance(delta, LowRank)
    assert abs(cosine(v(got), delta.b[:, 0])) > 1 - 1e-6
    assert abs(got.provenance["identity"]) > 1 - 1e-6
    assert (list(got.deltas), got.positions) == ([Site(1, "mlp")], positions)
    # Its length is the mean gate, and its sign that of the mean gate.
    seen: list[Tensor] = []
    handle = m.module(DOWN).register_forward_hook(lambda _m, args, _o: seen.append(args[0][0]))
    with torch.no_grad():
        for text in TEXTS:
            m.net(input_ids=torch.tensor([tokens(m, text)[0]]))
    handle.remove()
    gates = torch.cat([x[-7:] for x in seen]) @ delta.a[0] * delta.scale
    assert torch.allclose(v(got), gates.mean() * delta.b[:, 0], atol=1e-4)
    assert got.provenance["spread"] == pytest.approx(float(gates.std(correction=0) / gates.mean().abs()), rel=1e-3)


def test_a_planted_constant_comes_out_unless_it_is_centred_away() -> None:
    planted = noise(7, 32)
    edit = Intervention({Site(1): Constant(planted)}, "answer")
    for way in ("mean", "unitized", "pc1"):
        got = made(replace(NATURAL, way=way), edit)  # type: ignore[arg-type]
        assert torch.allclose(v(got), planted, atol=1e-4)
        assert got.provenance["explained"][0] > 0.9999
        assert "identity" not in got.provenance
    with pytest.raises(BadData, match="do not vary"):
        made(replace(NATURAL, way="pc1-centred"), edit)


def test_a_direction_is_not_made_of_rounding() -> None:
    """As many gates above zero as below: the mean of the differences' directions is nothing, in float32 some 1e-8."""
    edit = adapter()
    x = differences(LLAMA, edit, Site(1, "mlp"), [tokens(LLAMA, t) for t in TEXTS], 8)
    signs = (x @ low_rank(1).b[:, 0]).sign()
    assert float(signs.sum()) == 0, "an idle test"
    with pytest.raises(BadData, match="cancel out"):
        made(replace(NATURAL, way="unitized", last=8), edit)
    assert abs(made(replace(NATURAL, way="pc1", last=8), edit).provenance["identity"]) > 1 - 1e-6


def test_applied_it_gives_the_mean_of_what_the_adapter_gave() -> None:
    edit, site = adapter(3), Site(1, "mlp")
    natural = made(NATURAL, edit)
    of = lambda i: differences(LLAMA, i, site, [tokens(LLAMA, t) for t in TEXTS], 7)
    assert torch.allclose(of(natural).mean(0), of(edit).mean(0), atol=1e-5)
    assert float(of(natural).std(0).max()) < 1e-5
    assert "identity" not in natural.provenance


def test_where_it_is_put() -> None:
    several = deep("answer")
    assert list(made(NATURAL, several).deltas) == [Site(2)]
    assert list(made(replace(NATURAL, site="3.mlp.residual"), several).deltas) == [Site(3, "mlp")]
    assert list(made(NATURAL, adapter(), model=fake("gemma3")).deltas) == [Site(1, "mlp")]
    gated = Intervention({Site(1, "mlp.gate_proj"): LowRank(noise(0, 1, 32), noise(1, 64, 1), 1.0)}, "answer")
    assert v(made(NATURAL, gated)).shape == (64,)
    with pytest.raises(BadData, match="first block is 1"):
        made(replace(NATURAL, site="0"), several)
    with pytest.raises(UnknownName, match="4 blocks"):
        made(replace(NATURAL, site="9"), several)


def test_prompts_take_the_options_in_turn() -> None:
    asked: list[tuple[int, ...]] = []
    m = fake("llama")
    run = m.engine.running
    m.engine.running = lambda rows, *a, **k: (asked.extend(r.prompt + r.answer[:-1] for r in rows), run(rows, *a, **k))[
        1
    ]  # type: ignore[method-assign]
    got = made(replace(NATURAL, on="prompts", texts=(), passages=8, last=3), adapter(), model=m, examples=4)
    assert got.provenance["differences"] == 24
    said = [m.tokenizer.decode(ids) for ids in asked[: len(asked) // 2]]
    assert sorted(said) == sorted(
        f"<bos>Number {i} or what?\nIt is {word}" for i in range(4) for word in ("red one", "blue")
    )
    spread = made(replace(NATURAL, on="prompts", texts=(), passages=2, last=3), adapter(), examples=8)
    assert spread.provenance["differences"] == 6


def test_what_is_missing_is_said() -> None:
    for wrong in ((), (adapter(), adapter()), (Intervention({}, "all"),)):
        with pytest.raises(BadData, match="one adapter is needed"):
            made(NATURAL, *wrong)
    with pytest.raises(BadData, match="got 3 texts"):
        made(replace(NATURAL, passages=4), adapter())
    with pytest.raises(BadData, match="got 0 texts"):
        made(Natural(Lora(str(DOWN))), adapter())
    with pytest.raises(BadData, match="got 2 texts"):
        made(replace(NATURAL, on="prompts", passages=3), adapter(), examples=1)
    with pytest.raises(BadData, match="all zero"):
        made(NATURAL, Intervention({DOWN: replace(low_rank(1), b=torch.zeros(32, 1))}, "answer"))
    with Intervention({Site(3): Constant(noise(0, 32))}, "all").on(LLAMA), pytest.raises(BadModel, match="attached"):
        made(NATURAL, adapter())
    with pytest.raises(BadModel, match="holds 16"):
        made(NATURAL, adapter(), model=fake("llama", context=16))
    assert hooks.hook_count(LLAMA.net) == 0


# lines and multiples --------------------------------------------------------------------------------------------------


def vector(seed: int, site: Site = BLOCK, positions: Positions = "answer") -> Intervention:
    return Intervention({site: Constant(noise(seed, 32))}, positions)


def test_a_line_runs_from_the_first_to_the_second() -> None:
    one, two = vector(1), vector(2)
    assert torch.equal(v(made(Line(share=0), one, two)), v(one))
    assert torch.equal(v(made(Line(share=1), one, two)), v(two))
    assert torch.allclose(v(made(Line(share=0.25), one, two)), 0.75 * v(one) + 0.25 * v(two))
    assert torch.allclose(v(made(Line(share=2.0), one, two)), 2 * v(two) - v(one), atol=1e-6)
    got = made(Line(), one, two)
    assert (list(got.deltas), got.positions) == ([Site(2)], "answer")
    for wrong in (vector(2, Site(3)), vector(2, positions="all")):
        with pytest.raises(BadData, match="one site and the same positions"):
            made(Line(), one, wrong)
    with pytest.raises(BadData, match=r"LowRank at 1\.mlp\.down_proj; one constant"):
        made(Line(), one, adapter())
    for recipe, given in ((Line(), (one,)), (Line(share=float("nan")), (one, two))):
        with pytest.raises(BadData, match="finite share"):
            made(recipe, *given)


def test_a_multiple_adds_that_many_times_as_much() -> None:
    texts = [tokens(LLAMA, t) for t in TEXTS]
    for edit, site in ((adapter(2), Site(1, "mlp")), (vector(3), Site(2))):
        once = differences(LLAMA, edit, site, texts, 4)
        for factor in (2.5, -1.0, 0.0):
            scaled = made(Scaled(factor=factor), edit)
            assert torch.allclose(differences(LLAMA, scaled, site, texts, 4), factor * once, atol=1e-4)
            assert scaled.norm() == pytest.approx(abs(factor) * edit.norm(), rel=1e-5)
            assert scaled.positions == edit.positions
    with pytest.raises(BadData, match="finite factor"):
        made(Scaled(factor=float("inf")), vector(1))
    pinned = Intervention({Site(2): Pinned(noise(0, 32) / noise(0, 32).norm(), 1.0)}, "all")
    with pytest.raises(BadData, match="no multiple"):
        made(Scaled(), pinned)


# as recipes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipe",
    [
        NATURAL,
        Natural(Given("x", "ab"), "pc1-centred", on="prompts"),
        Natural(Anchored(Lora(str(DOWN)), texts=TEXTS)),
        Line(NATURAL, Vector("2"), 0.3),
        Line(Orthogonal(Vector("2"), 2), Given("x", "ab")),
        Scaled(Line(NATURAL, Vector("2")), 3),
        Scaled(Lora(), -1),
    ],
)
def test_they_are_recipes_that_are_written_and_built_again(recipe: Any) -> None:
    assert isinstance(recipe, Recipe)
    assert recipe.follows
    assert recipe.label
    back = spec.build(type(recipe), json.loads(spec.canonical(recipe)))
    assert back == recipe
    assert spec.digest(back) == spec.digest(recipe)
    assert all(isinstance(needed, Recipe) for needed in recipe.needs)


def test_labels_tell_them_apart() -> None:
    ways = [replace(NATURAL, way=way, on=on) for way in ("mean", "pc1") for on in ("passages", "prompts")]  # type: ignore[arg-type]
    assert len({recipe.label for recipe in ways}) == 4
    assert Scaled(NATURAL, 2).label == "natural vector × 2"


def test_rows_of_a_prompt_that_ends_at_each_token() -> None:
    """One token a row at `last_prompt`: the same numbers as asking there."""
    m, edit = fake("llama"), vector(4, Site(1), "last_prompt")
    ids, _ = tokens(m, TEXTS[0])
    with edit.on(m) as touched, torch.no_grad():
        m.logprobs([Row(ids[:9], (5,))])
    assert touched.tokens == 1
    assert torch.allclose(differences(m, edit, Site(1), [tokens(m, TEXTS[0])], 6), v(edit).expand(6, 32), atol=1e-5)


@pytest.mark.parametrize("positions", ["answer", "last_prompt"])
def test_over_answers_only_their_tokens_are_looked_at(positions: Positions) -> None:
    """Options of different lengths: as many differences as they have tokens, each that of the answer's own token."""
    recipe = replace(NATURAL, on="answers", texts=(), passages=4)
    edit = replace(adapter(), positions=positions)
    got = made(recipe, edit, examples=4)
    asked = questions(4)
    chosen = [q.options[q.chosen(POLARITIES[at % 2])] for at, q in enumerate(asked)]
    lengths = [len(LLAMA.tokenizer(f" {text}", add_special_tokens=False).input_ids) for text in chosen]
    assert got.provenance["differences"] == sum(lengths)
    assert got.provenance["on"] == "answers"
