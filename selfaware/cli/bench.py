"""The bench: the same work here and elsewhere, and the distance from the machine's limit. Knows argv and printing."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from selfaware.bench import measure as bench_measure
from selfaware.bench import nets, works
from selfaware.bench.contender import Places
from selfaware.bench.measure import Result
from selfaware.bench.spent import KINDS
from selfaware.cli.options import DEFAULT_DOMAIN, DEFAULT_MODEL, located
from selfaware.domains import loader
from selfaware.models import load
from selfaware.models.hf import Model
from selfaware.store import write_json
from selfaware.terminal import err, out, progress

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def bench(
    work: Annotated[list[str] | None, typer.Option("--work", help="A work's name; all of them unless named.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help=f"A model; {DEFAULT_MODEL} and {nets.NAME} unless named."),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Type of the weights; the one that is fast here unless named.")] = "",
    pairs: Annotated[int, typer.Option(help="How often either side does each work.", min=1)] = 5,
    file: Annotated[Path | None, typer.Option("--json", help="Write the result into this file.")] = None,
    environments: Annotated[
        Path, typer.Option(help="Folder of the contenders' Python environments (benchmarks/setup.sh makes them).")
    ] = BENCHMARKS / ".venvs",
    contenders: Annotated[Path, typer.Option(help="Folder of the contenders' scripts.")] = BENCHMARKS / "contenders",
    limits: Annotated[bool, typer.Option(help="Also measure the distance from the machine's limit.")] = True,
    quick: Annotated[
        bool, typer.Option("--quick", help="A fraction of each work, to see that all of it runs.")
    ] = False,
) -> None:
    """Times the same work here and in other libraries; exit code 1 where their numbers differ."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's, which says on stderr that it starts and stops
    chosen = works.named(work or [], quick)
    names, kind = model or [DEFAULT_MODEL, nets.NAME], dtype or load.fastest_dtype()
    domain = loader.load(DEFAULT_DOMAIN)
    asked = {form: domain.questions("choices", "train", form) for form in ("cloze", "letters")}
    made = [_maker(name, kind) for name in names]
    with progress() as watch:
        places = Places(contenders, environments.expanduser().absolute())
        result = bench_measure.measure(made, chosen, asked, places, pairs, limits, watch)
    if file:
        write_json(file, result.plain())
    _print(result)
    if not result.ok:
        err.print("[bold red]numbers differ[/] by more than the plain forward's own rounding; see the rows marked so")
        raise typer.Exit(1)


def _maker(name: str, dtype: str) -> Callable[[Path], Model]:
    local = located(DEFAULT_MODEL if name == nets.NAME else name)

    def make(folder: Path) -> Model:
        loaded = load.load(local, dtype)
        return nets.random_llama(loaded, folder, dtype) if name == nets.NAME else loaded

    return make


def _print(result: Result) -> None:
    about = result.header
    rates = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in about["matmul"].items())
    out.print(f"{escape(about['cpu'])}, {about['threads']} threads; GFLOP/s of a 2048³ product: {rates}")
    table = Table(box=None, pad_edge=False)
    for column in (
        "work",
        "against",
        "model",
        "times as fast [least, most]",
        "seconds, ours / theirs",
        "numbers differ by (may)",
    ):
        table.add_column(column, overflow="fold")
    for line in result.lines:
        cells = [escape(line.work), escape(line.against), escape(line.model)]
        if line.ratio is None:
            table.add_row(*cells, f"[dim]{escape(line.why)}[/]", "", "")
            continue
        differ = f"{line.strict_difference:.2g} ({line.tolerance:.2g})"
        table.add_row(
            *cells,
            f"{line.ratio:.2f} [{line.low:.2f}, {line.high:.2f}]".replace("[", r"\["),
            f"{line.seconds_ours:.3g} / {line.seconds_theirs:.3g}",
            differ if line.same else f"[red]{differ}: not the same[/]",
        )
    out.print(table)
    if not result.stages:
        return
    stages = Table(box=None, pad_edge=False)
    for column in ("stage", "model", "tokens", "of the limit", "same shapes", *KINDS):
        stages.add_column(column, overflow="fold")
    for stage in result.stages:
        shares = [f"{stage.spent[k]:.0%}" for k in KINDS]
        stages.add_row(
            escape(stage.name),
            escape(stage.model),
            str(stage.tokens),
            f"{stage.share:.0%}",
            f"{stage.share_same_shapes:.0%}",
            *shares,
        )
    out.print()
    out.print(stages)
