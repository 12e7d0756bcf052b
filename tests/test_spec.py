"""Serialising: data → JSON → the same data, one hash for equal values, and text read as the field's own type."""

import dataclasses
import json
import os
import subprocess
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfaware import spec
from selfaware.errors import BadData, UnknownName
from selfaware.experiments.first_look import Settings
from selfaware.interventions.controls import RandomVector
from selfaware.interventions.lora import Lora
from selfaware.interventions.steer import Vector
from selfaware.interventions.train import Training
from selfaware.types import Answer, Prompt, Question, Site


@dataclass(frozen=True)
class Leaf:
    """One kind of leaf."""

    size: int = 1
    width: float = 2.0


@dataclass(frozen=True)
class Thorn:
    """Another with the same fields."""

    size: int = 1
    width: float = 2.0


@dataclass(frozen=True)
class Tree:
    """Every kind of field."""

    name: str = "oak"
    old: bool = False
    rings: int = 3
    height: float = 1.5
    site: Site = Site(3, "mlp")  # noqa: RUF009 - frozen
    maybe: Site | None = None
    sites: tuple[Site, ...] = (Site(1), Site(2, "mlp.down_proj"))
    pair: tuple[int, str] = (1, "a")
    seeds: tuple[int, ...] = (0, 1)
    strengths: tuple[float, ...] | None = None
    ways: tuple[bool, ...] = (True,)
    limit: int | None = None
    rate: float | None = None
    number: int | float = 1
    level: Literal[1, 2, 3] = 2
    form: Literal["cloze", "letters"] = "cloze"
    leaf: Leaf | Thorn = field(default_factory=Leaf)
    leaves: tuple[Leaf | Thorn, ...] = (Thorn(), Leaf())
    by_name: Mapping[str, Leaf] = field(default_factory=dict)
    margins: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    folder: Path = Path("runs")


def drawn(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type; a dataclass has every field drawn, not only those without a default."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Site:
        return st.builds(
            Site, st.integers(0, 99), st.sampled_from(["", "mlp", "mlp.down_proj", "attn", "mlp.residual"])
        )
    if hint is Path:
        return st.sampled_from([Path("runs"), Path("/a b/ü.json")])
    if hint is float:
        return st.floats(allow_nan=False, allow_infinity=False)
    if hint in (int, str, bool, type(None)):
        return st.from_type(hint)
    if origin is Literal:
        return st.sampled_from(args)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(drawn, args))
    if origin is tuple:
        return st.lists(drawn(args[0]), max_size=3).map(tuple) if args[1:] == (...,) else st.tuples(*map(drawn, args))
    if origin is Mapping:
        return st.dictionaries(drawn(args[0]), drawn(args[1]), max_size=3)
    hints = typing.get_type_hints(hint)
    return st.builds(hint, **{f.name: drawn(hints[f.name]) for f in dataclasses.fields(hint)})


def leaves(value: Any, before: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted name, type and value of every field that has no parts."""
    hints = typing.get_type_hints(type(value))
    for f in dataclasses.fields(value):
        inner = getattr(value, f.name)
        if dataclasses.is_dataclass(inner) and not isinstance(inner, Site):
            yield from leaves(inner, f"{before}{f.name}.")
        else:
            yield before + f.name, hints[f.name], inner


def with_leaf(value: Any, path: list[str], new: Any) -> Any:
    inner = with_leaf(getattr(value, path[0]), path[1:], new) if len(path) > 1 else new
    return replace(value, **{path[0]: inner})


def other(hint: Any, value: Any) -> Any:
    """Something else that the field may hold."""
    if typing.get_origin(hint) is Literal:
        return next(a for a in typing.get_args(hint) if a != value)
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return value + "x"
        case Site():
            return Site(value.block + 1, value.part)
        case tuple():
            return (*value, *value[:1])
        case None:
            return 7
        case _:
            return {"new": 1}


def three_parts(text: str) -> None:
    """A message says got: …; needed. Do."""
    got, rest = text.split(": ", 1)
    needed, do = rest.rsplit(". ", 1)
    assert got
    assert "; " in needed
    assert do[0].isupper()
    assert do.endswith(".")


# there and back -------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Do not use the `random` module")  # the type checker draws which items to look at
@pytest.mark.parametrize("cls", [Tree, Settings, Lora, Vector, RandomVector, Training, Question, Prompt, Answer])
def test_round_trip(cls: type) -> None:
    @settings(max_examples=60, deadline=None)
    @given(drawn(cls))
    def check(value: Any) -> None:
        text = spec.canonical(value)
        again = spec.build(cls, json.loads(text))
        assert again == value
        assert type(again) is cls
        assert spec.canonical(again) == text
        assert spec.digest(again) == spec.digest(value)

    check()


def test_round_trip_keeps_types_not_only_values() -> None:
    tree = Tree(maybe=Site(4), strengths=(1.0, 2.0), by_name={"a": Leaf(2)}, leaf=Thorn())
    again = spec.build(Tree, spec.plain(tree))
    for f in dataclasses.fields(Tree):
        assert type(getattr(again, f.name)) is type(getattr(tree, f.name)), f.name
    assert isinstance(again.maybe, Site)
    assert [type(x) for x in again.leaves] == [Thorn, Leaf]


def test_the_text_is_fixed() -> None:
    """A change here makes every stored cell stale: raise SCHEMA with it."""
    assert spec.canonical(Leaf(2, 0.1)) == '{"is":"Leaf","size":2,"width":0.1}'
    assert spec.canonical({"b": (1, None, True), "a": Site(2, "mlp"), "é": "„ü“\n"}) == (
        '{"a":"2.mlp","b":[1,null,true],"é":"„ü“\\n"}'
    )
    assert spec.digest(Leaf(2, 0.1)) == "997a555db443e491"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"is": "Leaf", "size": 1, "girth": 2}, r"unknown fields \['girth'\]"),
        ({"is": "Thorn", "size": 1, "width": 2.0}, "data of a Thorn"),
        ({"size": "1"}, "Leaf.size: got '1'; a whole number"),
        ({"size": True}, "Leaf.size: got True; a whole number"),
        ({"size": 1.5}, "Leaf.size: got 1.5; a whole number"),
        ({"size": None}, "Leaf.size: got None; a whole number"),
        ({"width": float("nan")}, "Leaf.width: got nan; a finite number"),
        ({"width": "wide"}, "Leaf.width: got 'wide'; a finite number"),
        ([1, 2], "fields with their values"),
    ],
)
def test_data_of_another_shape_is_refused(data: Any, message: str) -> None:
    with pytest.raises(BadData, match=message) as caught:
        spec.build(Leaf, data)
    three_parts(str(caught.value))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("site", 3), ("maybe", 3), ("sites", "1"), ("sites", [1]), ("pair", [1]), ("pair", ["a", 1]), ("seeds", 1),
        ("seeds", ["1"]), ("strengths", [None]), ("level", 4), ("level", "2"), ("level", 2.0), ("form", "prose"),
        ("leaf", 1), ("leaf", None), ("leaf", {"is": "Tree"}), ("by_name", []), ("by_name", {"a": 1}), ("old", 1),
        ("limit", "none"), ("folder", 1), ("name", None), ("number", "1"), ("margins", {"a": None}),
    ],
)  # fmt: skip
def test_a_field_of_another_type_is_refused(name: str, value: Any) -> None:
    with pytest.raises(BadData) as caught:
        spec.build(Tree, {name: value})
    three_parts(str(caught.value))


def test_missing_fields_are_named() -> None:
    with pytest.raises(BadData, match=r"Prompt: .*'user'.*it needs \['stem', 'system', 'user'\]"):
        spec.build(Prompt, {"is": "Prompt"})


def test_a_number_without_a_point_is_read_as_the_float_it_is() -> None:
    made = spec.build(Leaf, {"size": 1, "width": 2})
    assert isinstance(made.width, float)


# what JSON cannot hold ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), np.float64("nan")])
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x], lambda x: {"a": (x,)}, lambda x: Leaf(1, x)])
def test_numbers_that_are_not_finite_are_refused(bad: float, wrap: Any) -> None:
    for use in (spec.plain, spec.canonical, spec.digest):
        with pytest.raises(BadData, match="not a finite number"):
            use(wrap(bad))


@pytest.mark.parametrize("bad", [{1, 2}, b"x", object(), np.float32(1), Leaf, 1j])
def test_other_things_are_refused_with_their_type(bad: Any) -> None:
    with pytest.raises(BadData, match=f"value of type {type(bad).__name__}"):
        spec.canonical({"a": [bad]})


def test_keys_that_become_one_are_refused() -> None:
    with pytest.raises(BadData, match="same as text"):
        spec.plain({1: "a", "1": "b"})


def test_half_a_character_is_refused_before_it_reaches_a_file() -> None:
    with pytest.raises(BadData, match="half a character"):
        spec.canonical({"text": "a\ud83d"})


# the hash -------------------------------------------------------------------------------------------------------------


def test_digest_is_the_same_in_another_process() -> None:
    code = (
        "from selfaware import spec; from selfaware.types import Prompt, Question, Site; "
        "question = Question('i', 'f', 'g', 's', Prompt('ü'), ('a', 'b'), 1); "
        "print(spec.digest([question, {'b': {'y': 1, 'x': 2}, 'a': Site(1)}]))"
    )
    got = []
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        made = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        got.append(made.stdout.strip())
    question = Question("i", "f", "g", "s", Prompt("ü"), ("a", "b"), 1)
    here = spec.digest([question, {"a": Site(1), "b": {"x": 2, "y": 1}}])
    assert got == [here, here]


@given(
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=6),
    st.randoms(use_true_random=False),
)
def test_digest_does_not_see_the_order_of_keys(value: dict[str, Any], rng: Any) -> None:
    names = list(value)
    rng.shuffle(names)
    assert spec.digest({k: value[k] for k in names}) == spec.digest(value)


def test_digest_sees_the_order_of_a_list() -> None:
    assert spec.digest([1, 2]) != spec.digest([2, 1])


@pytest.mark.parametrize(
    "value", [Settings(), Lora(), Vector(), RandomVector(), Training(), Tree()], ids=lambda v: type(v).__name__
)
def test_digest_changes_with_every_field(value: Any) -> None:
    seen = {spec.digest(value)}
    paths = list(leaves(value))
    for path, hint, old in paths:
        seen.add(spec.digest(with_leaf(value, path.split("."), other(hint, old))))
    assert len(seen) == 1 + len(paths)


def test_digest_tells_classes_and_schema_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    before = spec.digest(Leaf())
    assert spec.digest(Thorn()) != before
    monkeypatch.setattr(spec, "SCHEMA", spec.SCHEMA + 1)
    assert spec.digest(Leaf()) != before


@pytest.mark.parametrize(
    ("one", "same"),
    [
        (Leaf(1, 64), Leaf(1, 64.0)),
        (Leaf(1, -0.0), Leaf(1, 0.0)),
        (Tree(rate=1), Tree(rate=1.0)),
        (Tree(strengths=(1, 2)), Tree(strengths=(1.0, 2.0))),
        (Tree(leaf=Leaf(1, 3)), Tree(leaf=Leaf(1, 3.0))),
    ],
)
def test_equal_values_hash_alike(one: Any, same: Any) -> None:
    assert one == same
    assert spec.digest(one) == spec.digest(same)


# --set ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("name", "elm tree", "elm tree"), ("name", "none", "none"), ("old", "true", True),
        ("old", "False", False),
        ("rings", "-4", -4), ("height", "3e-3", 0.003), ("height", "2", 2.0),
        ("site", "7.mlp.down_proj", Site(7, "mlp.down_proj")), ("site", "7", Site(7)),
        ("maybe", "7.mlp", Site(7, "mlp")),
        ("maybe", "none", None), ("sites", "1, 2.mlp", (Site(1), Site(2, "mlp"))), ("pair", "4,b", (4, "b")),
        ("seeds", "3,4, 5", (3, 4, 5)), ("seeds", "3", (3,)), ("seeds", "", ()),
        ("strengths", "0.5,1", (0.5, 1.0)),
        ("strengths", "none", None), ("ways", "true,false", (True, False)), ("limit", "8", 8), ("limit", "None", None),
        ("rate", "8", 8.0), ("number", "3", 3), ("number", "3.5", 3.5), ("level", "3", 3), ("form", "letters", "letters"),
        ("leaf.size", "9", 9), ("leaf.width", "9", 9.0), ("folder", "/a/b", Path("/a/b")),
    ],
)  # fmt: skip
def test_override_reads_the_fields_own_type(name: str, text: str, value: Any) -> None:
    made = spec.override(Tree(), {name: text})
    got = made
    for part in name.split("."):
        got = getattr(got, part)
    assert got == value
    assert type(got) is type(value)
    assert spec.plain(with_leaf(made, name.split("."), value)) == spec.plain(made)


def test_override_changes_nothing_else_and_not_the_original() -> None:
    before = Settings()
    made = spec.override(before, {"lora.training.learning_rate": "0.003", "seeds": "7,8"})
    assert made == replace(
        before, seeds=(7, 8), lora=replace(before.lora, training=replace(before.lora.training, learning_rate=0.003))
    )
    assert before == Settings()
    assert spec.override(before, {}) == before


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("seed", "seeds"),
        ("lora.rnk", "lora.rank"),
        ("lora.training.learning_rat", "lora.training.learning_rate"),
        ("lora.training.leerning-rate", "lora.training.learning_rate"),
        ("vectr.site", "vector"),
    ],
)
def test_an_unknown_setting_suggests_the_nearest_with_its_whole_name(name: str, near: str) -> None:
    with pytest.raises(UnknownName, match=rf"setting '{name}': .* Did you mean '{near}"):
        spec.override(Settings(), {name: "1"})


@pytest.mark.parametrize("name", ["seeds.0", "lora.rank.x", "lora.", "", ".", "lora..rank"])
def test_a_path_that_leads_nowhere_is_refused(name: str) -> None:
    with pytest.raises(UnknownName):
        spec.override(Settings(), {name: "1"})


def test_a_group_of_settings_cannot_be_set_as_a_whole() -> None:
    with pytest.raises(BadData, match=r"--set leaf=big: leaf is a group; .*leaf\.size, leaf\.width"):
        spec.override(Tree(), {"leaf": "big"})


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("rings", "three", "a whole number"), ("rings", "3.0", "a whole number"), ("rings", "none", "a whole number"),
        ("rings", "", "a whole number"), ("height", "tall", "a finite number"), ("height", "nan", "a finite number"),
        ("height", "inf", "a finite number"), ("height", "1e999", "a finite number"), ("old", "yes", "true or false"),
        ("seeds", "1,x", "a whole number"), ("limit", "x", "a whole number"), ("leaf.size", "x", "a whole number"),
    ],
)  # fmt: skip
def test_text_of_another_type_is_refused_with_the_command(name: str, text: str, what: str) -> None:
    with pytest.raises(BadData) as caught:
        spec.override(Tree(), {name: text})
    assert str(caught.value) == f"--set {name}={text}: not {what}; {name} needs one. Write such a value."


@pytest.mark.parametrize(
    ("name", "text", "kind", "message"),
    [
        ("form", "leters", UnknownName, "value of form 'leters'.*cloze, letters.*Did you mean 'letters'"),
        ("level", "9", UnknownName, "value of level '9'.*1, 2, 3"),
        ("site", "mlp.7", UnknownName, "site 'mlp.7': not a site"),
        ("maybe", "x", UnknownName, "site 'x': not a site"),
        ("pair", "1", BadData, "1 values; pair needs 2"),
        ("by_name", "x", BadData, "cannot be read from text"),
    ],
)
def test_other_texts_are_refused_with_what_is_needed(name: str, text: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        spec.override(Tree(), {name: text})


def test_a_number_of_a_thousand_digits_is_a_number() -> None:
    assert spec.override(Tree(), {"rings": "9" * 1000}).rings == int("9" * 1000)
