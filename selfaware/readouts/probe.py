"""Whether a linear probe can tell two kinds of prompts apart: its features, and the probe. Knows sites and labels, no behaviour."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from selfaware.errors import BadData
from selfaware.interventions.base import Intervention, LowRank
from selfaware.models import hooks
from selfaware.models.activations import outputs
from selfaware.models.batch import Row, bucketed
from selfaware.models.hf import Model
from selfaware.readouts.base import Looked, OnStep
from selfaware.types import Open, Passage, Question, Site, Template, require

Array = NDArray[Any]

BATCH = 8
"""Prompts in a forward pass."""
FOLDS = 10
NEWTON = 100
"""Steps at most; some ten are taken."""


@dataclass(frozen=True)
class Features:
    """What a probe reads at the last token of each prompt, where an adapter first acts.

    What is seen: `x` `[Q, K]`. Without a site, A x of every low-rank delta of one adapter, site after site, with the adapter
    attached: how strongly each of its directions fires. With a site, that site's output in the untouched model: all there is
    to be read there.

    Attributes:
        site: empty for the adapter's own.
    """

    site: str = ""
    template: Template = "raw"

    @property
    def label(self) -> str:
        """As written beside a progress bar."""
        return f"features at {self.site}" if self.site else "what the adapter reads"

    def look(
        self,
        model: Model,
        given: Sequence[Intervention],
        asked: Sequence[Question] | Sequence[Open] | Sequence[Passage],
        on_step: OnStep,
    ) -> Looked:
        """See the class; options are not read.

        Raises:
            BadData: no questions with options, or, without a site, not one adapter with low-rank deltas.
        """
        rows = []
        for question in asked:
            if isinstance(question, Question):
                rendered = model.render(question, self.template)
                # One token of an answer, which is predicted and not run: what acts at `answer` then acts at the last of the prompt.
                rows.append(Row(rendered.prompt, rendered.options[0][0][:1]))
        require(bool(rows), BadData("features: got no questions with options; a probe needs prompts. Give some."))
        if self.site:
            return Looked({"x": outputs(model, Site.parse(self.site), rows)})
        return Looked({"x": gates(model, _adapter(given), rows)})


def _adapter(given: Sequence[Intervention]) -> Intervention:
    deltas = [d for i in given for d in i.deltas.values()]
    if len(given) != 1 or not deltas or not all(isinstance(d, LowRank) for d in deltas):
        raise BadData(
            f"features: got {len(given)} interventions with {len(deltas)} deltas; one adapter of low-rank deltas is needed. Name a site, or give a LoRA."
        )
    return given[0]


def gates(model: Model, adapter: Intervention, rows: Sequence[Row]) -> Float[Tensor, "N K"]:
    """A x of every delta where each row's prompt ends, float32, on the CPU, rows in the order given; the adapter is attached.

    Args:
        rows: with one token of an answer each.
    """
    deltas = [(site, d) for site, d in sorted(adapter.deltas.items()) if isinstance(d, LowRank)]
    after = [*model.blocks, model.head][max(site.block for site, _ in deltas) + 1]
    found: dict[int, Tensor] = {}
    with torch.no_grad(), adapter.on(model):
        for bucket in bucketed(rows, BATCH):
            inputs: dict[int, Tensor] = {}
            noting = [(model.module(site), _noting(inputs, at)) for at, (site, _) in enumerate(deltas)]
            with model.running([rows[i] for i in bucket]) as ready, hooks.changed(noting):
                hooks.input_of(after, ready.forward)
            read = [
                (inputs[at][ready.answer].float() @ d.a.detach().to(inputs[at].device).float().T)
                for at, (_, d) in enumerate(deltas)
            ]
            found |= dict(zip(bucket, torch.cat(read, 1).cpu(), strict=True))
    return torch.stack([found[i] for i in range(len(rows))])


def _noting(inputs: dict[int, Tensor], at: int) -> hooks.Change:
    def note(x: Tensor, y: Tensor) -> Tensor:
        inputs[at] = x.detach()
        return y

    return note


# the probe --------------------------------------------------------------------------------------------------------------


def logistic(x: Array, y: Array, ridge: float = 1.0) -> tuple[Array, float]:
    """Weights `[K]` and offset of a ridge logistic regression, both classes counting alike, by Newton's method.

    Minimises Σ wᵢ log(1 + exp(∓fᵢ)) + ridge/2 · |w|² with f = x w + b and wᵢ the number of rows over twice that of the row's
    class; the offset is free. Where features outnumber rows it is solved in the span of the rows, which changes nothing.

    Args:
        x: `[N, K]`, best standardised.
        y: `[N]`, 0 or 1.
        ridge: above zero.

    Raises:
        BadData: a class without rows, a value that is not finite, or a ridge of zero or less.

    Source: Hastie, Tibshirani and Friedman 2009, sections 4.4 (Newton) and 18.3 (more features than rows).
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    ones = float(y.sum())
    require(
        x.ndim == 2 and len(x) == len(y) and 0 < ones < len(y) and bool(np.isfinite(x).all()) and ridge > 0,
        BadData(
            f"probe: got features {x.shape}, {ones:g} of {len(y)} rows of the first kind, ridge {ridge:g}; finite rows of both kinds and a ridge above zero are needed. Give more prompts."
        ),
    )
    back = np.linalg.svd(x, full_matrices=False)[2] if x.shape[1] > len(x) else np.eye(x.shape[1])
    design = np.column_stack([x @ back.T, np.ones(len(x))])
    weight = np.where(y > 0, len(y) / (2 * ones), len(y) / (2 * (len(y) - ones)))
    penalty = np.append(np.full(design.shape[1] - 1, ridge), 0.0)
    sign = np.where(y > 0, 1.0, -1.0)
    found = np.zeros(design.shape[1])

    def loss(at: Array) -> float:
        return float((weight * np.logaddexp(0, -sign * (design @ at))).sum() + 0.5 * (penalty * at * at).sum())

    for _ in range(NEWTON):
        chance = 0.5 * (1 + np.tanh(design @ found / 2))
        slope = design.T @ (weight * (chance - y)) + penalty * found
        curve = (design * (weight * chance * (1 - chance))[:, None]).T @ design + np.diag(penalty)
        curve[-1, -1] += 1e-12  # a free offset has no curvature left where all rows are far on their own side
        step = np.linalg.solve(curve, slope)
        size, before = 1.0, loss(found)
        while loss(found - size * step) > before and size > 1e-6:
            size /= 2
        found = found - size * step
        if float(np.abs(step).max()) < 1e-8:
            break
    return back.T @ found[:-1], float(found[-1])


def held_out(x: Array, y: Array, families: Sequence[str], ridge: float = 1.0, folds: int = FOLDS) -> Array:
    """For each row f = x w + b of a probe that was fitted without the row's family, `[N]`; above zero means the kind 1.

    Families are dealt to folds by name, those of either kind by themselves; features are standardised on the rows that a
    probe is fitted on.

    Args:
        x: `[N, K]`.
        y: `[N]`, 0 or 1.
        families: of each row; one that has rows of both kinds is held out with both.
        ridge: see `logistic`.
        folds: at most so many.

    Raises:
        BadData: a kind with fewer than two families, or anything that `logistic` refuses.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y)
    kinds = {f: tuple(sorted({int(k) for k, g in zip(y, families, strict=True) if g == f})) for f in set(families)}
    for kind in (0, 1):
        count = sum(kind in own for own in kinds.values())
        require(
            count > 1,
            BadData(f"probe: kind {kind} has {count} families; two at least are needed to hold one out. Give more."),
        )
    dealt = sorted(kinds, key=lambda f: (kinds[f], f))
    fewest = min(sum(kind in own for own in kinds.values()) for kind in (0, 1))
    place = {family: at % min(folds, fewest) for at, family in enumerate(dealt)}
    fold = np.array([place[f] for f in families])
    out = np.full(len(y), np.nan)
    for at in sorted(set(place.values())):
        seen, left = fold != at, fold == at
        centre, spread = x[seen].mean(0), x[seen].std(0)
        spread = np.where(spread > 0, spread, 1.0)
        w, b = logistic((x[seen] - centre) / spread, y[seen], ridge)
        out[left] = (x[left] - centre) / spread @ w + b
    return out


def right(scores: Array, y: Array) -> Array:
    """1 where a score is on the side of its row's kind, 0 where it is not, one half at zero, `[N]`."""
    return np.asarray(0.5 * (1 + np.sign(scores) * np.where(np.asarray(y) > 0, 1, -1)), dtype=np.float64)
