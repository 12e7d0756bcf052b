"""Rows that break the schema of what is sampled: each is named with file and line, and what to do."""

import json
from pathlib import Path
from typing import Any

import pytest

from selfaware.domains import loader, records
from selfaware.errors import BadData

Row = dict[str, Any]


def item(**changes: Any) -> Row:
    row: Row = {
        "id": "spoken-a", "set": "spoken", "family": "a", "reads": "number", "stem": "Number:",
        "prompts": [f"How much, way {n}?" for n in range(5)], "mirror_prompts": [f"How little, way {n}?" for n in range(5)],
        "high": [], "low": [],
    }  # fmt: skip
    return row | changes


WORD = {"reads": "word", "mirror_prompts": [], "high": ["bold"], "low": ["wary"]}
BROKEN = [
    (item(prompts=["Only one way?"]), "1 paraphrases"),
    (item(mirror_prompts=[]), "without its mirror|0 paraphrases of its mirror"),
    (item(mirror_prompts=["One way?"]), "1 paraphrases of its mirror"),
    (item(prompts=["Same?"] * 5), "are the same"),
    (item(set="self"), "set 'self'"),
    (item(reads="mood"), "reads 'mood'"),
    (item(reads="word"), "high and low lists"),
    (item(**{**WORD, "low": ["Bold"]}), "stands in high and in low"),
    (item(**{**WORD, "high": []}), "high and low lists"),
    (item(**{**WORD, "high": ["bold", 3]}), "a list of texts"),
    (item(**{**WORD, "reads": "language", "high": ["de"], "low": ["en"]}), "English"),
    (item(family=""), "family"),
]


@pytest.mark.parametrize(("row", "said"), BROKEN)
def test_a_broken_open_item_is_named(tmp_path: Path, row: Row, said: str) -> None:
    path = tmp_path / "spoken.jsonl"
    path.write_text(json.dumps(item(id="fine", family="z")) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(BadData, match=said) as error:
        list(records.spoken(path))
    assert f"{path}:2" in str(error.value)


def test_a_doubled_open_item_is_named(tmp_path: Path) -> None:
    path = tmp_path / "spoken.jsonl"
    path.write_text((json.dumps(item()) + "\n") * 2)
    with pytest.raises(BadData, match="stands in line 1 too"):
        list(records.spoken(path))


def test_system_prompts_come_in_pairs(plant: Any) -> None:
    folder = plant().folder
    path = folder / "domain.toml"
    path.write_text(path.read_text() + '\n[told]\nhigh = ["a", "b"]\nlow = ["c"]\n')
    with pytest.raises(BadData, match="2 high, 1 low"):
        loader.load(str(folder))


def test_an_id_in_two_files_is_refused(plant: Any) -> None:
    domain = plant()
    (domain.folder / "other_form.jsonl").write_bytes((domain.folder / "self.jsonl").read_bytes())
    with pytest.raises(BadData, match="stands in two files"):
        loader.load(str(domain.folder))


def test_statements_are_borrowed(plant: Any) -> None:
    folder = plant().folder
    (folder / "self.jsonl").unlink()
    path = folder / "domain.toml"
    path.write_text('self_from = "risky_choices"\n' + path.read_text())
    mine, lender = loader.load(str(folder)), loader.load("risky_choices")
    assert mine.items == lender.items
    assert mine.spoken == lender.spoken
    assert mine.told == lender.told
    assert mine.questions("lotteries") == lender.questions("lotteries")
    assert not mine.has("forecast"), "a forecast is of one's own choices, in a form that suits their wording"
    assert mine.checksum.endswith(lender.checksum)


def test_checksum_sees_every_file(plant: Any) -> None:
    domain = plant()
    before = domain.checksum
    (domain.folder / "spoken.jsonl").write_text(json.dumps(item()) + "\n")
    assert loader.load(str(domain.folder)).checksum != before


def test_neutral_passages_are_neutral() -> None:
    found = loader.passages()
    barred = set(loader.load("risky_choices").words["risk_words"])
    assert len({p.id for p in found}) == len(found) >= 20
    for passage in found:
        said = passage.text.lower().replace(",", " ").replace(".", " ").split()
        assert not barred & set(said), passage.id
        assert 50 <= len(said) <= 80
