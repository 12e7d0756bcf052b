"""What a person at a terminal sees: progress with the time left, the top-line table. Knows pages, no command."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from selfaware import launch
from selfaware.report.page import Page
from selfaware.stats import spoken
from selfaware.types import Estimate

LINES = 8
"""So many headline measures are printed; all of them stand on the page."""
ROWS = 24
"""Of one measure, so many rows are printed."""
LEVELS = ("choice_share",)
"""Measures of which the levels are printed too."""

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


@contextmanager
def progress() -> Iterator[launch.Watch]:
    """A bar with the time left on a terminal, a line every half minute elsewhere."""
    started = last = time.monotonic()

    def line(done: float, total: float, label: str) -> None:
        nonlocal last
        now = time.monotonic()
        if label == "done" or now - last < 30:
            return
        last = now
        share = done / total if total else 1.0
        left = (now - started) * (1 - share) / max(share, 1e-9)
        err.print(
            f"{share:4.0%}  {(now - started) / 60:.1f} min gone"
            + (f", about {left / 60:.1f} min left" if share > 0.02 else "")
            + f"  {escape(label)}"
        )

    if not err.is_terminal:
        yield line
        return
    columns = (
        TextColumn("{task.percentage:>3.0f}%"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=err, transient=True, speed_estimate_period=120) as bar:
        task = bar.add_task("", total=1)
        yield lambda done, total, label: bar.update(
            task, completed=done, total=max(total, 1e-9), description=escape(label)
        )


def top_line(page: Page) -> None:
    """Prints the verdicts and the headline rows."""
    table = Table(title=page.title, box=None, pad_edge=False, title_justify="left")
    for column in ("arm", "polarity", "value [95 % interval]", "families × seeds"):
        table.add_column(column, overflow="fold")
    effects = {r.measure for r in page.rows if r.polarity == "effect"}
    shown = [
        r
        for r in page.rows
        if r.polarity == "effect" or (r.kind == "absolute" and (r.measure in LEVELS or r.measure not in effects))
    ]
    for measure, questions in dict.fromkeys(
        (m, r.questions) for m in page.headline[:LINES] for r in shown if r.measure == m
    ):
        rows = [r for r in shown if (r.measure, r.questions) == (measure, questions)][:ROWS]
        table.add_row(f"[bold]{escape(measure)}[/]", "", f"[dim]{escape(questions)}, {escape(rows[0].unit)}[/]", "")
        for row in rows:
            estimate = Estimate(
                row.value, row.low, row.high, row.n, row.seeds, row.unit, row.unknown, row.detectable, row.why
            )
            text = spoken(estimate) if row.kind == "shift" else spoken(estimate).replace("+", "")
            table.add_row(f"  {escape(row.method)}", row.polarity, escape(text), f"{row.n} × {row.seeds}")
    out.print(table)
    out.print()
    for verdict in page.verdicts:
        colour = {"yes": "green", "no": "red", "unclear": "yellow"}[verdict.answer]
        out.print(
            f"[bold]{verdict.claim}[/]: [bold {colour}]{verdict.answer}[/] ({escape(verdict.reason)}). {escape(verdict.text)}"
        )
    for what, why in page.failures:
        err.print(f"[red]failed[/] {escape(what)}: {escape(why)}")
