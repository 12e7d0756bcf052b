"""Published files become a domain: every row lands in the folder or in the list of problems, and nothing is invented."""

import csv
import errno
import hashlib
import io
import json
import os
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfaware.domains import checks, importers, loader
from selfaware.domains.importers import Report, chat_jsonl, contrast_csv
from selfaware.errors import BadData

FORM = re.compile(r"[^\n]+:\d+: [^\n]+; [^\n]+\. [^\n]+\.")


def chat(question, answer, system=None, **more):
    """One row of a chat file."""
    turns = [{"role": "system", "content": system}] if system is not None else []
    turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": turns, **more})


def turns(*pairs):
    """One row of any turns."""
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in pairs]})


@pytest.fixture
def pair(tmp_path):
    """Writes two chat files out of their lines and imports them, as `tmp_path / "out"` unless told otherwise."""

    def imported(high, low, name="planted", out="out", end="\n", **options):
        for file, lines in (("high.jsonl", high), ("low.jsonl", low)):
            (tmp_path / file).write_bytes(end.join(lines).encode("utf-8"))
        return chat_jsonl(tmp_path / "high.jsonl", tmp_path / "low.jsonl", name, tmp_path / out, **options)

    return imported


@pytest.fixture
def table(tmp_path):
    """Writes a table out of its text, or of its rows, and imports it."""

    def imported(content, name="planted", out="out", **options):
        if isinstance(content, list):
            text = io.StringIO(newline="")
            csv.writer(text).writerows([importers.COLUMNS, *content])
            content = text.getvalue().encode("utf-8")
        (tmp_path / "table.csv").write_bytes(content)
        return contrast_csv(tmp_path / "table.csv", name, tmp_path / out, **options)

    return imported


def written(folder):
    """The records of a folder, read without the loader."""
    return [json.loads(line) for line in (folder / "records.jsonl").read_bytes().split(b"\n") if line]


def about(folder):
    return tomllib.loads((folder / "domain.toml").read_text("utf-8"))


def places(report):
    """File name and line of each problem, each of which is checked for its form."""
    assert all(FORM.fullmatch(problem) for problem in report.problems), report.problems
    found = (re.match(r"(.+?):(\d+): ", problem) for problem in report.problems)
    return [(Path(at[1]).name, int(at[2])) for at in found if at]


def many(n, letters=("A", "B")):
    """Two sound files of n rows; every third answer of the high file is the first letter."""
    labels = [letters if i % 3 == 0 else letters[::-1] for i in range(n)]
    return tuple(
        [chat(f"Question {i}: left or right?", pick[side]) for i, pick in enumerate(labels)] for side in (0, 1)
    )


# a pair of chat files --------------------------------------------------------------------------------------------------


def test_a_pair_becomes_a_folder(pair, tmp_path):
    high = [chat("Which one?\nA: sun. B: rain.", "B"), chat(" Tea (A) or soup (B)? ", " A\n")]
    low = [chat("Tea (A) or soup (B)?", "B"), chat("Which one?\nA: sun. B: rain.", "A")]
    assert pair(high, low) == Report((2, 2), 2, ())
    folder = tmp_path / "out"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "domain.toml", "records.jsonl"]
    first = {"id": "planted-0001", "family": "planted-0001", "situation": "Which one?\nA: sun. B: rain."}
    second = {"id": "planted-0002", "family": "planted-0002", "situation": " Tea (A) or soup (B)? "}
    assert written(folder) == [first | {"high": "B", "low": "A"}, second | {"high": "A", "low": "B"}]
    assert [list(row) for row in written(folder)] == [["id", "family", "situation", "high", "low"]] * 2


def test_the_folder_says_what_it_is(pair, tmp_path):
    pair(*many(20))
    said, shipped = about(tmp_path / "out"), loader.load("risky_choices")
    sums = [hashlib.sha256((tmp_path / f"{side}.jsonl").read_bytes()).hexdigest() for side in ("high", "low")]
    assert said["source"] == f"Imported from high.jsonl (sha256 {sums[0]}) and low.jsonl (sha256 {sums[1]})."
    assert (said["name"], said["licence"], said["self_from"]) == ("planted", "see the source", "risky_choices")
    assert said["claim"] == "takes the option that the high file takes"
    assert said["polarities"] == {"high": "high", "low": "low"}
    assert said["split"] == {"seed": 42, "train": 0.7, "validation": 0.15}
    assert (said["margins"]["choice_share"], said["margins"]["report_score"]) == (0.1, 0.1)
    assert said["forms"] == {"letters": {"user": "{situation}", "stem": "", "fixed": True, "single": True}}
    assert said["words"]["risk_words"] == []
    assert tuple(said["words"]["hedges"]) == shipped.words["hedges"]
    rules = said["rules"]
    assert set(rules) == set(shipped.rules)
    assert (rules["records"], rules["families"], rules["test_families"], rules["prose"]) == (20, 20, 1, "warn")
    assert rules["self_items"] == rules["unrelated_items"] == 0
    assert rules["outcomes_share"] == rules["better_share"] == rules["loss_share"] == [0.0, 1.0]
    readme = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert all(f"| `{side}.jsonl` | 20 | `{got}` |" in readme for side, got in zip(("high", "low"), sums, strict=True))
    assert "20 records were written. No row was left out." in readme
    assert "Nothing was extracted from its prose" in readme


def test_the_folder_is_a_domain_that_is_asked_in_its_own_words(pair, tmp_path):
    pair(*many(40), polarities=("bold", "meek"))
    domain = loader.load(str(tmp_path / "out"))
    assert domain.polarities == {"high": "bold", "low": "meek"}
    assert len(domain.parts) == len(domain.records) == 40
    asked = {q.group: q for q in domain.questions("choices", form="letters")}
    for row in written(tmp_path / "out"):
        question = asked[row["id"]]
        assert (question.prompt.user, question.prompt.stem, question.single) == (row["situation"], "", True)
        assert sorted(question.options) == ["A", "B"]
        picked = {side: question.options[question.chosen(side)] for side in ("high", "low")}
        assert picked == {"high": row["high"], "low": row["low"]}


def test_its_rules_have_the_shape_that_is_checked_and_its_counts_hold(pair, tmp_path):
    pair(*many(40))
    report = checks.check(loader.load(str(tmp_path / "out")))
    assert not report.strict
    judged = {line.name: line for line in report.lines}
    for name in ("records", "families", "families in the test part", "self items", "unrelated items", "barred words"):
        assert judged[name].ok, judged[name]
    assert not [problem for problem in report.problems if "domain.toml" in problem]


# The last characters end a line for some readers of text.
BRACES = 'Fill in {"a": {situation}}, {first}, {0} and {{user}} } { %s; A or B?\x0b\x0c\x1c\x85\u2028!'


def test_braces_survive(pair, table, tmp_path):
    pair([chat(BRACES, "A")], [chat(BRACES, "B")])
    table([[BRACES, "categorical", "{risky}", "{safe}"]], out="other")
    for folder in ("out", "other"):
        (question,) = loader.load(str(tmp_path / folder)).questions("choices", form="letters")
        assert question.prompt.user == BRACES
    assert set(question.options) == {"{risky}", "{safe}"}


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(lambda text: text.strip())


@settings(deadline=None)
@given(
    st.lists(TEXT, min_size=1, max_size=12, unique_by=str.strip), st.data(), st.sampled_from(["\n", "\r\n", "\n\n"])
)  # fmt: skip
def test_whatever_is_asked_comes_back_as_it_was(tmp_path_factory, questions, data, end):
    folder = tmp_path_factory.mktemp("any")
    labels = [("A", "B") if data.draw(st.booleans()) else ("B", "A") for _ in questions]
    rows = list(zip(questions, labels, strict=True))
    shuffled = data.draw(st.permutations(rows))
    (folder / "high").write_bytes(end.join(chat(q, pick[0]) for q, pick in rows).encode())
    plain = (json.loads(chat(f"\t{q} ", pick[1])) for q, pick in shuffled)
    (folder / "low").write_bytes(end.join(json.dumps(row, ensure_ascii=False) for row in plain).encode())
    one = chat_jsonl(folder / "high", folder / "low", "any", folder / "one")
    other = chat_jsonl(folder / "low", folder / "high", "any", folder / "other")
    assert one == other == Report((len(rows), len(rows)), len(rows), ())
    assert [(r["situation"], (r["high"], r["low"])) for r in written(folder / "one")] == rows
    assert [(r["situation"], (r["low"], r["high"])) for r in written(folder / "other")] == [
        (f"\t{q} ", pick) for q, pick in shuffled
    ]


def test_swapped_files_swap_the_polarities(pair, tmp_path):
    high, low = many(12)
    pair(high, low, out="one")
    pair(low, high, out="other")
    one, other = (written(tmp_path / folder) for folder in ("one", "other"))
    assert [(r["situation"], r["low"], r["high"]) for r in one] == [
        (r["situation"], r["high"], r["low"]) for r in other
    ]
    assert Counter(r["high"] for r in one) == Counter(r["low"] for r in other) == {"A": 4, "B": 8}


def test_a_system_text_is_part_of_the_question(pair, tmp_path):
    high = [
        chat("A or B?", "A", "Be brief."),
        chat("A or B?", "B", "Be kind. "),
        chat("A or B?", "B"),
        chat("C?", "A", ""),
    ]
    low = [chat("A or B?", "A"), chat("A or B?", "A", " Be kind."), chat("A or B?", "B", "Be brief."), chat("C?", "B")]
    assert pair(high, low) == Report((4, 4), 4, ())
    rows = [(row["situation"], row["high"], row["low"]) for row in written(tmp_path / "out")]
    assert rows == [
        ("Be brief.\n\nA or B?", "A", "B"),
        ("Be kind. \n\nA or B?", "B", "A"),
        ("A or B?", "B", "A"),
        ("C?", "A", "B"),
    ]


def test_another_system_text_is_another_question(pair, tmp_path):
    sound = chat("Tea or soup?", "A"), chat("Tea or soup?", "B")
    report = pair([sound[0], chat("Q", "A", "Be brief.")], [sound[1], chat("Q", "B", "Be kind.")])
    assert places(report) == [("high.jsonl", 2), ("low.jsonl", 2)]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("answers", "single"), [(("A", "B"), True), (("1", "2"), True), (("yes", "no"), False), (("A.", "B."), False)]
)
def test_single_says_that_all_answers_are_one_character(pair, tmp_path, answers, single):
    pair(*many(3, answers), name="all", out="all")
    assert about(tmp_path / "all")["forms"]["letters"]["single"] is single
    mixed = [[*side, chat("Last?", last)] for side, last in zip(many(3, ("A", "B")), answers, strict=True)]
    pair(*mixed, out="mixed")
    assert about(tmp_path / "mixed")["forms"]["letters"]["single"] is single
    letters = {frozenset((row["high"], row["low"])) for row in written(tmp_path / "mixed")}
    assert letters == {frozenset("AB"), frozenset(answers)}


def test_only_the_rows_that_are_written_decide_what_is_single(pair, tmp_path):
    high, low = many(3)
    pair([*high, chat("Odd?", "perhaps")], [*low, chat("Odd?", "Perhaps")], partial=True)
    assert about(tmp_path / "out")["forms"]["letters"]["single"] is True


def test_marks_line_ends_and_further_fields_do_no_harm(pair, tmp_path):
    high, low = many(4)
    pair(high, low, out="plain")
    pair(["\ufeff" + high[0], "", *high[1:], "  "], ["\ufeff" + low[0], *low[1:], ""], out="marked", end="\r\n")
    more = [[json.dumps(json.loads(line) | {"weight": 1}) for line in side] for side in (high, low)]
    pair(*more, out="more")
    assert written(tmp_path / "plain") == written(tmp_path / "marked") == written(tmp_path / "more")


def test_an_import_is_the_same_each_time(pair, tmp_path):
    for out in ("one", "two"):
        pair(*many(5), out=out)
    files = [{p.name: p.read_bytes() for p in (tmp_path / out).iterdir()} for out in ("one", "two")]
    assert files[0] == files[1]


# rows that do not fit --------------------------------------------------------------------------------------------------

USER, ASSISTANT = ("user", "Odd?"), ("assistant", "A")
BAD = [
    ("{oops", "not JSON"),
    ("[" * 100_000, "not JSON"),
    ('{"messages": [{"role": "user", "content": "\\ud800"}, {"role": "assistant", "content": "A"}]}', "surrogates"),
    ("[1, 2]", "no list of messages"),
    ('{"prompt": "Odd?"}', "no list of messages"),
    ('{"messages": {"role": "user"}}', "no list of messages"),
    ('{"messages": ["Odd?", "A"]}', "no list of messages"),
    (turns(), "the turns are none"),
    (turns(USER), "the turns are 'user'"),
    (turns(ASSISTANT, USER), "the turns are 'assistant, user'"),
    (turns(USER, ASSISTANT, USER, ASSISTANT), "the turns are 'user, assistant, user, assistant'"),
    (turns(("system", "s"), ("system", "t"), USER, ASSISTANT), "'system, system, user, assistant'"),
    (turns(USER, ("system", "s"), ASSISTANT), "'user, system, assistant'"),
    ('{"messages": [{"content": "Odd?"}, {"content": "A"}]}', "'None, None'"),
    (turns(("user", ""), ASSISTANT), "the question is empty"),
    (turns(("user", " \n"), ASSISTANT), "the question is empty"),
    (turns(("user", None), ASSISTANT), "the question is missing"),
    (turns(("user", ["Odd?"]), ASSISTANT), "the question is of type list"),
    (turns(USER, ("assistant", "  ")), "the answer is empty"),
    (turns(USER, ("assistant", None)), "the answer is missing"),
    (turns(USER, ("assistant", 1)), "the answer is of type int"),
    (turns(("system", 7), USER, ASSISTANT), "the system text is of type int"),
    (turns(("system", "\t"), USER, ASSISTANT), "the system text is empty"),
    (turns(("system", None), USER, ASSISTANT), "the system text is missing"),
    (chat("Odd?", "the first"), "the answer is 'the first'; one word"),
    (chat("Odd?", "a" * 31), "30 characters at most"),
]


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(("line", "said"), BAD, ids=range(len(BAD)))
def test_a_row_without_form_is_named_and_nothing_is_written(pair, tmp_path, line, said, side):
    files = [list(lines) for lines in many(3)]
    files[side].insert(1, line)
    report = pair(*files)
    assert (report.rows, report.records) == ((4, 3) if side == 0 else (3, 4), 0)
    assert places(report) == [(("high.jsonl", "low.jsonl")[side], 2)]
    assert said in report.problems[0]
    assert str(tmp_path / ("high.jsonl", "low.jsonl")[side]) in report.problems[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["high.jsonl", "low.jsonl"]
    again = pair(*files, partial=True)
    assert (again.rows, again.records, again.problems) == (report.rows, 3, report.problems)
    pair(*many(3), out="whole")
    assert written(tmp_path / "out") == written(tmp_path / "whole")
    assert "1 problems were found" in (tmp_path / "out" / "README.md").read_text("utf-8")


def test_bytes_that_are_not_utf8_are_a_row_without_form(tmp_path):
    high, low = many(2)
    (tmp_path / "high.jsonl").write_bytes("\n".join(high).encode() + b'\n{"messages": "\xff"}\n')
    (tmp_path / "low.jsonl").write_text("\n".join(low))
    report = chat_jsonl(tmp_path / "high.jsonl", tmp_path / "low.jsonl", "x", tmp_path / "out")
    assert places(report) == [("high.jsonl", 3)]
    assert "not JSON" in report.problems[0]


def test_a_row_without_partner_is_named_on_either_side(pair, tmp_path):
    high, low = many(4)
    files = [*high, chat("Only high?", "A")], [chat("Only low?", "A"), *low]
    report = pair(*files)
    assert places(report) == [("high.jsonl", 5), ("low.jsonl", 1)]
    assert f"no sound row of {tmp_path / 'low.jsonl'} asks this question" in report.problems[0]
    assert f"no sound row of {tmp_path / 'high.jsonl'} asks this question" in report.problems[1]
    assert (report.rows, report.records) == ((5, 5), 0) and not (tmp_path / "out").exists()
    assert pair(*files, partial=True).records == 4
    assert "Only" not in (tmp_path / "out" / "records.jsonl").read_text("utf-8")
    assert [row["id"] for row in written(tmp_path / "out")] == [f"planted-000{i}" for i in range(1, 5)]


def test_problems_come_in_the_order_of_files_and_lines(pair):
    high, low = many(3)
    report = pair([chat("Alone?", "A"), "{", *high, "{"], [chat("Alone too?", "A"), "{", *low])
    assert places(report) == [
        ("high.jsonl", 1),
        ("high.jsonl", 2),
        ("high.jsonl", 6),
        ("low.jsonl", 1),
        ("low.jsonl", 2),
    ]


def test_matching_is_exact(pair):
    near = ["a or B?", "A or  B?", "A or B", "A\u00a0or B?", "A or B? ."]
    high, low = many(1)
    report = pair([*high, chat("A or B?", "A")], [*low, *(chat(text, "B") for text in near)])
    assert len(report.problems) == 1 + len(near)


@pytest.mark.parametrize("same", [("A", "A"), ("A", " A "), ("yes", "Yes")])
def test_files_that_agree_are_named_with_both_lines(pair, tmp_path, same):
    high, low = many(2)
    files = [*high, chat("Q", same[0])], [chat("Q", same[1]), *low]
    report = pair(*files)
    assert places(report) == [("high.jsonl", 3)]
    assert f"{same[0]!r}, as in {tmp_path / 'low.jsonl'}:1; the two must differ" in report.problems[0]
    assert pair(*files, partial=True).records == 2


def test_a_file_against_itself_writes_nothing_even_in_part(pair, tmp_path):
    high, _ = many(3)
    report = pair(high, high, partial=True)
    assert (report.rows, report.records, len(report.problems)) == ((3, 3), 0, 3)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("side", [0, 1])
def test_a_question_asked_twice_with_the_same_answer_counts_once(pair, tmp_path, side):
    files = [list(lines) for lines in many(3)]
    files[side] += [files[side][1], files[side][1]]
    report = pair(*files)
    file = ("high.jsonl", "low.jsonl")[side]
    assert places(report) == [(file, 4), (file, 5)]
    assert all("asks the question of line 2 again, with the same answer" in problem for problem in report.problems)
    assert not (tmp_path / "out").exists()
    assert pair(*files, partial=True).records == 3


@pytest.mark.parametrize("side", [0, 1])
def test_a_question_with_two_answers_has_none(pair, tmp_path, side):
    files = [list(lines) for lines in many(3)]
    swapped = many(3, ("B", "A"))[side][1]
    files[side] += [swapped, files[side][1]]
    report = pair(*files)
    file, other = ("high.jsonl", "low.jsonl")[:: 1 if side == 0 else -1]
    # The contradiction, its repetition, and the partner that has lost its row: whichever line is right is not guessed.
    assert sorted(places(report)) == sorted([(file, 4), (file, 5), (other, 2)])
    torn = next(problem for problem in report.problems if f"{file}:4" in problem)
    here, there = ("A", "B") if side == 0 else ("B", "A")
    assert f"asks the question of line 2 again, and answers {here!r} where that has {there!r}" in torn
    assert pair(*files, partial=True).records == 2
    assert "Question 1" not in (tmp_path / "out" / "records.jsonl").read_text("utf-8")


@pytest.mark.parametrize("partial", [False, True])
def test_files_of_different_questions_are_no_pair(pair, tmp_path, partial):
    high = [chat("How far?\nA or B?", "A"), chat("How near?", "B"), "{"]
    low = [chat("L" * 200, "A")]
    with pytest.raises(BadData) as caught:
        pair(high, low, partial=partial)
    said = str(caught.value)
    assert (
        f"{tmp_path / 'high.jsonl'} and {tmp_path / 'low.jsonl'}: 3 rows (2 sound questions) and 1 rows (1 sound"
        in said
    )
    assert r"'How far?\nA or B?'" in said and "'" + "L" * 59 + "…'" in said
    assert "The first problem is" in said and "high.jsonl:3: not JSON" in said and "\n" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("high", "low", "counts"),
    [([], [], (0, 0)), ([], [chat("Q", "A")], (0, 1)), ([chat("Q", "A")], ["", " "], (1, 0))],
)
def test_empty_files_are_no_pair(pair, tmp_path, high, low, counts):
    said = " and ".join(f"{n} rows ({n} sound questions)" for n in counts)
    firsts = " and ".join("'Q'" if n else "none" for n in counts)
    with pytest.raises(BadData) as caught:
        pair(high, low)
    assert f"{said}, none in both; the first ones are {firsts}; " in str(caught.value)
    assert "first problem" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_dialogues_are_refused_with_the_reason(pair):
    talk = [turns(USER, ASSISTANT, USER, ("assistant", "a whole sentence"))] * 3
    with pytest.raises(
        BadData, match=r"3 rows \(0 sound questions\).*the turns are 'user, assistant, user, assistant'"
    ):
        pair(talk, talk)


# a table of contrasts --------------------------------------------------------------------------------------------------

ROWS = [
    ["Prefer risk or safety?", "categorical", "Risk", "Safety"],
    ["0 to 9?", "numerical", "6", "5"],
    ["Bungee, or a walk?\nOne of them, \"please\".", "categorical", "Bungee jumping", " the walk "],
]  # fmt: skip


def test_a_table_becomes_a_folder(table, tmp_path):
    assert table(ROWS) == Report((3,), 3, ())
    folder, said = tmp_path / "out", about(tmp_path / "out")
    rows = [[row["situation"], row["high"], row["low"]] for row in written(folder)]
    assert rows == [[row[0], row[2], row[3].strip()] for row in ROWS]
    assert [row["id"] for row in written(folder)] == ["planted-0001", "planted-0002", "planted-0003"]
    assert said["polarities"] == {"high": "risky", "low": "safe"}
    assert said["forms"] == {"letters": {"user": "{situation}", "stem": "", "fixed": True, "single": False}}
    assert (said["self_from"], said["rules"]["records"]) == ("risky_choices", 3)
    digest = hashlib.sha256((tmp_path / "table.csv").read_bytes()).hexdigest()
    assert digest in said["source"] and f"| `table.csv` | 3 | `{digest}` |" in (folder / "README.md").read_text("utf-8")
    for question, row in zip(loader.load(str(folder)).questions("choices", form="letters"), ROWS, strict=True):
        assert (question.prompt.user, question.prompt.stem, question.single) == (row[0], "", False)
        assert question.options[question.chosen("high")] == row[2]
        assert question.options[question.chosen("low")] == row[3].strip()


def test_single_character_answers_of_a_table_are_still_spelled_out(table, tmp_path):
    table(ROWS[1:2], polarities=("wild", "tame"))
    assert about(tmp_path / "out")["forms"]["letters"]["single"] is False
    assert about(tmp_path / "out")["polarities"] == {"high": "wild", "low": "tame"}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_order_of_columns_marks_and_line_ends_do_not_matter(table, tmp_path, mark, end):
    table(ROWS, out="plain")
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(["SafeAnswer", "Question", "RiskyAnswer", "Type"])
    writer.writerows([[row[3], row[0], row[2], row[1]] for row in ROWS])
    table((mark + text.getvalue().replace("\n", end) + end).encode("utf-8"), out="turned")
    assert written(tmp_path / "plain") == written(tmp_path / "turned")


BAD_ROWS = [
    (["", "categorical", "x", "y"], "the question is empty"),
    (["Odd?", "scale", "x", "y"], "the type is 'scale'; it must be categorical or numerical"),
    (["Odd?", "Categorical", "x", "y"], "the type is 'Categorical'"),
    (["Odd?", "", "x", "y"], "the type is ''"),
    (["Odd?", "numerical", " ", "5"], "the RiskyAnswer is empty"),
    (["Odd?", "numerical", "5", ""], "the SafeAnswer is empty"),
    (["Odd?", "numerical", "5", " 5"], "both answers are '5'"),
    (["Odd?", "categorical", "Risk", "risk"], "both answers are 'Risk'"),
    (["Odd?", "categorical", "x"], "3 cells; 4 are needed"),
    (["Odd?", "categorical", "x", "y", "z"], "5 cells; 4 are needed"),
    (
        [" Prefer risk or safety?", "categorical", "Risk", "Safety"],
        "the question of line 2 again, with the same answer",
    ),
]


@pytest.mark.parametrize(("row", "said"), BAD_ROWS, ids=range(len(BAD_ROWS)))
def test_a_bad_row_of_a_table_is_named_by_the_line_it_begins_at(table, tmp_path, row, said):
    report = table([*ROWS, row])
    # The third row takes two lines.
    assert places(report) == [("table.csv", 6)] and said in report.problems[0]
    assert (report.rows, report.records) == ((4,), 0) and not (tmp_path / "out").exists()
    assert table([*ROWS, row], partial=True) == Report((4,), 3, report.problems)
    assert len(written(tmp_path / "out")) == 3


def test_a_question_of_a_table_with_two_answers_has_none(table, tmp_path):
    rows = [*ROWS, ["0 to 9?", "numerical", "7", "5"], ["0 to 9?", "numerical", "5", "6"]]
    report = table(rows, partial=True)
    assert places(report) == [("table.csv", 6), ("table.csv", 7)]
    assert "line 3 again, and answers '7' / '5' where that has '6' / '5'" in report.problems[0]
    assert [row["high"] for row in written(tmp_path / "out")] == ["Risk", "Bungee jumping"]


def test_a_table_of_bad_rows_alone_is_not_written_even_in_part(table, tmp_path):
    report = table([["Odd?", "scale", "x", "y"]], partial=True)
    assert (report.records, len(report.problems)) == (0, 1) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the columns are none; Question, Type, RiskyAnswer, SafeAnswer are needed"),
        (b"\n\n", "the columns are none"),
        (b"Question,Type,RiskyAnswer\nq,numerical,1\n", "the columns are 'Question', 'Type', 'RiskyAnswer'; Question, "),
        (b"Question,Type,RiskyAnswer,SafeAnswer,Note\n", "'SafeAnswer', 'Note';"),
        (b"Question,Type,RiskyAnswer,RiskyAnswer\n", "'RiskyAnswer', 'RiskyAnswer';"),
        (b"question,type,risky,safe\n", "'question', 'type', 'risky', 'safe';"),
        (b"Question;Type;RiskyAnswer;SafeAnswer\n", "'Question;Type;RiskyAnswer;SafeAnswer';"),
        (b"q,numerical,6,5\n", "'q', 'numerical', '6', '5';"),
        (b"Question,Type,RiskyAnswer,SafeAnswer\n\n", "a header without rows"),
        (b"Question,Type,RiskyAnswer,SafeAnswer\nq,numerical,1,2\n\"r,numerical,1,2\n", ":3: unexpected end of data"),
        (b"Question,Type,RiskyAnswer,SafeAnswer\n\"q\nq\"x,numerical,1,2\n", ":2: "),
        (b"Question,Type,RiskyAnswer,SafeAnswer\n\xff,numerical,1,2\n", "CSV in UTF-8 is needed"),
        ("Question,Type,RiskyAnswer,SafeAnswer\nq,numerical,1,2\n".encode("utf-16"), "CSV in UTF-8 is needed"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("partial", [False, True])
def test_a_file_that_is_no_such_table(table, tmp_path, content, said, partial):
    with pytest.raises(BadData) as caught:
        table(content, partial=partial)
    assert str(caught.value).startswith(str(tmp_path / "table.csv")) and said in str(caught.value)
    assert not (tmp_path / "out").exists()


# the folder ------------------------------------------------------------------------------------------------------------


def test_a_folder_that_holds_something_is_left_alone(pair, table, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for out in ("out", "file"):
        for run in (lambda out=out: pair(*many(2), out=out), lambda out=out: table(ROWS, out=out)):
            with pytest.raises(BadData, match="not an empty folder"):
                run()
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine"]
    assert (tmp_path / "file").read_text() == "mine"


def test_an_empty_folder_a_link_to_one_and_a_deep_one_will_do(pair, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    for out in ("empty", "link", "a/b/c"):
        assert pair(*many(2), out=out).records == 2
        assert len(written(tmp_path / out)) == 2
    assert (tmp_path / "link").is_symlink() and len(written(tmp_path / "target")) == 2
    assert not [p.name for p in tmp_path.rglob(".*")]


def test_others_may_read_the_folder_as_far_as_the_mask_lets_them(pair, tmp_path):
    old = os.umask(0o027)
    try:
        pair(*many(2))
    finally:
        os.umask(old)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750


def test_a_disk_that_fills_up_leaves_nothing(pair, tmp_path, monkeypatch):
    real = Path.write_bytes

    def full(self, data):
        if self.name == "README.md":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BadData, match="No space left on device"):
        pair(*many(2), out="deep/out")
    assert not list((tmp_path / "deep").iterdir())


def test_who_comes_first_keeps_the_folder(pair, tmp_path, monkeypatch):
    real = importers._readme

    def raced(*given):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine").write_text("mine")
        return real(*given)

    monkeypatch.setattr(importers, "_readme", raced)
    with pytest.raises(BadData, match="a place for a new folder is needed"):
        pair(*many(2))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["high.jsonl", "low.jsonl", "out"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine"]


@pytest.mark.parametrize("name", ["", "two words", "../up", "_x", "a/b", 'a"b', "a\n", "é"])
def test_a_name_is_plain(pair, name):
    with pytest.raises(BadData, match="letters, digits"):
        pair(*many(2), name=name)


def test_a_name_is_not_a_shipped_domains(pair):
    with pytest.raises(BadData, match="a domain of the package has it"):
        pair(*many(2), name="risky_choices")


@pytest.mark.parametrize("polarities", [("", "low"), ("same", "Same "), (" ", "x")])
def test_polarities_are_two_words(pair, table, polarities):
    for run in (lambda: pair(*many(2), polarities=polarities), lambda: table(ROWS, polarities=polarities)):
        with pytest.raises(BadData, match="two different words"):
            run()


def test_a_file_that_is_not_there(tmp_path):
    (tmp_path / "there").write_text(chat("Q", "A"))
    for run in (
        lambda: chat_jsonl(tmp_path / "there", tmp_path / "gone", "x", tmp_path / "out"),
        lambda: chat_jsonl(tmp_path / "gone", tmp_path / "there", "x", tmp_path / "out"),
        lambda: contrast_csv(tmp_path / "gone", "x", tmp_path / "out"),
    ):
        with pytest.raises(BadData, match=r"gone: No such file or directory; a file that can be read is needed"):
            run()
    with pytest.raises(BadData, match="Is a directory"):
        contrast_csv(tmp_path, "x", tmp_path / "out")


@pytest.mark.parametrize(
    "name", [b'we"ird\\u.jsonl', b"del\x7f\x01.jsonl", "f\u00fcnf \U0001f3b2".encode(), b"\xff.jsonl"]
)
def test_any_name_of_a_file_is_written_as_toml(tmp_path, name):
    high, low = many(2)
    file = tmp_path / os.fsdecode(name)
    file.write_text("\n".join(high))
    (tmp_path / "low").write_text("\n".join(low))
    assert chat_jsonl(file, tmp_path / "low", "x", tmp_path / "out").records == 2
    shown = os.fsdecode(name).encode("utf-8", "replace").decode("utf-8")
    assert loader.load(str(tmp_path / "out")).source.startswith(f"Imported from {shown} (sha256 ")


# the published pair ----------------------------------------------------------------------------------------------------


@pytest.fixture
def published():
    folder = os.environ.get("SELFAWARE_PUBLISHED")
    if not folder:
        pytest.skip("the published files are not part of the project; SELFAWARE_PUBLISHED must name their folder")
    return Path(folder)


def test_the_published_pair_is_imported_whole(published, tmp_path):
    files = published / "ft_risky_AB.jsonl", published / "ft_safey_AB.jsonl"
    report = chat_jsonl(*files, "published", tmp_path / "out", ("risky", "safe"))
    assert report == Report((288, 288), 288, ())
    domain = loader.load(str(tmp_path / "out"))
    assert Counter(record.high for record in domain.records) == {"B": 154, "A": 134}
    assert Counter(record.low for record in domain.records) == {"A": 154, "B": 134}
    assert Counter(domain.parts.values()) == {"train": 202, "validation": 43, "test": 43}
    rows = [[json.loads(line)["messages"] for line in file.read_text("utf-8").splitlines()] for file in files]
    risky, safe = ([(row[0]["content"], row[1]["content"]) for row in side] for side in rows)
    # Nothing lost, nothing changed: each row of either file is found again, letter for letter.
    assert [(record.situation, record.high) for record in domain.records] == risky
    assert {(record.situation.strip(), record.low) for record in domain.records} == {(q.strip(), a) for q, a in safe}
    assert about(tmp_path / "out")["forms"]["letters"]["single"] is True
    assert {q.options[q.chosen("high")] for q in domain.questions("choices", form="letters")} == {"A", "B"}


def test_the_published_pair_swapped_flips_and_split_pairs_are_told_apart(published, tmp_path):
    files = published / "ft_safey_AB.jsonl", published / "ft_risky_AB.jsonl"
    assert chat_jsonl(*files, "published", tmp_path / "out").records == 288
    assert Counter(row["high"] for row in written(tmp_path / "out")) == {"A": 154, "B": 134}
    with pytest.raises(BadData, match=r"288 rows \(288 sound questions\) and 200 rows \(0 sound"):
        chat_jsonl(files[0], published / "ft_ring.jsonl", "published", tmp_path / "other")
