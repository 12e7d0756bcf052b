"""The stages one by one: fit, ask, score. Knows argv and printing."""

from pathlib import Path
from typing import Annotated, cast

import typer
from rich.table import Table

from selfaware import spec, stats
from selfaware.cli.options import (
    DEFAULT_DOMAIN,
    DEFAULT_MODEL,
    METHODS,
    Cache,
    DomainName,
    Method,
    ModelName,
    Runs,
    Sets,
    bench,
    one_of,
    overrides,
)
from selfaware.domains import loader
from selfaware.errors import unknown
from selfaware.interventions import peft_io
from selfaware.interventions.base import Intervention
from selfaware.interventions.given import Given, given
from selfaware.metrics import options
from selfaware.models.batch import Row
from selfaware.stages import Bench, Questions, rescore
from selfaware.store import Store
from selfaware.terminal import err, out, progress
from selfaware.types import FORMS, PARTS, POLARITIES, TEMPLATES, Form, Part, Polarity, Question, Sampling, Template


def fit(
    domain: Annotated[str, typer.Argument(help="A domain's name or folder.")] = DEFAULT_DOMAIN,
    method: Annotated[str, typer.Option(help="lora, vector or given (--set path=…).")] = "lora",
    polarity: Annotated[str, typer.Option(help="high or low.")] = "high",
    seed: Annotated[int, typer.Option(help="Seeds the start, the order of rows and of options.")] = 0,
    form: Annotated[str | None, typer.Option(help="cloze or letters; the domain's own unless named.")] = None,
    export: Annotated[Path | None, typer.Option(help="Also write the adapter for PEFT into this folder.")] = None,
    all_positions: Annotated[
        bool, typer.Option(help="Export although PEFT acts at all positions and this adapter does not.")
    ] = False,
    settings: Sets = None,
    model: ModelName = DEFAULT_MODEL,
    folder: Runs = Path("runs"),
    cache_gib: Cache = 1.5,
) -> None:
    """Fits one intervention and prints its cell's id."""
    kind = METHODS[one_of("method", method, tuple(METHODS))]
    recipe: Method = spec.override(kind(), overrides(settings))
    if isinstance(recipe, Given):
        recipe = given(
            recipe.path, recipe.site, recipe.positions if "positions" in overrides(settings) else None, recipe.strength
        )
    examples = _questions(domain, "choices", "train", form)
    side: Polarity = one_of("polarity", polarity, POLARITIES)  # type: ignore[assignment]
    made = bench(model, folder, cache_gib)
    cell = made.fit_cell(examples, recipe, side, seed)
    with progress() as watch:
        fitted = made.fit(
            examples, recipe, side, seed, lambda share: watch(share, 1.0, f"fit {recipe.label} · {polarity}")
        )
    if export:
        net = made.model(made.score_dtype)
        peft_io.export(fitted, export, net, all_positions=all_positions)
        rendered = [net.render(q, "raw") for q in examples[:16]]
        rows = [Row(r.prompt, option[0]) for r in rendered for option in r.options]
        moved = peft_io.positions_matter(fitted, net, rows)
        err.print(f"adapter for PEFT: {export}; acting at all positions changes an answer by up to {moved:.3f} nats")
    out.print(cell.id)
    err.print(
        f"{recipe.label} · {polarity} · seed {seed}: {made.store.cell(cell.id).folder}  ({made.seconds(cell.id):.0f} s)"
    )


def ask(
    who: Annotated[str, typer.Argument(help="base, or a fit cell's id.")] = "base",
    domain: DomainName = DEFAULT_DOMAIN,
    questions: Annotated[
        str, typer.Option(help=f"{', '.join(loader.SETS)}, or sampled: {', '.join(loader.OPEN_SETS)}.")
    ] = "choices",
    part: Annotated[str, typer.Option(help="train, validation or test (choices only).")] = "validation",
    form: Annotated[str | None, typer.Option(help="cloze or letters; the domain's own unless named.")] = None,
    template: Annotated[str, typer.Option(help="raw or chat.")] = "raw",
    model: ModelName = DEFAULT_MODEL,
    folder: Runs = Path("runs"),
    cache_gib: Cache = 1.5,
) -> None:
    """Asks one arm a question set and prints the ask cell's id."""
    of = loader.load(domain)
    asked: Questions = (
        of.opens(questions, cast(Part, one_of("part", part, PARTS)))
        if questions in loader.OPEN_SETS
        else _questions(domain, questions, part, form)
    )
    made = bench(model, folder, cache_gib)
    cell, loaded = _fitted(made, who)
    style: Template = one_of("template", template, TEMPLATES)  # type: ignore[assignment]
    with progress() as watch:
        how = of.sampling(questions, Sampling())
        made.ask(asked, cell, loaded, style, lambda share: watch(share, 1.0, f"ask {who} · {questions}"), how)
    out.print(made.ask_cell(asked, cell, style, how).id)


def _questions(domain: str, questions: str, part: str, form: str | None) -> tuple[Question, ...]:
    loaded, side = loader.load(domain), cast(Part, one_of("part", part, PARTS))
    return loaded.questions(questions, side, loaded.form if form is None else cast(Form, one_of("form", form, FORMS)))


def _fitted(made: Bench, who: str) -> tuple[str, Intervention | None]:
    if who == "base":
        return "", None
    cell = made.store.cell(who)
    if not cell.path("delta.safetensors").is_file():
        known = [p.parent.name for p in made.store.root.glob("cells/*/delta.safetensors")]
        raise unknown("fit cell", who, ["base", *known])
    cell.whole()
    return who, Intervention.load(cell.path("delta.safetensors"))


def score(cell: Annotated[str, typer.Argument(help="An ask cell's id.")], folder: Runs = Path("runs")) -> None:
    """Scores saved answers again; needs no model."""
    questions, scores = rescore(Store(folder), cell)
    table = Table("family", "score", box=None, pad_edge=False)
    for family, value in options.by_family(scores).items():
        table.add_row(family, "unknown" if value is None else f"{value:+.3f}")
    out.print(table)
    out.print(
        f"mean {stats.spoken(stats.estimate([options.by_family(scores)], 'score', fitted=False))} over {len({q.family for q in questions})} families"
    )
