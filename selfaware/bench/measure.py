"""Models × works × contenders → rows and stages. Knows the order of things, no printing."""

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from selfaware import launch, store
from selfaware.bench import contender as contenders
from selfaware.bench import data, jobs, limit, ours, pairs, plain
from selfaware.bench.contender import Absent, Places
from selfaware.bench.limit import Stage
from selfaware.bench.pairs import Line
from selfaware.bench.runs import Run
from selfaware.bench.works import Contender, Fits, Plan, Work
from selfaware.models.hf import Model


@dataclass(frozen=True)
class Result:
    """What a run of the bench found, with the machine that it ran on."""

    header: Mapping[str, Any]
    lines: tuple[Line, ...]
    stages: tuple[Stage, ...]

    @property
    def ok(self) -> bool:
        """Whether all numbers agree that were compared."""
        return all(line.same is not False for line in self.lines)

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "header": dict(self.header),
            "rows": [asdict(x) for x in self.lines],
            "stages": [asdict(x) for x in self.stages],
        }


@dataclass(frozen=True)
class Side:
    """A plan made ready for one model: our run, the contenders' job, the tolerance, our first loss as a mean over tokens."""

    ours: Callable[[], Run]
    job: Mapping[str, Any]
    tolerance: float
    first_in_tokens: float


def header() -> dict[str, Any]:
    """The machine: processor, cores, threads, versions, date, commit, rates of a large matrix product in operations a second."""
    return {
        "cpu": cpu(),
        **store.environment("cpu"),
        "threads": torch.get_num_threads(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "matmul": {str(d).removeprefix("torch."): limit.product_rate(d) for d in (torch.float32, torch.bfloat16)},
    }


def cpu() -> str:
    """The processor's name, as far as the system says it."""
    notes = Path("/proc/cpuinfo")
    if notes.is_file():
        for text in notes.read_text("utf-8", errors="replace").splitlines():
            if text.startswith("model name"):
                return text.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def ready(model: Model, plan: Plan, asked: data.Asked, folder: Path) -> Side:
    """The plan made ready for this model; files for contenders land in the folder."""
    questions, basis = data.chosen(model, plan, asked), jobs.basis(model, folder)
    if isinstance(plan, Fits):
        job = {**basis, **jobs.fits(model, plan, questions, folder)}
        polarity, seed = plan.arms[0]
        rows = data.batches(model, plan, questions, polarity, seed)[0]
        beta = job["beta"] if plan.objective == "contrast" else None
        allowed = plain.tolerance(model, lambda batch: plain.row_terms(model, rows, beta, batch))
        return Side(ours.fits(model, plan, questions), job, allowed, ours.token_mean(model, rows))
    scored = data.scored(model, questions)
    directions = ours.vectors(model, plan, scored)
    allowed = plain.tolerance(model, lambda batch: plain.score_terms(model, scored, batch))
    job = {**basis, **jobs.grid(plan, scored, directions, folder)}
    return Side(ours.grid(model, plan, questions, directions), job, allowed, 0.0)


def against(
    model: Model,
    works: Sequence[Work],
    contender: Contender,
    side: Side,
    places: Places,
    number: int,
    tell: Callable[[int], None],
) -> Iterator[Line]:
    """The rows of one contender for works that share a plan."""
    dtype = str(model.dtype).removeprefix("torch.")
    try:
        with contenders.running(contender, places, side.job) as process:
            found = pairs.alternating(side.ours, process.run, number, tell)
            versions = process.versions
    except Absent as error:
        yield from (pairs.absent(w, contender, model.name, dtype, str(error)) for w in works)
        return
    for work in works:
        yield pairs.line(work, contender, model.name, dtype, found, side.tolerance, side.first_in_tokens, versions)


def measure(
    models: Sequence[Callable[[Path], Model]],
    works: Sequence[Work],
    asked: data.Asked,
    places: Places,
    number: int,
    limits: bool,
    watch: launch.Watch,
) -> Result:
    """Every work against each of its contenders, on every model; then how far each stage is from the limit.

    Args:
        models: each makes its model, given a folder to keep files in until it is done.
        asked: questions by form.
        number: of pairs; 0 compares nothing.
        limits: whether stages are measured too.
    """
    plans: dict[Plan, list[Work]] = {}
    for work in works:
        plans.setdefault(work.plan, []).append(work)
    rivals = {plan: list(dict.fromkeys(c for w in of for c in w.against)) for plan, of in plans.items()}
    total = len(models) * (sum(map(len, rivals.values())) * number + limits)
    done, lines, stages = 0, list[Line](), list[Stage]()
    about = header()
    for make in models:
        with TemporaryDirectory(prefix="selfaware-bench-") as name:
            model = make(Path(name))
            for plan, of in plans.items() if number else ():
                side = ready(model, plan, asked, Path(name))
                for contender in rivals[plan]:
                    label = f"{model.name}: {of[0].name} · {contender.name}"
                    watch(done, total, label)

                    def tell(at: int, done: int = done, label: str = label) -> None:
                        watch(done + at, total, label)

                    with_it = [w for w in of if contender in w.against]
                    lines += against(model, with_it, contender, side, places, number, tell)
                    done += number
            if limits:
                for stage in limit.stages(model, works, asked):
                    watch(done, total, f"{model.name}: {stage.name}")
                    stages.append(stage)
                done += 1
    watch(total, total, "done")
    return Result(about, tuple(lines), tuple(stages))
