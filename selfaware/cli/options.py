"""What several commands share: options, the model's files, the bench. The only file that reads the environment."""

import os
from pathlib import Path
from typing import Annotated

import typer

from selfaware.errors import SelfawareError, unknown
from selfaware.interventions.given import Given
from selfaware.interventions.lora import Lora
from selfaware.interventions.steer import Vector
from selfaware.models import hub, load
from selfaware.stages import Bench
from selfaware.store import Store, read_json, write_json
from selfaware.terminal import progress

Method = Lora | Vector | Given
METHODS: dict[str, type[Lora] | type[Vector] | type[Given]] = {"lora": Lora, "vector": Vector, "given": Given}

ModelName = Annotated[str, typer.Option("--model", help="A catalogue name, a hub id, or a folder.")]
DomainName = Annotated[str, typer.Option("--domain", help="A domain's name, or its folder.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a setting: --set lora.training.learning_rate=0.003", metavar="A.B=C"),
]
Runs = Annotated[Path, typer.Option("--runs", help="Folder for cells and pages.")]
Cache = Annotated[
    float,
    typer.Option(
        "--cache-gib",
        help="Memory for what is kept of prompts, GiB, per loaded type; the rest goes to files while it runs.",
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        "--workers",
        min=0,
        help="Processes that share the work; 0 takes as many as cores and memory allow when it takes more than a minute.",
    ),
]
DEFAULT_MODEL = "smollm2-135m-instruct"
DEFAULT_DOMAIN = "risky_choices"


def cache_folder() -> Path:
    """Where converted models and this machine's measurements lie: $SELFAWARE_CACHE, or ~/.cache/selfaware."""
    return Path(os.environ.get("SELFAWARE_CACHE", "") or Path.home() / ".cache" / "selfaware")


def overrides(settings: list[str] | None) -> dict[str, str]:
    """`["a.b=c"]` as a mapping."""
    pairs = [s.partition("=") for s in settings or []]
    for name, equals, _ in pairs:
        if not equals:
            raise SelfawareError(f"--set {name}: has no value; name=value is needed. Write --set {name}=VALUE.")
    return {name.strip(): value for name, _, value in pairs}


def located(name: str) -> hub.Local:
    """The model's files, fetched and converted with a progress bar when they are not there yet."""
    with progress() as watch:
        return hub.locate(
            name,
            cache_folder(),
            lambda what, done, total: watch(done, total, f"{name}: {what}"),
            offline=bool(os.environ.get("HF_HUB_OFFLINE")),
        )


def bench(model: str, folder: Path, cache_gib: float, dtype: str | None = None) -> Bench:
    """The bench for a model, with the training type measured once on this machine."""
    local = located(model)
    device = "cuda" if load.has_cuda() else "cpu"
    if dtype is None:
        notes = cache_folder() / "machine.json"
        known = read_json(notes) if notes.is_file() else {}
        if device not in known:
            known[device] = load.fastest_dtype(device)
            write_json(notes, known)
        dtype = known[device]
    return Bench(local, Store(folder), dtype, "float32", cache_gib, device)


def one_of(kind: str, got: str, known: tuple[str, ...]) -> str:
    """`got`, when it is one of the known names."""
    if got not in known:
        raise unknown(kind, got, known)
    return got
