"""How far a stage is from the machine's limit: operations needed at least, over the rate of a large matrix product. Knows clocks.

Needed at least are two for each multiply-add of the linear layers and of attention's products, on real tokens, in the blocks
from the edit on, each prompt once; backwards the gradients of inputs alone; the unembedding on scored tokens.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import nn

from selfaware.bench import data, ours
from selfaware.bench.runs import Run, steps
from selfaware.bench.spent import Profile, profiled
from selfaware.bench.works import Fits, Grid, Plan, Work
from selfaware.interventions.base import Constant, Intervention
from selfaware.models.batch import Row
from selfaware.models.head import PIECE
from selfaware.models.hf import Model
from selfaware.types import Site

SIDE = 2048
TIMES = 5


@dataclass(frozen=True)
class Stage:
    """A part of the work and its distance from the limit.

    Attributes:
        tokens: that can go through the blocks at once.
        operations: needed at least.
        seconds: taken, the median of some runs.
        possible: seconds that they take at the rate of the large matrix product, the median of those measured just before each run.
        share: possible / seconds, the median of the runs' own.
        share_same_shapes: the same with the rate of a block's own linear layers on so many tokens.
        spent: share of the profiled time by what it went to.
    """

    name: str
    model: str
    tokens: int
    operations: float
    seconds: float
    possible: float
    share: float
    share_same_shapes: float
    spent: Mapping[str, float]


def product_rate(dtype: torch.dtype, side: int = SIDE, times: int = 5) -> float:
    """Operations a second of a square matrix product, the fastest of some."""
    a, b = (torch.ones(side, side, dtype=dtype) for _ in range(2))
    return 2 * side**3 / min(_seconds(lambda: a @ b, times))


def layer_rate(model: Model, tokens: int) -> float:
    """Operations a second of the linear layers of a block on so many tokens."""
    layers = [m for m in model.blocks[len(model.blocks) // 2].modules() if isinstance(m, nn.Linear)]
    inputs = [torch.ones(tokens, m.in_features, dtype=m.weight.dtype) for m in layers]

    def run() -> None:
        for layer, x in zip(layers, inputs, strict=True):
            layer(x)

    repeats = max(3, min(50, 20000 // max(tokens, 1)))
    with torch.no_grad():
        return 2 * tokens * sum(m.weight.numel() for m in layers) / statistics.median(_seconds(run, repeats))


def _seconds(run: Callable[[], object], times: int) -> list[float]:
    run()
    found = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return found


@dataclass(frozen=True)
class Tokens:
    """What goes through a block: tokens, and keys attended to by all of them together."""

    count: int
    keys: int

    @classmethod
    def of(cls, spans: Sequence[tuple[int, int]]) -> "Tokens":
        """The tokens of texts from a start to an end, each attending to all before it and itself."""
        return cls(sum(e - s for s, e in spans), sum((e * (e + 1) - s * (s + 1)) // 2 for s, e in spans))


def linear(module: nn.Module) -> int:
    """Weights of the linear layers in a module."""
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Linear))


def blocks(model: Model, numbers: Sequence[int], tokens: Tokens, backward: bool = False) -> float:
    """Operations of these blocks; `backward` adds the gradients of their inputs."""
    width = int(getattr(model.config, "head_dim", 0) or model.width // model.config.num_attention_heads)
    attention = 4 * model.config.num_attention_heads * width * tokens.keys * (3 if backward else 1)
    weights = sum(linear(model.blocks[b]) for b in numbers)
    return 2.0 * weights * tokens.count * (2 if backward else 1) + float(attention * len(numbers))


def head(model: Model, tokens: int, backward: bool = False) -> float:
    """Operations of the unembedding on so many tokens."""
    return 2.0 * linear(model.head) * tokens * (2 if backward else 1)


def head_axes(model: Model) -> set[int]:
    """Sizes of the vocabulary by which an operator is known to be the head's: whole, a piece, the last piece."""
    words = int(model.config.vocab_size)
    layers = [m for m in model.blocks[0].modules() if isinstance(m, nn.Linear)]
    return {words, PIECE, words % PIECE} - {n for m in layers for n in m.weight.shape} - set(range(256))


def step_tokens(plan: Fits, rows: Sequence[Row]) -> tuple[Tokens, int]:
    """What a training step must run, and its scored tokens: a prompt that rows share counts once."""
    first = {p: 0 if plan.positions == "all" else len(p) - 1 for p in {r.prompt for r in rows}}
    spans = [(start, len(p)) for p, start in first.items()]
    spans += [(len(r.prompt), len(r.prompt) + len(r.answer) - 1) for r in rows]
    return Tokens.of(spans), sum(len(r.answer) for r in rows)


def step_operations(model: Model, plan: Fits, rows: Sequence[Row]) -> float:
    """Operations that a training step needs at least, once what lies below the edit is kept."""
    tokens, scored = step_tokens(plan, rows)
    block = int(plan.depth * len(model.blocks))
    total = blocks(model, range(block + 1, len(model.blocks)), tokens, backward=True) + head(model, scored, True)
    if plan.method == "lora":
        inside = model.linears(f"{block}.mlp")
        weights = [linear(model.module(site)) for site in inside]
        # Forward all of the MLP's layers; backward to the inputs of the last one, whose gradients the others' own need.
        total += 2.0 * tokens.count * (sum(weights) + weights[-1])
    return total


def grid_operations(model: Model, plan: Grid, scored: Sequence[data.Scored]) -> float:
    """Operations that a grid needs at least: prompts once, then what lies above each block, once for each strength."""
    whole = Tokens.of([(0, len(q.prompt)) for q in scored])
    edited = whole if plan.positions == "all" else Tokens.of([(len(q.prompt) - 1, len(q.prompt)) for q in scored])
    chosen, depth = data.layers(plan, len(model.blocks)), len(model.blocks)
    below = range(depth if plan.positions == "last_prompt" else chosen[-1] + 1)
    columns = 2.0 * model.width * sum(len(q.high) + len(q.low) for q in scored)
    above = sum(blocks(model, range(b + 1, depth), edited) + columns for b in chosen)
    return blocks(model, below, whole) + plan.strengths * above


Timed = Callable[[Profile | None], float]


def stages(model: Model, works: Sequence[Work], asked: data.Asked) -> Iterator[Stage]:
    """Prefill and suffix forward on the grid's prompts, then the training step or the grid of every plan, as they come."""
    plans: list[Plan] = list(
        dict.fromkeys(w.plan for w in works if not (isinstance(w.plan, Fits) and len(w.plan.arms) > 1))
    )
    names = {p: next(w.name for w in works if w.plan == p) for p in plans}
    sample = next((p for p in plans if isinstance(p, Grid)), Grid("last_prompt"))
    prompts = data.scored(model, data.chosen(model, sample, asked))
    rows = [Row(q.prompt, q.high[:1]) for q in prompts]
    whole = Tokens.of([(0, len(q.prompt) - 1) for q in prompts])
    every = range(len(model.blocks))
    yield _stage(model, "prefill", whole.count, blocks(model, every, whole), _prefill(model, rows))
    middle = len(model.blocks) // 2
    for name, some in _suffixes(model, rows, sample, asked).items():
        edited = Tokens.of([(len(r.prompt) - 1, len(r.prompt) + len(r.answer) - 1) for r in some])
        needed = blocks(model, every[middle + 1 :], edited) + head(model, sum(len(r.answer) for r in some))
        yield _stage(model, f"suffix forward: {name}", edited.count, needed, _suffix(model, some, middle))
    for plan in plans:
        if isinstance(plan, Fits):
            once = replace(plan, orders=1, epochs=2, groups=min(plan.groups, 4 * plan.batch))
            questions = data.chosen(model, once, asked)
            polarity, seed = once.arms[0]
            later = data.batches(model, once, questions, polarity, seed)[steps(once)[1] :]
            operations = statistics.mean(step_operations(model, once, step) for step in later)
            tokens = round(statistics.mean(step_tokens(once, step)[0].count for step in later))
            yield _stage(model, f"training step: {names[plan]}", tokens, operations, _step(model, once, questions))
        else:
            questions = data.chosen(model, plan, asked)
            scored = data.scored(model, questions)
            whole_texts = sum(len(q.prompt) for q in scored)
            each = plan.strengths * len(scored) if plan.positions == "last_prompt" else whole_texts
            run = ours.grid(model, plan, questions, ours.vectors(model, plan, scored))
            yield _stage(model, names[plan], each, grid_operations(model, plan, scored), _around(_seconds_of(run)))


def _seconds_of(run: Callable[[], Run]) -> Callable[[], float]:
    return lambda: run().seconds


def _stage(model: Model, name: str, tokens: int, operations: float, timed: Timed) -> Stage:
    """The stage's share of the limit: the rate is taken just before each run, since machines change their pace within seconds."""
    timed(None)
    found = []
    for _ in range(TIMES):
        rate, own = product_rate(model.dtype), layer_rate(model, tokens)
        seconds = timed(None)
        found.append((operations / rate / seconds, operations / own / seconds, seconds, operations / rate))
    profile = Profile()
    timed(profile)
    share, same, seconds, possible = (statistics.median(values) for values in zip(*found, strict=True))
    return Stage(name, model.name, tokens, operations, seconds, possible, share, same, profile.shares(head_axes(model)))


def _around(run: Callable[[], float]) -> Timed:
    """A run, under the profiler where there is one."""

    def timed(profile: Profile | None) -> float:
        if profile is None:
            return run()
        with profiled(profile):
            return run()

    return timed


def _clocked(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _prefill(model: Model, rows: Sequence[Row]) -> Timed:
    def run() -> float:
        same = ours.fresh(model)
        with torch.no_grad():
            return _clocked(lambda: same.prefixes([r.prompt for r in rows]))

    return _around(run)


def _suffixes(model: Model, rows: Sequence[Row], grid: Grid, asked: data.Asked) -> dict[str, Sequence[Row]]:
    """Rows as they are run together: a prompt each, a grid's strengths stacked, the answers of a training step."""
    step = Fits("vector", "answer", "contrast", orders=1)
    step = replace(step, groups=min(step.batch, len({q.group for q in asked[step.form]})))
    rendered = [model.render(q, "raw") for q in data.chosen(model, step, asked)]
    return {
        "single tokens": rows,
        f"{grid.strengths} strengths at once": [row for row in rows for _ in range(grid.strengths)],
        "cloze answers": [Row(r.prompt, option[0]) for r in rendered for option in r.options],
    }


def _suffix(model: Model, rows: Sequence[Row], block: int) -> Timed:
    same = ours.fresh(model)
    still = Intervention({Site(block): Constant(torch.zeros(model.width, device=model.device))}, "last_prompt")

    def run() -> float:
        with torch.no_grad(), still.on(same):
            return _clocked(lambda: same.logprobs(rows, batch=len(rows)))

    run()
    return _around(run)


def _step(model: Model, plan: Fits, questions: Sequence[object]) -> Timed:
    """Seconds a step after the first epoch, of a fit whose prompts are all known by then."""

    def timed(profile: Profile | None) -> float:
        last, first = steps(plan)
        marks: dict[int, float] = {}
        watching: AbstractContextManager[object] = profiled(profile) if profile is not None else nullcontext()

        def mark(step: int, _steps: int, _loss: float) -> None:
            if step == last:
                marks[step] = time.perf_counter()
                watching.__exit__(None, None, None)
            if step == first:
                watching.__enter__()
                marks[step] = time.perf_counter()

        recipe, (polarity, seed) = plan.recipe(len(model.blocks)), plan.arms[0]
        recipe.fit(ours.fresh(model), questions, polarity, seed, (), mark)  # type: ignore[arg-type]
        return (marks[last] - marks[first]) / (last - first)

    return timed
