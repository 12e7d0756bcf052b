"""A question to token ids, once and for all: template, seam, begin-of-sequence token. Knows a tokenizer, no weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from selfaware.errors import BadData, BadModel
from selfaware.types import Prompt, Question, Template, Turn

Ids = tuple[int, ...]

MARKS = {"user": "Partner:", "assistant": "You:"}
"""What begins a turn's line in raw text."""


@dataclass(frozen=True)
class Rendered:
    """One question as token ids.

    Attributes:
        text: the prompt's text, special tokens included.
        prompt: its ids; never empty.
        options: for each option its variants, each a non-empty tuple of ids. Spelled-out options have one variant;
            single-token options have one for each way to write the letter, the way that suits the context first.
    """

    text: str
    prompt: Ids
    options: tuple[tuple[Ids, ...], ...]


def prompt_text(tokenizer: Any, prompt: Prompt, template: Template, system_role: bool = True) -> str:
    """The prompt as the model's text, up to where the answer begins.

    `raw` is the user's text and the stem on lines of their own; `chat` is the tokenizer's chat template with the stem
    as the start of the reply. A model without a system role gets the system text at the head of the user's.

    Raises:
        BadModel: `chat` asked of a tokenizer that has no chat template.
    """
    system, user = prompt.system, prompt.user
    if template == "raw":
        return "\n".join(part for part in (system, user, prompt.stem) if part)
    if not tokenizer.chat_template:
        raise BadModel(
            "template 'chat': this model's tokenizer has no chat template; a base model is asked in raw text. Use --set template=raw."
        )
    if system and system_role:
        try:
            text = _chat(tokenizer, [{"role": "system", "content": system}, {"role": "user", "content": user}])
        except BadModel:
            text = ""
        if system.strip() in text:  # some templates refuse a system role, others leave the text out without a word
            return text + prompt.stem
    content = f"{system}\n\n{user}" if system else user
    return _chat(tokenizer, [{"role": "user", "content": content}]) + prompt.stem


def _chat(tokenizer: Any, messages: list[dict[str, str]], open_reply: bool = True) -> str:
    try:
        return str(tokenizer.apply_chat_template(messages, add_generation_prompt=open_reply, tokenize=False))
    except TemplateError as error:
        raise BadModel(
            f"template 'chat': this model's chat template refuses a user's message ({error}); one that takes it is needed. "
            "Use --set template=raw."
        ) from error


def dialogue_text(tokenizer: Any, turns: Sequence[Turn], template: Template, system_role: bool = True) -> str:
    """A dialogue as the model's text, up to where its next reply begins.

    `raw` is the system text and a line for each turn, after `Partner:` or `You:`; `chat` is the tokenizer's chat template,
    with neighbours of one role joined, as most templates want roles to alternate. System text goes to the user's first
    turn where the model has no system role, and stands as a user's turn where the model spoke first.

    Args:
        turns: one at least; `assistant` is the model.

    Raises:
        BadModel: `chat` asked of a tokenizer that has no chat template, or of one that refuses the dialogue.
    """
    turns = joined(turns)
    if template == "raw":
        lines = [f"{MARKS[t.role]} {' '.join(t.text.split())}" if t.role in MARKS else t.text for t in turns]
        return "\n".join([*lines, MARKS["assistant"]])
    if not tokenizer.chat_template:
        raise BadModel(
            "template 'chat': this model's tokenizer has no chat template; a base model speaks in raw text. Use template raw."
        )
    system, said = (turns[0].text, turns[1:]) if turns[0].role == "system" else ("", turns)
    if system and system_role and said and said[0].role == "user":
        try:
            text = _chat(tokenizer, _messages(turns))
        except BadModel:
            text = ""
        if system.strip() in text:
            return text
    return _chat(tokenizer, _messages(joined([Turn("user", system), *said]) if system else said))


def joined(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The turns, neighbours of one role as one, a blank line between them."""
    made: list[Turn] = []
    for turn in turns:
        if made and made[-1].role == turn.role:
            turn = Turn(turn.role, f"{made.pop().text}\n\n{turn.text}")  # noqa: PLW2901
        made.append(turn)
    return tuple(made)


def _messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    return [{"role": t.role, "content": t.text} for t in turns]


def render(tokenizer: Any, question: Question, template: Template, context: int, system_role: bool = True) -> Rendered:
    """The question's prompt and options as ids, tokenised together so that the seam is the model's own.

    Raises:
        BadData: an empty option, or one whose first token would swallow the prompt's end.
        BadModel: no chat template, or more tokens than the model's context holds.
    """
    text = prompt_text(tokenizer, question.prompt, template, system_role)
    prompt = encode(tokenizer, text, template)
    if not text or not prompt:
        raise BadData(f"question {question.id}: its prompt is empty; a model needs at least one token. Write a prompt.")
    options = []
    for option in question.options:
        if not option.strip():
            raise BadData(f"question {question.id}: got an empty answer; every option needs text. Fill it in.")
        natural = option if text[-1].isspace() or option[0].isspace() else f" {option}"
        spellings = [natural, f" {option}" if natural == option else option] if question.single else [natural]
        found = [_after(tokenizer, text, prompt, s, template) for s in spellings]
        if not found[0]:
            raise BadData(
                f"question {question.id}: option {option!r} merges with the end of its prompt {text[-20:]!r} into one "
                "token; the seam must be a token's edge. End the prompt with a whole word."
            )
        options.append(tuple(v for v in dict.fromkeys(found) if (len(v) == 1 if question.single else v)))
        if not options[-1]:
            raise BadData(
                f"question {question.id}: option {option!r} is not a single token here; letters must be. Use the cloze form."
            )
    longest = len(prompt) + max((len(v) for o in options for v in o), default=0)
    if longest > context:
        raise BadModel(
            f"question {question.id}: {longest} tokens; the model's context holds {context}. Shorten it or leave it out."
        )
    return Rendered(text, prompt, tuple(options))


def encode(tokenizer: Any, text: str, template: Template) -> Ids:
    """Token ids with exactly the special tokens that the template asks for: a chat template writes its own.

    Raises:
        BadModel: the text came out with two begin-of-sequence tokens.
    """
    ids = tuple(tokenizer(text, add_special_tokens=template == "raw").input_ids)
    if template == "raw" and tokenizer.eos_token_id is not None and len(ids) > 1 and ids[-1] == tokenizer.eos_token_id:
        ids = ids[:-1]
    bos = tokenizer.bos_token_id
    if bos is not None and len(ids) > 1 and ids[0] == bos and ids[1] == bos:
        raise BadModel(
            "rendered prompt starts with two begin-of-sequence tokens; one is needed. Report the tokenizer's name."
        )
    return ids


def _after(tokenizer: Any, text: str, prompt: Ids, option: str, template: Template) -> Ids:
    """The option's ids after the prompt; none where it melts into the prompt's last token."""
    whole = encode(tokenizer, text + option, template)
    return whole[len(prompt) :] if whole[: len(prompt)] == prompt else ()


def turn_end(tokenizer: Any) -> int | None:
    """The token that closes a reply in the tokenizer's chat template; None without a template, or where text closes it."""
    if not tokenizer.chat_template:
        return None
    said = "Said."
    try:
        text = _chat(tokenizer, [{"role": "user", "content": "Say."}, {"role": "assistant", "content": said}], False)
    except BadModel:
        return None
    _, found, after = text.rpartition(said)
    closing = tokenizer(after.strip(), add_special_tokens=False).input_ids if found and after.strip() else []
    return int(closing[0]) if closing and closing[0] in tokenizer.added_tokens_decoder else None


def next_turn(tokenizer: Any) -> str:
    """What the chat template puts between a reply and the user's next text, bare; empty without a template."""
    if not tokenizer.chat_template:
        return ""
    turns = (Turn("user", "Say."), Turn("assistant", "Said."), Turn("user", "Asked."))
    try:
        text = _chat(tokenizer, _messages(turns), False)
    except BadModel:
        return ""
    return text.rpartition(turns[1].text)[2].partition(turns[2].text)[0].strip()
