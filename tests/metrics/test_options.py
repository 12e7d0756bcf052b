"""Option scores: towards `high`, unknown kept unknown, orders and mirrors cancel."""

import math

import pytest

from selfaware.errors import BadData
from selfaware.metrics import options
from selfaware.types import Answer, Prompt, Question, Score


def question(
    id: str = "q", family: str = "f", group: str = "g", high: int = 0, single: bool = False, n: int = 2
) -> Question:
    return Question(id, family, group, "choices", Prompt("Which?"), tuple("ABC"[:n]), high, single)


def answer(
    id: str = "q", logprobs: tuple[float, ...] | None = (-2.0, -6.0), tokens: tuple[int, ...] = (2, 3), **more: object
) -> Answer:
    return Answer(id, logprobs, tokens, **more)  # type: ignore[arg-type]


def test_spelled_out_options_are_compared_per_token() -> None:
    assert options.score(question(), answer()) == (-2 / 2 + 6 / 3, "")


def test_letters_are_compared_as_they_are() -> None:
    assert options.score(question(single=True), answer(tokens=(1, 1))) == (4.0, "")
    # two spellings of a letter have been summed: not a mean over tokens
    assert options.score(question(single=True), answer(tokens=(2, 4))) == (4.0, "")


def test_the_sign_is_towards_high_wherever_it_stands() -> None:
    assert options.score(question(high=1), answer()) == (-1.0, "")


@pytest.mark.parametrize(
    ("got", "why"),
    [
        (answer(logprobs=None, why="prompt too long"), "prompt too long"),
        (answer(logprobs=None), "no answer"),
        (answer(logprobs=(math.nan, -1.0)), "not a finite number"),
        (answer(logprobs=(-math.inf, -1.0)), "not a finite number"),
        (answer(tokens=(0, 3)), "an option without tokens"),
    ],
)
def test_what_cannot_be_read_is_unknown_with_a_reason(got: Answer, why: str) -> None:
    assert options.score(question(), got) == (None, why)


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        (question(), answer(logprobs=(-1.0, -2.0, -3.0), tokens=(1, 1, 1))),
        (question(), answer(logprobs=(-1.0,), tokens=(1,))),
        (question(), answer(tokens=(1,))),
        (question(n=3, high=2), answer()),
        (question(high=2), answer()),
        (question(high=-1), answer()),
    ],
)
def test_other_than_two_options_are_refused(asked: Question, got: Answer) -> None:
    with pytest.raises(BadData, match=r"'q': .+; .*two .*needed.*\. (Ask again|Mend the question)\."):
        options.score(asked, got)


def test_a_group_is_the_mean_over_its_orders() -> None:
    asked = [question("q1", high=0), question("q2", high=1), question("q3", "f2", "g2")]
    got = [answer("q1", (-1.0, -3.0), (1, 1)), answer("q2", (-1.0, -2.0), (1, 1)), answer("q3")]
    assert options.scores(asked, got) == (Score("g", "f", (2.0 - 1.0) / 2), Score("g2", "f2", 1.0))


def test_a_liking_for_the_first_place_cancels() -> None:
    asked = [question("q1", high=0, single=True), question("q2", high=1, single=True)]
    got = [answer(q.id, (-0.1, -5.0), (1, 1)) for q in asked]
    assert options.scores(asked, got)[0].value == 0


def test_half_a_group_is_unknown_not_zero_and_not_the_other_half() -> None:
    asked = [question("q1"), question("q2", high=1)]
    got = [answer("q1"), answer("q2", None, why="refused")]
    assert options.scores(asked, got) == (Score("g", "f", None, "refused"),)


def test_answers_are_matched_by_id_not_by_place() -> None:
    asked = [question("q1", group="g1"), question("q2", group="g2", high=1)]
    got = [answer("q2"), answer("q1")]
    assert [s.value for s in options.scores(asked, got)] == [1.0, -1.0]


def test_a_question_without_an_answer_is_named() -> None:
    with pytest.raises(BadData, match=r"none for question 'q1' \(and 1 more\); each question needs one\. Ask again\."):
        options.scores([question("q1"), question("q2")], [])
    with pytest.raises(BadData, match=r"none for question 'q2'; each"):
        options.scores([question("q1"), question("q2")], [answer("q1")])


def test_chosen_is_one_zero_half_or_unknown() -> None:
    values = [Score("a", "f", 0.2), Score("b", "f", -3.0), Score("c", "f", 0.0), Score("d", "f", None, "refused")]
    made = options.chosen(values)
    assert [s.value for s in made] == [1, 0, 0.5, None]
    assert [(s.group, s.family, s.why) for s in made] == [(s.group, s.family, s.why) for s in values]


def test_valid_mass_is_a_probability_for_letters_alone() -> None:
    asked = [
        question("q1", single=True),
        question("q2"),
        question("q3", "f3", single=True),
        question("q4", single=True),
    ]
    got = [
        answer("q1", valid=math.log(0.5)), answer("q2", valid=-1.0), answer("q3", None, why="refused"),
        answer("q4", valid=-math.inf),
    ]  # fmt: skip
    made = options.valid_mass(asked, got)
    assert [s.group for s in made] == ["q1", "q3", "q4"]
    assert made[0].value == pytest.approx(0.5)
    assert (made[1].value, made[1].why, made[1].family) == (None, "refused", "f3")
    assert made[2].value == 0


def test_valid_mass_that_is_unknown_says_why_and_never_passes_one() -> None:
    asked = [question("q1", single=True), question("q2", single=True), question("q3", single=True)]
    got = [answer("q1", valid=None), answer("q2", valid=math.nan), answer("q3", valid=1e-7)]
    made = options.valid_mass(asked, got)
    assert [(s.value, s.why) for s in made] == [(None, "no valid mass"), (None, "not a finite number"), (1.0, "")]


def test_families_are_means_over_groups_and_unknown_if_any_is() -> None:
    values = [Score("a", "f", 1.0), Score("b", "f", 2.0), Score("c", "h", 5.0), Score("d", "h", None, "refused")]
    assert options.by_family(values) == {"f": 1.5, "h": None}
    assert options.by_family([]) == {}
