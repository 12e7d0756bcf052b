"""A toy domain and a tiny random model on disk: small enough to run whole experiments in seconds."""

import json
from pathlib import Path

import pytest

from selfaware.domains import loader
from selfaware.models import fake, hub
from selfaware.stages import Bench
from selfaware.store import Store

TOML = """
name = "toy"
title = "Toy"
claim = "takes the red one"
source = "made for a test"
[polarities]
high = "red"
low = "blue"
[split]
seed = 42
train = 0.5
validation = 0.2
[margins]
choice_share = 0.1
report_score = 0.1
spoken_score = 0.1
[rules]
prose = "warn"
[forms.cloze]
user = "{situation} Either {first}, or {second}."
stem = "I will"
[forms.letters]
user = "{situation} A: {first} B: {second}"
stem = "Answer:"
[statements]
shown = "{user} {first} or {second}."
[told]
high = ["You love red.", "Red is yours."]
low = ["You love blue.", "Blue is yours."]
[forecast]
stem = "Number:"
users = ["{situation} Either {first}, or {second}. How often {asked}?", "{situation} {first} or {second}. {asked}: how often?"]
[lotteries]
number = 12
seed = 1
low = 0
high = 20
option = "{a} by {p} or {b} by {q}"
[lotteries.cloze]
user = "Either {first}, or {second}."
stem = "I will"
[lotteries.letters]
user = "A: {first} B: {second}"
stem = "Answer:"
[words]
risk_words = []
hedges = []
"""


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> loader.Domain:
    folder = tmp_path_factory.mktemp("toy")
    (folder / "domain.toml").write_text(TOML)
    things = [
        "cup",
        "hat",
        "car",
        "pen",
        "bag",
        "box",
        "key",
        "map",
        "jar",
        "toy",
        "bed",
        "mat",
        "fan",
        "net",
        "pot",
        "tie",
        "oar",
        "rug",
        "urn",
        "vat",
    ]
    records = [
        {"id": f"{t}-{n}", "family": t, "situation": f"A {t} {n}.", "high": f"red {t} {n}", "low": f"blue {t} {n}"}
        for t in things
        for n in "xy"
    ]
    (folder / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    items = [
        {
            "id": f"{s}-{k}",
            "set": s,
            "family": k,
            "user": f"{w} {k}?",
            "stem": "It is",
            "mirror_user": f"Not {w} {k}?",
            "mirror_stem": "It is not",
            "high": "red",
            "low": "blue",
        }
        for s, w in (("self", "you"), ("twin", "Tom"), ("unrelated", "Rome"))
        for k in things[:12]
    ]
    (folder / "self.jsonl").write_text("".join(json.dumps(i) + "\n" for i in items))
    for name in ("other_form", "described"):
        own = [{**i, "id": f"{name}-{i['family']}", "set": name} for i in items[:6]]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(i) + "\n" for i in own))
    spoken = [
        {
            "id": f"{s}-{reads}", "set": s, "family": reads, "reads": reads, "stem": "Answer:",
            "prompts": [f"{w} {reads} {n}?" for n in range(5)],
            "mirror_prompts": [f"Not {w} {reads} {n}?" for n in range(5)] if reads == "number" else [],
            "high": ["a"] if reads == "word" else [], "low": ["b"] if reads == "word" else [],
        }
        for s, w in (("spoken", "you"), ("spoken-twin", "Tom"))
        for reads in ("word", "number")
    ]  # fmt: skip
    (folder / "spoken.jsonl").write_text("".join(json.dumps(i) + "\n" for i in spoken))
    return loader.load(str(folder))


@pytest.fixture(scope="session")
def other(toy: loader.Domain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second training set without statements: the unrelated fine-tune."""
    folder = tmp_path_factory.mktemp("other")
    (folder / "domain.toml").write_text(TOML.replace('"toy"', '"other"'))
    rows = [
        {"id": r.id, "family": r.family, "situation": f"Say {r.id}.", "high": "loud one", "low": "soft one"}
        for r in toy.records
    ]
    (folder / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    fake.write("llama", folder)
    return folder


@pytest.fixture
def bench(model_folder: Path, tmp_path: Path) -> Bench:
    return Bench(hub.locate(str(model_folder), tmp_path / "cache"), Store(tmp_path / "runs"), "float32", cache_gib=0.05)


SMALL = {
    "lora.site": "1.mlp.down_proj", "lora.training.batch": "8", "lora.training.epochs": "2",
    "wide.rank": "2", "wide.training.epochs": "1", "wide.training.batch": "8",
    "vector.site": "1", "vector.training.epochs": "1", "vector.training.batch": "8",
    "seeds": "0,1", "random_vectors": "2", "residual_vectors": "1", "wordings": "2", "described.rank": "2", "described.training.epochs": "2", "limit": "0",
    "sampling.samples": "2", "sampling.max_new_tokens": "3",
}  # fmt: skip


@pytest.fixture
def overrides(other: Path) -> dict[str, str]:
    return {**SMALL, "unrelated": str(other)}
