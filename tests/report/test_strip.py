"""The strip figures: every reply that was read is drawn where its value says, and nothing else is."""

import dataclasses
import re
from collections.abc import Sequence
from html import unescape
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfaware.report import strip
from selfaware.report.page import Item, Reply, Role

SVG = "{http://www.w3.org/2000/svg}"
CSS = Path(strip.__file__).parent / "templates" / "report.css"
ARMS: tuple[tuple[str, Role], ...] = (
    ("random vectors", "control"),
    ("LoRA rank 32", "arm"),
    ("LoRA rank 1", "primary"),
    ("trained vector", "arm"),
    ("unrelated fine-tune", "control"),
)


def reply(value: float | None, method: str = "LoRA rank 1", polarity: str = "high", **more: object) -> Reply:
    fields: dict[str, object] = {"role": "arm", "seed": 0, **more}
    return Reply(f"{method} · {polarity} · seed 0", "c0ffee", None, value, "", method, polarity, **fields)  # type: ignore[arg-type]


def item(*replies: Reply, id: str = "self-1/plain", **more: object) -> Item:
    fields: dict[str, object] = {"group": "self-1", **more}
    return Item(id, "self", "nerve", "You are", ("bold", "cautious"), 0, replies, **fields)  # type: ignore[arg-type]


def full(shift: float = 0.0, seeds: int = 5, id: str = "self-1/plain") -> Item:
    """Base and five arms, each polarity and seed at a value of its own."""
    found = [reply(shift, "base", "", role="base", seed=None)]
    for number, (name, role) in enumerate(ARMS):
        for sign, polarity in ((1, "high"), (-1, "low")):
            for seed in range(seeds):
                found.append(reply(shift + sign * (0.5 + number + 0.17 * seed), name, polarity, role=role, seed=seed))
    return item(*found, id=id)


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def corners(svg: str) -> dict[str, list[tuple[int, int]]]:
    """Class → (x, y) of each mark, the doubled corner of a mark that stands alone left out."""
    found: dict[str, list[tuple[int, int]]] = {}
    for path in parse(svg).iter(f"{SVG}path"):
        name = path.get("class") or ""
        if re.fullmatch("[mr][udo]c?", name):
            for x, y, steps in re.findall(r"M(\d+) (\d+)h([\d ]+)", path.get("d") or ""):
                at = int(x)
                found.setdefault(name, []).append((at, int(y)))
                for step in map(int, [] if steps == "0" else steps.split()):
                    at += step
                    found[name].append((at, int(y)))
    return found


def texts(svg: str) -> list[str]:
    return ["".join(text.itertext()) for text in parse(svg).iter(f"{SVG}text")]


# ---------------------------------------------------------------- planted truth


def test_every_reply_is_a_mark_and_every_arm_a_mean() -> None:
    marks = corners(strip.draw([full()]))
    counts = {name: len(found) for name, found in marks.items()}
    assert counts == {
        "ro": 1, "mo": 1, "ru": 15, "rd": 15, "ruc": 10, "rdc": 10, "mu": 3, "md": 3, "muc": 2, "mdc": 2,
    }  # fmt: skip


def test_marks_stand_where_the_values_say() -> None:
    """x is the same straight line of the value for replies, means, ticks and zero."""
    values = (-1.0, -0.25, 0.5, 2.0)
    svg = strip.draw([item(*(reply(value) for value in values))])
    xs = sorted(x for x, _ in corners(svg)["ru"])
    slope = (xs[-1] - xs[0]) / 3.0
    for x, value in zip(xs, values, strict=True):
        assert x == pytest.approx(xs[0] + slope * (value + 1.0), abs=1)
    assert corners(svg)["mu"][0][0] == pytest.approx(xs[0] + slope * (fmean(values) + 1.0), abs=1)
    zero = re.search(r'class="z" d="M(\d+) ', svg)
    left = re.search(r'<g transform="translate\((\d+)\)">', svg)
    assert zero and left
    assert int(zero[1]) + int(left[1]) == pytest.approx(xs[0] + slope, abs=1)
    ticks = re.findall(r'<text x="(\d+)" y="\d+">([+−]?[\d.]+)</text>', svg)
    assert len(ticks) >= 3
    for x, text in ticks:
        value = float(text.replace("−", "-"))
        assert int(x) + int(left[1]) == pytest.approx(xs[0] + slope * (value + 1.0), abs=1)


@given(
    st.lists(st.integers(-20, 20), min_size=1, max_size=40).filter(lambda found: max(map(found.count, found)) <= 4),
    st.sampled_from(["high", "low", ""]),
)
def test_no_reply_is_hidden_or_leaves_the_plot(values: list[int], polarity: str) -> None:
    svg = strip.draw([item(*(reply(value / 2, polarity=polarity) for value in values))])
    name = {"high": "u", "low": "d", "": "o"}[polarity]
    marks = corners(svg)
    assert len(set(marks[f"r{name}"])) == len(values)
    assert len(marks[f"m{name}"]) == 1
    for x, _ in marks[f"r{name}"]:
        assert strip.LABEL <= x <= strip.LABEL + strip.ALONE


def test_means_are_of_what_could_be_read() -> None:
    svg = strip.draw([item(reply(1.0), reply(None), reply(float("nan")), reply(2.0), reply(None, polarity="low"))])
    marks = corners(svg)
    assert len(marks["ru"]) == 2
    assert set(marks) == {"ru", "mu"}
    assert "+1.50" in texts(svg)
    assert texts(svg).count("unknown") == 1
    label = parse(svg).get("aria-label")
    assert label == "Means towards high, nats. LoRA rank 1: high +1.50 (2 unknown); low unknown."


def test_a_row_that_was_not_asked_is_not_called_unknown() -> None:
    both = [item(reply(1.0)), item(reply(1.0, "trained vector"), id="self-1/mirror")]
    svg = strip.draw(both)
    assert "unknown" not in texts(svg)
    assert "trained vector: high not asked, +1.00." in (parse(svg).get("aria-label") or "")


def test_rows_stand_in_the_order_of_their_roles() -> None:
    shown = [text for text in texts(strip.draw([full()])) if text in {"base", *(name for name, _ in ARMS)}]
    assert shown == ["base", "LoRA rank 1", "LoRA rank 32", "trained vector", "random vectors", "unrelated fine-tune"]


def test_high_stands_above_low_in_one_row() -> None:
    marks = corners(strip.draw([item(reply(0.0, polarity="low"), reply(0.0, polarity="high"))]))
    assert marks["ru"][0][1] < marks["mu"][0][1] < marks["md"][0][1] < marks["rd"][0][1]


def test_equal_values_do_not_hide_each_other() -> None:
    marks = corners(strip.draw([item(reply(0.4), reply(0.4), reply(-1.0), zero=0.5)]))["ru"]
    assert len(set(marks)) == 3


def test_the_dotted_line_stands_at_the_mean_of_the_base() -> None:
    svg = strip.draw([item(reply(0.3, "base", "", role="base"), reply(1.0), reply(-1.0))])
    line = re.search(r'class="b" d="M(\d+) ', svg)
    assert line
    assert int(line[1]) + strip.LABEL == corners(svg)["mo"][0][0]
    assert 'class="b"' not in strip.draw([item(reply(1.0))])


# ---------------------------------------------------------------- groups


def test_questions_of_a_group_share_one_axis() -> None:
    svg = strip.draw([item(reply(0.0), reply(1.0)), item(reply(0.0), reply(4.0), id="self-1/mirror")])
    first, second = (sorted(found) for found in _by_column([x for x, _ in corners(svg)["ru"]]))
    assert (second[1] - second[0]) == pytest.approx(4 * (first[1] - first[0]), abs=3)
    assert {"plain", "mirror"} <= set(texts(svg))


def _by_column(xs: Sequence[int]) -> tuple[list[int], list[int]]:
    middle = (strip.LABEL + strip.WIDTH) / 2
    return [x for x in xs if x < middle], [x for x in xs if x >= middle]


def test_forms_of_one_question_stand_beside_each_other() -> None:
    svg = strip.draw([item(reply(0.5), reply(1.5, form="shown"))])
    assert [text for text in texts(svg) if text in {"plain", "shown"}] == ["plain", "shown"]
    assert "plain, shown. LoRA rank 1: high +0.50, +1.50." in (parse(svg).get("aria-label") or "")
    same = strip.draw([item(reply(0.5, form="shown"))])
    assert "shown" not in texts(same)


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        (["a/plain", "a/mirror"], ["plain", "mirror"]),
        (["a/plain/high", "a/plain/low"], ["high", "low"]),
        (["a", "b"], ["a", "b"]),
        (["a", "a/b"], ["a", "a/b"]),
        (["a/b", "a/b"], ["b", "b"]),
        (["a/plain"], [""]),
    ],
)
def test_names_lose_what_they_share(ids: list[str], names: list[str]) -> None:
    assert strip.short_names(ids) == names


def test_many_questions_stand_in_several_rows_on_one_axis() -> None:
    svg = strip.draw([full(number / 2, id=f"self-1/{number}") for number in range(6)])
    parts = re.findall(r"<svg .*?</svg>", svg)
    assert len(parts) == 2
    assert sum(len(found) for part in parts for name, found in corners(part).items() if name[0] == "r") == 6 * 51


# ---------------------------------------------------------------- odd input, size, looks


def test_no_figure_where_replies_do_not_say_whose_they_are() -> None:
    bare = Reply("LoRA rank 1 · high · seed 0", "c0ffee", (-1.0, -2.0), 1.0)
    assert strip.draw([item(bare)]) == ""
    assert strip.draw([item()]) == ""
    mixed = strip.draw([item(bare, reply(0.5))])
    assert "LoRA rank 1 · high · seed 0" in texts(mixed)


def test_nothing_read_is_said_and_drawn_without_marks() -> None:
    svg = strip.draw([item(reply(None), zero=None)])
    assert corners(svg) == {}
    assert "unknown" in texts(svg)


def test_values_that_lean_nowhere_are_not_said_to() -> None:
    svg = strip.draw([item(reply(2.5), reply(3.5), zero=None, unit="nats per token")])
    assert "towards" not in svg
    assert parse(svg).get("aria-label") == "Means, nats per token. LoRA rank 1: high 3.00."
    assert 'class="z"' not in svg


def test_attacks_and_odd_names_are_escaped() -> None:
    attack = "\"><script>alert('x')</script>&"
    odd = reply(0.5, method=attack, polarity=attack, form=attack, role=attack)
    svg = strip.draw([item(odd, id=attack, unit=attack), item(odd, id="b", unit=attack)])
    root = parse(svg)
    assert not list(root.iter(f"{SVG}script"))
    assert attack in (root.get("aria-label") or "")
    assert len(corners(svg)["ro"]) == 2


def test_a_long_name_is_cut_in_the_figure_and_whole_in_words() -> None:
    name = "a vector distilled from the primary adapter at another site altogether and scaled down by half"
    svg = strip.draw([item(reply(0.5, name))])
    assert any(text.endswith(" …") for text in texts(svg))
    assert name in unescape(svg)


@pytest.mark.parametrize("columns", [1, 2, 4])
def test_a_strip_is_small(columns: int) -> None:
    """Eight arms of two polarities and five seeds, and the base: 81 replies a question."""
    arms = (*ARMS, ("shuffled labels", "control"), ("LoRA rank 1, all positions", "arm"), ("distilled vector", "arm"))
    items = []
    for column in range(columns):
        found = [reply(0.0, "base", "", role="base", seed=None)]
        for number, (name, role) in enumerate(arms):
            for sign, polarity in ((1, "high"), (-1, "low")):
                for seed in range(5):
                    value = sign * (number % 5) / 5 + ((seed * 37 + number * 11 + column * 5) % 19) / 10
                    found.append(reply(value, name, polarity, role=role, seed=seed))  # type: ignore[arg-type]
        items.append(item(*found, id=f"self-1/{column}"))
    size = len(strip.draw(items).encode())
    assert size < {1: 3_500, 2: 5_000, 4: 7_500}[columns]


def test_two_drawings_are_the_same() -> None:
    assert strip.draw([full()]) == strip.draw([dataclasses.replace(full())])


@pytest.mark.parametrize(
    ("low", "high"), [(-1.7, 1.7), (0.0, 1.0), (0.21, 0.84), (-13.0, 0.4), (1e-5, 3e-5), (5, 5000)]
)
@pytest.mark.parametrize("most", [3, 5, 8])
def test_ticks_are_round_inside_and_few(low: float, high: float, most: int) -> None:
    found = strip.ticks(low, high, most)
    assert 2 <= len(found) <= most
    assert all(low <= tick <= high for tick in found)
    steps = {round(after - before, 12) for before, after in pairwise(found)}
    assert len(steps) == 1
    assert f"{steps.pop():.1e}"[:3] in {"1.0", "2.0", "2.5", "5.0"}


def test_the_page_has_a_sign_and_a_style_for_every_kind_of_mark() -> None:
    css = CSS.read_text(encoding="utf-8")
    html = (CSS.parent / "report.html.jinja").read_text(encoding="utf-8")
    for kind in ("m", "r"):
        for sign in ("u", "d", "o"):
            for hollow in ("", "c"):
                assert f".{kind}{sign}{hollow} {{ marker: url(#{kind}{sign}{hollow}); }}" in css
    assert '<marker id="{{ kind }}{{ name }}{{ hollow }}"' in html
