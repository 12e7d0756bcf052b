"""What finished cells hold, read from their files: answers, scores, numbers, vectors. Needs no model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from safetensors.numpy import load_file

from selfaware import spec
from selfaware.errors import BadFile
from selfaware.interventions.base import Constant, Intervention
from selfaware.metrics import damage, options, parse
from selfaware.store import Store, append_lines, read_json, read_lines, replacing
from selfaware.types import Answer, Open, Passage, Question, Reading, Said, Score, Site

Questions = Sequence[Question] | Sequence[Open] | Sequence[Passage]
Answers = tuple[Answer, ...] | tuple[Said, ...] | tuple[Reading, ...]


@dataclass(frozen=True)
class Seen:
    """What a look cell holds: arrays and lists of text by name; see the readout that made it."""

    numbers: Mapping[str, NDArray[Any]]
    words: Mapping[str, tuple[str, ...]]


def asked(store: Store, id: str) -> tuple[tuple[Any, ...], tuple[str, ...], tuple[Any, ...]]:
    """What an ask cell holds: its questions, the prompts' texts as the model saw them, its answers, all of one kind.

    Raises:
        BadFile: there is no such finished cell.
    """
    cell = store.cell(id)
    if not cell.whole():
        raise BadFile(
            f"{cell.folder}: not a finished ask cell; one is needed. Ask first, or give the id that `selfaware ask` printed."
        )
    rows = read_lines(cell.path("questions.jsonl"))
    kind = {"Question": Question, "Open": Open, "Passage": Passage}
    questions = tuple(spec.build(kind[row["question"]["is"]], row["question"]) for row in rows)
    return questions, tuple(row["text"] for row in rows), answers(read_lines(cell.path("answers.jsonl")))


def looked(store: Store, id: str) -> Seen:
    """What a look cell holds.

    Raises:
        BadFile: there is no such finished cell.
    """
    cell = store.cell(id)
    if not cell.whole():
        raise BadFile(f"{cell.folder}: not a finished look cell; one is needed. Run the experiment that looks.")
    words = {k: tuple(v) for k, v in read_json(cell.path("words.json")).items()}
    return Seen(load_file(cell.path("numbers.safetensors")), words)


def vectors(store: Store, id: str) -> dict[Site, NDArray[Any]]:
    """The constant vectors of a fit cell by site.

    Raises:
        BadFile: there is no such finished cell.
    """
    cell = store.cell(id)
    if not cell.whole():
        raise BadFile(f"{cell.folder}: not a finished fit cell; one is needed. Fit it first.")
    made = Intervention.load(cell.path("delta.safetensors"))
    return {site: delta.v.numpy() for site, delta in made.deltas.items() if isinstance(delta, Constant)}


def rescore(store: Store, id: str) -> tuple[tuple[Any, ...], tuple[Score, ...]]:
    """An ask cell's questions and the scores of its answers, written beside them as `scores.jsonl` (value, or null with a reason)."""
    questions, _, found = asked(store, id)
    made = scored(questions, found)
    path = store.cell(id).path("scores.jsonl")
    if not path.is_file():
        with replacing(path) as temporary:
            append_lines(temporary, [spec.plain(s) for s in made])
    return questions, made


def scored(questions: Sequence[Any], answers: Sequence[Any]) -> tuple[Score, ...]:
    """Scores of the kind that the questions ask for: options in nats, open answers from 0 to 1, passages in nats per token."""
    if questions and isinstance(questions[0], Open):
        return parse.scores(questions, answers)
    return (
        damage.scores(questions, answers)
        if questions and isinstance(questions[0], Passage)
        else options.scores(questions, answers)
    )


def answers(rows: Sequence[dict[str, Any]]) -> Any:
    """The rows of an answers file as answers, all of one kind.

    Raises:
        BadFile: they are of several kinds, or of none that is known.
    """
    kinds: dict[str, type] = {"Answer": Answer, "Said": Said, "Reading": Reading}
    try:
        return tuple(spec.build(kinds[row["is"]], row) for row in rows)
    except (TypeError, KeyError) as error:
        raise BadFile(
            f"answers: {error}; rows of one kind of answer are needed. Delete the cell and run again."
        ) from error
