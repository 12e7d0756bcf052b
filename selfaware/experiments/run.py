"""An experiment, a model and a domain → cells → a page in a folder. The same few steps for every experiment."""

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

import selfaware.experiments
from selfaware import launch, spec
from selfaware.comparisons.arms import Findings
from selfaware.comparisons.comparison import Comparison, why_failed
from selfaware.comparisons.items import items
from selfaware.domains import loader
from selfaware.errors import BadData, BadFile, SelfawareError, unknown
from selfaware.models.hub import Local
from selfaware.report.html import write_page
from selfaware.report.page import Claim, Page
from selfaware.stages import Bench
from selfaware.store import Store, environment, read_json, write_json


class Experiment(Protocol):
    """A module of this room: what every experiment's file says."""

    NAME: str
    TITLE: str
    QUESTION: str
    CLAIMS: tuple[Claim, ...]
    HEADLINE: tuple[str, ...]
    SCALES: tuple[str, ...]

    def settings(self, scale: str) -> Any:
        """A frozen dataclass with everything `--set` can change, at that scale."""

    def check(self, domain: loader.Domain) -> None:
        """Raises when the domain lacks what the experiment asks."""

    def comparison(self, bench: Bench, domain: loader.Domain, chosen: Any) -> Comparison:
        """Arms and question sets."""

    def findings(self, made: Comparison, domain: loader.Domain, chosen: Any, model: str) -> Findings:
        """Rows, verdicts and figures from the answers."""

    def caveats(self, domain: loader.Domain, chosen: Any) -> tuple[str, ...]:
        """What a reader must keep in mind."""


def experiments() -> dict[str, Experiment]:
    """Every experiment by name: each module of this room that has a `NAME`."""
    found: dict[str, Experiment] = {}
    for info in pkgutil.iter_modules(selfaware.experiments.__path__):
        module: ModuleType = importlib.import_module(f"{selfaware.experiments.__name__}.{info.name}")
        if "NAME" in vars(module):
            found[module.NAME] = cast(Experiment, module)
    return found


def find(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        UnknownName: there is none; names the nearest.
    """
    known = experiments()
    if name not in known:
        raise unknown("experiment", name, known)
    return known[name]


@dataclass(frozen=True)
class Plan:
    """An experiment made ready: its comparison and the jobs it takes."""

    experiment: Experiment
    domain: loader.Domain
    scale: str
    chosen: Any
    made: Comparison
    jobs: tuple[launch.Job, ...]


def plan(name: str, bench: Bench, domain: loader.Domain, scale: str, overrides: dict[str, str]) -> Plan:
    """What running it would do; nothing is fitted or asked yet."""
    experiment = find(name)
    if scale not in experiment.SCALES:
        raise unknown("scale", scale, experiment.SCALES)
    experiment.check(domain)
    chosen = spec.override(experiment.settings(scale), overrides)
    made = experiment.comparison(bench, domain, chosen)
    return Plan(experiment, domain, scale, chosen, made, tuple(made.jobs()))


def folder(bench: Bench, plan: Plan) -> Path:
    """Where the experiment's page lies: one folder for each experiment, model and domain."""
    name = bench.local.name.replace("/", "--")
    return bench.store.experiment(plan.experiment.NAME) / name / plan.domain.name / plan.scale


def execute(
    bench: Bench, plan: Plan, watch: launch.Watch, command: Sequence[str], hands: launch.Hands | None = None
) -> tuple[Page, Path]:
    """Makes what is missing, then the page; gives both the page and its file.

    Args:
        command: the command line that was given, for "how to reproduce".
        hands: who makes it; this process where nobody is named.

    Raises:
        SelfawareError: the base model itself could not be asked.
    """
    plan.made.failed = launch.run(plan.jobs, watch, hands)
    broken = [j for j in plan.jobs if j.id in plan.made.failed and not j.after and j.label.startswith("ask base")]
    if broken:
        raise SelfawareError(f"{broken[0].label}: {plan.made.failed[broken[0].id]}")
    where = folder(bench, plan)
    write_json(where / "run.json", {
        "experiment": plan.experiment.NAME, "scale": plan.scale, "model": bench.local.name, "identity": bench.local.identity,
        "domain": str(plan.domain.folder) if plan.domain.name not in loader.names() else plan.domain.name,
        "train_dtype": bench.train_dtype, "score_dtype": bench.score_dtype, "depth": bench.depth, "width": bench.width, "settings": spec.plain(plan.chosen),
        "command": list(command), "failed": plan.made.failed, "cells": [{"id": j.id, "label": j.label} for j in plan.jobs],
    })  # fmt: skip
    page = paged(bench, plan, command)
    return page, write_page(page, where)


def paged(bench: Bench, plan: Plan, command: Sequence[str]) -> Page:
    """The page, from the cells alone."""
    found = plan.experiment.findings(plan.made, plan.domain, plan.chosen, bench.local.name)
    env = environment(bench.device)
    seconds = sum(bench.seconds(j.id) for j in plan.jobs)
    return Page(
        name=plan.experiment.NAME,
        title=plan.experiment.TITLE,
        question=plan.experiment.QUESTION,
        settings=(
            ("model", f"{bench.local.name} ({bench.local.identity[:40]})"),
            (
                "domain",
                f"{plan.domain.title} ({plan.domain.name}, {len(plan.domain.records)} records, checksum {plan.domain.checksum})",
            ),
            ("scale", plan.scale),
            ("weights", f"{bench.train_dtype} in fits and sampled answers, {bench.score_dtype} in scored ones"),
            *flat(plan.chosen),
        ),
        claims=plan.experiment.CLAIMS,
        verdicts=found.verdicts,
        figures=found.figures,
        tables=found.tables,
        headline=tuple(name for name in plan.experiment.HEADLINE if any(row.measure == name for row in found.rows)),
        rows=found.rows,
        arms=(
            ("base", "The untouched model; every shift is counted from it."),
            *((a.label, a.about) for a in plan.made.arms),
        ),
        items=items(plan.made, found.flags),
        reproduce=("make setup", " ".join(command)),
        environment=(
            *((k, str(v)) for k, v in env.items()),
            ("compute", f"{seconds:.0f} seconds over {len(plan.jobs)} cells"),
        ),
        caveats=plan.experiment.caveats(plan.domain, plan.chosen),
        failures=why_failed(plan.made.failed, plan.jobs),
    )


def again(store: Store, name: str, model: str, domain: str, scale: str) -> tuple[Page, Path]:
    """Writes the page of an earlier run again, from its cells alone: no weights are loaded.

    Raises:
        BadFile: there is no such run, or one of its cells is missing.
        BadData: the domain has changed since.
    """
    where = store.root / name / model.replace("/", "--") / domain / scale
    if not (where / "run.json").is_file():
        known = sorted(str(p.parent.relative_to(store.root)) for p in store.root.glob("*/*/*/*/run.json"))
        raise BadFile(
            f"{where}: no run was made there; there are {', '.join(known) or 'none'}. Run it first: selfaware run {name} --scale {scale}."
        )
    notes = read_json(where / "run.json")
    local = Local(notes["model"], where, notes["identity"], "", "", "auto", None, "folder")
    bench = Bench(
        local,
        store,
        notes["train_dtype"],
        notes["score_dtype"],
        depth=notes.get("depth", 0),
        width=notes.get("width", 0),
    )
    experiment, loaded = find(name), loader.load(notes["domain"])
    chosen = spec.build(type(experiment.settings(scale)), notes["settings"])
    made = experiment.comparison(bench, loaded, chosen)
    jobs = tuple(made.jobs())
    if {j.id for j in jobs} != {c["id"] for c in notes["cells"]}:
        raise BadData(
            f"{where}: the domain {notes['domain']} or the package has changed since that run; the same cells are needed. Run it again."
        )
    made.failed = dict(notes["failed"])
    page = paged(bench, Plan(experiment, loaded, scale, chosen, made, jobs), notes["command"])
    return page, write_page(page, where)


def flat(settings: Any) -> tuple[tuple[str, str], ...]:
    """Dotted names and values of nested settings, as `--set` takes them."""
    return tuple(_flat(spec.plain(settings), ""))


def _flat(value: dict[str, Any], prefix: str) -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    for name, inner in value.items():
        if isinstance(inner, dict):
            out += _flat(inner, f"{prefix}{name}.")
        elif name != "is":
            out.append((prefix + name, ",".join(map(str, inner)) if isinstance(inner, list) else str(inner)))
    return out
