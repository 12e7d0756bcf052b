"""The bench: the same work here and elsewhere, and the distance from the machine's limit. Knows argv and printing."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from selfaware.bench import measure as bench_measure
from selfaware.bench import nets, works
from selfaware.bench.contender import Places
from selfaware.bench.limit import Stage
from selfaware.bench.measure import Result
from selfaware.bench.pairs import Line
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
    pairs: Annotated[
        int, typer.Option(help="How often either side does each work; 0 measures the limits alone.", min=0)
    ] = 5,
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
    for name in dict.fromkeys(line.model for line in result.lines):
        out.print(f"\n[bold]{escape(name)}[/]")
        out.print(_rows([line for line in result.lines if line.model == name]))
    for name in dict.fromkeys(stage.model for stage in result.stages):
        out.print(f"\n[bold]{escape(name)}: share of what the machine can do[/]; of that time, in per cent:")
        out.print(_stages([stage for stage in result.stages if stage.model == name]))


def _rows(lines: Sequence[Line]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("work", "against"):
        table.add_column(column, overflow="fold", min_width=12)
    for column in ("times as fast", "ours, s", "theirs, s", "differ", "may"):
        table.add_column(column, justify="right", overflow="fold")
    for line in lines:
        cells = [escape(line.work), escape(line.against)]
        if line.ratio is None:
            table.add_row(*cells, f"[dim]{escape(line.why)}[/]")
            continue
        ratio = f"{line.ratio:.1f} [{line.low:.1f}, {line.high:.1f}]".replace("[", r"\[")
        differ = f"{line.strict_difference:.2g}"
        table.add_row(
            *cells,
            ratio,
            f"{line.seconds_ours:.3g}",
            f"{line.seconds_theirs:.3g}",
            differ if line.same else f"[red]{differ}: not the same[/]",
            f"{line.tolerance:.2g}",
        )
    return table


def _stages(stages: Sequence[Stage]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("stage", overflow="fold", min_width=14)
    for column in ("tokens", "limit", "same shapes", *KINDS):
        table.add_column(column, justify="right", overflow="fold")
    for stage in stages:
        shares = [f"{100 * stage.spent[k]:.0f}" for k in KINDS]
        own = f"{stage.share_same_shapes:.0%}"
        table.add_row(escape(stage.name), str(stage.tokens), f"{stage.share:.0%}", own, *shares)
    return table
