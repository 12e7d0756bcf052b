"""How vectors lie to each other, beside what chance and repetition would give. Knows tensors alone; must not know what they stand for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from selfaware.errors import BadData
from selfaware.interventions.directions import explained
from selfaware.types import require

__all__ = [
    "Null",
    "between",
    "coefficient_of_variation",
    "cosines",
    "effective_dimension",
    "explained",
    "norms",
    "null_cosines",
    "projections",
    "share_within",
    "within",
]

CHUNK = 256
"""Random pairs drawn at once."""


@dataclass(frozen=True)
class Null:
    """|cosine| of random pairs, in ascending order, `[S]` each.

    Attributes:
        isotropic: of directions drawn evenly.
        matched: of directions drawn with the covariance of given rows: larger, since these lie in fewer dimensions.
    """

    isotropic: Float[Tensor, " S"]
    matched: Float[Tensor, " S"]

    def p(self, cosine: float) -> tuple[float, float]:
        """For each null the chance of a pair at least that far from a right angle: (1 + those that are) / (1 + draws).

        Args:
            cosine: signed or not.

        Source: Phipson and Smyth 2010.
        """
        reached = [int((null >= abs(cosine)).sum()) for null in (self.isotropic, self.matched)]
        return (1 + reached[0]) / (1 + len(self.isotropic)), (1 + reached[1]) / (1 + len(self.matched))

    def quantile(self, share: float) -> tuple[float, float]:
        """For each null the |cosine| that this share of pairs stays below."""
        return float(self.isotropic.quantile(share)), float(self.matched.quantile(share))


def cosines(x: Float[Tensor, "N D"]) -> Float[Tensor, "N N"]:
    """The cosine of every pair of rows, with its sign, float64; exactly 1 on the diagonal.

    Args:
        x: vectors, a row each, all at one site of one model.

    Raises:
        BadData: no rows, or one that is zero or not finite.
    """
    units = _units(x)
    found = (units @ units.T).clamp(-1, 1)
    return found.fill_diagonal_(1.0)


def norms(x: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
    """The length of every row, float64.

    Args:
        x: vectors, a row each.

    Raises:
        BadData: no rows, or one that is not finite.
    """
    return _rows(x).norm(dim=1)


def projections(x: Float[Tensor, "N D"], v: Float[Tensor, " D"]) -> Float[Tensor, " N"]:
    """How far every row goes along a direction, with its sign, in the rows' units, float64.

    Args:
        x: vectors, a row each.
        v: the direction; its length does not count.

    Raises:
        BadData: no rows, one that is not finite, or a direction of zero or of another width.
    """
    (unit,) = _units(v[None])
    x = _rows(x)
    _same_width(x, v)
    return x @ unit


def share_within(x: Float[Tensor, "N D"], basis: Float[Tensor, "K D"]) -> Float[Tensor, " N"]:
    """For every row the share of its squared length that lies in the span of other vectors, 0 to 1, float64.

    One vector's share is the square of the cosine. K random vectors hold K/D of a row that has nothing to do with them.

    Args:
        x: vectors, a row each.
        basis: vectors that span, a row each; they need be neither orthogonal nor independent.

    Raises:
        BadData: no rows, one that is zero or not finite, or widths that differ.
    """
    _same_width(x, basis[0])
    _, values, directions = torch.linalg.svd(_units(basis), full_matrices=False)
    held = directions[values > values[0] * 1e-10]
    return (_units(x) @ held.T).pow(2).sum(1).clamp(0, 1)


def coefficient_of_variation(values: Float[Tensor, " N"]) -> float:
    """Standard deviation (n − 1) over the size of the mean: 0 where all values are one, as a constant vector's norms are.

    Args:
        values: lengths or projections, one for each token.

    Raises:
        BadData: fewer than two values, one that is not finite, or a mean of zero.
    """
    wide = values.detach().double().flatten()
    require(
        len(wide) > 1 and bool(wide.isfinite().all()),
        BadData(f"variation: got {len(wide)} values; two at least, all finite, are needed. Take more."),
    )
    centre = float(wide.mean())
    require(
        centre != 0,
        BadData("variation: the mean is zero; one that is not is needed to compare with. Use their lengths."),
    )
    return float(wide.std()) / abs(centre)


def effective_dimension(x: Float[Tensor, "N D"], centred: bool) -> float:
    """The participation ratio (Σλ)² / Σλ² of the rows' second moments: how many directions share their squares, 1 to D.

    Args:
        x: vectors, a row each; at most N of the directions can be seen.
        centred: whether the rows' mean is taken away first, so that λ are variances.

    Raises:
        BadData: no rows, one that is not finite, or rows that are zero or, centred, do not vary.

    Source: Litwin-Kumar et al. 2017, Neuron 93 (dimension).
    """
    shares = explained(x, centred, min(x.shape))
    return 1 / sum(share**2 for share in shares)


def within(x: Float[Tensor, "N D"], names: Sequence[str]) -> dict[str, Float[Tensor, " P"]]:
    """For each name the cosines, with their sign, of all pairs of its rows: a ceiling for cosines with others.

    Repetitions of one vector (seeds, halves of the data) do not reach 1; no two different ones can be expected to be nearer to each
    other than to their own repetitions. A name with one row has no pairs.

    Args:
        x: vectors, a row each.
        names: what each row is a repetition of.

    Raises:
        BadData: no rows, one that is zero or not finite, or not a name for each.
    """
    whole = _named(x, names)
    return {
        name: torch.stack([whole[i, j] for i, j in combinations(own, 2)]) if len(own) > 1 else whole.new_zeros(0)
        for name, own in _places(names).items()
    }


def between(x: Float[Tensor, "N D"], names: Sequence[str]) -> dict[tuple[str, str], Float[Tensor, " P"]]:
    """For each two names the cosines, with their sign, of every row of one with every row of the other.

    Args:
        x: vectors, a row each.
        names: what each row is a repetition of.

    Raises:
        BadData: no rows, one that is zero or not finite, or not a name for each.
    """
    whole = _named(x, names)
    places = _places(names)
    return {(a, b): whole[places[a]][:, places[b]].flatten() for a, b in combinations(places, 2)}


def null_cosines(x: Float[Tensor, "N D"], draws: int, seed: int) -> Null:
    """|cosine| of random pairs in D dimensions: drawn evenly, and with the covariance of rows.

    The even ones have mean square 1/D. Outputs of a model vary in far fewer directions than D, and vectors that have nothing to do with
    each other but lie there have larger cosines: for these the matched null is the fair one. A draw is Xᶜᵀ g with Xᶜ the centred rows and g
    Gaussian; with fewer rows than dimensions that they vary in, the null is wider than it should be.

    Args:
        x: outputs of the residual stream, say, a row each; at least as many as directions that matter.
        draws: pairs of each kind.
        seed: of the draws.

    Raises:
        BadData: fewer than two rows, one that is not finite, rows that do not vary, or no draws.

    Source: Cai, Fan and Jiang 2013, JMLR 14 (angles of random vectors).
    """
    x = _rows(x)
    about = x - x.mean(0)
    require(
        draws > 0 and len(x) > 1 and float(about.norm()) > 1e-12 * float(x.norm()),
        BadData(
            f"null of cosines: got {draws} draws and {len(x)} rows; a draw and two rows that differ are needed. Give more."
        ),
    )
    generator = torch.Generator().manual_seed(seed)
    about = about.cpu()
    isotropic, matched = [], []
    for at in range(0, draws, CHUNK):
        pairs = min(CHUNK, draws - at)
        one, two = torch.randn(2, pairs, x.shape[1], generator=generator, dtype=torch.float64)
        isotropic.append(torch.nn.functional.cosine_similarity(one, two, dim=1).abs())
        one, two = torch.randn(2, pairs, len(x), generator=generator, dtype=torch.float64) @ about
        matched.append(torch.nn.functional.cosine_similarity(one, two, dim=1).abs())
    return Null(torch.cat(isotropic).sort().values, torch.cat(matched).sort().values)


def _named(x: Tensor, names: Sequence[str]) -> Tensor:
    require(
        len(names) == len(x),
        BadData(f"vectors: got {len(x)} rows and {len(names)} names; a name for each is needed. Give as many."),
    )
    return cosines(x)


def _places(names: Sequence[str]) -> Mapping[str, list[int]]:
    """Rows of each name, names in order of appearance."""
    found: dict[str, list[int]] = {}
    for at, name in enumerate(names):
        found.setdefault(name, []).append(at)
    return found


def _rows(x: Tensor) -> Tensor:
    require(
        x.ndim == 2 and 0 not in x.shape and bool(x.isfinite().all()),
        BadData(
            f"vectors: got shape {tuple(x.shape)}; rows (N, D), all finite, are needed. Look where they come from."
        ),
    )
    return x.detach().double()


def _units(x: Tensor) -> Tensor:
    x = _rows(x)
    lengths = x.norm(dim=1, keepdim=True)
    none = int((lengths == 0).sum())
    require(
        not none,
        BadData(f"vectors: {none} of {len(x)} are zero; each needs a direction. Leave out those that have none."),
    )
    return x / lengths


def _same_width(x: Tensor, v: Tensor) -> None:
    require(
        x.shape[-1] == v.shape[-1],
        BadData(
            f"vectors: got widths {x.shape[-1]} and {v.shape[-1]}; one is needed. Take both at one site of one model."
        ),
    )
