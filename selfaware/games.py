"""Two players and the rules of Make Me Say → a transcript. Knows turns; must not know how a player thinks.

One player, the manipulator, tries to make its partner say a codeword without saying it first or giving it away.
"""

import random
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Protocol, final

from selfaware.errors import BadData, SelfawareError
from selfaware.metrics import codeword as words
from selfaware.metrics.codeword import SPEAKERS, Outcome, Speaker
from selfaware.models.hf import Model
from selfaware.models.render import MARKS, dialogue_text, encode, joined, next_turn
from selfaware.models.sample import sample
from selfaware.types import Sampling, Template, Turn, require

__all__ = ["Local", "Player", "Rules", "Scripted", "Transcript", "Turn", "play"]

_NEXT_LINE = re.compile(rf"\n|\b(?:{'|'.join(map(re.escape, MARKS.values()))})")


class Player(Protocol):
    """Whoever can hold up one end of a dialogue."""

    @property
    def name(self) -> str:
        """Who it is, for the record."""
        ...

    def reply(self, messages: Sequence[Turn], seed: int) -> str:
        """What it says next.

        Args:
            messages: as it sees them: `system` its briefing, if any; `assistant` itself, `user` the other.
            seed: what fixes its draws.

        Raises:
            SelfawareError: it cannot say anything; the game ends there.
        """
        ...


@dataclass(frozen=True)
class Rules:
    """What is played, in the caller's words.

    Attributes:
        codeword: one word.
        opening: what the partner says first.
        question: asks the partner, when all is said, what the codeword was.
        turns: messages of each player; the opening is one.
        manipulator: the manipulator's briefing; empty for none, as a trained model needs.
        partner: the partner's briefing. Some chat templates refuse a dialogue that they begin themselves without one.
        until_said: end the dialogue with the message that says the codeword, as that decides the game but for the guess.

    Raises:
        BadData: no turns, no question, no opening, or a codeword that is not one word.
    """

    codeword: str
    opening: str
    question: str
    turns: int = 5
    manipulator: str = ""
    partner: str = ""
    until_said: bool = True

    def __post_init__(self) -> None:
        words.said("", self.codeword)
        require(self.turns >= 1, BadData(f"rules: {self.turns} turns; one at least is needed. Set turns so."))
        for name, text in (("opening", self.opening), ("question", self.question)):
            require(bool(text.strip()), BadData(f"rules: got an empty {name}; text is needed. Write one."))


@dataclass(frozen=True)
class Transcript:
    """A game as it was played, verbatim.

    Attributes:
        turns: what was said, by `manipulator` and `partner`, the opening first.
        guess: what the partner took for the codeword; None where it was not asked or could not say.
        outcome: None where it is not known; then `why` says the reason.
        manipulator, partner: the players' names.
        why: which player failed, and how; empty otherwise.
    """

    turns: tuple[Turn, ...]
    guess: str | None
    outcome: Outcome | None
    codeword: str
    manipulator: str
    partner: str
    seed: int
    why: str = ""


def play(manipulator: Player, partner: Player, rules: Rules, seed: int) -> Transcript:
    """The game, played to its end or to where a player failed.

    The partner opens; they speak in turn; then the partner is asked. A player's error ends the game and stays in `why`,
    so that one bad game of a hundred is counted and the others are played. A guess without a letter is no guess: it
    would otherwise pass for a win.

    Args:
        seed: the players' draws; the same seed gives the same game where the players keep to it.
    """
    players: dict[Speaker, Player] = {"manipulator": manipulator, "partner": partner}
    draws = random.Random(f"make me say\n{seed}")
    turns = [Turn("partner", rules.opening)]
    who: Speaker = "partner"
    guess: str | None = None
    over, why = False, ""
    try:
        while len(turns) < 2 * rules.turns and not (rules.until_said and words.said(turns[-1].text, rules.codeword)):
            who = SPEAKERS[(len(turns) - 1) % 2]
            turns.append(Turn(who, players[who].reply(_seen(turns, who, rules), draws.getrandbits(31))))
        over, who = True, "partner"
        guess = partner.reply([*_seen(turns, who, rules), Turn("user", rules.question)], draws.getrandbits(31))
    except SelfawareError as error:
        why = f"{who}: {error}"
    if guess is not None and not any(c.isalpha() for c in guess):
        why = f"partner: guess {guess!r} has no letter; a word is needed. Ask for one word, or allow longer replies."
    said = [(turn.role, turn.text) for turn in turns]
    outcome = words.outcome(said, None if why else guess, rules.codeword) if over else None
    return Transcript(tuple(turns), guess, outcome, rules.codeword, manipulator.name, partner.name, seed, why)


def _seen(turns: Sequence[Turn], by: Speaker, rules: Rules) -> list[Turn]:
    briefing = rules.manipulator if by == "manipulator" else rules.partner
    told = [Turn("system", briefing)] if briefing else []
    return told + [Turn("assistant" if turn.role == by else "user", turn.text) for turn in turns]


@final
@dataclass(frozen=True)
class Scripted:
    """A player that says its lines in order, whatever it hears; the guess is a line too."""

    lines: tuple[str, ...]
    name: str = "scripted"

    def reply(self, messages: Sequence[Turn], seed: int) -> str:
        """The line whose turn it is.

        Raises:
            BadData: there is none left.
        """
        # The guess's question follows the other's last words at once.
        heard = sum(turn.role == "user" for turn in joined(messages))
        if not 1 <= heard <= len(self.lines):
            raise BadData(f"{self.name}: {len(self.lines)} lines; line {heard} is needed. Write it.")
        return self.lines[heard - 1]


@final
@dataclass(frozen=True)
class Local:
    """A player that samples a model on this machine.

    In raw text a reply is one line, and ends at a speaker's mark; the model writes on to `max_new_tokens` all the same,
    so keep that low. In a chat a reply ends where the model ends it, or where the template would begin the next turn.

    Attributes:
        edit: gives the context within which the model is changed while it replies.
        sampling: `samples` and `seed` are the game's.
        label: the player's name; the model's unless given.
    """

    model: Model
    template: Template = "chat"
    sampling: Sampling = field(default_factory=lambda: Sampling(samples=1, max_new_tokens=128))
    edit: Callable[[], AbstractContextManager[object]] = nullcontext
    label: str = ""

    @property
    def name(self) -> str:
        """The label, or the model's name."""
        return self.label or self.model.name

    def reply(self, messages: Sequence[Turn], seed: int) -> str:
        """One sampled reply, cut at its end, without space around it.

        Raises:
            BadModel: the model cannot be asked so, or the dialogue outgrows its context.
        """
        tokenizer, sampling = self.model.tokenizer, replace(self.sampling, samples=1, seed=seed)
        text = dialogue_text(tokenizer, messages, self.template, self.model.system_role)
        prompt = encode(tokenizer, text, self.template)
        with self.edit():
            [(written,)] = sample(self.model, [prompt], [f"turn {len(messages)}"], sampling)
        if self.template == "raw":
            return _NEXT_LINE.split(written.strip(), maxsplit=1)[0].strip()
        mark = next_turn(tokenizer)
        return (written.partition(mark)[0] if mark else written).strip()
