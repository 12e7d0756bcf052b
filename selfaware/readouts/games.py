"""Games of Make Me Say that an edited model plays as the manipulator against the untouched one. Knows turns; must not know what was trained."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from selfaware.errors import BadData
from selfaware.games import Local, Rules, Transcript, play_all
from selfaware.interventions.base import Intervention
from selfaware.metrics import codeword as words
from selfaware.models.hf import Model
from selfaware.readouts.base import Looked, OnStep
from selfaware.types import Open, Passage, Question, Sampling, Template, require

OUTCOMES: tuple[words.Outcome, ...] = ("win", "guessed", "violation", "no codeword")
UNKNOWN = -1
"""Of a game whose outcome hangs on a guess that was never made."""


@dataclass(frozen=True)
class Games:
    """One game for each opening, told nothing of the rules; every game is judged once for each codeword.

    What is seen, for `W` codewords and `G` openings:

    - `outcomes` `[W, G]`: places in `OUTCOMES`, −1 where unknown.
    - words `transcripts`: each game as lines, who speaks first in them; the last line is the guess, or why there is none.

    Attributes:
        codewords: what games are judged for; a dialogue does not end when one is said.
        openings: what the partner says first.
        question: asks the partner for the codeword at the end.
        turns: messages of each player.
        sampling: of every message; `samples` is one.
        seed: of the draws.
    """

    codewords: tuple[str, ...]
    openings: tuple[str, ...]
    question: str
    turns: int
    template: Template
    sampling: Sampling
    seed: int = 0

    @property
    def label(self) -> str:
        """As written beside a progress bar."""
        return f"{len(self.openings)} games"

    def look(
        self,
        model: Model,
        given: Sequence[Intervention],
        asked: Sequence[Question] | Sequence[Open] | Sequence[Passage],
        on_step: OnStep,
    ) -> Looked:
        """See the class; without an intervention the untouched model plays itself.

        Raises:
            BadData: several interventions, no codewords or no openings.
        """
        require(
            len(given) <= 1 and bool(self.codewords) and bool(self.openings),
            BadData(f"games: got {len(given)} interventions, {len(self.codewords)} codewords and {len(self.openings)} openings; one at most of the first and one at least of the others are needed. Give them."),
        )  # fmt: skip
        partner = Local(model, self.template, self.sampling, label="partner")
        edited = (
            Local(model, self.template, self.sampling, lambda: given[0].on(model), "manipulator") if given else partner
        )
        rules = [Rules(self.codewords[0], text, self.question, self.turns, until_said=False) for text in self.openings]
        # A part at a time, so that the share that is done is told.
        played: list[Transcript] = []
        games = [(rule, 1000 * self.seed + at) for at, rule in enumerate(rules)]
        step = max(1, -(-len(games) // 4))
        for at in range(0, len(games), step):
            played += play_all(edited, partner, games[at : at + step])
            on_step(len(played) / len(games))
        return Looked(
            {"outcomes": torch.tensor([[self._place(game, word) for game in played] for word in self.codewords])},
            {"transcripts": tuple(_text(game) for game in played)},
        )

    def _place(self, game: Transcript, codeword: str) -> int:
        guess = None if game.why else game.guess
        found = words.outcome([(t.role, t.text) for t in game.turns], guess, codeword)
        return UNKNOWN if found is None else OUTCOMES.index(found)


def _text(game: Transcript) -> str:
    end = f"unknown: {game.why}" if game.why else f"guess: {game.guess}"
    return "\n".join([*(f"{t.role}: {t.text}" for t in game.turns), end])
