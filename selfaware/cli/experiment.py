"""Whole experiments: run, audit, report. Knows argv and printing."""

import shlex
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Annotated, cast

import typer

from selfaware import spec
from selfaware.bench import forecast
from selfaware.cli.options import (
    DEFAULT_DOMAIN,
    DEFAULT_MODEL,
    Cache,
    DomainName,
    ModelName,
    Runs,
    Sets,
    Workers,
    bench,
    one_of,
    overrides,
)
from selfaware.domains import loader
from selfaware.experiments import run as runs
from selfaware.experiments.workers import Order, hired
from selfaware.interventions.given import given
from selfaware.stages import Bench
from selfaware.store import Store
from selfaware.terminal import out, progress, top_line
from selfaware.types import POSITIONS, Positions


def run(
    name: Annotated[str, typer.Argument(help="An experiment's name.")],
    scale: Annotated[str, typer.Option(help="How big: smoke, demo, small or full.")] = "small",
    domain: DomainName = DEFAULT_DOMAIN,
    settings: Sets = None,
    model: ModelName = DEFAULT_MODEL,
    folder: Runs = Path("runs"),
    cache_gib: Cache = 1.5,
    workers: Workers = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
) -> None:
    """Runs an experiment; what is finished is not done twice."""
    loaded = loader.load(domain)
    experiment = runs.find(name)
    spec.override(experiment.settings(one_of("scale", scale, experiment.SCALES)), overrides(settings))
    made = bench(model, folder, cache_gib)
    plan = runs.plan(name, made, loaded, scale, overrides(settings))
    left = [j for j in plan.jobs if not made.store.cell(j.id).path("done.json").is_file()]
    if dry_run:
        out.print(
            f"{len(plan.jobs)} cells, {len(left)} to make: {sum(j.label.startswith('fit') for j in left)} fits, {sum(j.label.startswith('ask') for j in left)} askings"
        )
        _say(forecast.forecast(made.local, left, (made.train_dtype, made.score_dtype), cache_gib), made, cache_gib)
        return
    began = time.monotonic()
    types = (made.train_dtype, made.score_dtype)
    count = workers or (forecast.processes(made.local, left, types, cache_gib) if made.device == "cpu" else 1)
    order = Order(
        name,
        domain,
        scale,
        overrides(settings),
        made.local,
        folder,
        *types,
        cache_gib,
        made.device,
        max(1, forecast.cores() // count),
    )
    with hired(count, order) as hands, progress() as watch:
        page, where = runs.execute(made, plan, watch, ["selfaware", *map(shlex.quote, sys.argv[1:])], hands)
    top_line(page)
    out.print(
        f"\n{len(left)} of {len(plan.jobs)} cells made in {(time.monotonic() - began) / 60:.1f} minutes by {count} process{'es' if count > 1 else ''}"
    )
    out.print(f"report: {where}", soft_wrap=True)


def _say(found: forecast.Forecast, made: Bench, cache_gib: float) -> None:
    """A forecast, for --dry-run."""
    rates = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in found.rates.items())
    out.print(
        f"about {found.fits + found.others:,.0f} tokens, {found.fits:,.0f} of them in fits ({made.train_dtype}), the others in {made.score_dtype}"
    )
    if made.device == "cpu":
        out.print(
            f"about {found.seconds / 60:.1f} minutes at this machine's rate ({rates} GFLOP/s in a 2048³ product), {found.gib:.1f} GiB of memory"
        )
    on_gpu = ", ".join(f"{name} {gib:.0f}" for name, gib in forecast.on_gpu(cache_gib).items())
    out.print(f"[dim]GPU memory for the papers' models in bfloat16, GiB: {on_gpu}[/]")


def audit(
    path: Annotated[str, typer.Argument(help="A PEFT folder, a fit cell, or a safetensors vector.")],
    scale: Annotated[str, typer.Option(help="How big: smoke, demo, small or full.")] = "small",
    domain: DomainName = DEFAULT_DOMAIN,
    site: Annotated[str, typer.Option(help="Where a bare vector is added, for example 15 or 15.mlp.")] = "",
    positions: Annotated[
        str | None, typer.Option(help="last_prompt, answer or all; unnamed, what the file says, else all.")
    ] = None,
    strength: Annotated[float, typer.Option(help="Multiplies what is added.")] = 1.0,
    settings: Sets = None,
    model: ModelName = DEFAULT_MODEL,
    folder: Runs = Path("runs"),
    cache_gib: Cache = 1.5,
    workers: Workers = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
) -> None:
    """Measures somebody else's adapter or vector, without a fit; gives the page of first-look for it."""
    where = None if positions is None else cast(Positions, one_of("positions", positions, POSITIONS))
    which = given(path, site, where, strength)
    named = [f"given.{f.name}={getattr(which, f.name)}" for f in fields(which)]
    run("audit", scale, domain, [*named, *(settings or [])], model, folder, cache_gib, workers, dry_run)


def report(
    name: Annotated[str, typer.Argument(help="An experiment's name.")],
    scale: Annotated[str, typer.Option(help="The scale it was run at.")] = "small",
    domain: DomainName = DEFAULT_DOMAIN,
    model: Annotated[str, typer.Option("--model", help="The model's name.")] = DEFAULT_MODEL,
    folder: Runs = Path("runs"),
) -> None:
    """Writes the page again from saved answers; needs no model."""
    runs.find(name)
    page, where = runs.again(Store(folder), name, model, loader.load(domain).name, scale)
    top_line(page)
    out.print(f"report: {where}", soft_wrap=True)
