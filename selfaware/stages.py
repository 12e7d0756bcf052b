"""One cell, three functions: fit → ask → score, each skipped when its file is whole. Knows models and recipes, no claim.

A *fit cell* is model × training questions × recipe × polarity × seed; an *ask cell* is a fit cell, or the base model,
× questions × how they are asked. A new question set never refits; two experiments that need a cell share it.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, final

from selfaware import spec
from selfaware.ask import ask, one_of_each
from selfaware.errors import BadFile
from selfaware.interventions.base import Intervention, Recipe
from selfaware.metrics import options
from selfaware.models import batch, hf, load
from selfaware.models.hub import Local
from selfaware.store import Cell, Store, append_lines, environment, read_json, read_lines, replacing, write_json
from selfaware.types import Answer, Polarity, Question, Score, Template

OnStep = Callable[[float], None]
"""Told the share of a cell that is done, 0 to 1."""


@dataclass(frozen=True)
class Fit:
    """A fit cell: what is trained on what. `examples` is the digest of the training questions."""

    model: str
    dtype: str
    examples: str
    recipe: Recipe
    polarity: Polarity
    seed: int

    @property
    def id(self) -> str:
        """The cell's id."""
        return spec.digest(self)


@dataclass(frozen=True)
class Ask:
    """An ask cell: who is asked what, and how. `fit` is a fit cell's id, empty for the base model."""

    model: str
    dtype: str
    fit: str
    questions: str
    template: Template

    @property
    def id(self) -> str:
        """The cell's id."""
        return spec.digest(self)


@final
class Bench:
    """A model's files, the store, and the settings under which cells are made; loads weights only when a cell needs them.

    Args:
        train_dtype, score_dtype: the weights' type in fits and in quoted scores.
        cache_gib: memory for keys and values of prompts, for each loaded type, GiB.
    """

    def __init__(
        self,
        local: Local,
        store: Store,
        train_dtype: str,
        score_dtype: str = "float32",
        cache_gib: float = 1.5,
        device: str = "cpu",
    ) -> None:
        self.local, self.store = local, store
        self.train_dtype, self.score_dtype = train_dtype, score_dtype
        self.cache_gib, self.device = cache_gib, device
        self._models: dict[str, hf.Model] = {}

    def model(self, dtype: str) -> hf.Model:
        """The model with weights of that type, loaded once."""
        if dtype not in self._models:
            self._models[dtype] = load.load(self.local, dtype, self.cache_gib, self.device)
        return self._models[dtype]

    def fit_cell(self, examples: Sequence[Question], recipe: Recipe, polarity: Polarity, seed: int) -> Fit:
        """The description of that fit."""
        return Fit(self.local.identity, self.train_dtype, spec.digest(list(examples)), recipe, polarity, seed)

    def ask_cell(self, questions: Sequence[Question], fit: str, template: Template) -> Ask:
        """The description of that asking; `fit` is a fit cell's id, empty for the base model."""
        return Ask(self.local.identity, self.score_dtype, fit, spec.digest(list(questions)), template)

    def fit(
        self,
        examples: Sequence[Question],
        recipe: Recipe,
        polarity: Polarity,
        seed: int,
        on_step: OnStep = lambda _: None,
    ) -> Intervention:
        """The fitted intervention, from its cell or made now; what it needs is fitted first.

        A control's `needs` are fitted at polarity `high`.

        Raises:
            FitFailed: the fit diverged; nothing is kept.
        """
        description = self.fit_cell(examples, recipe, polarity, seed)
        cell = self.store.cell(description.id)
        with cell.locked():
            if cell.whole():
                return Intervention.load(cell.path("delta.safetensors"))
            given = [self.fit(examples, needed, "high", seed, on_step) for needed in recipe.needs]
            started = time.monotonic()
            model = self.model(self.train_dtype)
            made = recipe.fit(model, examples, polarity, seed, given, lambda step, steps, loss: on_step(step / steps))
            losses = made.provenance.get("losses", [])
            kept = Intervention(made.deltas, made.positions, {
                "recipe": spec.plain(recipe), "polarity": polarity, "seed": seed, "model": self.local.identity, "examples": description.examples,
            })  # fmt: skip
            with replacing(cell.path("delta.safetensors")) as path:
                kept.save(path)
            cell.path("fit.jsonl").unlink(missing_ok=True)
            append_lines(cell.path("fit.jsonl"), [{"step": i + 1, "loss": loss} for i, loss in enumerate(losses)])
            self._finish(cell, description, started)
            return kept

    def ask(self, questions: Sequence[Question], fit: str, intervention: Intervention | None, template: Template, on_step: OnStep = lambda _: None) -> tuple[Answer, ...]:  # fmt: skip
        """The answers of that arm, from its cell or asked now; a killed run goes on where it was."""
        description = self.ask_cell(questions, fit, template)
        cell = self.store.cell(description.id)
        with cell.locked():
            if cell.whole():
                return tuple(_answer(row) for row in read_lines(cell.path("answers.jsonl")))
            one_of_each(questions)
            started = time.monotonic()
            path = cell.path("answers.jsonl")
            had = read_lines(path)
            with replacing(path) as temporary:
                temporary.write_text("".join(spec.canonical(row) + "\n" for row in had), "utf-8")
            left = questions[len(had) :]
            model = self.model(self.score_dtype)
            with replacing(cell.path("questions.jsonl")) as temporary:
                append_lines(
                    temporary, [{"text": model.text(q.prompt, template), "question": spec.plain(q)} for q in questions]
                )
            with intervention.on(model) if intervention else nullcontext(batch.Touched()) as touched:
                for done, answer in enumerate(ask(model, left, template), len(had) + 1):
                    append_lines(path, [spec.plain(answer)])
                    on_step(done / len(questions))
            self._finish(cell, description, started, touched=spec.plain(touched))
            return tuple(_answer(row) for row in read_lines(path))

    def score(self, id: str) -> tuple[Score, ...]:
        """The scores of an ask cell; see `rescore`."""
        return rescore(self.store, id)[1]

    def _finish(self, cell: Cell, description: Fit | Ask, started: float, **more: Any) -> None:
        write_json(cell.path("spec.json"), {"schema": spec.SCHEMA, **spec.plain(description)})
        write_json(
            cell.path("env.json"), {**environment(self.device), "seconds": round(time.monotonic() - started, 2), **more}
        )
        cell.finish()

    def seconds(self, id: str) -> float:
        """How long that cell took when it was made; 0 when there is none."""
        path = self.store.cell(id).path("env.json")
        return float(read_json(path)["seconds"]) if path.is_file() else 0.0


def asked(store: Store, id: str) -> tuple[tuple[Question, ...], tuple[str, ...], tuple[Answer, ...]]:
    """What an ask cell holds: its questions, the prompts' texts as the model saw them, its answers.

    Raises:
        BadFile: there is no such finished cell.
    """
    cell = store.cell(id)
    if not cell.whole():
        raise BadFile(
            f"{cell.folder}: not a finished ask cell; one is needed. Ask first, or give the id that `selfaware ask` printed."
        )
    rows = read_lines(cell.path("questions.jsonl"))
    questions = tuple(spec.build(Question, row["question"]) for row in rows)
    return (
        questions,
        tuple(row["text"] for row in rows),
        tuple(_answer(row) for row in read_lines(cell.path("answers.jsonl"))),
    )


def rescore(store: Store, id: str) -> tuple[tuple[Question, ...], tuple[Score, ...]]:
    """An ask cell's questions and the scores of its answers, written beside them as `scores.jsonl` (value, or null with a reason)."""
    questions, _, answers = asked(store, id)
    made = options.scores(questions, answers)
    path = store.cell(id).path("scores.jsonl")
    if not path.is_file():
        with replacing(path) as temporary:
            append_lines(temporary, [spec.plain(s) for s in made])
    return questions, made


def _answer(row: dict[str, Any]) -> Answer:
    try:
        return spec.build(Answer, row)
    except TypeError as error:
        raise BadFile(
            f"answer {row}: {error}; the fields of an answer are needed. Delete its cell and run again."
        ) from error
