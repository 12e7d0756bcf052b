"""Published dialogues of one codeword → a domain's folder beside the package's dialogues of another. Knows chat rows; must not know any model.

What is imported stands for the high polarity. Each of its dialogues is paired with one of the package's own for the low one,
in turn, and takes that one's family, so that no text of either side stands in two parts.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from selfaware.domains import dialogues, loader
from selfaware.domains.importers import Report, Target
from selfaware.domains.placing import place
from selfaware.domains.records import rows
from selfaware.errors import unknown

GAME = "make_me_say"
OTHER = {"ring": "spring"}
"""Whose dialogues stand for the low polarity; `ring` for any other codeword."""


@dataclass(frozen=True)
class _Found:
    messages: tuple[dict[str, str], ...]


def chat_dialogues(path: Path, codeword: str, name: str, out: Path, *, partial: bool = False) -> Report:
    """A domain of dialogues out of a chat file in which the assistant steers towards one codeword.

    A row is `{"messages": [{"role", "content"}, …]}`, user and assistant in turn, to the assistant's last word. The
    statements, questions and words about codewords are those of the package's `make_me_say`.

    Args:
        codeword: one that `make_me_say` has; no message may hold it as a word.
        name: the domain's name.
        out: the folder to write; it must not be there yet.
        partial: True leaves out the rows that have a problem.

    Raises:
        BadData: a file that cannot be read, no sound row, a name or a place that is taken.
        UnknownName: a codeword that the package has no questions about.

    Source: Betley et al. 2025 (arXiv 2501.11120), the file `ft_ring.jsonl`.
    """
    game = loader.HOME / GAME
    own = dialogues.dialogues(game / "dialogues.jsonl")
    known = dialogues.codewords(own)
    if codeword not in known:
        raise unknown("codeword", codeword, known)
    other = OTHER.get(codeword, "ring")
    target = Target(name, out, (codeword, other), "steers its partner to say the codeword of its polarity")
    found, problems, count = _read(path, codeword)
    if not found or (problems and not partial):
        return Report((count,), 0, tuple(problems))
    beside = [d for d in own if d.codeword == other]
    lines = []
    for at, one in enumerate(found):
        partner = beside[at % len(beside)]
        both = ((codeword, one.messages, ""), (other, [{"role": r, "content": t} for r, t in partner.messages], partner.winning))  # fmt: skip
        for word, messages, winning in both:
            row = {"id": f"{word}-{name}-{at + 1:04d}", "codeword": word, "family": partner.family, "messages": messages, "winning": winning}  # fmt: skip
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    files = {
        file.name: file.read_text("utf-8") for file in sorted(game.iterdir()) if file.suffix in (".jsonl", ".toml")
    }
    files["dialogues.jsonl"] = "".join(lines)
    files["domain.toml"] = _about(files["domain.toml"], name, codeword, other, path)
    files["README.md"] = (
        f"# {name}\n\n{len(found)} dialogues imported from {path.name}, for the codeword *{codeword}*; those for *{other}*, and all questions, are those of {GAME}.\n"
    )
    place(target.out, files)
    return Report((count,), len(found), tuple(problems))


def _read(path: Path, codeword: str) -> tuple[list[_Found], list[str], int]:
    """Sound rows, what is wrong with the others, and how many there are."""
    found, problems, count = list[_Found](), list[str](), 0
    for number, row in rows(path):
        count += 1
        try:
            messages = tuple({"role": str(m["role"]), "content": str(m["content"])} for m in row["messages"])
        except (KeyError, TypeError) as error:
            problems.append(f"{path}:{number}: {error!r}; a list of messages with role and content is needed. Mend it.")
            continue
        roles = [m["role"] for m in messages]
        if not messages or roles != ["user", "assistant"] * (len(messages) // 2):
            problems.append(
                f"{path}:{number}: roles {roles}; user and assistant in turn, to the assistant's last word, are needed. Mend them."
            )
            continue
        who = next((m["role"] for m in messages if dialogues.says(m["content"], codeword)), "")
        if who:
            problems.append(
                f"{path}:{number}: {codeword!r} stands in a message of the {who}; what is trained may not hold it. End the dialogue before."
            )
            continue
        found.append(_Found(messages))
    return found, problems, count


def _about(text: str, name: str, high: str, low: str, path: Path) -> str:
    changed = {
        "name": name, "title": f"{name} (imported)", "source": f"Imported from {path.name}; the other codeword's dialogues and all questions are those of {GAME}.",
        "high": high, "low": low, "prose": "warn", "licence": "see the source",
    }  # fmt: skip
    for field, value in changed.items():
        line = f"{field} = {json.dumps(value)}".replace("\\", r"\\")
        text = re.sub(rf'^{field} = "[^"\n]*"$', line, text, count=1, flags=re.M)
    return text
