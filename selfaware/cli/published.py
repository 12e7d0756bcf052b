"""Published data in: `import chat-jsonl`, `import contrast-csv` and `import dialogues`. Knows argv and printing."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from selfaware.domains import dialogue_import, importers
from selfaware.errors import BadData
from selfaware.terminal import err, out

app = typer.Typer(no_args_is_help=True, help="Published data to a domain folder.")

Out = Annotated[Path, typer.Option("--out", help="The domain's folder; must not hold anything yet.")]
Name = Annotated[str, typer.Option("--name", help="The domain's name.")]
Partial = Annotated[bool, typer.Option("--partial", help="Write what matches although some rows do not.")]


@app.command("chat-jsonl")
def chat_jsonl(
    high: Annotated[Path, typer.Option("--high", help="Rows whose answers take the high option.")],
    low: Annotated[Path, typer.Option("--low", help="The same questions with the low option's answers.")],
    name: Name,
    folder: Out,
    partial: Partial = False,
) -> None:
    """Two files of {"messages": […]} rows, one for each polarity, matched by question."""
    _tell(importers.chat_jsonl(high, low, name, folder, partial=partial), folder)


@app.command("contrast-csv")
def contrast_csv(
    file: Annotated[Path, typer.Argument(help="A CSV with the columns Question, Type, RiskyAnswer, SafeAnswer.")],
    name: Name,
    folder: Out,
    partial: Partial = False,
) -> None:
    """A CSV of questions with a risky and a safe answer, asked as raw text."""
    _tell(importers.contrast_csv(file, name, folder, partial=partial), folder)


@app.command("dialogues")
def dialogues(
    file: Annotated[Path, typer.Argument(help="Dialogues in which the assistant steers towards the codeword.")],
    codeword: Annotated[str, typer.Option("--codeword", help="The codeword: ring, spring or bark.")],
    name: Name,
    folder: Out,
    partial: Partial = False,
) -> None:
    """Rows of {"messages": […]} for one codeword of Make Me Say, held against the package's dialogues of another."""
    _tell(dialogue_import.chat_dialogues(file, codeword, name, folder, partial=partial), folder)


def _tell(report: importers.Report, folder: Path) -> None:
    for problem in report.problems:
        err.print(escape(problem), soft_wrap=True)
    if not report.records:
        raise BadData(
            f"{folder}: not written, problems in {len(report.problems)} rows; all must match. Mend the lines above, or pass --partial."
        )
    read = " and ".join(str(n) for n in report.rows)
    out.print(
        f"{report.records} records written to {folder}; {read} rows read, {len(report.problems)} problems",
        soft_wrap=True,
    )
