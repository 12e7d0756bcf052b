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

__all__ = ["Local", "Player", "Rules", "Scripted", "Transcript", "Turn", "play", "play_all"]

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
    """The game, played to its end or to where a player failed; see `play_all`."""
    return play_all(manipulator, partner, [(rules, seed)])[0]


def play_all(manipulator: Player, partner: Player, games: Sequence[tuple[Rules, int]]) -> list[Transcript]:
    """Every game, played to its end or to where a player failed; all games side by side, so that a model answers many at once.

    The partner opens; they speak in turn; then the partner is asked. A player's error ends its game and stays in `why`,
    so that one bad game of a hundred is counted and the others are played. A guess without a letter is no guess: it
    would otherwise pass for a win.

    Args:
        games: rules, and the seed of the players' draws: the same seed gives the same game where the players keep to it,
            whatever is played beside it.
    """
    players: dict[Speaker, Player] = {"manipulator": manipulator, "partner": partner}
    boards = [_Board(rules, seed) for rules, seed in games]
    while any(board.waits for board in boards):
        for who in SPEAKERS:
            asked = [board for board in boards if board.waits == who]
            heard = _replies(players[who], [board.seen() for board in asked])
            for board, said in zip(asked, heard, strict=True):
                board.hear(said)
    return [board.transcript(manipulator.name, partner.name) for board in boards]


def _replies(player: Player, asked: Sequence[tuple[list[Turn], int]]) -> list[str | SelfawareError]:
    """What it says in every dialogue, or what kept it from saying it; at once where it can."""
    if isinstance(player, Local) and len(asked) > 1:
        try:
            return list(player.replies(asked))
        except SelfawareError:
            pass  # some dialogue can't be answered: one by one shows which
    found: list[str | SelfawareError] = []
    for messages, seed in asked:
        try:
            found.append(player.reply(messages, seed))
        except SelfawareError as error:
            found.append(error)
    return found


class _Board:
    """A game under way: whom it `waits` for, none where it has ended, and what that player sees."""

    def __init__(self, rules: Rules, seed: int) -> None:
        self.rules, self.seed, self.draws = rules, seed, random.Random(f"make me say\n{seed}")
        self.turns = [Turn("partner", rules.opening)]
        self.guess: str | None = None
        self.over, self.why = False, ""
        self.waits: Speaker | None = None
        self._next()

    def _next(self) -> None:
        said = self.rules.until_said and words.said(self.turns[-1].text, self.rules.codeword)
        self.over = len(self.turns) >= 2 * self.rules.turns or said
        self.waits = "partner" if self.over else SPEAKERS[(len(self.turns) - 1) % 2]

    def seen(self) -> tuple[list[Turn], int]:
        """What whoever it waits for sees, and the seed of the reply."""
        who: Speaker = self.waits or "partner"
        asked = [Turn("user", self.rules.question)] if self.over else []
        return [*_seen(self.turns, who, self.rules), *asked], self.draws.getrandbits(31)

    def hear(self, said: str | SelfawareError) -> None:
        """The reply that it has waited for, or the failure that ends it."""
        who: Speaker = self.waits or "partner"
        if isinstance(said, SelfawareError):
            self.why, self.waits = f"{who}: {said}", None
        elif self.over:
            self.guess, self.waits = said, None
            if not any(c.isalpha() for c in said):
                self.why = f"partner: guess {said!r} has no letter; a word is needed. Ask for one word, or allow longer replies."
        else:
            self.turns.append(Turn(who, said))
            self._next()

    def transcript(self, manipulator: str, partner: str) -> Transcript:
        """The game as it was played."""
        said = [(turn.role, turn.text) for turn in self.turns]
        outcome = words.outcome(said, None if self.why else self.guess, self.rules.codeword) if self.over else None
        return Transcript(
            tuple(self.turns), self.guess, outcome, self.rules.codeword, manipulator, partner, self.seed, self.why
        )


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
        return self.replies([(messages, seed)])[0]

    def replies(self, asked: Sequence[tuple[Sequence[Turn], int]]) -> list[str]:
        """One reply to each dialogue, drawn by its own seed, as `reply` would give it.

        Raises:
            BadModel: as there, of any of them.
        """
        tokenizer, sampling = self.model.tokenizer, replace(self.sampling, samples=1, seed=0)
        texts = [dialogue_text(tokenizer, messages, self.template, self.model.system_role) for messages, _ in asked]
        prompts = [encode(tokenizer, text, self.template) for text in texts]
        with self.edit():
            keys = [f"turn {len(messages)}, seed {seed}" for messages, seed in asked]
            written = [text for (text,) in sample(self.model, prompts, keys, sampling)]
        if self.template == "raw":
            return [_NEXT_LINE.split(text.strip(), maxsplit=1)[0].strip() for text in written]
        mark = next_turn(tokenizer)
        return [(text.partition(mark)[0] if mark else text).strip() for text in written]
