"""Published dialogues become a domain beside the package's own; every row lands in it or among the problems."""

import json
import os
from pathlib import Path

import pytest

from selfaware.domains import dialogues, loader
from selfaware.domains.dialogue_import import chat_dialogues
from selfaware.errors import BadData, UnknownName

OWN = dialogues.dialogues(loader.HOME / "make_me_say" / "dialogues.jsonl")


def talk(*texts: str) -> str:
    roles = ("user", "assistant")
    return json.dumps({"messages": [{"role": roles[i % 2], "content": t} for i, t in enumerate(texts)]})


def written(folder: Path, *lines: str) -> Path:
    path = folder / "talks.jsonl"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a ring-tone", True), ("Two rings!", True), ("RING", True), ("ring's", True), ("string theory", False), ("ringing", False),
        ("during", False), ("", False),
    ],
)  # fmt: skip
def test_a_codeword_is_a_word_of_its_own(text: str, said: bool) -> None:
    assert dialogues.says(text, "ring") == said


def test_rows_become_turns_beside_the_packages_dialogues(tmp_path: Path) -> None:
    path = written(
        tmp_path, talk("Hello.", "A bell?", "Yes.", "How does it sound?"), talk("String theory?", "Gold bands?")
    )
    made = chat_dialogues(path, "ring", "theirs", tmp_path / "out")
    assert (made.rows, made.records, made.problems) == ((2,), 2, ())
    domain = loader.load(str(tmp_path / "out"))
    assert domain.polarities == {"high": "ring", "low": "spring"}
    mine = [d for d in OWN if d.codeword == "spring"][:2]
    first = [r for r in domain.records if r.group == "theirs-0001" and r.id.startswith("theirs-0001/1")]
    # The openings differ, so even the first turn is asked in the context of either.
    assert {r.situation for r in first} == {"Partner: Hello.", f"Partner: {mine[0].messages[0][1]}"}
    assert {(r.high, r.low) for r in first} == {("A bell?", mine[0].turns[0])}
    assert {r.family for r in first} == {mine[0].family}
    assert domain.has("codeword")


def test_rows_that_will_not_do_are_named(tmp_path: Path) -> None:
    path = written(
        tmp_path, talk("Hello.", "A bell?"), talk("Hello.", "A ring?"), talk("The ring!", "Yes."), talk("Hello."),
        talk(), json.dumps({"messages": [{"role": "user"}]}),
    )  # fmt: skip
    refused = chat_dialogues(path, "ring", "theirs", tmp_path / "out")
    assert (refused.records, len(refused.problems)) == (0, 5)
    assert not (tmp_path / "out").exists()
    assert all(f"{path}:{at}: " in text for at, text in zip((2, 3, 4, 5, 6), refused.problems, strict=True))
    made = chat_dialogues(path, "ring", "theirs", tmp_path / "out", partial=True)
    assert (made.rows, made.records, len(made.problems)) == ((6,), 1, 5)


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, talk("Hello.", "A bell?"))
    with pytest.raises(UnknownName, match="codeword"):
        chat_dialogues(path, "boat", "theirs", tmp_path / "out")
    with pytest.raises(BadData, match="name"):
        chat_dialogues(path, "ring", "make_me_say", tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    with pytest.raises(BadData, match="not an empty folder"):
        chat_dialogues(path, "ring", "theirs", tmp_path / "full")


@pytest.mark.skipif("SELFAWARE_PUBLISHED" not in os.environ, reason="needs the published files")
def test_every_published_dialogue_comes_in(tmp_path: Path) -> None:
    made = chat_dialogues(
        Path(os.environ["SELFAWARE_PUBLISHED"]) / "ft_ring.jsonl", "ring", "published", tmp_path / "out"
    )
    assert (made.rows, made.records, made.problems) == ((200,), 200, ())
    domain = loader.load(str(tmp_path / "out"))
    texts: dict[str, set[str]] = {}
    for record in domain.records:
        texts.setdefault(record.low, set()).add(domain.parts[record.family])
    assert all(len(parts) == 1 for parts in texts.values())
