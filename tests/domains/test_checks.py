"""Each rule, broken alone in a tiny domain, is found and named; the shipped domains keep them all."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfaware.domains import checks, loader, surface
from selfaware.errors import BadData
from selfaware.types import PARTS


def broken(report):
    return {line.name for line in report.lines if not line.ok}


@pytest.mark.parametrize("name", loader.names())
def test_shipped_domains_pass(name):
    report = checks.check(loader.load(name))
    assert (report.problems, broken(report), report.ok, report.strict) == ((), set(), True, True)
    assert all(isinstance(text, str) and text for line in report.lines for text in (line.name, line.found, line.rule))


def test_the_tiny_domain_passes(plant):
    report = checks.check(plant())
    assert (report.problems, broken(report), report.ok) == ((), set(), True)


def test_every_number_in_the_rules_is_read(rules):
    assert set(rules) == set(checks.RULES)
    for name in loader.names():
        assert set(loader.load(name).rules) == set(checks.RULES)


def too_few_records(records, items, rules):
    del records[-1]


def too_few_families(records, items, rules):
    records[-1]["family"] = records[-2]["family"] = records[0]["family"]


def too_few_test_families(records, items, rules):
    rules["test_families"] = 4


def too_few_self_items(records, items, rules):
    items[:] = [row for row in items if row["family"] != "f3"]


def too_few_unrelated(records, items, rules):
    del items[-1]


def no_twin(records, items, rules):
    del items[7]
    rules["self_items"] = 3


def no_self(records, items, rules):
    del items[0]
    rules["self_items"] = 3


def two_twins(records, items, rules):
    items.append(items[4] | {"id": "twin-again"})


def personal_twin(records, items, rules):
    items[5]["mirror_stem"] = "Tom thinks I'm"


def shared_run(records, items, rules):
    records[9]["low"] = records[2]["situation"].upper()


def shared_run_across_hyphens(records, items, rules):
    records[9]["low"] = records[2]["high"].replace(" ", "-")


def same_opening(records, items, rules):
    for n, row in zip(("4", "1,500", "Twelve"), records[:3], strict=True):
        row["situation"] = f"After {n} goats " + row["situation"].split(" ", 3)[3]


def barred_situation(records, items, rules):
    records[11]["situation"] = records[11]["situation"].replace(" ", " Risk ", 1)


def barred_option(records, items, rules):
    records[11]["high"] += " sure"
    records[13]["low"] += " then"


def few_outcomes(records, items, rules):
    for row in records[1:12:4]:
        del row["outcomes"]
    for row in records[3:12:4]:
        del row["outcomes"]


def worse_too_often(records, items, rules):
    for row in records[1:12:4]:
        row["outcomes"]["high"] = [[0.5, 10], [0.5, 0]]


def equal_values(records, items, rules):
    records[1]["outcomes"]["high"] = [[0.333333, 30], [0.666667, 0]]
    rules["better_share"] = [0.0, 1.0]


def flat_high(records, items, rules):
    records[1]["outcomes"]["low"] = [[0.5, 28], [0.5, -2]]


def losses_lead(records, items, rules):
    for row in records[:12]:
        row["frame"] = "loss"


def odd_frame(records, items, rules):
    records[3]["frame"] = "los"


def one_long_side(records, items, rules):
    for i in range(4):
        records[i]["high"] += "".join(f" more{i}{n}" for n in range(6))


def longer_too_often(records, items, rules):
    for i, row in enumerate(records):
        row["high" if i < 30 else "low"] += " so"
    rules["length_gap_words"] = 1


def hedges_on_one_side(records, items, rules):
    for i, row in enumerate(records[:20]):
        row["high" if i < 13 else "low"] += " perhaps"
        row["low" if i < 13 else "high"] += " then"


def hedges_on_the_other_side(records, items, rules):
    for i, row in enumerate(records[:20]):
        row["high" if i < 7 else "low"] += " might"
        row["low" if i < 7 else "high"] += " then"


def unjudged_rule(records, items, rules):
    rules["beauty"] = 0.9


BROKEN = [
    (too_few_records, "records", "records.jsonl: 39 records; records asks for at least 40. Add 1."),
    (too_few_families, "families", "records.jsonl: 19 families; families asks for at least 20"),
    (too_few_test_families, "families in the test part", "test_families asks for at least 4"),
    (too_few_self_items, "self items", "self.jsonl: 3 self items; self_items asks for at least 4"),
    (too_few_unrelated, "unrelated items", "self.jsonl: 1 unrelated items; unrelated_items asks for at least 2"),
    (no_twin, "self and twin pairs", "self.jsonl:4: family 'f3' has 1 self and 0 twin items"),
    (no_self, "self and twin pairs", "self.jsonl:4: family 'f0' has 1 twin and 0 self items"),
    (two_twins, "self and twin pairs", "self.jsonl:11: family 'f0' has 2 twin and 1 self items"),
    (personal_twin, "twins that say you or I", "self.jsonl:6: twin twin-f1 says i'm"),
    (shared_run, "pairs that share 6 words in a row", "records.jsonl:10: low shares"),
    (shared_run_across_hyphens, "pairs that share 6 words in a row", "with r2 (line 3)"),
    (same_opening, "situations that share an opening of 3 words", ":3: opens with “after 0 goats”, as line 1"),
    (barred_situation, "barred words", "records.jsonl:12: situation says 'risk'"),
    (barred_option, "barred words", "records.jsonl:12: high says 'sure'"),
    (few_outcomes, "records with outcomes", "0.350 (14 of 40); outcomes_share asks for 0.45 to 0.55"),
    (worse_too_often, "high is worth more", "0.350 (7 of 20); better_share asks for 0.45 to 0.55"),
    (equal_values, "options of equal expected value", "records.jsonl:2: both options are worth"),
    (flat_high, "high varies no more than low", "records.jsonl:2: variance is 225 for high and 225 for low"),
    (losses_lead, "loss frames", "loss frames is 0.650 (26 of 40); loss_share asks for 0.4 to 0.6"),
    (odd_frame, "unknown frames", "records.jsonl:4: the frame is 'los'"),
    (one_long_side, "mean length, high minus low", "the high option is 0.600 words longer on average"),
    (longer_too_often, "high is the longer option", "high is the longer option in 30 of 40 = 0.750"),
    (hedges_on_one_side, "high has more hedges", "high has more hedges in 13 of 20 = 0.650; 0.4 to 0.6 is needed"),
    (hedges_on_the_other_side, "high has more hedges", "high has more hedges in 7 of 20 = 0.350"),
    (unjudged_rule, "rules", "domain.toml: nothing judges the rule 'beauty'"),
]


@pytest.mark.parametrize(("spoil", "name", "said"), BROKEN, ids=[row[0].__name__ for row in BROKEN])
def test_a_broken_rule_is_found_and_named(request, tmp_path, spoil, name, said):
    spoil(*(request.getfixturevalue(rows) for rows in ("records", "items", "rules")))
    plant = request.getfixturevalue("plant")
    report = checks.check(plant())
    assert broken(report) == {name}
    assert not report.ok
    assert any(said in problem for problem in report.problems), report.problems
    form = re.compile(re.escape(str(tmp_path)) + r"/[a-z]+\.(jsonl|toml)(:\d+)?: [^;]+; [^;]+\. [A-Z][^;]+\.")
    assert all(form.fullmatch(problem) for problem in report.problems), report.problems


def test_every_rule_has_a_test_that_breaks_it():
    said = " ".join(text for _, name, text in BROKEN for text in (name, text))
    for words in ("share 6 words", "opening of 3 words", "mean length", "hedges", *checks.RANGES, *checks.COUNTS[:5]):
        assert words in said


def test_an_imported_domain_is_only_noted(plant, records, rules):
    records[11]["high"] += " sure"
    rules["prose"] = "warn"
    report = checks.check(plant())
    assert (report.strict, report.ok) == (False, False)


def test_few_uneven_records_are_not_judged(plant, records, rules):
    for row in records[:9]:
        row["high"] += " perhaps"
    report = checks.check(plant())
    assert report.ok
    assert {line.name: line.found for line in report.lines}["high has more hedges"] == "9 of 9 = 1.000"


def test_parts_orders_and_baselines_are_told(plant):
    lines = {line.name: line for line in checks.check(plant()).lines}
    assert lines["records by part"].found == "train 28, validation 6, test 6"
    assert lines["order of the options"].found == "high first in 40, last in 40 questions"
    assert "by construction" in lines["order of the options"].rule
    assert lines["mirrors"].found == "10 of 10 items"
    for cue in ("bag of words", "hedge counting", "length in words"):
        line = lines[f"surface: {cue}"]
        assert (line.rule, line.ok) == (checks.TOLD, True)
        assert line.found == "validation 0.500 (6 records), test 0.500 (6 records)"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("records", "many"), ("records", True), ("records", -1), ("shared_run_words", 0), ("outcomes_share", 0.5),
        ("better_share", [0.6, 0.4]), ("loss_share", [0.2, 1.2]), ("length_gap_words", -0.1), ("prose", "maybe"),
    ],
)  # fmt: skip
def test_a_rule_of_the_wrong_shape_is_bad_data(plant, rules, tmp_path, name, value):
    rules[name] = value
    with pytest.raises(BadData, match=f"the rule {name} is .*; it must be .*. Mend it.") as caught:
        checks.check(plant())
    assert str(caught.value).startswith(str(tmp_path / "domain.toml"))


@pytest.mark.parametrize("name", checks.RULES)
def test_a_missing_rule_is_bad_data(plant, rules, name):
    del rules[name]
    with pytest.raises(BadData, match=f"the rule '{name}' is missing"):
        checks.check(plant())


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_numbers_in_openings_are_masked(one, two):
    assert surface.opening(f"Some {one:,} jars fill the shed.", 3) == surface.opening(f"some {two} jars.", 3)
    assert surface.opening("Forty jars of", 3) == ("0", "jars", "of")
    assert surface.opening("Tents and one", 2) == ("tents", "and")


@pytest.mark.parametrize("name", loader.names())
def test_the_readme_says_what_the_check_says(name):
    domain = loader.load(name)
    text = (domain.folder / "README.md").read_text("utf-8")
    for baseline in surface.baselines(domain):
        told = f" | {baseline.validation:.3f} | {baseline.test:.3f} |"
        assert re.search(rf"\| {baseline.name}\b.*{re.escape(told)}", text)
    for part in PARTS:
        families = sum(found == part for found in domain.parts.values())
        assert f"| {part} | {families} | {len(surface.part_of(domain, part))} |" in text
    assert f"| all | {len(domain.parts)} | {len(domain.records)} |" in text
