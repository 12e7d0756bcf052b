"""Errors: one tree, the nearest name, and a message in three parts."""

import inspect
import re

import pytest

from selfaware import errors
from selfaware.errors import SelfawareError, UnknownName, unknown

KINDS = [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, SelfawareError)]
MODELS = ("gemma-2-9b", "llama-3-8b", "smollm2-135m")


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or ""))
    assert drawn == {c.__name__ for c in KINDS} - {"SelfawareError"}
    assert all(c is SelfawareError or c.__bases__ == (SelfawareError,) for c in KINDS)


@pytest.mark.parametrize(
    ("got", "near"),
    [("smollm-135m", "smollm2-135m"), ("gemma2-9b", "gemma-2-9b"), ("lama-3-8b", "llama-3-8b")],
)
def test_names_the_nearest(got: str, near: str) -> None:
    error = unknown("model", got, MODELS)
    assert isinstance(error, UnknownName)
    assert str(error).endswith(f"Did you mean {near!r}?")


def test_message_has_three_parts() -> None:
    got, rest = str(unknown("model", "zzzzzz", MODELS, "A folder works too.")).split(": ", 1)
    needed, do = rest.split(". ", 1)
    assert got == "model 'zzzzzz'"
    assert all(name in needed for name in MODELS)
    assert do == "Use one of these. A folder works too."


def test_far_away_names_are_not_suggested() -> None:
    assert "Did you mean" not in str(unknown("model", "zzzzzz", MODELS))


def test_no_names_at_all_is_said() -> None:
    assert "there are none" in str(unknown("domain", "x", []))


def test_a_long_list_is_cut_and_counted_and_still_searched() -> None:
    text = str(unknown("site", "39.mlp", [f"{i:02}.mlp" for i in range(40)]))
    assert "(40 in all)" in text
    assert "11.mlp" in text
    assert "12.mlp" not in text
    assert text.endswith("Did you mean '39.mlp'?")


def test_names_are_sorted_once_each() -> None:
    assert "there are a, b." in str(unknown("x", "q", ["b", "a", "b"]))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_caught_as_one(kind: type[SelfawareError]) -> None:
    with pytest.raises(SelfawareError, match="got; needed; do"):
        raise kind("got; needed; do")
