"""Commands that only look: list, show, check. Knows argv and printing."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from selfaware.cli.options import DEFAULT_DOMAIN, DEFAULT_MODEL, METHODS, ModelName, located, one_of
from selfaware.domains import checks, loader
from selfaware.errors import SelfawareError
from selfaware.experiments import run as runs
from selfaware.models import hub, load
from selfaware.models.render import encode, prompt_text, render
from selfaware.terminal import err, out
from selfaware.types import FORMS, PARTS, POLARITIES, TEMPLATES, Part, Template


def list_() -> None:
    """Models, domains, experiments and methods that have a name."""
    table = Table(box=None, pad_edge=False)
    for column in ("kind", "name", "what"):
        table.add_column(column, overflow="fold")
    for name, entry in hub.catalogue().items():
        table.add_row("model", name, escape(entry.note or entry.licence))
    for name in loader.names():
        domain = loader.load(name)
        table.add_row(
            "domain", name, escape(f"{domain.title}: {len(domain.records)} records, {len(domain.items)} items")
        )
    for name, experiment in runs.experiments().items():
        table.add_row("experiment", name, experiment.QUESTION)
    for name, method in METHODS.items():
        table.add_row("method", name, (method.__doc__ or "").splitlines()[0])
    out.print(table)


def show(
    domain: Annotated[str, typer.Argument(help="A domain's name or folder.")] = DEFAULT_DOMAIN,
    questions: Annotated[
        str, typer.Option(help=f"{', '.join(loader.SETS)}, or sampled: {', '.join(loader.OPEN_SETS)}.")
    ] = "choices",
    part: Annotated[str, typer.Option(help="train, validation or test (choices only).")] = "train",
    form: Annotated[str | None, typer.Option(help="cloze or letters; the domain's own unless named.")] = None,
    template: Annotated[str, typer.Option(help="raw or chat.")] = "raw",
    polarity: Annotated[str, typer.Option(help="high or low: whose answer is trained.")] = "high",
    number: Annotated[int, typer.Option("--number", "-n", help="How many.", min=1)] = 2,
    model: ModelName = DEFAULT_MODEL,
) -> None:
    """Prompts as the model sees them, token by token, with the tokens under the loss marked."""
    loaded = loader.load(domain)
    side: Part = one_of("part", part, PARTS)  # type: ignore[assignment]
    style: Template = one_of("template", template, TEMPLATES)  # type: ignore[assignment]
    tokenizer, context, system = load.load_tokenizer(located(model))
    if questions in loader.OPEN_SETS:
        for asked in loaded.opens(questions, side)[:number]:
            text = prompt_text(tokenizer, asked.prompt, style, system)
            out.rule(
                f"{asked.id}  ·  family {asked.family}  ·  {len(encode(tokenizer, text, style))} prompt tokens, answered freely"
            )
            out.print(escape(text), soft_wrap=True)
            marks = f"counts as 1: {', '.join(asked.high)}; as 0: {', '.join(asked.low)}" if asked.high else "0 to 100"
            out.print(f"  reads a {asked.reads}{', mirrored' if asked.mirror else ''}: {escape(marks)}", style="dim")
        return
    chosen = loaded.questions(questions, side, loaded.form if form is None else one_of("form", form, FORMS))[:number]  # type: ignore[arg-type]
    for question in chosen:
        rendered = render(tokenizer, question, style, context, system)
        answer = rendered.options[question.chosen(one_of("polarity", polarity, POLARITIES))][0]  # type: ignore[arg-type]
        out.rule(
            f"{question.id}  ·  family {question.family}  ·  {len(rendered.prompt)} prompt tokens, {len(answer)} under the loss"
        )
        out.print(
            "".join(_token(tokenizer, i) for i in rendered.prompt)
            + "[bold reverse]"
            + "[/]·[bold reverse]".join(_token(tokenizer, i) for i in answer)
            + "[/]"
        )
        for at, option in enumerate(question.options):
            out.print(f"  option {at} ({'high' if at == question.high else 'low'}): {escape(option)}", style="dim")


def _token(tokenizer: Any, id: int) -> str:
    return escape(tokenizer.decode([id]))


def check(
    name: Annotated[str, typer.Argument(help="A domain (name or folder) or a model (name, hub id or folder).")],
) -> None:
    """Whether a domain keeps its rules, or a model's files are whole and its sites are found."""
    folder = Path(name).expanduser()
    if (
        name in loader.names()
        or (folder / "domain.toml").is_file()
        or (folder.is_dir() and not (folder / "config.json").is_file())
    ):
        report = checks.check(loader.load(name))
        table = Table("check", "found", "rule", "", box=None, pad_edge=False)
        for line in report.lines:
            table.add_row(
                line.name,
                line.found,
                line.rule,
                "[green]ok[/]" if line.ok else "[red]broken[/]" if report.strict else "[yellow]note[/]",
            )
        out.print(table)
        for problem in report.problems:
            err.print(escape(problem))
        if report.strict and not report.ok:
            raise SelfawareError(
                f"domain {name}: {sum(not x.ok for x in report.lines)} rules broken; all must hold. Mend the lines above."
            )
        return
    local = located(name)
    hub.verify(local)
    net = load.load(local, "float32")
    table = Table("what", "found", box=None, pad_edge=False)
    for what, found in load.describe(net):
        table.add_row(what, escape(found))
    out.print(table)
