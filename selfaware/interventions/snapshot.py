"""How an adapter looks on its way: what a recipe has come to after some of its steps. Knows recipes, no data.

A fit's file has one delta for each site and no state of the optimiser: a run can be neither kept whole nor gone on with. So the
tensors of the latest runs, step by step, are held in memory while their model lives, and all snapshots of a run that are asked
for in one process cost one training. Snapshots of another process train again; seeds fix what comes out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from selfaware.errors import BadData, FitFailed
from selfaware.interventions.base import Constant, Delta, Intervention, LowRank, Recipe, Step, added
from selfaware.interventions.lora import Lora
from selfaware.interventions.steer import Vector
from selfaware.interventions.train import Run, run_length, train
from selfaware.models.hf import Model
from selfaware.types import Polarity, Question, Site

HELD = 256 * 2**20
"""Bytes of tensors that are held for a model. A rank-1 LoRA on one module of SmolLM2-135M takes 0.3 MB a run, one of rank 32
on all modules 1.5 GB: where a run is too large, each snapshot of it is trained up to its own step instead."""


@dataclass(frozen=True)
class Snapshot:
    """What `of` has come to after `step` steps of its training; the schedule is that of the whole run.

    Attributes:
        of: what is trained.
        step: 0 is the start, before any training; the number of all steps gives what `of` itself gives, to the bit.

    Source: Turner, Soligo et al. 2025 (arXiv 2506.11613), who keep A and B every five steps.
    """

    of: Lora | Vector = field(default_factory=Lora)
    step: int = 0

    @property
    def needs(self) -> Sequence[Recipe]:
        """Nothing comes before it."""
        return ()

    @property
    def follows(self) -> bool:
        """Needs nothing."""
        return True

    @property
    def label(self) -> str:
        """As written on a page."""
        return f"{self.of.label}, step {self.step}"

    def fit(
        self,
        model: Model,
        examples: Sequence[Question],
        polarity: Polarity,
        seed: int,
        given: Sequence[Intervention],
        on_step: Step,
    ) -> Intervention:
        """The snapshot; trains the whole run where it is not held.

        Raises:
            BadData: a step that the run does not have, or settings that train nothing.
            FitFailed: the loss was not finite at that step or before.
        """
        total = run_length(examples, self.of.training)
        if not 0 <= self.step <= total:
            raise BadData(
                f"{self.label}: the run has {total} steps on these examples; one of 0 to {total} is needed. Set step."
            )
        path = _path(model, self, examples, polarity, seed, on_step)
        if self.step >= len(path.deltas) and path.broken is not None:
            raise path.broken
        deltas = path.deltas[min(self.step, len(path.deltas) - 1)]
        told = {"method": self.label, "losses": [round(x, 6) for x in path.losses[: self.step]]}
        return Intervention(deltas, self.of.positions, told)


@dataclass(frozen=True)
class _Path:
    """A run: deltas after each step, from the start on (the last one alone where it was too large), and why it ended early."""

    deltas: tuple[Mapping[Site, Delta], ...]
    losses: tuple[float, ...]
    broken: FitFailed | None = None

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(_size(deltas) for deltas in self.deltas)


_Key = tuple[Lora | Vector, Polarity, int, tuple[Question, ...], int]
_held: WeakKeyDictionary[Model, dict[_Key, _Path]] = WeakKeyDictionary()


def _path(
    model: Model, of: Snapshot, examples: Sequence[Question], polarity: Polarity, seed: int, on_step: Step
) -> _Path:
    """The run, held or trained now."""
    # Weights that were changed in place make another run of the same recipe.
    changed = sum(w._version for w in model.net.parameters())
    key = (of.of, polarity, seed, tuple(examples), changed)
    kept = _held.setdefault(model, {})
    if model.untouched and key in kept:
        return kept[key]
    start = of.of.start(model, seed)
    fits = (1 + run_length(examples, of.of.training)) * _size(start.deltas) <= HELD
    made = _trained(model, of, start, examples, polarity, seed, on_step, whole=fits)
    if fits and model.untouched:
        kept[key] = made
        while sum(path.size for path in kept.values()) > HELD:
            del kept[next(iter(kept))]
    return made


def _trained(
    model: Model,
    of: Snapshot,
    start: Intervention,
    examples: Sequence[Question],
    polarity: Polarity,
    seed: int,
    on_step: Step,
    whole: bool,
) -> _Path:
    """The whole run with every step, or the run up to the snapshot with the last one alone."""
    path, losses = [_copied(start.deltas)], list[float]()

    def note(step: int, steps: int, loss: float) -> None:
        losses.append(loss)
        path.append(_copied(start.deltas))
        if not whole:
            del path[0]
        on_step(step, steps, loss)

    try:
        train(model, [Run(start, polarity, seed)], examples, of.of.training, note, until=None if whole else of.step)
    except FitFailed as error:
        if not whole:
            raise
        return _Path(tuple(path), tuple(losses), error)
    return _Path(tuple(path), tuple(losses))


def _copied(deltas: Mapping[Site, Delta]) -> dict[Site, Delta]:
    """The deltas as they are now, on the CPU, without what only training needs."""
    return {site: _copy(delta) for site, delta in deltas.items()}


def _copy(delta: Delta) -> Delta:
    if isinstance(delta, LowRank):
        return LowRank(delta.a.detach().cpu().clone(), delta.b.detach().cpu().clone(), delta.scale)
    return Constant(added(delta).detach().cpu().clone())


def _size(deltas: Mapping[Site, Delta]) -> int:
    return sum(t.numel() * t.element_size() for delta in deltas.values() for t in delta.tensors().values())
