"""A folder becomes a domain: splits, orders, mirrors, outcomes, and rows that break the schema."""

import json
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfaware.domains import loader, records
from selfaware.domains.records import Outcomes
from selfaware.errors import BadData, UnknownName
from selfaware.types import PARTS, Sampling

NAMES = st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=80, unique=True)


@given(NAMES, st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_split_is_by_family_and_blind_to_order_and_repeats(families, seed, rng):
    shares = (0.70, 0.15)
    parts = loader.split(tuple(families), seed, shares)
    again = families + families[: len(families) // 2]
    rng.shuffle(again)
    assert loader.split(tuple(again), seed, shares) == parts
    assert set(parts) == set(families)
    sizes, n = Counter(parts.values()), len(families)
    assert sizes["train"] == round(0.70 * n)
    assert sizes["train"] + sizes["validation"] == round(0.85 * n)


@pytest.mark.parametrize("name", loader.names())
def test_shipped_split_is_as_the_domain_says_and_disjoint(name):
    domain = loader.load(name)
    groups = {part: {q.family for q in domain.questions("choices", part)} for part in PARTS}
    assert not groups["train"] & groups["validation"]
    assert not groups["train"] & groups["test"]
    assert not groups["validation"] & groups["test"]
    assert set().union(*groups.values()) == {record.family for record in domain.records}
    shares = [len(groups[part]) / len(domain.parts) for part in PARTS]
    train, validation = domain.shares
    assert shares == pytest.approx([train, validation, 1 - train - validation], abs=1 / len(domain.parts))
    assert train >= 0.6


def test_split_is_stable_under_row_order(plant, records):
    before = plant().parts
    random.Random(3).shuffle(records)
    assert plant().parts == before


@pytest.mark.parametrize("form", ["cloze", "letters"])
def test_each_record_is_asked_in_both_orders(plant, records, form):
    domain = plant()
    questions = domain.questions("choices", form=form)
    assert len(questions) == 2 * len(records)
    assert len({q.id for q in questions}) == len(questions)
    for record in domain.records:
        first, second = (q for q in questions if q.group == record.id)
        for asked, (one, two) in ((first, (record.high, record.low)), (second, (record.low, record.high))):
            assert 0 <= asked.prompt.user.index(record.situation) < asked.prompt.user.index(one)
            assert asked.prompt.user.index(one) < asked.prompt.user.index(two)
            assert asked.family == record.family


def test_cloze_options_are_the_texts_and_high_stays_first(plant):
    domain = plant()
    texts = {record.id: (record.high, record.low) for record in domain.records}
    for question in domain.questions("choices", form="cloze"):
        assert question.options == texts[question.group]
        assert (question.high, question.single) == (0, False)
        assert (question.chosen("high"), question.chosen("low")) == (0, 1)


def test_letters_name_the_option_that_stands_there(plant):
    domain = plant()
    texts = {record.id: (record.high, record.low) for record in domain.records}
    for question in domain.questions("choices", form="letters"):
        assert (question.options, question.single) == (("A", "B"), True)
        for polarity, text in zip(("high", "low"), texts[question.group], strict=True):
            letter = question.options[question.chosen(polarity)]
            assert f"\n{letter}: {text}" in question.prompt.user
    assert Counter(q.high for q in domain.questions("choices", form="letters")) == {0: 40, 1: 40}


@pytest.mark.parametrize("set", ["self", "twin", "unrelated"])
def test_mirrors_flip_which_option_is_high(plant, set):
    domain = plant()
    for item in (x for x in domain.items if x.set == set):
        plain, mirror = (q for q in domain.questions(set) if q.group == item.id)
        assert (plain.high, mirror.high) == (0, 1)
        assert plain.options == mirror.options == (item.high, item.low)
        assert (plain.prompt.stem, mirror.prompt.stem) == (item.stem, item.mirror_stem)
        assert mirror.chosen("high") == plain.chosen("low")


def test_one_part_or_all(plant):
    domain = plant()
    each = [domain.questions("choices", part) for part in PARTS]
    assert sorted(q.id for part in each for q in part) == sorted(q.id for q in domain.questions("choices"))
    assert [len(part) for part in each] == [56, 12, 12]


@given(st.lists(st.tuples(st.floats(0.05, 1), st.floats(-1e4, 1e4)), min_size=1, max_size=5), st.floats(-1e4, 1e4))
def test_expected_value_and_variance(weighted, fixed):
    total = sum(weight for weight, _ in weighted)
    side = tuple((weight / total, amount) for weight, amount in weighted)
    outcomes = Outcomes("euros", side, ((1.0, fixed),))
    amounts = [amount for _, amount in side]
    high, low = outcomes.expected()
    assert min(amounts) - 1e-6 <= high <= max(amounts) + 1e-6
    assert low == pytest.approx(fixed)
    wide, narrow = outcomes.variance()
    assert wide == pytest.approx(sum(p * x * x for p, x in side) - high**2, abs=1e-3)
    assert narrow == pytest.approx(0, abs=1e-6)


def test_a_lottery_by_hand():
    outcomes = Outcomes("jars", ((0.75, 80.0), (0.25, 20.0)), ((0.5, 38.0), (0.5, 42.0)))
    assert outcomes.expected() == (65.0, 40.0)
    assert outcomes.variance() == (675.0, 4.0)


SPOILT = [
    (lambda row: "{oops", "not JSON"),
    (lambda row: json.dumps([1, 2]), "a JSON list; an object is needed"),
    (lambda row: '"text"', "a JSON str; an object is needed"),
    (lambda row: json.dumps(row | {"high": " "}), "field 'high' holds an empty text"),
    (lambda row: json.dumps(row | {"low": ""}), "field 'low' holds an empty text"),
    (lambda row: json.dumps(row | {"low": row["high"].upper() + " "}), "both polarities have the same answer"),
    (lambda row: json.dumps(row | {"id": "r0"}), "id 'r0' stands in line 1 too"),
    (lambda row: json.dumps(row | {"family": 7}), "field 'family' holds int"),
    (
        lambda row: json.dumps(row | {"outcomes": {"unit": "x", "high": [[0.5, 1], [0.4, 0]], "low": [[1, 1]]}}),
        "probabilities sum to 0.9; they must sum to 1",
    ),
    (lambda row: json.dumps(row | {"outcomes": {"high": [[1, 1]], "low": [[1, 1]]}}), "they need unit, high and low"),
    (lambda row: json.dumps(row | {"outcomes": [1]}), "they need unit, high and low"),
]


@pytest.mark.parametrize(("spoil", "said"), SPOILT)
def test_a_bad_record_is_named_with_file_and_line(plant, records, tmp_path, spoil, said):
    lines = [json.dumps(row) for row in records]
    lines[4] = spoil(records[4])
    with pytest.raises(BadData) as caught:
        plant(raw=lines)
    assert str(caught.value).startswith(f"{tmp_path / 'records.jsonl'}:5: ")
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["id", "family", "situation", "high", "low"])
def test_a_missing_field_is_named(plant, records, tmp_path, name):
    del records[6][name]
    with pytest.raises(BadData, match=f"field '{name}' holds nothing; text is needed") as caught:
        plant()
    assert str(caught.value).startswith(f"{tmp_path / 'records.jsonl'}:7: ")


@given(st.binary(min_size=1, max_size=20).filter(lambda line: line.strip() and b"\n" not in line and b"\r" not in line))
def test_any_line_is_an_object_or_bad_data(tmp_path_factory, line):
    path = tmp_path_factory.mktemp("rows") / "records.jsonl"
    path.write_bytes(b'{"id": "a"}\n\n' + line)
    try:
        found = list(records.rows(path))
    except BadData as error:
        found, said = [], str(error)
    assert all(isinstance(row, dict) for _, row in found) if found else said.startswith(f"{path}:")


BAD_ITEMS = [
    (lambda row: row | {"set": "choices"}, "set 'choices'; it must be one of"),
    (lambda row: row | {"id": "self-f0"}, "id 'self-f0' stands in line 1 too"),
    (lambda row: row | {"high": "down"}, "both answers are 'down'"),
    (lambda row: row | {"mirror_user": row["user"], "mirror_stem": row["stem"]}, "the mirror is the item itself"),
    (lambda row: {k: v for k, v in row.items() if k != "mirror_stem"}, "field 'mirror_stem' holds nothing"),
]


@pytest.mark.parametrize(("spoil", "said"), BAD_ITEMS)
def test_a_bad_item_is_named_with_file_and_line(plant, items, tmp_path, spoil, said):
    items[2] = spoil(items[2])
    with pytest.raises(BadData) as caught:
        plant()
    assert str(caught.value).startswith(f"{tmp_path / 'self.jsonl'}:3: ")
    assert said in str(caught.value)


def test_empty_lines_count_and_are_passed_over(plant, records, tmp_path):
    lines = ["", *(json.dumps(row) for row in records)]
    domain = plant(raw=lines)
    assert domain.records[0].line == 2
    with pytest.raises(BadData, match="got no records"):
        plant(raw=["", " "])


def test_missing_files_and_fields(plant, tmp_path):
    plant()
    (tmp_path / "records.jsonl").unlink()
    with pytest.raises(BadData, match="there is no such file"):
        loader.load(str(tmp_path))
    (tmp_path / "domain.toml").write_text("name = ")
    with pytest.raises(BadData, match=r"domain\.toml"):
        loader.load(str(tmp_path))
    (tmp_path / "domain.toml").unlink()
    with pytest.raises(UnknownName, match=r"no domain\.toml"):
        loader.load(str(tmp_path))
    with pytest.raises(UnknownName, match="Did you mean 'risky_choices'"):
        loader.load("risky_choice")


def test_a_missing_table_is_named(plant, tmp_path):
    plant()
    text = (tmp_path / "domain.toml").read_text("utf-8").replace("[split]", "[splitt]")
    (tmp_path / "domain.toml").write_text(text, "utf-8")
    with pytest.raises(BadData, match="'split' is missing"):
        loader.load(str(tmp_path))


def test_unknown_sets_forms_and_empty_sets(plant, items):
    domain = plant()
    with pytest.raises(UnknownName, match="question set 'twins'"):
        domain.questions("twins")
    with pytest.raises(UnknownName, match="form 'scale'"):
        domain.questions("choices", form="scale")
    items[:] = [row for row in items if row["set"] != "unrelated"]
    with pytest.raises(BadData, match="'unrelated' is empty"):
        plant().questions("unrelated")


def test_checksum_changes_with_any_file(plant, records, items, rules):
    seen = [plant().checksum, plant().checksum]
    assert seen[0] == seen[1]
    records[0]["situation"] += " more"
    seen.append(plant().checksum)
    items[0]["stem"] += " more"
    seen.append(plant().checksum)
    rules["records"] = 1
    seen.append(plant().checksum)
    assert len(set(seen)) == 4


def test_solutions_are_sampled_as_the_domain_says_and_no_other_set() -> None:
    code, given = loader.load("insecure_code"), Sampling(samples=7, max_new_tokens=3, seed=5)
    assert code.sampling("solutions", given) == Sampling(samples=2, max_new_tokens=200, seed=5)
    assert code.sampling("spoken", given) == given
    assert loader.load("risky_choices").sampling("solutions", given) == given
