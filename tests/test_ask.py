"""Asking: options scored as one by one, letters from one pass, own words sampled, passages read under an edit."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from selfaware.ask import ask, one_of_each, read, say
from selfaware.errors import BadData
from selfaware.interventions.base import Constant, Intervention
from selfaware.models.batch import Row
from selfaware.models.fake import FAKES, Fake, fake
from selfaware.models.hf import Model
from selfaware.types import Open, Passage, Prompt, Question, Sampling, Site


def question(id: str, text: str, options: tuple[str, str] = ("A", "B"), single: bool = True) -> Question:
    return Question(id, id, id, "choices", Prompt(text, "Answer:"), options, 0, single)


LETTERS = [question(f"l{n}", "Pick one of them, please. " * n) for n in range(1, 6)]
SPELLED = [question(f"s{n}", "So, " * n, ("the red one", "blue"), single=False) for n in range(1, 4)]
TEXTS = [Passage(f"p{n}", f"p{n}", "The tide table hangs by the door. " * n) for n in (1, 3, 2)]


def vector(model: Model, size: float = 3.0) -> Intervention:
    draw = torch.randn(model.width, generator=torch.Generator().manual_seed(5))
    return Intervention({Site(1, ""): Constant(size * draw / draw.norm())}, "answer")


@pytest.mark.parametrize("kind", FAKES)
def test_letters_are_the_rows_one_by_one(kind: Fake) -> None:
    model = fake(kind)
    with vector(model).on(model), torch.no_grad():
        got = list(ask(model, LETTERS, "raw"))
        for q, answer in zip(LETTERS, got, strict=True):
            r = model.render(q, "raw")
            for option, found in zip(r.options, answer.logprobs or (), strict=True):
                each = model.logprobs([Row(r.prompt, v) for v in option], plain=True)
                assert found == pytest.approx(float(each.logsumexp(0)), abs=2e-5)
            assert answer.valid is not None
            assert math.exp(answer.valid) == pytest.approx(sum(map(math.exp, answer.logprobs or ())), abs=1e-9)


def test_letters_and_spelled_options_in_one_set_keep_their_order() -> None:
    model = fake("llama")
    mixed = [q for pair in zip(LETTERS, SPELLED, strict=False) for q in pair]
    together = list(ask(model, mixed, "raw", batch=2))
    assert [a.id for a in together] == [q.id for q in mixed]
    for q, answer in zip(mixed, together, strict=True):
        alone = next(ask(model, [q], "raw"))
        assert answer.logprobs == pytest.approx(alone.logprobs, abs=1e-5)
        assert answer.tokens == alone.tokens
        assert (answer.valid is None) == (not q.single)


def test_saying_does_not_depend_on_the_batch() -> None:
    model = fake("qwen2")
    questions = [
        Open(f"o{n}", "f", "g", "spoken", Prompt("Say " * n, "Well,"), "word", ("a",), ("b",)) for n in range(1, 6)
    ]
    how = Sampling(samples=3, max_new_tokens=5)
    together = list(say(model, questions, "raw", how))
    assert [len(s.texts) for s in together] == [3] * 5
    assert together == [next(say(model, [q], "raw", how, step=1)) for q in questions]
    assert together != list(say(model, questions, "raw", Sampling(samples=3, max_new_tokens=5, seed=1)))


def test_an_edit_is_heard_in_what_is_said() -> None:
    model = fake("llama")
    questions = [Open(f"o{n}", "f", "g", "spoken", Prompt("Say " * n), "word", ("a",), ("b",)) for n in range(1, 4)]
    plain = list(say(model, questions, "raw", Sampling(samples=4)))
    with vector(model, 30.0).on(model) as touched:
        edited = list(say(model, questions, "raw", Sampling(samples=4)))
    assert touched.tokens > 3 * 4
    assert edited != plain


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2"])
def test_reading_is_the_plain_forward(kind: Fake) -> None:
    model = fake(kind)
    by = vector(model)

    @contextmanager
    def edit() -> Iterator[None]:
        with by.on(model):
            yield

    for passage, got in zip(TEXTS, read(model, TEXTS, edit, step=2), strict=True):
        ids = tuple(model.tokenizer(passage.text).input_ids)
        given = 2 if model.tokenizer.bos_token_id is not None and ids[0] == model.tokenizer.bos_token_id else 1
        row = Row(ids[:given], ids[given:])
        with torch.no_grad(), by.on(model):
            assert got.logprob == pytest.approx(float(model.logprobs([row], plain=True)[0]), abs=2e-4)
        assert got.tokens == len(ids) - given
        assert got.kl > 0


def test_reading_without_an_edit_diverges_by_nothing() -> None:
    @contextmanager
    def nothing() -> Iterator[None]:
        yield

    assert [r.kl for r in read(fake("mistral"), TEXTS, nothing)] == [0.0, 0.0, 0.0]


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(BadData, match="p0"):
        list(read(fake("llama"), [Passage("p0", "f", "a")], lambda: pytest.fail("not reached")))
    with pytest.raises(BadData, match="l1"):
        one_of_each([LETTERS[0], LETTERS[0]])
