"""One cell, four functions: fit → ask → score, and look, each skipped when its file is whole. Knows models and recipes, no claim."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, cast, final

from safetensors.torch import save_file

from selfaware import spec
from selfaware.ask import ask, one_of_each, read, say
from selfaware.errors import BadData, BadModel
from selfaware.interventions.base import Intervention, Recipe
from selfaware.models import batch, hf, load
from selfaware.models.hub import Local
from selfaware.readouts.base import Readout
from selfaware.stages.cells import Ask, Fit, Look, Read, Say
from selfaware.stages.contents import Answers, Questions, Seen, answers, looked, rescore
from selfaware.store import Cell, Store, append_lines, environment, read_json, read_lines, replacing, write_json
from selfaware.types import Answer, Open, Passage, Polarity, Question, Reading, Said, Sampling, Score, Template

OnStep = Callable[[float], None]
"""Told the share of a cell that is done, 0 to 1."""


@final
class Bench:
    """A model's files, the store, and the settings under which cells are made; loads weights only when a cell needs them.

    Args:
        train_dtype, score_dtype: the weights' type in fits and in quoted scores.
        cache_gib: memory for what is kept of prompts, for each loaded type, GiB; what is beyond it lies in `kept` in the
            store's folder while the process lives.
        depth, width: how many blocks the model has, and how wide its residual stream is; 0 asks its files.
    """

    def __init__(
        self,
        local: Local,
        store: Store,
        train_dtype: str,
        score_dtype: str = "float32",
        cache_gib: float = 1.5,
        device: str = "cpu",
        depth: int = 0,
        width: int = 0,
    ) -> None:
        self.local, self.store = local, store
        self.train_dtype, self.score_dtype = train_dtype, score_dtype
        self.cache_gib, self.device = cache_gib, device
        self._size = (depth, width)
        self._models: dict[str, hf.Model] = {}
        self._digests: dict[int, tuple[Questions, str]] = {}

    def model(self, dtype: str) -> hf.Model:
        """The model with weights of that type, loaded once."""
        if dtype not in self._models:
            self._models[dtype] = load.load(self.local, dtype, self.cache_gib, self.device, self.store.root / "kept")
        return self._models[dtype]

    @property
    def depth(self) -> int:
        """How many blocks the model has; needs no weights."""
        return self._known()[0]

    @property
    def width(self) -> int:
        """How wide its residual stream is; needs no weights."""
        return self._known()[1]

    def visible(self, texts: Sequence[str]) -> None:
        """Nothing; needs the tokenizer, no weights. Where there is none, as for a page made again, nothing is checked.

        Raises:
            BadData: a text that is no token at all to this model.
        """
        try:
            tokenizer, _, _ = load.load_tokenizer(self.local)
        except BadModel:
            return
        for text in texts:
            if not tokenizer(text, add_special_tokens=False).input_ids:
                raise BadData(
                    f"text {text!r}: {self.local.name} makes no token of it; one at least is needed. Use another text."
                )

    def _known(self) -> tuple[int, int]:
        if not all(self._size):
            depth, width = load.size(self.local)
            self._size = (self._size[0] or depth, self._size[1] or width)
        return self._size

    def fit_cell(self, examples: Sequence[Question], recipe: Recipe, polarity: Polarity, seed: int) -> Fit:
        """The description of that fit."""
        return Fit(self.local.identity, self.train_dtype, self._digest(examples), recipe, polarity, seed)

    def ask_cell(
        self, questions: Questions, fit: str, template: Template, sampling: Sampling | None = None
    ) -> Ask | Say | Read:
        """The description of that asking; `fit` is a fit cell's id, empty for the base model.

        Args:
            sampling: for open questions alone, which are sampled in the training type.
        """
        what = self._digest(questions)
        if questions and isinstance(questions[0], Open):
            return Say(self.local.identity, self.train_dtype, fit, what, template, sampling or Sampling())
        if questions and isinstance(questions[0], Passage):
            return Read(self.local.identity, self.score_dtype, fit, what)
        return Ask(self.local.identity, self.score_dtype, fit, what, template)

    def _digest(self, questions: Questions) -> str:
        """Digest of a question set, made once for each tuple of them; keeping the tuple keeps its identity its own."""
        held = self._digests.get(id(questions))
        if held is None or held[0] is not questions:
            held = (questions, spec.digest(list(questions)))
            if isinstance(questions, tuple):
                self._digests[id(questions)] = held
        return held[1]

    def fit(
        self,
        examples: Sequence[Question],
        recipe: Recipe,
        polarity: Polarity,
        seed: int,
        on_step: OnStep = lambda _: None,
    ) -> Intervention:
        """The fitted intervention, from its cell or made now; what it needs is fitted first.

        What it needs is fitted at its own polarity where it `follows`, at `high` otherwise.

        Raises:
            FitFailed: the fit diverged; nothing is kept.
        """
        description = self.fit_cell(examples, recipe, polarity, seed)
        cell = self.store.cell(description.id)
        with cell.locked():
            if cell.whole():
                return Intervention.load(cell.path("delta.safetensors"))
            theirs = polarity if recipe.follows else "high"
            given = [self.fit(examples, needed, theirs, seed, on_step) for needed in recipe.needs]
            started = time.monotonic()
            model = self.model(self.train_dtype)
            made = recipe.fit(model, examples, polarity, seed, given, lambda step, steps, loss: on_step(step / steps))
            losses = made.provenance.get("losses", [])
            kept = Intervention(made.deltas, made.positions, {
                "recipe": spec.plain(recipe), "polarity": polarity, "seed": seed, "model": self.local.identity, "examples": description.examples,
                "made": {name: told for name, told in made.provenance.items() if name != "losses"},
            })  # fmt: skip
            with replacing(cell.path("delta.safetensors")) as path:
                kept.save(path)
            cell.path("fit.jsonl").unlink(missing_ok=True)
            append_lines(cell.path("fit.jsonl"), [{"step": i + 1, "loss": loss} for i, loss in enumerate(losses)])
            self._finish(cell, description, started)
            return kept

    def ask(
        self,
        questions: Questions,
        fit: str,
        intervention: Intervention | None,
        template: Template,
        on_step: OnStep = lambda _: None,
        sampling: Sampling | None = None,
    ) -> Answers:
        """The answers of that arm, from its cell or asked now; a killed run goes on where it was."""
        description = self.ask_cell(questions, fit, template, sampling)
        cell = self.store.cell(description.id)
        with cell.locked():
            if cell.whole():
                return answers(read_lines(cell.path("answers.jsonl")))
            one_of_each(questions)
            started = time.monotonic()
            path = cell.path("answers.jsonl")
            had = read_lines(path)
            with replacing(path) as temporary:
                temporary.write_text("".join(spec.canonical(row) + "\n" for row in had), "utf-8")
            left = questions[len(had) :]
            model = self.model(description.dtype)
            with replacing(cell.path("questions.jsonl")) as temporary:
                texts = [q.text if isinstance(q, Passage) else model.text(q.prompt, template) for q in questions]
                rows = [{"text": t, "question": spec.plain(q)} for t, q in zip(texts, questions, strict=True)]
                append_lines(temporary, rows)
            touched = batch.Touched()
            for done, answer in enumerate(self._asked(model, left, intervention, description, touched), len(had) + 1):
                append_lines(path, [spec.plain(answer)])
                on_step(done / len(questions))
            self._finish(cell, description, started, touched=spec.plain(touched))
            return answers(read_lines(cell.path("answers.jsonl")))

    def _asked(
        self, model: hf.Model, left: Questions, by: Intervention | None, how: Ask | Say | Read, touched: batch.Touched
    ) -> Iterator[Answer | Said | Reading]:
        """Each answer as it comes; what the intervention touched is added up in `touched`."""

        @contextmanager
        def edit() -> Iterator[None]:
            with by.on(model) if by else nullcontext(batch.Touched()) as seen:
                yield
            touched.sites = seen.sites
            touched.firings += seen.firings
            touched.tokens += seen.tokens

        if isinstance(how, Read):
            yield from read(model, cast(Sequence[Passage], left), edit)
            return
        with edit():
            if isinstance(how, Say):
                yield from say(model, cast(Sequence[Open], left), how.template, how.sampling)
            else:
                yield from ask(model, cast(Sequence[Question], left), how.template)

    def look_cell(
        self, readout: Readout, fits: Sequence[str], questions: Questions = (), *, fast: bool = False
    ) -> Look:
        """The description of that look; `fits` are fit cells' ids.

        Args:
            fast: look in the training type, for sweeps in which rounding averages out over many questions.
        """
        dtype = self.train_dtype if fast else self.score_dtype
        return Look(self.local.identity, dtype, tuple(fits), self._digest(questions), readout)

    def look(
        self,
        readout: Readout,
        fits: Sequence[str],
        given: Sequence[Intervention],
        questions: Questions = (),
        on_step: OnStep = lambda _: None,
        *,
        fast: bool = False,
    ) -> Seen:
        """What is seen inside the model, from its cell or looked up now.

        Args:
            given: the interventions of `fits`, in their order.
            fast: as for `look_cell`.
        """
        description = self.look_cell(readout, fits, questions, fast=fast)
        cell = self.store.cell(description.id)
        with cell.locked():
            if not cell.whole():
                started = time.monotonic()
                seen = readout.look(self.model(description.dtype), given, questions, on_step)
                with replacing(cell.path("numbers.safetensors")) as path:
                    save_file({k: v.detach().cpu().contiguous().clone() for k, v in seen.numbers.items()}, path)
                write_json(cell.path("words.json"), {k: list(v) for k, v in seen.words.items()})
                self._finish(cell, description, started)
        return looked(self.store, description.id)

    def score(self, id: str) -> tuple[Score, ...]:
        """The scores of an ask cell; see `rescore`."""
        return rescore(self.store, id)[1]

    def _finish(self, cell: Cell, description: Fit | Ask | Say | Read | Look, started: float, **more: Any) -> None:
        write_json(cell.path("spec.json"), {"schema": spec.SCHEMA, **spec.plain(description)})
        write_json(
            cell.path("env.json"), {**environment(self.device), "seconds": round(time.monotonic() - started, 2), **more}
        )
        cell.finish()

    def seconds(self, id: str) -> float:
        """How long that cell took when it was made; 0 when there is none."""
        path = self.store.cell(id).path("env.json")
        return float(read_json(path)["seconds"]) if path.is_file() else 0.0
