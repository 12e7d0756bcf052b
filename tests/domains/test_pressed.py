"""System prompts that press: read, borrowed, and refused where the table is not whole."""

from typing import Any

import pytest

from selfaware.domains import loader
from selfaware.domains.loader import PRESSURES
from selfaware.errors import BadData


def written(plant: Any, table: str) -> loader.Domain:
    folder = plant().folder
    path = folder / "domain.toml"
    path.write_text(path.read_text() + table)
    return loader.load(str(folder))


def table(**changed: str) -> str:
    texts = {kind: f'["{kind} one", "{kind} two"]' for kind in PRESSURES} | changed
    return "\n[pressed]\n" + "".join(f"{kind} = {text}\n" for kind, text in reversed(texts.items()) if text)


def test_all_kinds_are_read_in_their_order(plant: Any) -> None:
    made = written(plant, table())
    assert tuple(made.pressed) == PRESSURES
    assert made.pressed["hide"] == ("hide one", "hide two")


def test_no_table_is_no_error(plant: Any) -> None:
    assert plant().pressed == {}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"hide": ""}, "no hide"),
        ({"bribed": '["a"]'}, "bribed"),
        ({"honest": "[]"}, "honest is"),
        ({"honest": '"one text"'}, "honest is"),
        ({"honest": '["a", " "]'}, "honest is"),
        ({"honest": "[1]"}, "honest is"),
    ],
)
def test_what_is_missing_odd_or_empty_is_named(plant: Any, changed: dict[str, str], said: str) -> None:
    with pytest.raises(BadData, match=rf"\[pressed\].*{said}"):
        written(plant, table(**changed))


def test_they_are_borrowed(plant: Any) -> None:
    folder = plant().folder
    path = folder / "domain.toml"
    path.write_text('self_from = "risky_choices"\n' + path.read_text())
    assert loader.load(str(folder)).pressed == loader.load("risky_choices").pressed != {}
    path.write_text(path.read_text() + table())
    assert loader.load(str(folder)).pressed["hide"] == ("hide one", "hide two")
