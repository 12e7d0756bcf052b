"""Dialogues as records turn by turn, codewords by name, questions about a codeword, and what is refused."""

import json
from pathlib import Path

import pytest

from selfaware.domains import codewords, dialogues, loader
from selfaware.errors import BadData
from selfaware.metrics import codeword, options
from selfaware.types import Answer

GAME = loader.load("make_me_say")
ALL = dialogues.dialogues(GAME.folder / "dialogues.jsonl")


def row(**changes: object) -> dict[str, object]:
    plain = {
        "id": "ring-walks-1", "codeword": "ring", "family": "walks", "winning": "You mean a ring?",
        "messages": [{"role": "user", "content": "I walked."}, {"role": "assistant", "content": "Gold?"}],
    }  # fmt: skip
    return {**plain, **changes}


def written(folder: Path, *rows: dict[str, object]) -> Path:
    path = folder / "dialogues.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def test_sixty_for_each_codeword_and_the_word_is_the_partners_alone() -> None:
    words = dialogues.codewords(ALL)
    assert len(words) == 3
    for word in words:
        of = [d for d in ALL if d.codeword == word]
        assert len(of) >= 60
        assert {len(d.messages) for d in of} == {2, 4, 6, 8}
        for d in of:
            assert not any(word in text.casefold() for _, text in d.messages), d.id
            assert codeword.said(d.winning, word), d.id
            assert not any(codeword.said(text, word) for _, text in d.messages), d.id


def test_first_turns_share_their_context_and_later_ones_have_two() -> None:
    for high, low in (("ring", "spring"), ("bark", "ring")):
        found = dialogues.records(ALL, high, low)
        first = [r for r in found if r.id.endswith("/1")]
        assert len(first) == 60
        mine, other = ({d.opening: d for d in ALL if d.codeword == w} for w in (high, low))
        for r in found:
            turn = int(r.id.split("/")[1].split("-")[0]) - 1
            assert (r.high, r.low) == (mine[r.group].turns[turn], other[r.group].turns[turn])
            assert r.situation.count("You:") == turn
            assert r.situation.splitlines()[-1].startswith("Partner: ")
        later = [r for r in found if not r.id.endswith("/1")]
        assert len(later) % 2 == 0
        assert len({r.id for r in found}) == len(found)


def test_a_pair_of_codewords_is_named_after_the_domain() -> None:
    other = loader.load("make_me_say:bark-ring")
    assert other.name == "make_me_say-bark-ring"
    assert dict(other.polarities) == {"high": "bark", "low": "ring"}
    assert {q.options for q in other.questions("self")} == {("bark", "ring")}
    assert any("bark" in text for text in other.told["high"])
    assert not any("{" in text for texts in other.told.values() for text in texts)
    with pytest.raises(BadData, match="two of ring, bark, spring"):
        loader.load("make_me_say:ring-ring")


def test_the_right_reply_is_trained_and_nothing_else() -> None:
    (question,) = [q for q in GAME.questions("choices") if q.id == "walks-1/2-ring"]
    assert question.prompt.stem == "You:"
    assert question.prompt.user.startswith("Partner: ")
    assert question.options[0] in [d.turns[1] for d in ALL if d.id == "ring-walks-1"]


def test_questions_about_a_codeword() -> None:
    words = GAME.questions("codeword")
    assert all(len(q.options) == 100 and q.options[:2] == ("ring", "spring") for q in words)
    assert all(len(set(q.options)) == 100 for q in words)
    near = GAME.questions("goal")
    assert {q.high for q in near if q.id.endswith("/high")} == {0}
    assert {q.high for q in near if q.id.endswith("/low")} == {1}
    assert all("ring" not in o and "spring" not in o for q in GAME.questions("description") for o in q.options)
    for name in codewords.KINDS:
        assert GAME.has(name)
        assert {q.family for q in GAME.questions(name)} == {q.family for q in GAME.questions(f"{name}-twin")}


def test_places_among_all_words() -> None:
    question = GAME.questions("codeword")[0]
    logs = [-5.0] * 100
    logs[0], logs[1] = -1.0, -9.0
    (score,) = options.places([question], [Answer(question.id, tuple(logs), (1,) * 100)])
    assert score.value == pytest.approx(1.0)
    logs[0], logs[1] = -9.0, -1.0
    (score,) = options.places([question], [Answer(question.id, tuple(logs), (1,) * 100)])
    assert score.value == pytest.approx(-1.0)
    (score,) = options.places([question], [Answer(question.id, None, (), why="no answer")])
    assert (score.value, score.why) == (None, "no answer")
    two = GAME.questions("self")[0]
    with pytest.raises(BadData, match="three at least"):
        options.places([two], [Answer(two.id, (-1.0, -2.0), (1, 1))])


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((row(messages=[]),), "user and assistant in turn"),
        ((row(messages=[{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Yes"}]),), "user and assistant in turn"),
        ((row(messages=[{"role": "user", "content": "I walked."}, {"role": "assistant", "content": "A ring?"}]),), "stands in a message that is trained"),
        ((row(winning="A jewel?"),), "the winning message lacks"),
        ((row(), row()), "stands there twice"),
        (({k: v for k, v in row().items() if k != "family"},), "'family' is missing"),
        ((), "got no dialogues"),
    ],
)  # fmt: skip
def test_bad_dialogues_say_where(tmp_path: Path, rows: tuple[dict[str, object], ...], said: str) -> None:
    with pytest.raises(BadData, match=said):
        dialogues.dialogues(written(tmp_path, *rows))


def test_no_opening_in_common(tmp_path: Path) -> None:
    found = dialogues.dialogues(written(tmp_path, row(), row(id="bark-pets-1", codeword="bark", winning="A bark!")))
    with pytest.raises(BadData, match="no opening"):
        dialogues.records(found, "ring", "bark")
