"""Questions to ids: the seam, the spellings, the special tokens."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from selfaware.ask import ask
from selfaware.errors import BadData, BadModel
from selfaware.models.fake import FAKES, fake, tokenizer
from selfaware.models.render import encode, prompt_text, render
from selfaware.types import Prompt, Question, Template

LLAMA, GEMMA, QWEN, MISTRAL = (tokenizer(k) for k in ("llama", "gemma2", "qwen2", "mistral"))


def question(
    user: str = "Tea or coffee?",
    stem: str = "I take",
    options: tuple[str, ...] = ("tea", "coffee"),
    single: bool = False,
    system: str | None = None,
) -> Question:
    return Question("q", "f", "g", "choices", Prompt(user, stem, system), options, 0, single)


def test_raw_is_text_on_lines_of_its_own() -> None:
    got = render(LLAMA, question(system="Be brief."), "raw", 512)
    assert got.text == "Be brief.\nTea or coffee?\nI take"
    assert LLAMA.decode(got.prompt) == "<bos>" + got.text
    assert [LLAMA.decode(v[0]) for v in got.options] == [" tea", " coffee"]
    assert all(len(v) == 1 for v in got.options)


def test_chat_is_the_template_and_the_stem() -> None:
    got = render(LLAMA, question(system="Be brief."), "chat", 512)
    assert got.text == "<bos><|system|>Be brief.\n<|user|>Tea or coffee?\n<|assistant|>\nI take"
    assert LLAMA.decode(got.prompt) == got.text


@pytest.mark.parametrize("kind", FAKES)
@pytest.mark.parametrize("template", ["raw", "chat"])
def test_at_most_one_begin_of_sequence(kind, template: Template) -> None:
    words = tokenizer(kind)
    if template == "chat" and not words.chat_template:
        with pytest.raises(BadModel, match=r"no chat template.*template=raw"):
            render(words, question(), template, 512)
        return
    prompt = render(words, question(), template, 512).prompt
    assert prompt.count(1) == (words.bos_token_id is not None)
    assert words.bos_token_id is None or prompt[0] == words.bos_token_id


def test_two_begin_of_sequence_tokens_are_refused() -> None:
    with pytest.raises(BadModel, match="two begin-of-sequence"):
        encode(LLAMA, "<bos>Tea", "raw")
    with pytest.raises(BadModel, match="two begin-of-sequence"):
        encode(LLAMA, "<bos><bos>Tea", "chat")


def test_an_end_of_sequence_token_that_the_tokenizer_adds_is_taken_off() -> None:
    class Ending:
        bos_token_id, eos_token_id, chat_template = None, 2, None

        def __call__(self, text: str, add_special_tokens: bool):
            return SimpleNamespace(input_ids=[ord(c) for c in text] + [2] * add_special_tokens)

    got = render(Ending(), question("a", "b", ("c", "d")), "raw", 99)
    assert got.prompt == tuple(map(ord, "a\nb"))
    assert got.options == (((32, 99),), ((32, 100),))


def test_an_option_that_merges_with_the_prompt_is_refused() -> None:
    with pytest.raises(BadData, match=r"'tea' merges with the end of its prompt '.*I take '"):
        render(LLAMA, question(stem="I take "), "raw", 512)


def test_letters_have_the_natural_spelling_first() -> None:
    words = lambda r: [[QWEN.decode(v) for v in o] for o in r.options]
    ab = question(stem="Answer:", options=("A", "B"), single=True)
    assert words(render(QWEN, ab, "raw", 512)) == [[" A", "A"], [" B", "B"]]
    assert words(render(QWEN, replace(ab, prompt=Prompt("Answer?")), "chat", 512)) == [["A", " A"], ["B", " B"]]
    with pytest.raises(BadData, match="not a single token"):
        render(QWEN, replace(ab, options=("AB", "CD")), "raw", 512)


def test_a_second_spelling_that_merges_is_left_out() -> None:
    class Brackets:
        """Makes one token of `(A`, as some vocabularies do."""

        bos_token_id = eos_token_id = chat_template = None

        def __call__(self, text: str, add_special_tokens: bool):
            return SimpleNamespace(input_ids=[ord(c) for c in text.replace("(A", "\u00e4").replace(" A", "\u00c4")])

    got = render(Brackets(), question("x (", "", ("A",), single=True), "raw", 99)
    assert got.options == (((0xC4,),),)


def test_letters_are_asked_with_all_their_spellings() -> None:
    model = fake("qwen3")
    answer = next(ask(model, [question(stem="Answer:", options=("A", "B"), single=True)], "raw"))
    assert answer.tokens == (1, 1)
    assert answer.valid is not None
    assert max(answer.logprobs) < answer.valid < 0


def test_system_text_without_a_system_role_goes_to_the_users() -> None:
    merged = "<bos><|user|>Be brief.\n\nTea or coffee?\n<|assistant|>\n"
    prompt = Prompt("Tea or coffee?", "", "Be brief.")
    assert prompt_text(GEMMA, prompt, "chat", system_role=False) == merged
    assert (
        prompt_text(GEMMA, prompt, "chat", system_role=True) == merged
    )  # the template refuses it: nobody wrote that down
    deaf = tokenizer("llama")
    deaf.chat_template = "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}"
    assert (
        prompt_text(deaf, prompt, "chat") == "Be brief.\n\nTea or coffee?"
    )  # the template leaves it out without a word


def test_a_template_that_refuses_even_the_user_is_named() -> None:
    broken = tokenizer("llama")
    broken.chat_template = "{{ raise_exception('only tools here') }}"
    with pytest.raises(BadModel, match="only tools here"):
        prompt_text(broken, Prompt("x"), "chat")


def test_too_long_a_prompt_is_refused() -> None:
    model = fake("llama", context=64)
    with pytest.raises(BadModel, match="question q: 73 tokens; the model's context holds 64"):
        model.render(question("x" * 60), "raw")


@pytest.mark.parametrize("option", ["", "  "])
def test_empty_answers_are_refused(option: str) -> None:
    with pytest.raises(BadData, match="empty answer"):
        render(LLAMA, question(options=("tea", option)), "raw", 512)


@pytest.mark.parametrize("words", [LLAMA, QWEN])
def test_empty_prompts_are_refused(words) -> None:
    with pytest.raises(BadData, match="prompt is empty"):
        render(words, question("", ""), "raw", 512)


def test_a_question_without_options_is_its_prompt() -> None:
    assert render(MISTRAL, question(options=()), "raw", 512).options == ()
