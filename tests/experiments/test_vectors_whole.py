"""natural-vector, where-it-acts and domain-locality: whole on a tiny model, and each verdict all three ways."""

from types import SimpleNamespace

import numpy as np
import pytest

from selfaware import stats
from selfaware.domains import loader
from selfaware.errors import BadData
from selfaware.experiments import domain_locality, natural_vector, run, where_it_acts
from selfaware.findings import depths, shares
from selfaware.findings.profiles import Shifts, Sweep
from selfaware.stages import Bench
from selfaware.types import Estimate

PLACED = {"shared.lora.site": "1.mlp.down_proj", "shared.vector.site": "1"}


def quiet(done: float, total: float, label: str) -> None:
    pass


@pytest.mark.parametrize(
    ("name", "more", "claims"),
    [
        ("natural-vector", {"shared.wider.site": "1.mlp"}, {c.name for c in natural_vector.CLAIMS}),
        ("where-it-acts", {"every": "1"}, {c.name for c in where_it_acts.CLAIMS}),
        ("domain-locality", {"beside": "near_or_far"}, {c.name for c in domain_locality.CLAIMS}),
    ],
)
def test_whole_and_again(bench: Bench, toy: loader.Domain, name: str, more: dict[str, str], claims: set[str]) -> None:
    plan = run.plan(name, bench, toy, "smoke", {**PLACED, **more})
    page, where = run.execute(bench, plan, quiet, ["selfaware", "run", name])
    assert where.is_file()
    assert page.failures == ()
    assert {v.claim for v in page.verdicts} == claims
    assert {r.measure for r in page.rows} >= set(plan.experiment.HEADLINE[:2])
    again, _ = run.again(bench.store, name, bench.local.name, "toy", "smoke")
    assert again.rows == page.rows


def cosine(low: float, high: float) -> Estimate:
    return Estimate((low + high) / 2, low, high, 3, 3, "cosine")


@pytest.mark.parametrize(
    ("between", "within", "answer"),
    [
        (cosine(-0.05, 0.05), 0.9, "yes"),
        (cosine(0.5, 0.7), 0.9, "no"),
        (cosine(0.0, 0.4), 0.9, "unclear"),
        (cosine(-0.05, 0.05), 0.1, "unclear"),
    ],
)
def test_directions(between: Estimate, within: float, answer: str) -> None:
    own = Estimate(within, None, None, 3, 3, "cosine", why="pairs of seeds are not independent")
    found = {("a", "b"): between, ("b", "a"): between, ("a", "a"): own, ("b", "b"): own}
    assert domain_locality._directions(found, {"a": own, "b": own}, ["a", "b"], 0.2, True).answer == answer
    assert domain_locality._directions(found, {"a": own, "b": own}, ["a", "b"], 0.2, False).answer == "unclear"


@pytest.mark.parametrize(
    ("own", "other", "answer"),
    [((0.2, 0.4), (-0.05, 0.05), "yes"), ((0.2, 0.4), (0.15, 0.4), "no"), ((-0.1, 0.4), (-0.05, 0.05), "unclear")],
)
def test_effects_on_other_domains(own: tuple[float, float], other: tuple[float, float], answer: str) -> None:
    effects = {
        (f"{a}/lora", f"choice_share_effect ({b}: choices)"): cosine(*(own if a == b else other))
        for a in "ab"
        for b in "ab"
    }
    found = SimpleNamespace(effects=effects)
    assert domain_locality._effects(found, ["a", "b"], 0.1).answer == answer  # type: ignore[arg-type]


def test_one_domain_alone(bench: Bench, toy: loader.Domain) -> None:
    with pytest.raises(BadData, match="beside"):
        run.plan("domain-locality", bench, toy, "smoke", {**PLACED, "beside": "toy"})


def swept(center: float, size: float, noise: float, seed: int, seeds: int = 2) -> Sweep:
    rng = np.random.default_rng(seed)
    blocks, strengths = tuple(range(10)), (0.01, 0.02)
    bump = size * np.exp(-((np.arange(10.0) - center) ** 2) / 4)[:, None] * np.array(strengths) / 0.02
    values = {n: bump[None, None] + noise * rng.normal(size=(seeds, 30, 10, 2)) for n in ("choices", "self")}
    names = tuple(map(str, range(30)))
    return Sweep({n: Shifts(names, names, v) for n, v in values.items()}, blocks, strengths, np.full((10, 2), np.nan))


@pytest.mark.parametrize(("first", "second", "answer"), [(5.0, 5.0, "yes"), (2.0, 7.0, "no")])
def test_where_profiles_agree_and_where_not(first: float, second: float, answer: str) -> None:
    own, far, random = swept(first, 2.0, 0.1, 0), swept(second, 2.0, 0.1, 1), swept(5.0, 0.0, 0.1, 2)
    own = Sweep({"choices": own.sets["choices"], "self": far.sets["self"]}, own.blocks, own.strengths, own.kl)
    arrays = {n: s.within(own.strengths, 0.02, 1) for n, s in own.sets.items()}
    pair = stats.alike(arrays["choices"], arrays["self"], draws=200)
    told = (pair, own, random, ("choices", "self"), 0.02, 1)
    assert depths.judged(*told, {"choices": True, "self": True}, 0.25)[0] == answer
    assert depths.judged(*told, {"choices": True, "self": False}, 0.25) == ("unclear", "instrument")
    nothing = depths.judged(pair, random, own, ("choices", "self"), 0.02, 1, {"choices": True, "self": True}, 0.25)
    assert nothing[0] == "unclear"
    assert "random" in nothing[1]


@pytest.mark.parametrize(("size", "noise", "answer"), [(2.0, 0.1, "yes"), (0.0, 0.02, "no"), (0.2, 2.0, "unclear")])
def test_whether_the_positive_arm_moves_anything(size: float, noise: float, answer: str) -> None:
    own, random = swept(5.0, size, noise, 0, seeds=5), swept(5.0, 0.0, noise, 2, seeds=5)
    said, why, text = depths.moved(own, random, "self", 0.1)
    assert said == answer, (why, text)
    assert "of 20 looks" in text
    assert depths.moved(own, own, "self", 0.1)[0] != "yes", "not beyond a random direction that does the same"


def test_a_strength_of_zero(bench: Bench, toy: loader.Domain) -> None:
    with pytest.raises(BadData, match="zero is the base model"):
        run.plan("where-it-acts", bench, toy, "smoke", {**PLACED, "weakest": "0"})


@pytest.mark.parametrize(
    ("own", "control", "said", "answer"),
    [
        ((0.3, 0.5), (-0.1, 0.1), "yes", "yes"),
        ((0.3, 0.5), (0.2, 0.4), "yes", "unclear"),
        ((0.0, 0.1), (-0.1, 0.1), "no", "no"),
    ],
)
def test_a_vector_must_be_beyond_a_random_one(own, control, said, answer) -> None:
    found = shares.beyond_random(cosine(*own), cosine(*control), said, "why")
    assert found[0] == answer


@pytest.mark.parametrize(("left", "answer"), [(0.0, "yes"), (0.9, "no"), (0.2, "unclear")])
def test_removal_all_three_ways(left: float, answer: str) -> None:
    rng = np.random.default_rng(0)
    whole = [{str(f): 1.0 + 0.05 * float(rng.normal()) for f in range(12)} for _ in range(3)]
    after = [{f: left * v + 0.05 * float(rng.normal()) for f, v in seed.items()} for seed in whole]
    values = {("wider", "choice_share_effect"): whole, ("wider/stream", "choice_share_effect"): after}
    effects = {k: stats.estimate(v, "share") for k, v in values.items()}  # type: ignore[arg-type]
    found = SimpleNamespace(values=values, effects=effects, kept={})
    made = SimpleNamespace(named_arm=lambda name: SimpleNamespace(name=name, label=name, fixed=False))
    assert natural_vector._removal(made, found, 0.8).answer == answer  # type: ignore[arg-type]


def test_the_time_left_counts_fits_that_only_half_a_domain_needs(bench: Bench, toy: loader.Domain) -> None:
    jobs = run.plan("domain-locality", bench, toy, "smoke", {**PLACED, "beside": "near_or_far"}).jobs
    halves = [job.cost for job in jobs if job.label.startswith("fit vector, half")]
    whole = [job.cost for job in jobs if job.label.startswith("fit LoRA")]
    assert halves
    assert min(halves) > 0.1 * min(whole) > 0
    assert all(job.cost == 0 for job in jobs if job.label.startswith("fit vector:"))
