"""An intervention is a set of deltas placed at sites: y ← delta(x, y). Knows nouns and their file; trains nothing."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, final, runtime_checkable

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from selfaware.errors import BadData, BadFile, BadModel, unknown
from selfaware.models.batch import Touched
from selfaware.models.hf import Model
from selfaware.types import POSITIONS, Polarity, Positions, Question, Site

FORMAT = 1


@final
@dataclass(frozen=True)
class LowRank:
    """y + scale · B(A x): what a LoRA adds.

    Attributes:
        a: `[R, D_in]`.
        b: `[D, R]`.
        scale: alpha / R, or alpha / √R where it is rank-stabilised.
        dropout: share of inputs dropped in training: while `generator` is set and gradients are kept.
    """

    a: Float[Tensor, "R D_in"]
    b: Float[Tensor, "D R"]
    scale: float
    dropout: float = 0.0
    generator: torch.Generator | None = None

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The changed output, in the output's own type."""
        if self.generator is not None and self.dropout > 0 and torch.is_grad_enabled():
            kept = torch.rand(x.shape, generator=self.generator, device=x.device) >= self.dropout
            x = x * kept.to(x.dtype) / (1 - self.dropout)
        return y + (x @ self.a.T.to(x)) @ (self.scale * self.b.T).to(x)

    def tensors(self) -> dict[str, Tensor]:
        """What is trained and stored."""
        return {"a": self.a, "b": self.b}

    def header(self) -> dict[str, Any]:
        """What is stored beside the tensors."""
        return {"kind": "low_rank", "scale": self.scale, "rank": self.a.shape[0]}


@final
@dataclass(frozen=True)
class Constant:
    """y + v: the same thing with a constant gate; a steering vector, `[D]`."""

    v: Float[Tensor, " D"]

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The changed output, in the output's own type."""
        return y + self.v.to(y)

    def tensors(self) -> dict[str, Tensor]:
        """What is trained and stored."""
        return {"v": self.v}

    def header(self) -> dict[str, Any]:
        """What is stored beside the tensors; the norm is in the site's own units."""
        return {"kind": "constant", "norm": round(float(self.v.detach().norm()), 8), "unit": "output of the site"}


@final
@dataclass(frozen=True)
class Pinned:
    """y + (level − y·v) v: the output's component along the unit vector v is set to `level`, the rest stays.

    Nothing in it is trained. What it adds depends on the output alone: it has no norm of its own, no multiple and no reverse.

    Attributes:
        v: `[D]`, of length 1.
        level: in the units of the site's output.
    """

    v: Float[Tensor, " D"]
    level: float

    def __post_init__(self) -> None:
        length = float(self.v.detach().double().norm())
        if not (abs(length - 1) < 1e-4 and math.isfinite(self.level)):
            raise BadData(
                f"pinned component: got a vector of length {length:g} and level {self.level}; a unit vector and a finite number are needed. Normalise it."
            )

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The changed output, in the output's own type; worked out in float32 or better and rounded once."""
        v = self.v.to(y.device, torch.promote_types(y.dtype, torch.float32))
        wide = y.to(v.dtype)
        return (wide + (self.level - wide @ v).unsqueeze(-1) * v).to(y)

    def tensors(self) -> dict[str, Tensor]:
        """What is stored."""
        return {"v": self.v}

    def header(self) -> dict[str, Any]:
        """What is stored beside the tensors."""
        return {"kind": "pinned", "level": self.level, "unit": "output of the site"}


Delta = LowRank | Constant | Pinned


def added(delta: Constant | Pinned) -> Float[Tensor, " D"]:
    """What a constant adds.

    Raises:
        BadData: a pinned component, which adds what its input lacks.
    """
    if isinstance(delta, Pinned):
        raise BadData(
            "pinned component: it has no multiple, no reverse and no random twin; a constant or a low-rank delta is needed. Use it as it is."
        )
    return delta.v


@dataclass(frozen=True)
class Intervention:
    """Deltas by site and the positions they act on.

    Attributes:
        provenance: where it came from (recipe, seed, data, model), for a reader; nothing acts on it.
    """

    deltas: Mapping[Site, Delta]
    positions: Positions
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @contextmanager
    def on(self, model: Model, held: bool = False, owner: int | None = None) -> Iterator[Touched]:
        """Within the context the model is changed; gives the count of sites and tokens touched.

        Args:
            held: count this intervention as part of the frozen model: what is computed with it is kept under a key of its
                tensors, and what is attached beside it decides where passes start.
            owner: act only on rows of that owner.
        """
        self.check(model)
        key = self.digest() if held else ""
        with model.edited(list(self.deltas.items()), self.positions, key, owner) as touched:
            yield touched

    def digest(self) -> str:
        """What stands for sites, positions and tensors, to the bit."""
        made = hashlib.sha256(self.positions.encode())
        for site, delta in sorted(self.deltas.items()):
            made.update(f"{site} {delta.header()}".encode())
            for tensor in delta.tensors().values():
                made.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return made.hexdigest()

    def check(self, model: Model) -> None:
        """Whether every delta fits its site.

        Raises:
            BadModel: a width differs, or a low-rank delta is not on a linear module; names the site and both shapes.
        """
        for site, delta in self.deltas.items():
            needed: dict[str, tuple[int, ...]] = {"v": (model.output_width(site),)}
            if isinstance(delta, LowRank):
                module = model.module(site)
                if not isinstance(module, nn.Linear):
                    raise BadModel(
                        f"site {site}: a low-rank delta needs a linear module; {model.name} has {type(module).__name__} there. Name one inside it."
                    )
                rank = delta.a.shape[0]
                needed = {"a": (rank, module.in_features), "b": (module.out_features, rank)}
            got = {name: tuple(t.shape) for name, t in delta.tensors().items()}
            if got != needed:
                raise BadModel(
                    f"site {site}: the delta has {_shapes(got)}; {model.name} needs {_shapes(needed)} there. Use the model it was made for."
                )

    def norm(self) -> float:
        """Norm of everything that is added or of the weights that make it (√ of the sum of squares of B·A·scale).

        A pinned component counts as zero: what it adds is not its own but the output's distance from its level.
        """
        total = 0.0
        for delta in self.deltas.values():
            if isinstance(delta, Pinned):
                continue
            made = delta.v if isinstance(delta, Constant) else delta.scale * delta.b @ delta.a
            total += float(made.detach().float().pow(2).sum())
        return total**0.5

    def save(self, path: Path) -> None:
        """Writes safetensors with a header; not atomic by itself: `store` hands out the temporary path."""
        tensors = {
            f"{site}/{name}": t.detach().float().contiguous().clone()  # pinned sites share one direction
            for site, d in self.deltas.items()
            for name, t in d.tensors().items()
        }
        header = {
            "format": FORMAT,
            "positions": self.positions,
            "deltas": {str(site): d.header() for site, d in self.deltas.items()},
            "provenance": dict(self.provenance),
        }
        save_file(tensors, path, metadata={"selfaware": json.dumps(header, sort_keys=True)})

    @classmethod
    def load(cls, path: Path) -> "Intervention":
        """What `save` wrote.

        Raises:
            BadFile: not such a file, or its tensors and header disagree.
        """
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {}).get("selfaware", "null"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, ValueError) as error:
            raise BadFile(f"{path}: {error}; a safetensors file with a header is needed. Fit it again.") from error
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise BadFile(
                f"{path}: no header of format {FORMAT}; this package's vectors and adapters carry one. Import it with its site named."
            )
        if header.get("positions") not in POSITIONS:
            raise unknown("positions", str(header.get("positions")), POSITIONS)
        try:
            deltas = {Site.parse(site): _delta(site, about, tensors) for site, about in header["deltas"].items()}
            provenance = dict(header["provenance"])
        except BadData as error:
            raise BadFile(f"{path}: {error}") from error
        except (KeyError, AttributeError, TypeError) as error:
            raise BadFile(
                f"{path}: {error} is missing or of another kind; header and tensors must agree. Fit it again."
            ) from error
        used = {f"{site}/{name}" for site, d in deltas.items() for name in d.tensors()}
        if used != set(tensors):
            raise BadFile(
                f"{path}: tensors {', '.join(sorted(set(tensors) - used))} are not in its header; both must agree. Fit it again."
            )
        return cls(deltas, header["positions"], provenance)


def _shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())


def _delta(site: str, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Delta:
    if about["kind"] == "constant":
        return Constant(tensors[f"{site}/v"])
    if about["kind"] == "pinned":
        return Pinned(tensors[f"{site}/v"], float(about["level"]))
    if about["kind"] != "low_rank":
        raise KeyError(f"delta of kind {about['kind']!r}")
    return LowRank(tensors[f"{site}/a"], tensors[f"{site}/b"], float(about["scale"]))


@runtime_checkable
class Step(Protocol):
    """Called after each training step with its number (from 1), their count, and the loss."""

    def __call__(self, step: int, steps: int, loss: float) -> None:
        """Nothing; takes note."""
        ...


@runtime_checkable
class Recipe(Protocol):
    """A frozen description of a method. `needs` are recipes to be fitted before it, with the same data and seed."""

    @property
    def needs(self) -> Sequence["Recipe"]:
        """Recipes to be fitted before it; their interventions are `given` to `fit`."""
        ...

    @property
    def follows(self) -> bool:
        """Whether what it needs is fitted at its own polarity; at `high` otherwise."""
        ...

    @property
    def label(self) -> str:
        """As written on a page."""
        ...

    def fit(
        self,
        model: Model,
        examples: Sequence[Question],
        polarity: Polarity,
        seed: int,
        given: Sequence[Intervention],
        on_step: Step,
    ) -> Intervention:
        """The intervention that the method makes of these examples."""
        ...
