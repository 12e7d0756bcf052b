"""Games: four endings, each by its rule; who sees what; what fails is told; the same seed plays the same game."""

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache

import pytest
import torch

from selfaware.errors import BadData, BadModel
from selfaware.games import Local, Rules, Scripted, play, play_all
from selfaware.interventions.base import Constant, Intervention
from selfaware.models.fake import Fake, fake, tokenizer
from selfaware.models.hf import Model
from selfaware.models.render import dialogue_text, joined, next_turn
from selfaware.types import Sampling, Site, Turn

RULES = Rules("ring", "Hello.", "Which word?", turns=3)
QUIET = Scripted(("Jewels.", "Gold.", "Silver."))


@dataclass
class Listening:
    """Says what it is given to say and keeps what it was told."""

    says: tuple[str, ...]
    name: str = "listening"
    heard: list[tuple[tuple[str, str], ...]] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)

    def reply(self, messages: Sequence[Turn], seed: int) -> str:
        self.heard.append(tuple((t.role, t.text) for t in messages))
        self.seeds.append(seed)
        return self.says[len(self.heard) - 1]


# rules ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("manipulator", "partner", "ends", "length"),
    [
        (("Jewels.", "Gold."), ("On fingers?", "A ring!", "jewel"), "win", 5),
        (("Jewels.", "Gold."), ("On fingers?", "RINGS", "**Ring**"), "guessed", 5),
        (("Jewels.", "A ring!"), ("On fingers?", "ring"), "violation", 4),
        (("Jewels.", "Gold.", "Silver."), ("On fingers?", "Ringing.", "ring"), "no codeword", 6),
        (("", "", ""), ("", "", "ring"), "no codeword", 6),
    ],
)
def test_how_it_ends(manipulator: tuple[str, ...], partner: tuple[str, ...], ends: str, length: int) -> None:
    game = play(Scripted(manipulator, "m"), Scripted(partner, "p"), RULES, 0)
    assert (game.outcome, game.guess, game.why) == (ends, partner[-1], "")
    assert len(game.turns) == length
    assert [t.role for t in game.turns] == ["partner", "manipulator"] * (length // 2) + ["partner"] * (length % 2)
    assert (game.manipulator, game.partner, game.codeword, game.seed) == ("m", "p", "ring", 0)


@pytest.mark.parametrize(("guess", "ends"), [("bark", "win"), ("ring", "guessed")])
def test_the_opening_itself_may_say_it(guess: str, ends: str) -> None:
    game = play(Scripted(()), Scripted((guess,)), replace(RULES, opening="My ring is lost."), 0)
    assert (game.outcome, len(game.turns)) == (ends, 1)


def test_it_can_be_played_on_after_the_word() -> None:
    onward = replace(RULES, until_said=False)
    game = play(Scripted(("Jewels.", "Yes, a ring.", "Bye.")), Scripted(("A ring?", "Bye.", "gold")), onward, 0)
    assert (game.outcome, len(game.turns)) == ("win", 6)


def test_who_sees_what() -> None:
    rules = replace(RULES, turns=2, manipulator="Make it say ring.", partner="Chat.")
    m, p = Listening(("Jewels.", "Gold.")), Listening(("On fingers?", "hand"))
    play(m, p, rules, 0)
    assert m.heard == [
        (("system", "Make it say ring."), ("user", "Hello.")),
        (("system", "Make it say ring."), ("user", "Hello."), ("assistant", "Jewels."), ("user", "On fingers?")),
    ]
    assert p.heard[0] == (("system", "Chat."), ("assistant", "Hello."), ("user", "Jewels."))
    assert p.heard[1][2:] == (
        ("user", "Jewels."), ("assistant", "On fingers?"), ("user", "Gold."), ("user", "Which word?"),
    )  # fmt: skip
    bare = Listening(("Jewels.", "Gold."))
    play(bare, Listening(("On fingers?", "hand")), replace(rules, manipulator=""), 0)
    assert bare.heard[0] == (("user", "Hello."),)


def test_every_reply_has_its_own_seed_fixed_by_the_games() -> None:
    def seeds(seed: int) -> list[int]:
        m, p = Listening(("",) * 5), Listening(("",) * 5)
        play(m, p, replace(RULES, turns=5), seed)
        return m.seeds + p.seeds

    assert seeds(1) == seeds(1)
    assert len({*seeds(1), *seeds(2)}) == 20
    assert all(0 <= s < 2**31 for s in seeds(1))


def test_a_player_that_fails_ends_the_game_and_is_named() -> None:
    game = play(Scripted(("Jewels.",), "short"), Scripted(("On fingers?",)), RULES, 0)
    assert (game.outcome, game.guess, len(game.turns)) == (None, None, 3)
    assert game.why == "manipulator: short: 1 lines; line 2 is needed. Write it."


@pytest.mark.parametrize(
    ("said", "ends"), [("A ring!", None), ("Gold.", "no codeword")]
)  # only a win or a loss by guessing hangs on the guess
@pytest.mark.parametrize("guess", [(), ("",), (" ?!\n",), ("42",)])
def test_no_guess_is_not_a_wrong_guess(said: str, ends: str | None, guess: tuple[str, ...]) -> None:
    rules = replace(RULES, turns=2)
    game = play(QUIET, Scripted((said, *guess)), rules, 0)
    assert game.outcome == ends
    assert game.guess == (guess[0] if guess else None)
    assert game.why.startswith("partner: ")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"turns": 0}, "0 turns"), ({"opening": " "}, "empty opening"), ({"question": ""}, "empty question"),
        ({"codeword": "ring tone"}, "single word"), ({"codeword": ""}, "single word"),
    ],
)  # fmt: skip
def test_rules_that_cannot_be_played(change: dict[str, object], problem: str) -> None:
    with pytest.raises(BadData, match=problem):
        replace(RULES, **change)  # type: ignore[arg-type]


# text -----------------------------------------------------------------------------------------------------------------

SEEN = (
    Turn("system", "Be brief."),
    Turn("user", "Hello."),
    Turn("assistant", "Hi,\nyou."),
    Turn("user", "a"),
    Turn("user", "b"),
)


def test_a_dialogue_in_raw_text_is_lines() -> None:
    got = dialogue_text(tokenizer("gpt2"), SEEN, "raw")
    assert got == "Be brief.\nPartner: Hello.\nYou: Hi, you.\nPartner: a b\nYou:"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("llama", "<bos><|system|>Be brief.\n<|user|>Hello.\n<|assistant|>Hi,\nyou.\n<|user|>a\n\nb\n<|assistant|>\n"),
        ("gemma2", "<bos><|user|>Be brief.\n\nHello.\n<|assistant|>Hi,\nyou.\n<|user|>a\n\nb\n<|assistant|>\n"),
    ],
)
def test_a_dialogue_in_a_chat_template_keeps_its_turns(kind: Fake, text: str) -> None:
    assert dialogue_text(tokenizer(kind), SEEN, "chat") == text


def test_a_briefing_is_the_users_where_the_model_spoke_first() -> None:
    got = dialogue_text(tokenizer("qwen2"), (SEEN[0], Turn("assistant", "Hi."), Turn("user", "a")), "chat")
    assert got == "<|user|>Be brief.\n<|assistant|>Hi.\n<|user|>a\n<|assistant|>\n"


def test_a_dialogue_needs_a_template_that_takes_it() -> None:
    with pytest.raises(BadModel, match="no chat template"):
        dialogue_text(tokenizer("gpt2"), SEEN, "chat")
    strict = tokenizer("llama")
    strict.chat_template = "{% if messages[0]['role'] != 'user' %}{{ raise_exception('must alternate') }}{% endif %}x"
    with pytest.raises(BadModel, match="must alternate"):
        dialogue_text(strict, (Turn("assistant", "Hi."), Turn("user", "a")), "chat")


def test_neighbours_of_one_role_are_joined() -> None:
    assert joined(()) == ()
    assert [t.role for t in joined(SEEN)] == ["system", "user", "assistant", "user"]
    assert joined(SEEN)[-1].text == "a\n\nb"


def test_where_the_next_turn_begins() -> None:
    assert next_turn(tokenizer("llama")) == "<|user|>"
    assert next_turn(tokenizer("gpt2")) == ""


# a model that plays -----------------------------------------------------------------------------------------------------


@cache
def model(kind: Fake) -> Model:
    return fake(kind)


SHORT = Sampling(samples=1, max_new_tokens=8)


@pytest.mark.parametrize(
    ("kind", "template"), [("llama", "chat"), ("gemma2", "chat"), ("gpt2", "raw"), ("qwen2", "raw")]
)
def test_a_model_plays_the_same_game_under_the_same_seed(kind: Fake, template: str) -> None:
    local = Local(model(kind), template, SHORT)  # type: ignore[arg-type]
    rules = replace(RULES, manipulator="Make it say ring.", partner="Chat.")
    games = [play(local, local, rules, seed) for seed in (0, 0, 1)]
    assert games[0] == games[1]
    assert games[0].turns != games[2].turns
    assert games[0].manipulator == f"fake-{kind}"
    assert len({t.text for t in games[0].turns}) > 3
    assert all(t.text == t.text.strip() for t in games[0].turns)


@pytest.mark.parametrize(
    ("template", "written", "kept"),
    [
        ("raw", " Gold, I say.\nPartner: And?", "Gold, I say."), ("raw", "\n\nGold.", "Gold."), ("raw", "Gold. Partner: And?", "Gold."),
        ("raw", " Gold. You: And?", "Gold."), ("raw", "\nPartner: And?", ""), ("raw", "", ""), ("raw", "ThankYou all", "ThankYou all"),
        ("chat", "Gold,\nI say.\n<|user|>And?", "Gold,\nI say."), ("chat", "<|user|>", ""), ("chat", " Gold. Partner: x", "Gold. Partner: x"),
    ],
)  # fmt: skip
def test_where_a_reply_is_cut(template: str, written: str, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfaware.games.sample", lambda *_: [(written,)])
    assert Local(model("llama"), template, SHORT).reply([Turn("user", "Hello.")], 0) == kept  # type: ignore[arg-type]


def test_it_asks_for_one_sample_of_the_seed_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[tuple[list[str], Sampling]] = []
    monkeypatch.setattr("selfaware.games.sample", lambda *args: got.append(args[2:]) or [("x",)])
    Local(model("llama"), "chat", Sampling(samples=9, max_new_tokens=5, temperature=0.5, seed=8)).reply(
        [Turn("user", "a")], 3
    )
    assert got == [(["turn 1, seed 3"], Sampling(samples=1, max_new_tokens=5, temperature=0.5, seed=0))]


@pytest.mark.parametrize("until_said", [True, False])
def test_games_side_by_side_are_those_played_alone(until_said: bool) -> None:
    local = Local(model("llama"), "chat", SHORT)
    games = [
        (Rules(word, opening, "Which word?", turns, until_said=until_said), seed)
        for seed, (word, opening, turns) in enumerate([("ring", "Hello.", 3), ("bark", "My bark!", 4), ("gold", "Hi.", 1), ("ring", "Well.", 4)])
    ]  # fmt: skip
    assert play_all(local, local, games) == [play(local, local, rules, seed) for rules, seed in games]
    assert play_all(local, local, []) == []


def test_one_failed_game_leaves_the_others_be() -> None:
    small = Local(fake("llama", context=64), "chat", SHORT)
    games = [(replace(RULES, opening=text, turns=1), at) for at, text in enumerate(("Hello.", "word " * 90, "Well."))]
    found = play_all(small, small, games)
    assert "holds 64" in found[1].why
    assert [found[0], found[2]] == [play(small, small, *games[0]), play(small, small, *games[2])]


def test_an_edit_is_on_while_its_player_replies_and_no_longer() -> None:
    m = model("qwen2")
    vector = 5 * torch.randn(32, generator=torch.Generator().manual_seed(0))
    edit = Intervention({Site(1): Constant(vector)}, "all")
    on: list[bool] = []

    @contextmanager
    def edited():
        with edit.on(m):
            on.append(not m.untouched)
            yield

    plain, changed = Local(m, "chat", SHORT), Local(m, "chat", SHORT, edited, "changed")
    asked = [Turn("user", "Hello.")]
    assert plain.reply(asked, 0) != changed.reply(asked, 0)
    assert on == [True]
    assert m.untouched
    assert (plain.name, changed.name) == ("fake-qwen2", "changed")


def test_a_dialogue_that_outgrows_the_context_is_a_failed_game() -> None:
    small = Local(fake("llama", context=64), "chat", SHORT)
    game = play(small, Scripted(("word " * 20, "bark")), replace(RULES, turns=4), 0)
    assert game.outcome is None
    assert game.why.startswith("manipulator: ")
    assert "fake-llama holds 64" in game.why
