"""Readings of neutral passages → what an arm has damaged. Must not know who read them.

Both numbers are levels for each passage, nats per token: more is worse.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence

from selfaware.errors import BadData
from selfaware.types import Passage, Reading, Score


def scores(passages: Sequence[Passage], readings: Sequence[Reading]) -> tuple[Score, ...]:
    """One score for each passage: minus its mean log-probability per token, nats; exp of it is the perplexity.

    Raises:
        BadData: a passage without its one reading, or a reading without its passage.
    """
    return _per_token(passages, readings, lambda reading: -reading.logprob)


def divergence(passages: Sequence[Passage], readings: Sequence[Reading]) -> tuple[Score, ...]:
    """One score for each passage: KL(base ‖ arm) per token, nats; 0 for the base model itself.

    Raises:
        BadData: a passage without its one reading, or a reading without its passage.
    """
    return _per_token(passages, readings, lambda reading: reading.kl)


def _per_token(
    passages: Sequence[Passage], readings: Sequence[Reading], total: Callable[[Reading], float]
) -> tuple[Score, ...]:
    ids, read = Counter(p.id for p in passages), Counter(r.id for r in readings)
    for problem, found in (
        ("two passages of this id; ids must differ. Mend the passages", [i for i, n in ids.items() if n > 1]),
        ("two readings of this id; one is needed. Read again", [i for i, n in read.items() if n > 1]),
        ("a passage without a reading; each passage needs one. Read again", [i for i in ids if i not in read]),
        ("a reading without a passage; its passage is needed. Read again", [i for i in read if i not in ids]),
    ):
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise BadData(f"{found[0]!r}{more}: {problem}.")
    by_id = {r.id: r for r in readings}
    return tuple(Score(p.id, p.family, *_mean(total(by_id[p.id]), by_id[p.id].tokens)) for p in passages)


def _mean(total: float, tokens: int) -> tuple[float | None, str]:
    if tokens < 1:
        return None, "no tokens"
    return (total / tokens, "") if math.isfinite(total) else (None, "not a finite number")
