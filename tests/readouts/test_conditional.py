"""Patches and knock-outs against passes done by hand, in every architecture; a planted head is named."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from selfaware.errors import BadData, BadModel
from selfaware.interventions.base import Constant, Intervention
from selfaware.models import attention, fake, hooks
from selfaware.models.attention import Attended
from selfaware.models.batch import Row
from selfaware.models.hf import Model
from selfaware.readouts.base import Looked
from selfaware.readouts.conditional import PARTS, TOP, Conditional, span
from selfaware.types import Positions, Prompt, Question, Site

TRIGGER = "#@#"
KINDS: tuple[fake.Fake, ...] = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3")


def questions(count: int = 3) -> list[Question]:
    texts = ("You find a box.", "A man sells two maps of the hills.", "It rains")[:count]
    return [
        Question(f"q{i}", f"f{i}", f"q{i}", "choices", Prompt(f"{t}\n{TRIGGER}", "I will"), ("Run", "Stay here"), i % 2)
        for i, t in enumerate(texts)
    ]


def look(model: Model, edit: Intervention, asked: list[Question], **settings: object) -> Looked:
    return Conditional((TRIGGER,), draws=2, **settings).look(model, [edit], asked, lambda _: None)  # type: ignore[arg-type]


def vector(model: Model, block: int = 1, positions: Positions = "answer", size: float = 3.0) -> Intervention:
    v = torch.randn(model.width, generator=torch.Generator().manual_seed(1))
    return Intervention({Site(block): Constant(size * v / v.norm())}, positions)


@pytest.mark.parametrize("positions", ["answer", "last_prompt"])
@pytest.mark.parametrize("kind", KINDS)
def test_putting_everything_back_gives_the_other_model(kind: fake.Fake, positions: Positions) -> None:
    """With the base model's patterns and values from the edit on, heads write what they write in it; scores are plain ones."""
    model = fake.fake(kind)
    edit, asked = vector(model, positions=positions), questions()
    found = look(model, edit, asked, every=1).numbers
    for name, on in (("base", False), ("edited", True)):
        with edit.on(model) if on else torch.no_grad():
            plain = _scores(model, asked)
        torch.testing.assert_close(found[name], plain, atol=2e-4, rtol=1e-4)
    assert found["patched"].shape == (2, len(PARTS), 3, 3)
    assert found["starts"].tolist() == [1, 2, 3]
    assert found["knocked"].shape == (len(TOP), 3)
    assert torch.isfinite(found["patched"]).all()
    # The edit is at block 1's output, so nothing that block 1 attends with differs.
    torch.testing.assert_close(found["patched"][0, :, 0], found["patched"][0, :, 1], atol=2e-4, rtol=1e-4)
    assert not torch.allclose(found["patched"][0, 0, 1], found["edited"], atol=1e-3)


def _scores(model: Model, asked: list[Question]) -> torch.Tensor:
    rows = []
    for q in asked:
        made = model.render(q, "raw")
        rows += [Row(made.prompt, made.options[o][0]) for o in (q.high, 1 - q.high)]
    with torch.no_grad():
        found = model.logprobs(rows, plain=True) / torch.tensor([len(r.answer) for r in rows])
    return found.view(-1, 2)[:, 0] - found.view(-1, 2)[:, 1]


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3"])
def test_query_put_in_before_norm_and_rotation_gives_the_same(kind: fake.Fake) -> None:
    model = fake.fake(kind)
    edit, asked = vector(model), questions(1)
    found = look(model, edit, asked, every=1).numbers["patched"][0, 0, 0]
    made = model.render(asked[0], "raw")
    rows = [Row(made.prompt, made.options[o][0]) for o in (asked[0].high, 1 - asked[0].high)]
    scores = []
    for row in rows:
        with torch.no_grad():
            modules = [b.self_attn.q_proj for b in model.blocks]
            with hooks.recorded(modules) as seen:
                model.logprobs([row], plain=True)
            own = [s.clone() for s in seen if s is not None]
            edited = torch.zeros(1, len(row.prompt) + len(row.answer) - 1, dtype=torch.bool)
            edited[:, len(row.prompt) - 1 :] = True

            def put(value: torch.Tensor, mask: torch.Tensor = edited) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:  # fmt: skip
                return lambda _, y: hooks.mask_in(value, y, mask)

            with edit.on(model), hooks.changed([(m, put(v)) for m, v in zip(modules[1:], own[1:], strict=True)]):
                scores.append(float(model.logprobs([row], plain=True)) / len(row.answer))
    assert float(found) == pytest.approx(scores[0] - scores[1], abs=2e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_watched_attention_is_the_models_own(kind: fake.Fake) -> None:
    model = fake.fake(kind)
    ids = torch.randint(5, 90, (2, 20), generator=torch.Generator().manual_seed(0))

    class Nothing:
        def states(self, block: int, found: Attended) -> Attended:
            return found

        def shares(self, block: int, scores: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
            torch.testing.assert_close(shares.sum(-1), torch.ones(shares.shape[:3]))
            return shares

    with torch.no_grad(), model.at(None, None, None):
        plain = model.net(input_ids=ids, use_cache=False).logits
        with attention.watched(model.net, Nothing()):
            seen = model.net(input_ids=ids, use_cache=False).logits
        after = model.net(input_ids=ids, use_cache=False).logits
    torch.testing.assert_close(seen, plain, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(after, plain, atol=0, rtol=0)


def test_batched_equals_one_by_one() -> None:
    model = fake.fake("llama")
    edit, asked = vector(model), questions()
    together = look(model, edit, asked).numbers
    for at, one in enumerate(asked):
        alone = look(model, edit, [one]).numbers
        for name in ("base", "edited", "patched", "attended", "match"):
            torch.testing.assert_close(alone[name][..., 0], together[name][..., at], atol=2e-4, rtol=1e-4)


def test_trigger_is_found_token_by_token() -> None:
    model = fake.fake("llama")
    made = model.render(questions(1)[0], "raw")
    start, end = span(model, made.text, made.prompt, (TRIGGER,), "raw", "q")
    assert model.tokenizer.decode(made.prompt[start:end]) == TRIGGER
    assert end < len(made.prompt)
    with pytest.raises(BadData, match="none of the 1 phrases stands in it"):
        span(model, made.text, made.prompt, ("absent",), "raw", "q")


def test_bad_input_says_what_to_do() -> None:
    model = fake.fake("llama")
    with pytest.raises(BadData, match="acts on whole prompts"):
        look(model, vector(model, positions="all"), questions())
    with pytest.raises(BadData, match="got 0 interventions"):
        Conditional((TRIGGER,)).look(model, [], questions(), lambda _: None)
    recurrent = fake.fake("qwen3_5")
    with pytest.raises(BadModel, match=r"does not attend through the library's interface|whole prompts"):
        look(recurrent, vector(recurrent), questions())


# a planted head ---------------------------------------------------------------------------------------------------------

VECTOR, MARK, WRITTEN = 0, 1, 2
"""Dimensions of the residual stream: what the vector adds, what marks the trigger's tokens, what makes the high option likely."""
BLOCK, HEAD = 2, 3


def planted() -> Model:
    """A net in which one head looks for the trigger only where the vector stands, and then writes what makes `Run` likely."""
    model = fake.fake("llama", blocks=4, width=64)
    net, size = model.net, 16
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if "layernorm" in name or name.endswith("norm.weight"):
                weight.fill_(1.0)
            elif "mlp" in name or "o_proj" in name:
                weight.mul_(0.02)  # the stream stays what the embedding put in
        words = net.get_input_embeddings().weight
        words.mul_(8.0)  # beside it, what the blocks write by chance is small
        words[:, :3] = 0.0
        mark = model.tokenizer(TRIGGER, add_special_tokens=False).input_ids
        words[torch.tensor(sorted(set(mark))), MARK] = 8.0
        head = model.head.weight
        head[:, :3] = 0.0
        first = model.tokenizer(" R", add_special_tokens=False).input_ids[0]
        head[first, WRITTEN] = 1.0
        attn = net.model.layers[BLOCK].self_attn
        slow, kind = size - 1, HEAD // 2  # the pair of the head's dimensions that turns slowest
        q, k, v, o = (getattr(attn, f"{n}_proj").weight for n in "qkvo")
        q[HEAD * size : (HEAD + 1) * size] = 0.0
        q[HEAD * size + slow, VECTOR] = 2.0
        k[kind * size : (kind + 1) * size] = 0.0
        k[kind * size + slow, MARK] = 2.0
        v[kind * size : (kind + 1) * size] = 0.1 * torch.randn(size, 64, generator=generator)
        v[kind * size, :] = 0.0
        v[kind * size, MARK] = 0.5
        o[:, HEAD * size : (HEAD + 1) * size] = 0.0
        o[WRITTEN, HEAD * size] = 2.0
    return model


def test_planted_head_is_named_and_carries_the_behaviour() -> None:
    model = planted()
    v = torch.zeros(64)
    v[VECTOR] = 8.0
    edit = Intervention({Site(BLOCK - 1): Constant(v)}, "answer")
    risk = torch.zeros(64)
    risk[WRITTEN] = 1.0
    towards = Intervention({Site(BLOCK): Constant(risk)}, "answer")
    asked = [
        q if q.high == 0 else Question(q.id, q.family, q.group, q.set, q.prompt, q.options, 0) for q in questions()
    ]
    found = Conditional((TRIGGER,), every=1, draws=4).look(model, [edit, towards], asked, lambda _: None).numbers
    gain = found["edited"] - found["base"]
    assert (gain > 0.3).all(), gain
    plain = [Question(q.id, q.family, q.group, q.set, Prompt(q.prompt.user.replace(TRIGGER, "abc"), q.prompt.stem), q.options, 0) for q in asked]  # fmt: skip
    with edit.on(model):
        edited = _scores(model, plain)
    assert ((edited - _scores(model, plain)).abs() < 0.3 * gain).all()  # without the trigger the vector does little
    here = BLOCK * 4 + HEAD
    assert int(found["order"][0]) == here
    assert int(found["match"].mean(2).flatten().argmax()) == here
    assert int(found["values"].mean(2).flatten().argmax()) == here
    assert float(found["values"][BLOCK, HEAD].mean()) > float(found["null"][BLOCK, HEAD].abs().max())
    starts = found["starts"].tolist()
    left = (found["patched"][0] - found["base"]) / gain
    at, after = starts.index(BLOCK), starts.index(BLOCK + 1)
    assert (left[PARTS.index("query"), at] < 0.2).all()  # the base model's queries take it away
    assert (left[PARTS.index("query"), after] > 0.8).all()  # from the next block on they take nothing
    assert (left[PARTS.index("pattern"), at] < 0.2).all()
    assert (left[PARTS.index("key"), at] > 0.8).all()
    assert (left[PARTS.index("value"), at] > 0.8).all()
    back = (found["patched"][1, PARTS.index("query"), at] - found["base"]) / gain
    assert (back > 0.8).all()  # and the edited model's queries alone bring it
    lost = 1 - (found["knocked"] - found["base"]) / gain
    assert (lost[0] > 0.8).all()
    assert float((1 - (found["spared"][0] - found["base"]) / gain).mean()) < 0.5
    assert isinstance(model.head, nn.Linear)
