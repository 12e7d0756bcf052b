"""Vectors at layers × strengths × questions as one plan on the frozen-prefix engine. Knows sites and options; must not know what they stand for.

Everything that no vector changes is shared: prompts run once for all sites, and what enters a site's block once for all
strengths. Strengths are rows of one batch, since all that differs between them is a number. At `all` positions a prompt
is another one for each strength, so that there they run one after the other.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from selfaware.errors import BadData, BadModel, unknown
from selfaware.metrics.options import score
from selfaware.models import hooks
from selfaware.models.batch import Row, bucketed
from selfaware.models.hf import Model
from selfaware.models.render import Ids, Rendered
from selfaware.types import POSITIONS, Answer, Positions, Question, Site, Template

BATCH = 320
TOKENS = 2048
"""Tokens in a pass over whole texts."""


@dataclass(frozen=True)
class Cost:
    """What a grid makes the blocks do on an empty cache, tokens × blocks, padding and the routes' first checks left out.

    Attributes:
        prompts: for keys and values of prompts.
        below: from the embedding up to each site's block.
        above: from there on, for every strength.
    """

    prompts: int
    below: int
    above: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.prompts + self.below + self.above


@dataclass(frozen=True)
class Grid:
    """Which vectors are added where and how often; the vectors themselves are not in it.

    Attributes:
        added: what each site's vector is multiplied by.
        positions: where it is put in.
    """

    sites: tuple[Site, ...]
    added: tuple[float, ...]
    positions: Positions
    template: Template

    def cost(self, model: Model, questions: Sequence[Question], batch: int = BATCH) -> Cost:
        """What the grid takes on this model, where nothing else is attached that changes it.

        Args:
            batch: as in `dose`.
        """
        rendered = [model.render(q, self.template) for q in questions]
        blocks, prompts, below, above = len(model.blocks), 0, 0, 0
        seen: set[object] = set()
        reached: dict[object, int] = {}
        entering: dict[object, int]
        parts = list(_parts(self, model, questions, rendered, batch))
        for floor in sorted(site.block for site in self.sites):
            for rows in ([part.rows[i] for i in b] for part in parts for b in bucketed(part.rows, part.batch)):
                answers = sum(len(row.answer) for row in rows)
                unique = {row.prompt for row in rows}
                if _whole(self, model):
                    tokens = answers + sum(len(row.prompt) - 1 for row in rows)
                    if self.positions == "all" and model.splits:  # one run for rows that share a prompt
                        tokens = answers + sum(len(p) - 1 for p in unique)
                    entering = {row.prompt + row.answer[:-1]: len(row.prompt + row.answer) - 1 for row in rows}
                else:
                    tokens = answers
                    prompts += blocks * sum(len(p) - 1 for p in unique - seen)
                    seen |= unique
                    entering = {(row.prompt, row.answer[:-1]): len(row.answer) for row in rows}
                above += (blocks - floor) * tokens
                below += sum((floor - reached.get(key, 0)) * n for key, n in entering.items())
                reached |= dict.fromkeys(entering, floor)
        return Cost(prompts, below, above)


def dose(
    model: Model,
    vectors: Mapping[Site, Float[Tensor, " D"]],
    added: Sequence[float],
    positions: Positions,
    questions: Sequence[Question],
    template: Template,
    batch: int = BATCH,
    on_step: Callable[[float], None] = lambda _: None,
) -> Float[Tensor, "L S Q"]:
    """For each site, multiplier and question the logit difference l_high − l_low, nats; not a number where it is none.

    l is as in `metrics.options.score`: for single-token options the log-probability of all spellings of a letter at the
    first position of the answer, for spelled-out ones the mean log-probability per token. On the CPU, float32.

    Args:
        vectors: for each site what is added there, in the units of the site's output; `at_strength` scales them.
        added: what every vector is multiplied by; 0 is the model as it is.
        batch: rows in a forward pass; fewer where whole texts run.
        on_step: told the share that is done, 0 to 1.

    Raises:
        BadData: nothing to do, a number that is not finite, or a question without exactly two options.
        BadModel: a vector is not as wide as its site's output.
        UnknownName: no such site, no such positions.
    """
    grid = Grid(tuple(vectors), tuple(float(a) for a in added), positions, template)
    _check(grid, model, vectors, questions)
    rendered = [model.render(q, template) for q in questions]
    parts = list(_parts(grid, model, questions, rendered, batch))
    found = torch.full((len(grid.sites), len(grid.added), len(questions)), math.nan)
    done = 0
    # Upwards, since what enters a block is worked out from where it entered a lower one.
    for at, site in sorted(enumerate(grid.sites), key=lambda placed: placed[1].block):
        vector = vectors[site].detach().to(model.device, torch.float32)
        for part in parts:
            change = _adding(model, vector, [grid.added[s] for s in part.strengths])
            with torch.no_grad(), model.edited([(model.resolve(site), change)], positions):
                answers = iter(part.answers(model, questions, rendered))
            for number in part.questions:
                for strength in part.strengths:
                    value, _ = score(questions[number], next(answers))
                    found[at, strength, number] = math.nan if value is None else value
            done += len(part.questions) * len(part.strengths)
            on_step(done / found.numel())
    return found


def residual_norms(model: Model, texts: Sequence[Ids], batch: int = 8) -> Float[Tensor, " L"]:
    """Mean norm of the residual stream entering each block, over all tokens of neutral texts; on the CPU, float32.

    The first token of a text is left out, and a begin-of-sequence token before it: both are outliers.

    Args:
        texts: ids, begin-of-sequence token and all.
        batch: texts in a forward pass.

    Raises:
        BadData: no texts, or one that has no token left.
        BadModel: an edit is attached that is not part of the frozen model.
    """
    if not model.edits.none_but_held:
        raise BadModel(
            f"residual norms: an edit is attached; they are those of {model.name} itself. Leave its context first."
        )
    bos = model.tokenizer.bos_token_id
    given = [1 + (bos is not None and text[:1] == (bos,)) for text in texts]
    if not texts or any(len(text) <= skip for text, skip in zip(texts, given, strict=True)):
        raise BadData("residual norms: no text, or one of a single token; at least two words are needed. Write more.")
    # An answer's last token is never run: a row's `answer` positions are thus the text but for what is left out.
    rows = [Row(text[: skip + 1], (*text[skip + 1 :], 0)) for text, skip in zip(texts, given, strict=True)]
    total, count = torch.zeros(len(model.blocks), dtype=torch.float64), sum(len(row.answer) for row in rows)
    for bucket in bucketed(rows, batch):
        with torch.no_grad(), model.running([rows[i] for i in bucket], plain=True) as ready:

            def summing(block: int, mask: Tensor) -> hooks.Change:
                def keep(x: Tensor, y: Tensor) -> Tensor:
                    total[block] += x[mask].float().norm(dim=1).double().sum().cpu()
                    return y

                return keep

            # What enters a block, and not what leaves one: an entry of `hidden_states` is not the same, its last one least.
            changes = [(block, summing(at, ready.answer)) for at, block in enumerate(model.blocks)]
            with hooks.changed(changes):
                hooks.input_of(model.head, ready.forward)
    return (total / count).float()


def at_strength(
    model: Model, vectors: Mapping[Site, Float[Tensor, " D"]], norms: Float[Tensor, " L"]
) -> dict[Site, Float[Tensor, " D"]]:
    """The vectors as long as the residual stream is where their block begins: a multiplier is then a strength.

    Args:
        norms: what `residual_norms` gave for this model.

    Raises:
        BadData: a vector that is zero or not finite, or a norm that is.
        BadModel: a vector is not as wide as its site's output, or there is not one norm for each block.
        UnknownName: no such site.
    """
    if len(norms) != len(model.blocks):
        raise BadModel(
            f"norms of {len(norms)} blocks: {model.name} has {len(model.blocks)}; each needs one. Measure them on it."
        )
    made = {}
    for site, vector in vectors.items():
        _fits(model, site, vector)
        norm, wanted = float(vector.float().norm()), float(norms[site.block])
        if not (norm > 0 and wanted > 0 and math.isfinite(norm) and math.isfinite(wanted)):
            raise BadData(
                f"site {site}: a vector of norm {norm:g} and a residual of {wanted:g}; both must be positive. Leave it out."
            )
        made[site] = vector.float() * (wanted / norm)
    return made


@dataclass(frozen=True)
class _Part:
    """Questions and strengths whose rows run together: question by question, in it strength by strength and option by option."""

    questions: tuple[int, ...]
    strengths: tuple[int, ...]
    rows: tuple[Row, ...]
    batch: int

    def answers(self, model: Model, questions: Sequence[Question], rendered: Sequence[Rendered]) -> list[Answer]:
        """The answer to each question at each strength, under what is attached."""
        asked = [number for number in self.questions for _ in self.strengths]
        if questions[asked[0]].single:
            tokens = [[v[0] for option in rendered[n].options for v in option] for n in asked]
            values = iter([x for found in model.first(self.rows, tokens, self.batch) for x in found])
        else:
            values = iter(model.logprobs(self.rows, self.batch).double().tolist())
        made = []
        for number in asked:
            options = rendered[number].options
            spelled = [torch.tensor([next(values) for _ in option], dtype=torch.float64) for option in options]
            totals = tuple(float(each.logsumexp(0)) for each in spelled)
            made.append(Answer(questions[number].id, totals, tuple(len(option[0]) for option in options)))
        return made


def _whole(grid: Grid, model: Model) -> bool:
    """Whether whole texts run."""
    return grid.positions == "all" or not model.splits


def _parts(
    grid: Grid, model: Model, questions: Sequence[Question], rendered: Sequence[Rendered], batch: int
) -> Iterator[_Part]:
    """The grid's rows at one site, `batch` or so at a time, texts of like length together."""
    together = [(s,) for s in range(len(grid.added))] if grid.positions == "all" else [tuple(range(len(grid.added)))]
    longest = [len(r.prompt) + max((len(v) for o in r.options for v in o), default=1) - 1 for r in rendered]
    for single in (True, False):
        left = sorted((n for n, q in enumerate(questions) if q.single == single), key=lambda n: longest[n])
        while left:
            each = len(together[0]) * (1 if single else 2)
            limit = batch if not _whole(grid, model) else max(1, min(batch, TOKENS // longest[left[0]]))
            take = max(1, limit // each)
            while _whole(grid, model) and take > 1 and take * each * longest[left[:take][-1]] > TOKENS:
                take -= 1
            some, left = left[:take], left[take:]
            for strengths in together:
                rows = [
                    Row(rendered[n].prompt, option[0], owner)
                    for n in some
                    for owner in range(len(strengths))
                    for option in rendered[n].options[: 1 if single else 2]
                ]
                yield _Part(tuple(some), strengths, tuple(rows), limit)


def _adding(model: Model, vector: Float[Tensor, " D"], added: Sequence[float]) -> hooks.Change:
    """y + a·v, with the `a` of the row's owner."""
    scale = torch.tensor(added, dtype=torch.float32, device=vector.device)
    if len(added) == 1:
        return lambda x, y: y + (scale[0] * vector).to(y)

    def change(x: Tensor, y: Tensor) -> Tensor:
        owners = model.edits.owners
        if owners is None:  # which would index as a new axis
            raise BadModel("a pass whose rows have no owner: which strength is meant is open. Ask through `dose`.")
        return y + (scale[owners][:, None, None] * vector).to(y)

    return change


def _fits(model: Model, site: Site, vector: Tensor) -> None:
    width = model.output_width(site)
    if tuple(vector.shape) != (width,):
        raise BadModel(
            f"site {site}: a vector of shape {tuple(vector.shape)}; {model.name} needs ({width},) there. Use the model it was made for."
        )


def _check(grid: Grid, model: Model, vectors: Mapping[Site, Tensor], questions: Sequence[Question]) -> None:
    if grid.positions not in POSITIONS:
        raise unknown("positions", str(grid.positions), POSITIONS)
    for what, count in (("sites", len(grid.sites)), ("multipliers", len(grid.added)), ("questions", len(questions))):
        if not count:
            raise BadData(f"grid: no {what}; one at least is needed. Name some.")
    for a in grid.added:
        if not math.isfinite(a):
            raise BadData(f"grid: multiplier {a}; a finite number is needed. Leave it out.")
    for site, vector in vectors.items():
        _fits(model, site, vector)
        if not bool(vector.isfinite().all()):
            raise BadData(f"site {site}: the vector holds a number that is not finite; none may. Make it again.")
    for question in questions:
        score(question, Answer(question.id, None, ()))  # refuses what has no high and low option, before anything runs
