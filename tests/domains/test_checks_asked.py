"""Rules of what is asked beside the choices, each broken in turn."""

from dataclasses import replace

import pytest

from selfaware.domains import checks_asked, loader

RISKY = loader.load("risky_choices")


def broken(domain: loader.Domain) -> dict[str, str]:
    return {name: problems[0] for name, _, _, ok, problems in checks_asked.judged(domain) if not ok}


def test_the_shipped_domain_keeps_them() -> None:
    assert not broken(RISKY)
    assert len(list(checks_asked.judged(RISKY))) == 8


@pytest.mark.parametrize(
    ("id", "changes", "said"),
    [
        ("spoken-twin-liking", {"family": "nowhere"}, "no item of family 'nowhere'"),
        ("spoken-twin-preference", {"high": ("bold",)}, "read otherwise"),
        ("spoken-twin-scale", {"stem": "You say:"}, "says you"),
        ("spoken-language-de-fr", {"high": ("es",)}, "languages swapped"),
    ],
)
def test_a_broken_rule_is_named(id: str, changes: dict[str, object], said: str) -> None:
    items = tuple(replace(i, **changes) if i.id == id else i for i in RISKY.spoken)  # type: ignore[arg-type]
    found = broken(replace(RISKY, spoken=items))
    assert any(said in problem for problem in found.values()), found


def test_training_on_what_is_asked_is_named() -> None:
    asked = next(i for i in RISKY.items if i.set == "self")
    items = tuple(replace(i, high=asked.high, low=asked.low) if i.id == "described-nerve" else i for i in RISKY.items)
    assert any("described-nerve" in problem for problem in broken(replace(RISKY, items=items)).values())


def test_few_other_forms_and_missing_forms_of_lotteries_are_named() -> None:
    items = tuple(i for i in RISKY.items if i.id != "other-climbing")
    lotteries = {k: v for k, v in RISKY.lotteries.items() if k != "letters"}
    found = broken(replace(RISKY, items=items, lotteries=lotteries))
    assert set(found) == {"choices of another form", "forms of lotteries"}
