"""KNOWS argv and the environment: one function for each command. Must not know any science."""

import sys
from typing import Annotated, NoReturn

import typer
from rich.markup import escape

from selfaware import __version__
from selfaware.cli import bench, experiment, look, published, stage
from selfaware.errors import SelfawareError
from selfaware.terminal import err, out

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A bench for behavioural self-awareness.",
)
app.command("list")(look.list_)
for command in (
    look.show,
    look.check,
    stage.fit,
    stage.ask,
    stage.score,
    experiment.run,
    experiment.audit,
    experiment.report,
    bench.bench,
):
    app.command()(command)
app.add_typer(published.app, name="import")


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
