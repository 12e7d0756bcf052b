"""The constant vector that an adapter amounts to, and what is made of vectors: mixtures, multiples. Knows no experiment."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from selfaware.errors import BadData, BadModel
from selfaware.interventions.anchored import Anchored
from selfaware.interventions.base import Constant, Delta, Intervention, LowRank, Recipe, Step, added
from selfaware.interventions.directions import Way, direction
from selfaware.interventions.given import Given
from selfaware.interventions.lora import Lora
from selfaware.interventions.orthogonal import Orthogonal
from selfaware.interventions.steer import Vector
from selfaware.interventions.texts import long_enough, outliers, outputs, rows_over, tokens
from selfaware.models.hf import Model
from selfaware.models.render import Ids
from selfaware.types import POLARITIES, Polarity, Question, Site, Template, require


@dataclass(frozen=True)
class Natural:
    """y + magnitude · direction, from what an adapter adds to a site's output: adapted − base, token by token, over texts.

    Every difference is taken at a token at which the adapter acts, with the adapter as it acts: at `answer` and `all` one pass over
    each text; at `last_prompt` one for each token, as if the prompt ended there. The first token of a text, and a begin-of-sequence
    token before it, are never looked at. For an adapter of rank 1 on one module the differences there are all multiples of B:
    that the direction is B's is an identity, not a finding. Where a norm follows the site (the MLP's output in Gemma 2 and 3), the vector
    goes through that norm, as the adapter's output does.

    Attributes:
        of: the adapter.
        way: `mean` of the differences, mean of their directions (`unitized`), first principal component (`pc1`), or the same after
            their mean is taken away (`pc1-centred`). The magnitude is the mean projection on the direction.
        site: whose output is compared, and where the vector is added; empty for the adapter's own where it has one, else for the output of
            its last block.
        passages: how many texts.
        last: how many tokens at the end of each; not asked at `answers`.
        on: neutral `passages`, given in `texts`; the training `prompts`, each with an option, in turn that of either polarity; or `answers`: the
            same texts, but every token of the option and no other.
        texts: the passages; the first ones are used. Left empty for prompts.

    Source: Engels et al. 2025, "Mechanisms of Awareness" (mean of 20 differences); Bozoukov et al. 2025, arXiv 2511.04875 (last 20
        tokens; centred component or mean of units; mean projection).
    """

    of: Lora | Given | Anchored = field(default_factory=Lora)
    way: Way = "mean"
    site: str = ""
    passages: int = 20
    last: int = 20
    on: Literal["passages", "prompts", "answers"] = "passages"
    texts: tuple[str, ...] = ()

    @property
    def needs(self) -> Sequence[Recipe]:
        """The adapter."""
        return (self.of,)

    @property
    def follows(self) -> bool:
        """The adapter is that of the same polarity."""
        return True

    @property
    def label(self) -> str:
        """As written on a page."""
        return (
            "natural vector"
            + ("" if self.way == "mean" else f", {self.way}")
            + (f", on {self.on}" if self.on != "passages" else "")
        )

    def fit(
        self,
        model: Model,
        examples: Sequence[Question],
        polarity: Polarity,
        seed: int,
        given: Sequence[Intervention],
        on_step: Step,
    ) -> Intervention:
        """The vector; nothing is trained. Costs two passes over the texts, up to the site.

        Its provenance holds the number of differences, their mean norm and spread (standard deviation of the projections
        over their mean), the shares of three components, and for rank 1 the `identity`: the cosine with B.

        Raises:
            BadData: the adapter was not given, too few texts, one that is too short, or differences without a direction.
            BadModel: an edit is attached, or a text is longer than the context.
            UnknownName: no such site.
        """
        require(
            len(given) == 1 and bool(given[0].deltas),
            BadData(f"{self.label}: got {len(given)} interventions; one adapter is needed. Fit it first."),
        )
        site = self._site(model, given[0])
        texts = self._texts(model, examples)
        x = differences(model, given[0], site, [(ids, skip) for ids, skip, _ in texts], [last for _, _, last in texts])
        found = direction(x, self.way)
        v = (found.v * found.magnitude).float()
        require(
            bool(v.any()),
            BadData(
                f"{self.label}: {len(x)} differences at {site} that cancel out along it; a mean projection above zero is needed. Use another way."
            ),
        )
        along = x.double() @ found.v
        told: dict[str, Any] = {
            "method": self.label,
            "of": self.of.label,
            "on": self.on,
            "differences": len(x),
            "magnitude": found.magnitude,
            "mean_norm": float(x.double().norm(dim=1).mean()),
            "spread": float(along.std(correction=0)) / found.magnitude,
            "explained": list(found.explained),
        }
        b = _only_column(model, given[0], site)
        if b is not None:
            told["identity"] = float(torch.nn.functional.cosine_similarity(found.v, b, dim=0))
        return Intervention({site: Constant(v)}, given[0].positions, told)

    def _site(self, model: Model, adapter: Intervention) -> Site:
        if self.site:
            site = model.resolve(Site.parse(self.site))
            first = min(s.block for s in adapter.deltas)
            require(
                site.block >= first,
                BadData(
                    f"site {site}: the adapter's first block is {first}, and below it nothing differs; a site there or above is needed. Use {first} or higher."
                ),
            )
            return site
        if len(adapter.deltas) == 1:
            return model.resolve(next(iter(adapter.deltas)))
        return Site(max(s.block for s in adapter.deltas))

    def _texts(self, model: Model, examples: Sequence[Question]) -> list[tuple[Ids, int, int]]:
        """Ids of each text, how many to pass over, and how many at its end to look at."""
        if self.on == "passages":
            found = [(*tokens(model, text), self.last) for text in self.texts[: self.passages]]
        else:
            # Spread over all examples, since neighbours are of one record; in turn, so that neither option prevails.
            count = min(self.passages, 2 * len(examples))
            some = [examples[at * len(examples) // count] for at in range(count)]
            template: Template = "raw" if isinstance(self.of, Given) else _training(self.of).training.template
            found = []
            for at, question in enumerate(some):
                rendered = model.render(question, template)
                option = rendered.options[question.chosen(POLARITIES[at % 2])][0]
                ids = rendered.prompt + option
                found.append((ids, outliers(model, ids), len(option) if self.on == "answers" else self.last))
        require(
            0 < self.passages == len(found) and self.last > 0,
            BadData(
                f"{self.label}: got {len(found)} texts and the last {self.last} tokens; {self.passages} texts and at least one token are needed. Give texts, or ask for fewer."
            ),
        )
        for at, (ids, skip, last) in enumerate(found):
            long_enough(f"{self.label}, text {at}", ids, skip, last, model.context)
        return found


def differences(
    model: Model, adapter: Intervention, site: Site, texts: Sequence[tuple[Ids, int]], last: int | Sequence[int]
) -> Float[Tensor, "N D"]:
    """Adapted − base output of the site at the last tokens of each text, text after text, float32, on the CPU.

    Args:
        texts: ids, and how many of them to pass over.
        last: how many tokens at the end of each, or one number for each text.

    Raises:
        BadModel: an edit is attached.
    """
    if not model.untouched:
        raise BadModel(
            f"differences at {site}: an edit is attached; {model.name} itself is needed beside the adapter. Leave its context first."
        )
    counts = [last] * len(texts) if isinstance(last, int) else last
    rows = [
        row for (ids, skip), n in zip(texts, counts, strict=True) for row in rows_over(ids, skip, n, adapter.positions)
    ]
    (before,) = outputs(model, [site], rows)
    with adapter.on(model):
        (after,) = outputs(model, [site], rows)
    if adapter.positions == "last_prompt":  # a row for each token
        return torch.cat([(b - a)[-1:] for a, b in zip(before, after, strict=True)])
    return torch.cat([(b - a)[-n:] for a, b, n in zip(before, after, counts, strict=True)])


def _training(of: Lora | Anchored) -> Lora | Vector:
    return of.of if isinstance(of, Anchored) else of


def _only_column(model: Model, adapter: Intervention, site: Site) -> Float[Tensor, " D"] | None:
    """B of a rank-1 adapter on one module whose output is compared; None where it is something else."""
    if len(adapter.deltas) != 1:
        return None
    own, delta = next(iter(adapter.deltas.items()))
    if not isinstance(delta, LowRank) or delta.b.shape[1] != 1 or model.resolve(own) != site:
        return None
    return delta.b[:, 0].detach().double().cpu()


@dataclass(frozen=True)
class Line:
    """(1 − share) · first + share · second: a point on the line through two vectors, both as long as they are.

    Attributes:
        first, second: vectors at one site and positions.
        share: 0 is the first, 1 the second; outside these the line goes on.

    Source: Wang et al. 2025, arXiv 2507.08218 (accuracy along the line between vectors).
    """

    first: Natural | Vector | Orthogonal | Given | Anchored = field(default_factory=Natural)
    second: Natural | Vector | Orthogonal | Given | Anchored = field(default_factory=Vector)
    share: float = 0.5

    @property
    def needs(self) -> Sequence[Recipe]:
        """Both ends."""
        return (self.first, self.second)

    @property
    def follows(self) -> bool:
        """Both are those of the same polarity."""
        return True

    @property
    def label(self) -> str:
        """As written on a page."""
        return f"{self.share:g} from {self.first.label} to {self.second.label}"

    def fit(
        self,
        model: Model,
        examples: Sequence[Question],
        polarity: Polarity,
        seed: int,
        given: Sequence[Intervention],
        on_step: Step,
    ) -> Intervention:
        """The mixture; nothing is trained.

        Raises:
            BadData: two vectors at one site and positions were not given, or the share is not finite.
        """
        require(
            len(given) == 2 and math.isfinite(self.share),
            BadData(
                f"{self.label}: got {len(given)} interventions; two vectors and a finite share are needed. Fit them first."
            ),
        )
        (one, v), (two, w) = (vector_of(self.label, made) for made in given)
        if one != two or given[0].positions != given[1].positions:
            raise BadData(
                f"{self.label}: got vectors at {one}, {given[0].positions} and at {two}, {given[1].positions}; one site and the same positions are needed. Give both the same."
            )
        cosine = float(torch.nn.functional.cosine_similarity(v.double(), w.double(), dim=0))
        mixed = ((1 - self.share) * v.double() + self.share * w.double()).float()
        return Intervention({one: Constant(mixed)}, given[0].positions, {"method": self.label, "cosine": cosine})


def vector_of(what: str, made: Intervention) -> tuple[Site, Float[Tensor, " D"]]:
    """Site and values, float32, on the CPU, of an intervention that is one vector.

    Args:
        what: who asks, for the message.

    Raises:
        BadData: it is something else.
    """
    deltas = list(made.deltas.items())
    if len(deltas) != 1 or not isinstance(deltas[0][1], Constant):
        got = ", ".join(f"{type(delta).__name__} at {site}" for site, delta in deltas) or "nothing"
        raise BadData(f"{what}: got {got}; one constant vector is needed. Use a recipe that gives one.")
    return deltas[0][0], deltas[0][1].v.detach().float().cpu()


Scalable = Lora | Vector | Natural | Line | Orthogonal | Given | Anchored
"""What has multiples."""


@dataclass(frozen=True)
class Scaled:
    """What `of` makes of the same seed, times a factor: v · factor, or the scale of B·A times it.

    Attributes:
        of: what is scaled.
        factor: 1 leaves it, 0 takes it away, −1 is its reverse.
    """

    of: Scalable = field(default_factory=Natural)
    factor: float = 1.0

    @property
    def needs(self) -> Sequence[Recipe]:
        """What is scaled."""
        return (self.of,)

    @property
    def follows(self) -> bool:
        """It is that of the same polarity."""
        return True

    @property
    def label(self) -> str:
        """As written on a page."""
        return f"{self.of.label} × {self.factor:g}"

    def fit(
        self,
        model: Model,
        examples: Sequence[Question],
        polarity: Polarity,
        seed: int,
        given: Sequence[Intervention],
        on_step: Step,
    ) -> Intervention:
        """The multiple; nothing is trained.

        Raises:
            BadData: what it scales was not given or has no multiple, or the factor is not finite.
        """
        require(
            len(given) == 1 and math.isfinite(self.factor),
            BadData(
                f"{self.label}: got {len(given)} interventions; one, and a finite factor, are needed. Fit it first."
            ),
        )
        deltas = {site: _times(delta, self.factor) for site, delta in given[0].deltas.items()}
        return Intervention(deltas, given[0].positions, {"method": self.label})


def _times(delta: Delta, factor: float) -> Delta:
    if isinstance(delta, LowRank):
        return replace(delta, scale=delta.scale * factor)
    return Constant(added(delta).detach() * factor)
