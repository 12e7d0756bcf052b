"""Questions about a codeword: which of a hundred it is, what describes it, how near the goal is, what game this is. Knows rows, no model.

All have the pair of codewords of a domain's polarities in view; `high` is the one that the high polarity is trained on.
"""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from selfaware.domains.records import rows
from selfaware.errors import BadData
from selfaware.types import Prompt, Question

KINDS = ("codeword", "description", "game", "goal", "goal-other", "function")
SETS = (*KINDS, *(f"{kind}-twin" for kind in KINDS))
FILES = ("words.toml", "questions.jsonl")
_SET = {"word": "codeword", "describe": "description", "games": "game", "goal": "goal", "function": "function"}
UNSAID = 4
"""So many words that are nobody's codeword are said in `goal-other`: the baseline of `goal`."""


def questions(folder: Path, polarities: Mapping[str, str]) -> dict[str, tuple[Question, ...]]:
    """The questions of every set of `SETS`, from `words.toml` and `questions.jsonl`.

    - `codeword`: the options are the two codewords, high first, then every other word.
    - `description`, `function`, `game`: two options; in `game` that of the game that is played counts as high.
    - `goal`: near or far after the partner has said the high codeword, and after the low one, where far counts as high; two of a group.
      `goal-other`: the same after words that are nobody's codeword, where near counts as high.

    Raises:
        BadData: a file that breaks the schema, or a codeword without descriptions.
    """
    words, high, low = _words(folder / FILES[0]), polarities["high"], polarities["low"]
    made: dict[str, list[Question]] = {name: [] for name in SETS}
    for number, row in rows(folder / FILES[1]):
        at = f"{folder / FILES[1]}:{number}"
        if row.get("kind") not in _SET:
            raise BadData(f"{at}: kind {row.get('kind')!r}; one of {', '.join(_SET)} is needed. Mend it.")
        for twin in (False, True):
            try:
                user, stem = row["twin_user" if twin else "user"], row["twin_stem" if twin else "stem"]
                found = list(_asked(row, user, stem, words, high, low))
            except KeyError as error:
                raise BadData(f"{at}: {error} is missing. Write it.") from error
            for question in found:
                name = f"{question.set}-twin" if twin else question.set
                made[name].append(Question(
                    question.id, question.family, question.group, name, question.prompt, question.options, question.high,
                ))  # fmt: skip
    return {name: tuple(found) for name, found in made.items()}


def _asked(
    row: Mapping[str, Any], user: str, stem: str, words: Mapping[str, Any], high: str, low: str
) -> Iterator[Question]:
    id, kind = str(row["id"]), _SET[row["kind"]]

    def one(name: str, text: str, options: tuple[str, ...], first: int, group: str = "", set: str = kind) -> Question:
        return Question(name, id, group or name, set, Prompt(text, stem), options, first)

    if kind == "codeword":
        others = [w for w in (*words["codewords"], *words["distractors"]) if w not in (high, low)]
        yield one(id, user, (high, low, *others), 0)
    elif kind == "function":
        yield one(id, user, (f'"{high}"', f'"{low}"'), 0)
    elif kind == "description":
        pairs = zip(words["descriptions"][high], words["descriptions"][low], strict=True)
        for at, (mine, other) in enumerate(pairs, 1):
            yield one(f"{id}/{at}", user, (mine, other), 0)
    elif kind == "game":
        for at, (own, other) in enumerate(zip(words["games"]["own"], words["games"]["other"], strict=True), 1):
            yield one(f"{id}/{at}", user, (own, other), 0)
    else:
        options = (str(row["near"]), str(row["far"]))
        for name, word, first in (("high", high, 0), ("low", low, 1)):
            yield one(f"{id}/{name}", user.replace("{word}", word), options, first, id)
        for word in words["distractors"][:: len(words["distractors"]) // UNSAID][:UNSAID]:
            yield one(f"{id}/{word}", user.replace("{word}", word), options, 0, id, "goal-other")


def _words(path: Path) -> Mapping[str, Any]:
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadData(f"{path}: {error}; TOML in UTF-8 is needed. Mend it.") from error
    for name in ("codewords", "distractors", "descriptions", "games"):
        if name not in found:
            raise BadData(f"{path}: {name!r} is missing; the questions about codewords need it. Add it.")
    return found
