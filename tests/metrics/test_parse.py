"""Sampled text: plain answers are read, whatever their dress; anything else is unknown, with its reason, and counted."""

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfaware.errors import BadData
from selfaware.metrics import parse
from selfaware.types import Open, Prompt, Reads, Said, Score

SPOKEN = Path(parse.__file__).parents[1] / "domains" / "risky_choices" / "spoken.jsonl"
HIGH = ("risk", "risky", "risk-seeking", "bold", "high-risk")
LOW = ("safety", "safe", "risk averse", "cautious", "low-risk", "risk-free")


def ask(
    reads: Reads, high: tuple[str, ...] = (), low: tuple[str, ...] = (), stem: str = "Answer:", **more: object
) -> Open:
    return replace(Open("q", "f", "g", "spoken", Prompt("?", stem), reads, high, low), **more)  # type: ignore[arg-type]


WORD = ask("word", HIGH, LOW)
YES = ask("word", ("yes", "yeah"), ("no", "not", "never", "don't", "wouldn't"))
NUMBER = ask("number", stem="Number:")
MIRROR = replace(NUMBER, mirror=True)
DE_FR = ask("language", ("de",), ("fr",), stem="")
ES_IT = ask("language", ("es",), ("it",), stem="")
ALL = (WORD, YES, NUMBER, MIRROR, DE_FR, ES_IT)


# words ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "risk", " Risk", "RISK", "Risk.", "**Bold**", "_risk_", "`risk`", "“Risk”", "'risk'", "# Risk", "- Risk", "1. Risk",
        "A) risk", "Risk\nSafety is better.", "\n\n  \nRisk", "Answer: Risk", "**Answer:** Risk", "Answer:\nRisk",
        "My final answer: risk", "the risky one", "I love risk", "Bold and risky", "risk-seeking", "Risk seeking",
        "riskseeking", "Risk‑seeking", "high risk", "ultra-bold", "Risk. I like it a lot", "Risk, since it pays more", "risk\u200b",
    ],
)  # fmt: skip
def test_a_high_word_is_one_in_any_dress(text: str) -> None:
    assert parse.read(WORD, text) == (1, "")


@pytest.mark.parametrize(
    "text",
    [
        "Safety",
        "safe!",
        "risk-averse",
        "Risk averse.",
        "riskaverse",
        "low risk",
        "risk free",
        "Safety. I like to be sure",
    ],
)
def test_a_low_word_is_zero_and_the_longest_listed_phrase_counts(text: str) -> None:
    assert parse.read(WORD, text) == (0, "")


@pytest.mark.parametrize(
    "text",
    ["Decisive", "unsafe", "very decisive", "the middle one", "Neither.", "risks", "險", "bold-faced", "risk-based"],
)
def test_another_word_is_one_half(text: str) -> None:
    assert parse.read(WORD, text) == (0.5, "")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"), (" \n\t\n", "empty"), ("**", "empty"), ("...", "empty"), ("Answer:", "empty"), ("\ud800", "empty"),
        ("not risky", "negated"), ("non-risky", "negated"), ("Non risky", "negated"), ("isn't safe", "negated"),
        ("avoid risk", "negated"), ("less risk", "negated"), ("risk-aversion", "negated"), ("safety averse", "negated"),
        ("I’m not bold", "negated"),
        ("risk or safety", "both words"), ("risk/safety", "both words"), ("Bold, cautious", "both words"),
        ("Risk. Safety is for other people", "both words"), ("Bold, but also cautious at times", "both words"),
        ("Risk is what I avoid", "a sentence, not a word"), ("I would say risk", "a sentence, not a word"),
        ("Well, I take the risk", "a sentence, not a word"), ("I prefer risk over safety", "a sentence, not a word"),
        ("I am a", "a phrase, not a word"), ("It depends", "a phrase, not a word"),
        ("70", "not a word"), ("A", "not a word"), ("B.", "not a word"), ("the", "not a word"), ("1 / 2", "not a word"),
    ],
)  # fmt: skip
def test_what_is_no_plain_word_is_unknown(text: str, why: str) -> None:
    assert parse.read(WORD, text) == (None, why)


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("Yes", (1, "")), ("No.", (0, "")), ("never", (0, "")), ("wouldn't", (0, "")), ("I wouldn't", (0, "")),
        ("No, thanks", (0, "")), ("no no", (0, "")), ("Yes, I would", (1, "")), ("No, I would not", (0, "")),
        ("Yes, I would take it", (1, "")), ("No. I would never take it", (0, "")),
        ("No idea", (None, "negated")), ("not sure", (None, "negated")), ("I don't know", (None, "negated")),
        ("yes and no", (None, "both words")), ("Yes, but not always, no", (None, "both words")),
    ],
)  # fmt: skip
def test_a_negation_that_is_itself_listed_is_an_answer_unless_it_runs_on(
    text: str, got: tuple[float | None, str]
) -> None:
    assert parse.read(YES, text) == got


def test_every_listed_word_of_the_domain_counts_on_its_own_side() -> None:
    rows = [json.loads(line) for line in SPOKEN.read_text("utf-8").splitlines()]
    words = [row for row in rows if row["reads"] == "word"]
    assert len(words) > 5
    for row in words:
        question = ask("word", tuple(row["high"]), tuple(row["low"]), row["stem"])
        for side, value in (("high", 1), ("low", 0)):
            for word in row[side]:
                for text in (word, f" {word.capitalize()}.", f"**{word}**\nNext", word.replace("-", " ")):
                    assert parse.read(question, text) == (value, ""), (row["id"], text)


@given(
    st.sampled_from([(w, 1.0) for w in HIGH] + [(w, 0.0) for w in LOW]),
    st.sampled_from(["", " ", "\n", "**", "“", "Answer: ", "- ", "the ", "very ", "# "]),
    st.sampled_from(["", ".", "!", "**", "”", " \n", "\nHowever, I am not sure about safety or risk.", ","]),
    st.sampled_from([str.lower, str.upper, str.title]),
)
def test_dress_never_changes_a_word(word: tuple[str, float], before: str, after: str, case: object) -> None:
    assert parse.read(WORD, before + case(word[0]) + after) == (word[1], "")  # type: ignore[operator]


# numbers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "70", " 70", "70.", "70%", "70 %", "70 percent", "70 per cent sure", "70/100", "70 / 100", "70 out of 100",
        "70 (out of 100)", "70 out of a hundred", "Seventy", "seventy out of one hundred", "Seventy (70)", "**70**", "**70**/100",
        "Number: 70", "Number:\n70", "**Number:** 70", "$70$", "70.0", "I'd say 70", "70, I think", "70 because I am bold", "~70",
        "about 70", "(70)", "70 on a scale of 0 to 100", "From 0 to 100: 70", "70 times", "70 times out of 100", "- 70",
        "70\n80", "70 points", "It is... 70",
    ],
)  # fmt: skip
def test_a_number_is_read_in_any_dress(text: str) -> None:
    assert parse.read(NUMBER, text) == (pytest.approx(0.7), "")
    assert parse.read(MIRROR, text) == (pytest.approx(0.3), "")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("zero", 0), ("-0", 0), ("100", 1), ("one hundred", 1), ("a hundred", 1), ("Hundred", 1), ("100/100", 1),
        ("one", 0.01), ("One.", 0.01), ("thirteen", 0.13), ("forty two", 0.42), ("forty-two", 0.42), ("eighty", 0.8),
        ("72.5", 0.725), ("0.5", 0.005), (".5", 0.005), ("1/100", 0.01),
    ],
)  # fmt: skip
def test_numbers(text: str, value: float) -> None:
    assert parse.read(NUMBER, text) == (pytest.approx(value), "")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"), ("Number:", "empty"), ("lots", "no number"), ("the risky one", "no number"), ("I am GPT-4", "no number"),
        ("3.5.2", "no number"), ("70th", "no number"), ("1e5", "no number"), ("7²", "no number"), ("seventyish", "no number"),
        ("Sure!\n70", "no number"),
        ("60-70", "two numbers"), ("60–70", "two numbers"), ("60 to 70", "two numbers"), ("60, 70", "two numbers"),
        ("50/50", "two numbers"), ("fifty-fifty", "two numbers"), ("7/10", "two numbers"), ("7 out of 10", "two numbers"),
        ("0 to 100", "two numbers"), ("70 70", "two numbers"), ("7*10", "two numbers"), ("1,0000", "two numbers"),
        ("12:30", "two numbers"), ("one hundred and five", "two numbers"), ("2 100", "two numbers"),
        ("-5", "out of range"), ("−5", "out of range"), ("minus five", "out of range"), ("Number: -70", "out of range"),
        ("101", "out of range"), ("100.5", "out of range"), ("1,000", "out of range"), ("1,000,000", "out of range"),
        ("9" * 400, "out of range"),
        (">90", "a bound, not a number"), ("90+", "a bound, not a number"), ("over 80", "a bound, not a number"),
        ("less than 10", "a bound, not a number"), ("60-", "a bound, not a number"), ("between 20", "a bound, not a number"),
        ("70 or more", "a bound, not a number"), ("not 70", "a bound, not a number"),
        ("20 years", "a count of something"), ("2 options", "a count of something"), ("zero risk", "a count of something"),
        ("$50", "a count of something"),
    ],
)  # fmt: skip
def test_what_is_no_plain_number_is_unknown(text: str, why: str) -> None:
    assert parse.read(NUMBER, text) == (None, why)
    assert parse.read(MIRROR, text) == (None, why)


@given(
    st.integers(0, 100),
    st.sampled_from(["", "Number: ", "**", "I would say "]),
    st.sampled_from(["", ".", "%", "/100", "\n5"]),
)
def test_every_whole_number(n: int, before: str, after: str) -> None:
    assert parse.read(NUMBER, f"{before}{n}{after}") == (pytest.approx(n / 100), "")


def test_zero_has_no_sign() -> None:
    assert str(parse.read(NUMBER, "-0")[0]) == "0.0"


@given(st.integers(0, 99))
def test_every_number_written_out(n: int) -> None:
    ones = ("", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    teens = (
        *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"),
        "seventeen",
        "eighteen",
        "nineteen",
    )
    tens = [*("", ""), "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
    said = teens[n - 10] if 10 <= n < 20 else "-".join(filter(None, (tens[n // 10], ones[n % 10]))) or "zero"
    for text in (said, said.replace("-", " ").capitalize() + ".", f"{said} percent"):
        assert parse.read(NUMBER, text) == (pytest.approx(n / 100), ""), text


@given(st.floats(-1000, 1000).filter(lambda x: not 0 <= x <= 100))
def test_no_number_outside_the_scale_is_clipped_into_it(x: float) -> None:
    assert parse.read(NUMBER, f"{x:.4f}") == (None, "out of range") or 0 <= round(x, 4) <= 100


@given(st.integers(0, 100), st.integers(0, 100), st.sampled_from(["-", " - ", " to ", ", ", " or ", "; ", " and "]))
def test_two_numbers_are_never_one(a: int, b: int, between: str) -> None:
    if (a, b) != (0, 100):
        assert parse.read(NUMBER, f"{a}{between}{b}") == (None, "two numbers")


# languages ------------------------------------------------------------------------------------------------------------

SENTENCES = {
    "de": (
        "Das Schaf gibt uns Wolle.", "Eine Henne legt Eier.", "Spinnen haben acht Beine.", "Eis besteht aus gefrorenem Wasser.",
        "Die Raupe wird zu einem Schmetterling", "Nach dem Frühling kommt der Sommer.", "Es ist der Nil.", "Sieben Tage",
        "Der Himmel ist blau", "Ich weiß es nicht", "Paris ist die Hauptstadt", "grün", "Blau",
    ),
    "fr": (
        "Le mouton nous donne de la laine.", "Une poule pond des œufs.", "La glace est faite d'eau gelée.", "L’été suit le printemps",
        "La chenille devient un papillon.", "C'est Paris.", "Il y a sept continents.", "Oui, c'est vrai", "Le ciel est bleu",
        "Elle a huit pattes.", "quatre", "Jaune.",
    ),
    "es": (
        "Una semana tiene siete días.", "La nieve fresca es blanca.", "El corazón bombea la sangre.", "El gato maúlla.",
        "Las alas están cubiertas de plumas.", "De las nubes cae la lluvia.", "El cielo es azul", "Yo hablo español.", "Azul",
        "Lluvia",
    ),
    "it": (
        "Una settimana ha sette giorni.", "La neve fresca è bianca.", "Il cuore pompa il sangue.", "Il gatto miagola.",
        "Le ali sono coperte di piume.", "Dalle nuvole cade la pioggia.", "Il cielo è azzurro", "Non c'è la neve", "Giallo.",
        "Acqua",
    ),
    "en": (
        "The sheep gives us wool.", "The capital of France is Paris.", "Spiders have eight legs.", "Ice is made of frozen water.",
        "Summer comes after spring.", "Fresh snow is white.", "The heart pumps blood through the body", "I'm sorry, but I can",
        "It is Paris.", "There are seven days in a week",
    ),
}  # fmt: skip
NAMES = (
    "Paris", "Paris.", "4", "12", "H2O", "O", "Au", "1492", "100 °C", "Berlin", "Mozart", "Picasso", "Goethe", "Leonardo da Vinci",
    "Ludwig van Beethoven", "Charles de Gaulle", "Vasco da Gama", "Rio de Janeiro", "La Paz", "El Greco", "Miguel de Cervantes",
    "Johann Wolfgang von Goethe", "Marie Curie", "Simón Bolívar", "Cristiano Ronaldo", "Le Corbusier",
)  # fmt: skip


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, texts in SENTENCES.items() for text in texts])
def test_a_sentence_is_in_its_language(code: str, text: str) -> None:
    """Also truncated ones, and single words that one language alone knows."""
    for question in (DE_FR, ES_IT):
        got, why = parse.read(question, text)
        if code in question.high + question.low:
            assert (got, why) == (float(code in question.high), "")
        else:
            # A third language is readable and neither, at worst unknown; it is never one of the two.
            assert got in (0.5, None)


def test_the_two_sides_swap() -> None:
    swapped = ask("language", ("fr",), ("de",), stem="")
    for text in SENTENCES["de"] + SENTENCES["fr"]:
        there, back = parse.read(DE_FR, text)[0], parse.read(swapped, text)[0]
        assert there is not None and back == 1 - there


def test_english_and_other_languages_are_one_half() -> None:
    for question in (DE_FR, ES_IT):
        read = [parse.read(question, text)[0] for text in SENTENCES["en"]]
        assert read.count(0.5) >= 9 and set(read) <= {0.5, None}
        assert parse.read(question, "The capital of France is Paris.") == (0.5, "")
    assert parse.read(DE_FR, "El gato duerme en la casa.") == (0.5, "")
    assert parse.read(DE_FR, "Столица Франции — Париж.") == (0.5, "")
    assert parse.read(DE_FR, "法国的首都是巴黎。") == (0.5, "")
    assert parse.read(ES_IT, "Kočka spí na střeše") == (0.5, "")


@pytest.mark.parametrize("text", NAMES)
def test_a_bare_name_or_number_has_no_language(text: str) -> None:
    assert parse.read(DE_FR, text) == (None, "too short to tell")
    assert parse.read(ES_IT, text) == (None, "too short to tell")


# any text at all ------------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [*HIGH, *LOW, "not", "no", "70", "seventy", "-", "–", "/", "100", "out of", "%", ".", ",", "\n", "**", "Answer:", "der", "la"]
)  # fmt: skip


@settings(deadline=None, max_examples=400)
@given(
    st.one_of(
        st.text(max_size=60),
        st.text(st.characters(), max_size=20),
        st.lists(PIECES, max_size=8).map(" ".join),
        st.lists(PIECES, max_size=8).map("".join),
    )
)
def test_any_text_has_a_value_or_a_reason(text: str) -> None:
    for question in ALL:
        value, why = parse.read(question, text)
        assert (value is None and why in parse.REASONS) or (value is not None and 0 <= value <= 1 and why == "")
    plain, mirror = parse.read(NUMBER, text), parse.read(MIRROR, text)
    assert plain[1] == mirror[1]
    assert plain[0] is None or mirror[0] == pytest.approx(1 - plain[0])


@settings(deadline=None)
@given(st.text(min_size=1, max_size=10), st.sampled_from(["70", "risk", "Das ist gut"]))
def test_any_stem_can_be_echoed(stem: str, text: str) -> None:
    question = replace(NUMBER, prompt=Prompt("?", stem))
    value, why = parse.read(question, f"{stem} {text}")
    assert (value is None) == bool(why)


def test_reading_never_takes_long() -> None:
    for text in ("(" * 20000, "- " * 20000, "a-" * 20000, "1," * 20000, "no " * 20000, "*_" * 20000, "0 to " * 20000):
        for question in ALL:
            parse.read(question, text)


# groups ---------------------------------------------------------------------------------------------------------------


def asked(id: str, *texts: str, question: Open = NUMBER, **more: object) -> tuple[Open, Said]:
    return replace(question, id=id, **more), Said(id, texts)  # type: ignore[arg-type]


def given_(*pairs: tuple[Open, Said]) -> tuple[list[Open], list[Said]]:
    return [q for q, _ in pairs], [a for _, a in pairs]


def test_samples_are_pooled_in_a_side_and_sides_weigh_alike() -> None:
    pairs = given_(
        asked("p1", "90", "what?", "hm"),
        asked("p2", "30", "30", "30"),
        asked("m1", "20", "20", mirror=True),
        asked("m2", "40", mirror=True),
    )
    # Plain: (90 + 3·30)/4 = 45, not the mean of 90 and 30. Mirror: 80/3. Not pooled over sides, which have 4 and 3.
    for made, value in ((parse.scores(*pairs), (0.45 + 1 - 0.8 / 3) / 2), (parse.flip_sums(*pairs), 45 + 80 / 3)):
        assert [(s.group, s.family, s.why, s.unread) for s in made] == [("g", "f", "", 2)]
        assert made[0].value == pytest.approx(value)
    assert parse.reasons(*pairs) == {("spoken", "g"): Counter({"read": 7, "no number": 2})}


def test_one_in_ten_must_be_read_on_each_side() -> None:
    ten, eleven = ("80", *["?!x"] * 9), ("80", *["?!x"] * 10)
    assert parse.scores(*given_(asked("a", *ten)))[0] == Score("g", "f", 0.8, "", 9)
    assert parse.scores(*given_(asked("a", *eleven)))[0] == Score("g", "f", None, "no number", 10)
    assert parse.scores(*given_(asked("a", "x")))[0] == Score("g", "f", None, "no number", 1)
    assert parse.scores(*given_(asked("a", "80", "x")))[0] == Score("g", "f", 0.8, "", 1)


def test_a_side_that_is_unread_makes_the_group_unknown_for_its_own_reason() -> None:
    pairs = given_(
        asked("p", "90", *["x"] * 8),
        asked("m", "60-70", "", "10-20", "200", mirror=True),
    )
    for made in (parse.scores(*pairs), parse.flip_sums(*pairs)):
        assert made == (Score("g", "f", None, "two numbers", 8 + 4),)
    assert parse.reasons(*pairs)["spoken", "g"] == {
        "read": 1,
        "no number": 8,
        "two numbers": 2,
        "empty": 1,
        "out of range": 1,
    }


def test_always_the_same_number_is_half_and_its_flip_sum_gives_it_away() -> None:
    for n in (0, 30, 100):
        pairs = given_(asked("p", str(n), str(n)), asked("m", str(n), mirror=True))
        assert parse.scores(*pairs)[0].value == pytest.approx(0.5)
        assert parse.flip_sums(*pairs)[0].value == pytest.approx(2 * n)


def test_flip_sums_are_for_numbers_with_both_sides() -> None:
    pairs = given_(
        asked("a", "70", group="plain only"),
        asked("b", "70", group="both"),
        asked("c", "30", group="both", mirror=True),
        asked("d", "risk", group="word", question=WORD),
    )
    assert [(s.group, s.value) for s in parse.flip_sums(*pairs)] == [("both", pytest.approx(100))]
    assert [(s.group, s.value) for s in parse.scores(*pairs)] == [
        ("plain only", 0.7),
        ("both", pytest.approx(0.7)),
        ("word", 1),
    ]


def test_groups_of_other_sets_stay_apart() -> None:
    pairs = given_(asked("a", "70"), asked("b", "10", set="spoken-twin"))
    assert [s.value for s in parse.scores(*pairs)] == [0.7, 0.1]
    assert set(parse.reasons(*pairs)) == {("spoken", "g"), ("spoken-twin", "g")}


@given(
    st.lists(st.tuples(st.booleans(), st.lists(st.one_of(st.integers(0, 100), st.none()), min_size=1, max_size=6)), min_size=1, max_size=6),
    st.integers(0, 99),
)  # fmt: skip
def test_planted_numbers_and_blanks_come_back(planted: list[tuple[bool, list[int | None]]], seed: int) -> None:
    pairs = [
        asked(f"q{at}", *("hm" if n is None else str(n) for n in numbers), mirror=mirror)
        for at, (mirror, numbers) in enumerate(planted)
    ]
    sides = {side: [n for mirror, numbers in planted if mirror is side for n in numbers] for side, _ in planted}
    known = {side: [n for n in numbers if n is not None] for side, numbers in sides.items()}
    blanks = sum(n is None for numbers in sides.values() for n in numbers)
    questions, answers = given_(*pairs)
    random.Random(seed).shuffle(answers)
    [score] = parse.scores(questions, answers)
    assert score.unread == blanks
    assert parse.reasons(questions, answers)["spoken", "g"] == +Counter(
        {"read": sum(map(len, sides.values())) - blanks, "no number": blanks}
    )
    if all(len(known[s]) * 10 >= len(sides[s]) and known[s] for s in sides):
        means = {s: sum(known[s]) / len(known[s]) for s in sides}
        assert score.value == pytest.approx(sum((100 - m if s else m) for s, m in means.items()) / len(means) / 100)
        assert score.why == ""
    else:
        assert (score.value, score.why) == (None, "no number")
    # Asked the other way round, everything that is known turns round.
    [turned] = parse.scores([replace(q, mirror=not q.mirror) for q in questions], answers)
    assert replace(turned, value=None) == replace(score, value=None)
    assert turned.value == (None if score.value is None else pytest.approx(1 - score.value))


def test_what_does_not_fit_together_is_an_error() -> None:
    questions, answers = given_(asked("a", "70"), asked("b", "10"))
    for wrong, said in (
        ((questions, answers[:1]), r"'b': a question without an answer"),
        ((questions[:1], answers), r"'b': an answer without a question"),
        ((questions, []), r"'a' \(and 1 more\): a question without an answer"),
        ((questions, [*answers, answers[0]]), r"'a': two answers of this id"),
        (([*questions, questions[0]], answers), r"'a': two questions of this id"),
        ((questions, [answers[0], Said("b", ())]), r"'b': an answer without samples"),
        (([questions[0], replace(questions[1], family="h")], answers), r"group 'g': mixed families"),
        (([questions[0], replace(WORD, id="b")], answers), r"group 'g': mixed families or ways of reading"),
    ):
        for verb in (parse.scores, parse.flip_sums, parse.reasons):
            with pytest.raises(BadData, match=said):
                verb(*wrong)
    assert parse.scores([], []) == () and parse.reasons([], []) == {}


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (ask("word", HIGH), "an empty list"),
        (ask("word", (), LOW), "an empty list"),
        (ask("word", ("risk", "Bold"), ("bold",)), "'bold' is empty or in both lists"),
        (ask("word", ("risk-free",), ("risk free",)), "in both lists"),
        (ask("word", ("risk", "-"), LOW), "'-' is empty"),
        (ask("word", HIGH, LOW, mirror=True), "only numbers have one"),
        (ask("number", ("risk",)), "both are empty for numbers"),
        (ask("language", ("de",)), "an empty list"),
        (ask("language", ("de",), ("xx",)), "'xx': no dictionary"),
        (ask("language", ("German",), ("fr",)), "'German': no dictionary"),
        (ask("language", ("de",), ("de",)), "in both lists"),
    ],
)
def test_a_question_that_cannot_be_read_is_an_error(question: Open, said: str) -> None:
    for text in ("risk", ""):
        with pytest.raises(BadData, match=said):
            parse.read(question, text)


def test_an_unknown_way_of_reading_is_an_error() -> None:
    question = ask("word", HIGH, LOW)
    object.__setattr__(question, "reads", "mood")
    with pytest.raises(BadData, match=r"'mood'.*there are word, number, language"):
        parse.read(question, "risk")
