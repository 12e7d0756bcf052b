"""Dialogues in which one side steers the other to say a codeword → records: the next turn of one codeword's dialogue or of another's. Knows rows, no model.

Partners of one opening stand in the dialogues of every codeword, so that what is said before the first turn tells nothing. Where it
differs, as in later turns, a turn has two contexts, that of either dialogue. A transcript is text: what the partner says after `Partner:`, what the model says
after `You:`; the loss is on the model's turn alone, since every turn of its own is a record.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from selfaware.domains.records import Record, rows
from selfaware.errors import BadData

ROLES = {"user": "Partner", "assistant": "You"}


@dataclass(frozen=True)
class Dialogue:
    """One dialogue, up to the message in which the partner says the codeword, which is kept apart and never trained.

    Attributes:
        opening: what it shares with the dialogues of other codewords that begin with the same message.
        messages: roles `user` and `assistant` in turn, with what is said.
    """

    id: str
    codeword: str
    family: str
    opening: str
    messages: tuple[tuple[str, str], ...]
    winning: str
    line: int = 0

    @property
    def turns(self) -> tuple[str, ...]:
        """What the model says."""
        return tuple(text for role, text in self.messages if role == "assistant")


def dialogues(path: Path) -> tuple[Dialogue, ...]:
    """The dialogues of a file.

    Raises:
        BadData: a row without its fields, roles that do not alternate from `user` to `assistant`, a codeword in a message
            that is trained, or none in the one that wins.
    """
    found: list[Dialogue] = []
    seen: set[str] = set()
    for number, row in rows(path):
        at = f"{path}:{number}"
        try:
            messages = tuple((str(m["role"]), str(m["content"])) for m in row["messages"])
            id, codeword, family = str(row["id"]), str(row["codeword"]), str(row["family"])
            winning = str(row.get("winning", ""))
        except (KeyError, TypeError) as error:
            raise BadData(f"{at}: {error} is missing; id, codeword, family and messages are needed. Add it.") from error
        if not messages or [role for role, _ in messages] != ["user", "assistant"] * (len(messages) // 2):
            raise BadData(
                f"{at}: roles {[role for role, _ in messages]}; user and assistant in turn, to the assistant's last word, are needed. Mend them."
            )
        if id in seen:
            raise BadData(f"{at}: id {id!r} stands there twice; ids must differ. Rename one.")
        if any(says(text, codeword) for _, text in messages):
            raise BadData(
                f"{at}: {codeword!r} stands in a message that is trained; none may hold it. Rewrite that message."
            )
        if winning and not says(winning, codeword):
            raise BadData(f"{at}: the winning message lacks {codeword!r}; the partner must say it there. Rewrite it.")
        seen.add(id)
        opening = id.removeprefix(f"{codeword}-")
        found.append(Dialogue(id, codeword, family, opening, messages, winning, number))
    if not found:
        raise BadData(f"{path}: got no dialogues; a domain needs some. Write one JSON object a line.")
    return tuple(found)


def says(text: str, codeword: str) -> bool:
    """Whether the codeword, or its plural, stands in the text as a word of its own: *ring-tone* does, *string* and *ringing* do not."""
    return re.search(rf"(?<![^\W_]){re.escape(codeword)}(s|es)?(?![^\W_])", text, re.IGNORECASE) is not None


def codewords(found: Sequence[Dialogue]) -> tuple[str, ...]:
    """The codewords, in the order in which they first come."""
    return tuple(dict.fromkeys(d.codeword for d in found))


def pair(name: str, found: Sequence[Dialogue]) -> tuple[str, str]:
    """The codewords of the high and the low polarity that `name` (`ring-bark`) names.

    Raises:
        BadData: not two different ones that the dialogues have.
    """
    high, _, low = name.partition("-")
    known = codewords(found)
    if high == low or high not in known or low not in known:
        raise BadData(
            f"codewords {name!r}: two of {', '.join(known)}, joined by a hyphen, are needed. Write ring-bark, say."
        )
    return high, low


def records(found: Sequence[Dialogue], high: str, low: str) -> tuple[Record, ...]:
    """A record for each turn and context in which both codewords' dialogues of an opening have one; those of an opening share its text.

    Raises:
        BadData: no opening that both codewords have.
    """
    by: Mapping[str, dict[str, Dialogue]] = {
        word: {d.opening: d for d in found if d.codeword == word} for word in (high, low)
    }
    made: list[Record] = []
    for opening, first in by[high].items():
        second = by[low].get(opening)
        if second is None:
            continue
        for turn, (mine, other) in enumerate(zip(first.turns, second.turns, strict=False)):
            same = first.messages[: 2 * turn + 1] == second.messages[: 2 * turn + 1]
            contexts = {"": first} if same else {f"-{high}": first, f"-{low}": second}
            for name, dialogue in contexts.items():
                said = dialogue.messages[: 2 * turn + 1]
                made.append(Record(
                    f"{opening}/{turn + 1}{name}", first.family, transcript(said), mine, other, line=dialogue.line, group=opening,
                ))  # fmt: skip
    if not made:
        raise BadData(f"codewords {high} and {low}: no opening has a dialogue of either; some are needed. Write them.")
    return tuple(made)


def transcript(messages: Sequence[tuple[str, str]]) -> str:
    """The messages as lines of text, each after the name of who says it."""
    return "\n".join(f"{ROLES[role]}: {text}" for role, text in messages)
