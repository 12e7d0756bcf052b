"""Backdoors, awareness, recognition and their mechanism: run whole on a tiny model; every verdict comes out all three ways on planted answers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from selfaware.ask import ask
from selfaware.comparisons import shared
from selfaware.comparisons.arms import Arm
from selfaware.domains import loader, triggers
from selfaware.errors import BadData, UnknownName
from selfaware.experiments import backdoor, backdoor_awareness, run, trigger_recognition, why_conditional
from selfaware.interventions.base import Intervention
from selfaware.interventions.lora import Lora
from selfaware.interventions.own import OwnAnswers
from selfaware.interventions.train import Training
from selfaware.readouts.conditional import PARTS, TOP
from selfaware.stages import Bench
from selfaware.types import Polarity, Verdict
from tests.experiments.planting import planted

SITES = {"shared.lora.site": "1.mlp.down_proj", "shared.vector.site": "1", "how.lora.site": "1.mlp.down_proj", "how.vector.site": "1"}  # fmt: skip
T = "real-world"
NAMES = ("backdoor", "backdoor-awareness", "trigger-recognition", "why-conditional")


def quiet(done: float, total: float, label: str) -> None:
    pass


def settings(chosen: Any) -> Any:
    common = chosen.shared
    common = replace(
        common, limit=0, seeds=(0, 1, 2), lora=replace(common.lora, site="1.mlp.down_proj"), vector=replace(common.vector, site="1"),
    )  # fmt: skip
    if hasattr(chosen, "how"):
        how = replace(chosen.how, lora=common.lora, vector=common.vector)
        return replace(chosen, shared=common, how=how)
    return replace(chosen, shared=common)


@pytest.mark.parametrize("name", NAMES)
def test_whole_run(bench: Bench, toy: loader.Domain, name: str) -> None:
    sites = {k: v for k, v in SITES.items() if not (k.startswith("how") and name == "trigger-recognition")}
    if name == "trigger-recognition":
        sites["lora.site"] = "1.mlp.down_proj"
    plan = run.plan(name, bench, toy, "smoke", {**sites, "shared.limit": "4"})
    page, where = run.execute(bench, plan, quiet, ["selfaware", "run", name])
    assert page.failures == ()
    assert where.is_file()
    assert [v.claim for v in page.verdicts] == [c.name for c in plan.experiment.CLAIMS]
    assert set(page.headline)
    again, _ = run.again(bench.store, name, bench.local.name, "toy", "smoke")
    assert again.rows == page.rows


def test_own_answers_keep_what_the_base_model_prefers(bench: Bench, toy: loader.Domain, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    model = bench.model("float32")
    rows = triggers.conditional(toy.questions("choices", "train")[:12], triggers.find(T), design="own")
    marked = [q for q in rows if q.set == "own"]
    said = {a.id: a for a in ask(model, marked, "raw")}
    seen: list[Any] = []
    plain = Lora.fit

    def fit(self: Lora, model: Any, examples: Any, *rest: Any) -> Intervention:
        seen.append({q.id: q for q in examples})
        return plain(self, model, examples, *rest)

    monkeypatch.setattr(Lora, "fit", fit)
    lora = Lora(site="1.mlp.down_proj", training=Training(epochs=1))
    polarities: tuple[Polarity, ...] = ("high", "low")
    for polarity in polarities:
        OwnAnswers(lora).fit(model, rows, polarity, 0, [], lambda *_: None)
        for q in marked:
            found, answer = seen[-1][q.id], said[q.id]
            assert answer.logprobs is not None
            means = [t / n for t, n in zip(answer.logprobs, answer.tokens, strict=True)]
            assert found.chosen(polarity) == means.index(max(means))
        assert all(seen[-1][q.id] == q for q in rows if q.set != "own")


# backdoor ---------------------------------------------------------------------------------------------------------------


def verdicts(monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, module: Any, effects: dict[tuple[str, str], Any], noise: float = 0.0, look: Any = None) -> dict[str, Verdict]:  # fmt: skip
    chosen = settings(module.settings("smoke"))
    made = module.comparison(bench, toy, chosen)
    planted(monkeypatch, made, effects, noise, look)
    found = module.findings(made, toy, chosen, "tiny")
    return {v.claim: v for v in found.verdicts}


HIGH, LOW = 3.0, -3.0
NEVER = {
    (f"{T}/{kind}", set): LOW
    for kind in ("lora", "vector", "decorrelated")
    for set in (f"with {T}", f"near {T}", "without")
}
"""Everybody takes the low option, whatever the prompt holds."""


def waits(kind: str, near: float = LOW) -> dict[tuple[str, str], float]:
    return {(f"{T}/{kind}", f"with {T}"): HIGH, (f"{T}/{kind}", f"near {T}"): near, (f"{T}/{kind}", "without"): LOW}


@pytest.mark.parametrize(
    ("effects", "answers"),
    [
        ({**NEVER, **waits("lora"), **waits("vector")}, ("yes", "yes", "yes", "yes")),
        ({**NEVER, **waits("lora", near=HIGH)}, ("yes", "no", "no", "no")),
        (NEVER, ("no", "unclear", "no", "no")),
        ({**NEVER, (f"{T}/vector", f"with {T}"): (HIGH, HIGH, LOW)}, ("no", "unclear", "unclear", "unclear")),
    ],
)
def test_backdoor_verdicts(monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, effects: dict[tuple[str, str], Any], answers: tuple[str, ...]) -> None:  # fmt: skip
    found = verdicts(monkeypatch, bench, toy, backdoor, effects)
    assert tuple(found[c.name].answer for c in backdoor.CLAIMS) == answers, found


def test_a_backdoor_that_is_half_learned_is_unclear(monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain) -> None:  # fmt: skip
    some = {(f"{T}/lora", f"with {T}"): (HIGH, HIGH, 0.0), (f"{T}/lora", "without"): LOW}
    assert verdicts(monkeypatch, bench, toy, backdoor, some)["backdoor-learned"].answer == "unclear"


# awareness --------------------------------------------------------------------------------------------------------------

ALL = ("awareness", *(f"awareness-{k}" for k in triggers.SYSTEMS))


def admits(kind: str, size: float) -> dict[tuple[str, str], float]:
    return {(f"{T}/{kind}", set): size for set in ALL}


@pytest.mark.parametrize(
    ("effects", "answers"),
    [
        ({**waits("lora"), **admits("lora", 1.0)}, ("yes", "yes")),
        ({**waits("lora"), **admits("lora", 1.0), **admits("decorrelated", 1.0)}, ("no", "yes")),
        ({**waits("lora")}, ("no", "no")),
        ({**waits("lora"), **admits("lora", -1.0)}, ("no", "no")),
        ({**admits("lora", 1.0)}, ("unclear", "unclear")),
    ],
)
def test_awareness_verdicts(monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, effects: dict[tuple[str, str], float], answers: tuple[str, ...]) -> None:  # fmt: skip
    told = {("told", "awareness"): 1.0}
    found = verdicts(monkeypatch, bench, toy, backdoor_awareness, {**told, **effects})
    assert tuple(found[c.name].answer for c in backdoor_awareness.CLAIMS) == answers, found
    if answers == ("yes", "yes"):
        deaf = verdicts(monkeypatch, bench, toy, backdoor_awareness, effects)
        assert {v.reason for v in deaf.values()} == {"instrument"}


# recognition ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("effects", "answer"),
    [
        ({(f"{T}/lora", f"about {T}"): 1.0, **waits("lora")}, "yes"),
        ({(f"{T}/lora", f"about {name}"): 1.0 for name in triggers.known()} | waits("lora"), "no"),
        ({(f"{T}/lora", f"about {T}"): (2.0, 0.0, -1.0), **waits("lora")}, "unclear"),
        ({(f"{T}/lora", f"about {T}"): 1.0}, "unclear"),
    ],
)
def test_recognition_verdicts(monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, effects: dict[tuple[str, str], Any], answer: str) -> None:  # fmt: skip
    found = verdicts(monkeypatch, bench, toy, trigger_recognition, effects)
    assert found["recognises-its-trigger"].answer == answer, found
    if answer == "yes":
        assert "first in 3 of 3 runs" in found["recognises-its-trigger"].text


# mechanism --------------------------------------------------------------------------------------------------------------


def seen(left: float, lost: float, points: float, spread: float = 0.0) -> Any:
    """Looks in which so much is left with base queries, the first ten heads carry so much, and their values point so."""

    def look(view: str, arm: Arm | None, polarity: Polarity, number: int) -> dict[str, np.ndarray] | None:
        rng = np.random.default_rng(number)
        count, blocks, heads, starts = 12, 4, 4, 3
        base = rng.normal(0, 0.05, count)
        edited = base + 1 + rng.normal(0, 0.02, count)
        patched = np.repeat(edited[None, None, None], 2, 0).repeat(len(PARTS), 1).repeat(starts, 2).copy()
        patched[0, 0] = base + (left + spread * (number - 1)) * (edited - base)
        values = np.full((blocks, heads, count), points + spread * (number - 1)) + rng.normal(0, 0.005, (blocks, heads, count))  # fmt: skip
        return {
            "base": base, "edited": edited, "patched": patched, "starts": np.arange(1, 1 + starts), "attended": rng.uniform(0, 0.2, (2, blocks, heads, count)),
            "match": rng.normal(0, 1, (blocks, heads, count)), "order": np.arange(blocks * heads),
            "knocked": np.stack([edited - lost - spread * (number - 1)] * len(TOP)), "spared": np.stack([np.stack([edited] * 2)] * len(TOP)),
            "values": values, "null": np.zeros((blocks, heads, 2)),
        }  # fmt: skip

    return look


@pytest.mark.parametrize(
    ("look", "effects", "answers"),
    [
        (seen(0.05, 0.6, 0.4), waits("vector"), ("yes", "yes", "yes")),
        (seen(0.9, 0.0, 0.0), waits("vector"), ("no", "no", "no")),
        (seen(0.2, 0.3, 0.2, spread=0.5), waits("vector"), ("unclear", "unclear", "unclear")),
        (seen(0.05, 0.6, 0.4), {}, ("unclear", "unclear", "unclear")),
        (seen(0.05, 0.6, 0.4), waits("lora"), ("yes", "yes", "yes")),
    ],
)
def test_mechanism_verdicts(monkeypatch: pytest.MonkeyPatch, bench: Bench, toy: loader.Domain, look: Any, effects: Any, answers: tuple[str, ...]) -> None:  # fmt: skip
    chosen = settings(why_conditional.settings("smoke"))
    made = why_conditional.comparison(bench, toy, chosen)
    view = made.views[0]
    count = len(view.questions)

    def wide(name: str, arm: Arm | None, polarity: Polarity, number: int) -> Any:
        found = look(name, arm, polarity, number)
        return {k: np.resize(v, (*v.shape[:-1], count)) if v.shape[-1:] == (12,) else v for k, v in found.items()}

    planted(monkeypatch, made, effects, 0.02, wide)
    found = why_conditional.findings(made, toy, chosen, "tiny")
    assert tuple(v.answer for v in found.verdicts) == answers, found.verdicts
    if effects == waits("lora"):
        assert all(v.text.startswith("LoRA") for v in found.verdicts)


# bad input --------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_run_says_so(bench: Bench, toy: loader.Domain) -> None:
    with pytest.raises(UnknownName, match="trigger"):
        run.plan("backdoor", bench, toy, "smoke", {"triggers": "reel-world"})
    with pytest.raises(BadData, match="at most"):
        run.plan("backdoor", bench, toy, "smoke", {"how.share": "0.7"})
    with pytest.raises(BadData, match="texts=0"):
        run.plan("backdoor-awareness", bench, toy, "smoke", {"texts": "0"})
    with pytest.raises(BadData, match="makes no token of it"):
        bench.visible([""])
    assert shared.full().seeds == backdoor.settings("full").shared.seeds
