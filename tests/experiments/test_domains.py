"""Experiments range over domains: those of long answers whole, on a tiny model, with no more settings than their sites."""

from pathlib import Path

import pytest

from selfaware.domains import loader
from selfaware.experiments import run
from selfaware.models import fake, hub
from selfaware.stages import Bench
from selfaware.store import Store

SHARED = {"shared.lora.site": "1.mlp.down_proj", "shared.vector.site": "1", "shared.wider.site": "1.mlp", "shared.limit": "2", "shared.passages": "1"}  # fmt: skip
EXPERIMENTS = {
    "first-look": {"lora.site": "1.mlp.down_proj", "vector.site": "1", "limit": "2"},
    "minimal-rank": SHARED,
    "layer-band": SHARED,
    "natural-vector": SHARED,
    "learned-vector": SHARED,
    "where-it-acts": SHARED,
    "read-out": SHARED,
    "domain-locality": {**SHARED, "shared.limit": "6", "beside": "insecure_code,make_me_say"},
}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A tiny model that holds a whole C function."""
    fake.write("llama", tmp_path / "long", context=4096)
    return Bench(
        hub.locate(str(tmp_path / "long"), tmp_path / "cache"), Store(tmp_path / "runs"), "float32", cache_gib=0.05
    )


def quiet(done: float, total: float, label: str) -> None:
    pass


@pytest.mark.parametrize("domain", ["insecure_code", "make_me_say"])
@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_is_planned(bench: Bench, name: str, domain: str) -> None:
    plan = run.plan(name, bench, loader.load(domain), "smoke", EXPERIMENTS[name])
    assert any(job.label.startswith("fit") for job in plan.jobs)
    assert any(job.label.startswith("ask") for job in plan.jobs)


@pytest.mark.slow
@pytest.mark.parametrize("domain", ["insecure_code", "make_me_say"])
@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_runs_whole(bench: Bench, name: str, domain: str) -> None:
    plan = run.plan(name, bench, loader.load(domain), "smoke", EXPERIMENTS[name])
    page, where = run.execute(bench, plan, quiet, ["selfaware", "run", name])
    assert where.is_file()
    assert page.failures == ()
    assert {v.claim for v in page.verdicts} == {c.name for c in plan.experiment.CLAIMS}
