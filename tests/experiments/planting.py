"""Answers and looks that are made up, so that a verdict can be asked what it makes of them."""

import zlib
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from selfaware.comparisons.arms import Arm, Asked, Read, Replicate, View
from selfaware.comparisons.comparison import Comparison
from selfaware.comparisons.measures import chosen as chosen_share
from selfaware.metrics import options
from selfaware.stages import Seen
from selfaware.types import Polarity, Score

Look = Callable[[str, Arm | None, Polarity, int], Mapping[str, np.ndarray] | None]
"""A view's name, arm, polarity and the replicate's number to what is seen."""

Effects = Mapping[tuple[str, str], float | tuple[float, ...]]
TOLD: Effects = {("told", "self"): 0.5, ("told", "twin"): 0.5}
"""The positive control that makes a self-report usable."""


def planted(
    monkeypatch: pytest.MonkeyPatch, made: Comparison, effects: Effects, noise: float = 0.0, look: Look | None = None
) -> None:
    """Arm a then moves set s by effects[a, s], nats, at high and by its negative at low; by a number each where there are several."""
    owner: dict[str, tuple[Arm, Polarity, int]] = {}
    for arm in made.arms:
        for polarity in arm.polarities:
            for number, of in enumerate(made.replicates(arm, polarity)):
                owner[of.fit.id if of.fit else of.system] = (arm, polarity, number)

    def scores(self: Comparison, asked: Asked, of: Replicate, read: Read) -> tuple[Score, ...] | None:
        key = of.fit.id if of.fit else of.system
        if key in self.failed:
            return None
        move = 0.0
        if key:
            arm, polarity, number = owner[key]
            found = effects.get((arm.name, asked.name), 0.0)
            move = (found[number] if isinstance(found, tuple) else found) * (1 if polarity == "high" else -1)
        rng = np.random.default_rng(zlib.crc32(f"{asked.name} {key}".encode()))
        start = {g: 0.3 * ((i % 5) - 2) for i, g in enumerate(asked.families)}
        made_up = tuple(Score(g, f, start[g] + move + noise * rng.standard_normal()) for g, f in asked.families.items())
        return options.chosen(made_up) if read is chosen_share else made_up

    def seen(self: Comparison, view: View, of: Replicate) -> Seen | None:
        key = of.fit.id if of.fit else ""
        if look is None or key in self.failed:
            return None
        arm, polarity, number = owner[key] if key else (None, "high", 0)
        found = look(view.name, arm, polarity, number)
        return None if found is None else Seen(found, {})

    monkeypatch.setattr(Comparison, "scores", scores)
    monkeypatch.setattr(Comparison, "seen", seen)
    monkeypatch.setattr(Comparison, "answers", lambda *_: None)
