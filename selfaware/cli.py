"""argv to verbs: one function for each command. The only room that reads the environment."""

import os
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.markup import escape
from rich.table import Table

from selfaware import __version__, spec, stats
from selfaware.domains import checks, loader
from selfaware.errors import SelfawareError, unknown
from selfaware.experiments import run as runs
from selfaware.interventions import peft_io
from selfaware.interventions.base import Intervention
from selfaware.interventions.lora import Lora
from selfaware.interventions.steer import Vector
from selfaware.metrics import options
from selfaware.models import hub, load
from selfaware.models.batch import Row
from selfaware.models.render import render
from selfaware.stages import Bench, rescore
from selfaware.store import Store, read_json, write_json
from selfaware.terminal import err, out, progress, top_line
from selfaware.types import PARTS, POLARITIES, TEMPLATES, Part, Polarity, Question, Template

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help=__doc__ and "A bench for behavioural self-awareness.",
)

METHODS: dict[str, type[Lora] | type[Vector]] = {"lora": Lora, "vector": Vector}

ModelName = Annotated[str, typer.Option("--model", help="A catalogue name, a hub id, or a folder.")]
DomainName = Annotated[str, typer.Option("--domain", help="A domain's name, or its folder.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a setting: --set lora.training.learning_rate=0.003", metavar="A.B=C"),
]
Runs = Annotated[Path, typer.Option("--runs", help="Folder for cells and pages.")]
Cache = Annotated[
    float, typer.Option("--cache-gib", help="Memory for keys and values of prompts, GiB, per loaded type.")
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


@app.command("list")
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


@app.command()
def show(
    domain: Annotated[str, typer.Argument(help="A domain's name or folder.")] = DEFAULT_DOMAIN,
    questions: Annotated[str, typer.Option(help="choices, self, twin or unrelated.")] = "choices",
    part: Annotated[str, typer.Option(help="train, validation or test (choices only).")] = "train",
    form: Annotated[str, typer.Option(help="cloze or letters.")] = "cloze",
    template: Annotated[str, typer.Option(help="raw or chat.")] = "raw",
    polarity: Annotated[str, typer.Option(help="high or low: whose answer is trained.")] = "high",
    number: Annotated[int, typer.Option("--number", "-n", help="How many.", min=1)] = 2,
    model: ModelName = DEFAULT_MODEL,
) -> None:
    """Prompts as the model sees them, token by token, with the tokens under the loss marked."""
    loaded = loader.load(domain)
    chosen = loaded.questions(questions, one_of("part", part, PARTS), form)[:number]  # type: ignore[arg-type]
    tokenizer, context, system = load.load_tokenizer(located(model))
    for question in chosen:
        rendered = render(tokenizer, question, one_of("template", template, TEMPLATES), context, system)  # type: ignore[arg-type]
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


def one_of(kind: str, got: str, known: tuple[str, ...]) -> str:
    """`got`, when it is one of the known names."""
    if got not in known:
        raise unknown(kind, got, known)
    return got


@app.command()
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


@app.command()
def fit(
    domain: Annotated[str, typer.Argument(help="A domain's name or folder.")] = DEFAULT_DOMAIN,
    method: Annotated[str, typer.Option(help="lora or vector.")] = "lora",
    polarity: Annotated[str, typer.Option(help="high or low.")] = "high",
    seed: Annotated[int, typer.Option(help="Seeds the start, the order of rows and of options.")] = 0,
    form: Annotated[str, typer.Option(help="cloze or letters.")] = "cloze",
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
    recipe: Lora | Vector = spec.override(METHODS[one_of("method", method, tuple(METHODS))](), overrides(settings))
    examples = loader.load(domain).questions("choices", "train", one_of("form", form, ("cloze", "letters")))  # type: ignore[arg-type]
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
        rendered = [net.render(q, recipe.training.template) for q in examples[:16]]
        rows = [Row(r.prompt, option[0]) for r in rendered for option in r.options]
        moved = peft_io.positions_matter(fitted, net, rows)
        err.print(f"adapter for PEFT: {export}; acting at all positions changes an answer by up to {moved:.3f} nats")
    out.print(cell.id)
    err.print(
        f"{recipe.label} · {polarity} · seed {seed}: {made.store.cell(cell.id).folder}  ({made.seconds(cell.id):.0f} s)"
    )


@app.command()
def ask(
    who: Annotated[str, typer.Argument(help="base, or a fit cell's id.")] = "base",
    domain: DomainName = DEFAULT_DOMAIN,
    questions: Annotated[str, typer.Option(help="choices, self, twin or unrelated.")] = "choices",
    part: Annotated[str, typer.Option(help="train, validation or test (choices only).")] = "validation",
    form: Annotated[str, typer.Option(help="cloze or letters.")] = "cloze",
    template: Annotated[str, typer.Option(help="raw or chat.")] = "raw",
    model: ModelName = DEFAULT_MODEL,
    folder: Runs = Path("runs"),
    cache_gib: Cache = 1.5,
) -> None:
    """Asks one arm a question set and prints the ask cell's id."""
    asked = _questions(domain, questions, part, form)
    made = bench(model, folder, cache_gib)
    cell, loaded = _fitted(made, who)
    style: Template = one_of("template", template, TEMPLATES)  # type: ignore[assignment]
    with progress() as watch:
        made.ask(asked, cell, loaded, style, lambda share: watch(share, 1.0, f"ask {who} · {questions}"))
    out.print(made.ask_cell(asked, cell, style).id)


def _questions(domain: str, questions: str, part: str, form: str) -> tuple[Question, ...]:
    side: Part = one_of("part", part, PARTS)  # type: ignore[assignment]
    return loader.load(domain).questions(questions, side, form)  # type: ignore[arg-type]


def _fitted(made: Bench, who: str) -> tuple[str, Intervention | None]:
    if who == "base":
        return "", None
    cell = made.store.cell(who)
    if not cell.path("delta.safetensors").is_file():
        known = [p.parent.name for p in made.store.root.glob("cells/*/delta.safetensors")]
        raise unknown("fit cell", who, ["base", *known])
    cell.whole()
    return who, Intervention.load(cell.path("delta.safetensors"))


@app.command()
def score(cell: Annotated[str, typer.Argument(help="An ask cell's id.")], folder: Runs = Path("runs")) -> None:
    """Scores saved answers again; needs no model."""
    questions, scores = rescore(Store(folder), cell)
    table = Table("family", "score towards high, nats", box=None, pad_edge=False)
    for family, value in options.by_family(scores).items():
        table.add_row(family, "unknown" if value is None else f"{value:+.3f}")
    out.print(table)
    out.print(
        f"mean {stats.spoken(stats.estimate([options.by_family(scores)], 'nats', fitted=False))} over {len({q.family for q in questions})} families"
    )


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="An experiment's name.")],
    scale: Annotated[str, typer.Option(help="How big: smoke, demo, small or full.")] = "small",
    domain: DomainName = DEFAULT_DOMAIN,
    settings: Sets = None,
    model: ModelName = DEFAULT_MODEL,
    folder: Runs = Path("runs"),
    cache_gib: Cache = 1.5,
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
        out.print(
            f"about {sum(j.cost for j in left):,.0f} tokens; {made.train_dtype} in fits, {made.score_dtype} in scores, on {made.device}"
        )
        return
    began = time.monotonic()
    with progress() as watch:
        page, where = runs.execute(made, plan, watch, ["selfaware", *map(shlex.quote, sys.argv[1:])])
    top_line(page)
    out.print(f"\n{len(left)} of {len(plan.jobs)} cells made in {(time.monotonic() - began) / 60:.1f} minutes")
    out.print(f"report: {where}", soft_wrap=True)


@app.command()
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


@app.callback(invoke_without_command=True)
def top(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """A bench for behavioural self-awareness: does a language model know what it has been trained to do?"""
    if version:
        out.print(__version__)
        raise typer.Exit


def main() -> NoReturn:
    """The command line; errors meant for people come as one line and exit code 2."""
    try:
        app()
    except SelfawareError as error:
        err.print(f"[bold red]error[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("interrupted; run the same command again to go on where it stopped")
        sys.exit(130)
    sys.exit(0)
